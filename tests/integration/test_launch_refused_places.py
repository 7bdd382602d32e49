"""A launcher where nothing can be written: a read-only data directory, a full disk, a folder of somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.integration.launch_place import Place
from tests.packed_release import APP

from lading.store.preference import write_preference
from lading.store.removal import uninstall

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts of one's own are Linux's")

# Runs inside a mount of its own: puts the data directory there, makes the place refuse, and starts a launcher twice.
INSIDE = """
import json, os, shutil, subprocess, sys, time, urllib.request
from pathlib import Path

source, mount, how, app = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]
data = mount / "data"
shutil.copytree(source, data, symlinks=True)
if how == "full":
    with (mount / "filler").open("wb", buffering=0) as filler:
        try:
            while filler.write(bytes(4096)):
                pass
        except OSError:
            pass
else:
    subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
words = [sys.executable, "-m", "lading", "run", "--data", str(data), "--app", app, "--json", "-v", *sys.argv[5:]]
told = []
for _ in range(2):
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    if not line:
        print(process.stderr.read(), file=sys.stderr)
        sys.exit(3)
    first = json.loads(line)
    health = json.loads(urllib.request.urlopen(first["url"] + "/health").read())
    request = urllib.request.Request(
        health["told"]["LADING_CONTROL_URL"] + "/choice", data=b'{"backend": "cpu"}', method="POST"
    )
    request.add_header("Authorization", "Bearer " + health["told"]["LADING_CONTROL_TOKEN"])
    request.add_header("Content-Type", "application/json")
    chosen = json.loads(urllib.request.urlopen(request).read())
    process.terminate()
    out, err = process.communicate(timeout=20)
    told.append({"first": first, "chosen": chosen, "said": err, "code": process.returncode})
print(json.dumps(told))
"""


def inside(place: Place, tmp_path: Path, how: str, *words: str) -> list[dict[str, Any]]:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here: it needs Linux namespaces")
    mount, program, logs = tmp_path / "mount", tmp_path / "inside.py", tmp_path / "logs"
    mount.mkdir()
    logs.mkdir()
    program.write_text(INSIDE, "utf-8")
    command = [sys.executable, str(program), str(place.data), str(mount), how, APP, *words]
    script = f'mount -t tmpfs -o size=8m,mode=755 none {mount} || exit 99\nexec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        env={**os.environ, **place.environment, "TMPDIR": str(logs)},
        capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    told: list[dict[str, Any]] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_the_server_runs_where_nothing_can_be_written_and_notes_say_what_is_not_kept(
    place: Place, tmp_path: Path, how: str
) -> None:
    uninstall(place.data, "cpu")
    for run in inside(place, tmp_path, how):
        assert (run["first"]["phase"], run["first"]["backend"], run["code"]) == ("ready", "cuda", 0)
        assert str(tmp_path / "logs") in run["first"]["log"] or how == "full"


def test_a_choice_that_cannot_be_kept_holds_as_long_as_the_launcher_and_says_so(place: Place, tmp_path: Path) -> None:
    for run in inside(place, tmp_path, "read-only"):
        assert run["first"]["choice"] == "auto"
        assert run["chosen"]["choice"] == "cpu"
        assert any("the choice is remembered only until the launcher ends" in note for note in run["chosen"]["notes"])
        assert "other launchers of this data directory are not noticed" in run["said"]
        assert "`lading control` will not find this launcher" in run["said"]


def test_a_build_that_cannot_be_set_aside_on_the_disk_is_not_tried_twice_by_one_launcher(
    place: Place, tmp_path: Path
) -> None:
    place.behave(cuda="crash")
    write_preference(place.data, "cuda")  # this machine may have no GPU
    for run in inside(place, tmp_path, "read-only"):
        assert run["first"]["backend"] == "cpu"
        assert "how " in " ".join(run["chosen"]["notes"])
    assert place.calls().count("cuda serve") == 2, "each of the two launchers tries it once"
