"""Interrupted and killed packings: nothing that only looks whole, and the next run is like the first."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.pack.trees import (
    APP,
    CORE,
    CUDA_LIBRARY,
    LIBS,
    ROOT,
    Desk,
    Files,
    copy_project,
    describe,
    hidden,
    make_tree,
    names,
    noise,
)

from lading.manifest.base import canonical_json

FILES: Files = {**CORE, **LIBS}
OTHER: Files = {**FILES, CUDA_LIBRARY: b"other", "_internal/demo/app.pyc": b"other"}
SECONDS = 60.0
MIB = 2**20
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, signals and /proc")


def frozen(folder: Path, files: Files) -> tuple[Path, Path]:
    tree = make_tree(folder / "tree", files)
    (folder / "buildinfo.json").write_bytes(canonical_json(describe(tree)))
    return tree, folder / "buildinfo.json"


def kill_points(tmp_path: Path, files: Files, template: Path) -> dict[str, int]:
    (tmp_path / "work").mkdir()
    script = Path(__file__).with_name("pack_kill_points.py")
    done = subprocess.run(
        [sys.executable, script, *frozen(tmp_path / "frozen", files), template, tmp_path / "work"],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures: dict[str, int] = json.loads(done.stdout)
    print(figures)
    return figures


def test_killed_at_any_change_of_the_disk_nothing_half_made_looks_whole(tmp_path: Path) -> None:
    figures = kill_points(tmp_path, FILES, tmp_path / "none")

    assert figures["points"] > 60
    assert figures["release_there"] == 0
    assert figures["leftovers"] > 40, "staging folders and temporary files lay there, and the next run removed them"


def test_killed_over_an_earlier_packing_its_release_is_whole_or_gone(tmp_path: Path) -> None:
    desk = Desk(tmp_path / "desk")
    desk.pack(FILES)

    figures = kill_points(tmp_path, OTHER, tmp_path / "desk" / "out")

    assert figures["points"] > 70
    assert 0 < figures["release_there"] < figures["points"]


# --- signals ----------------------------------------------------------------------------------------------------------

LARGE: Files = {
    **FILES,
    **{f"_internal/nvidia/large{number}.so": noise(20 * MIB, number) for number in range(8)},
    **{f"_internal/demo/large{number}.bin": noise(20 * MIB, -number) for number in range(1, 4)},
}


def has_read(process: subprocess.Popen[str], count: int) -> bool:
    """Whether a process has read so many bytes."""
    io = Path(f"/proc/{process.pid}/io").read_text("ascii")
    return int(io.split()[1]) > count


def staging(out: Path, component: str) -> bool:
    return any(out.glob(f".{component}.*.partial/volume.*"))


MOMENTS: dict[str, Callable[[subprocess.Popen[str], Path], bool]] = {
    "reading": lambda process, _: has_read(process, 60 * MIB),
    "packing-libs": lambda _, out: staging(out, "libs"),
    "packing-core": lambda _, out: staging(out, "core"),
}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A tree that takes a second to pack, its build information, and its project."""
    folder = tmp_path_factory.mktemp("large")
    return (*frozen(folder, LARGE), copy_project(folder / "project"))


def command(large: tuple[Path, Path, Path], out: Path) -> list[str]:
    tree, buildinfo, project = large
    words = [sys.executable, "-m", "lading", "pack", tree, "--buildinfo", buildinfo, "--project", project, "--out", out]
    return [str(word) for word in (*words, "--profile", "release", "--threads", "1", "--json")]


def stopped(words: list[str], out: Path, moment: str, number: signal.Signals) -> tuple[int, str, str]:
    """Start a packing, send it a signal at a moment, and wait for its end."""
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        give_up = time.monotonic() + SECONDS
        while not MOMENTS[moment](process, out):
            assert process.poll() is None, "it ended before the moment came"
            assert time.monotonic() < give_up
            time.sleep(0.002)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=SECONDS)
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("moment", MOMENTS)
def test_an_interrupt_ends_it_with_its_exit_code_and_nothing_is_left(
    large: tuple[Path, Path, Path], tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "out"

    code, stdout, stderr = stopped(command(large, out), out, moment, signal.SIGINT)

    assert code == 130, stderr
    assert json.loads(stdout)["error"] == "Interrupted"
    assert "Traceback" not in stderr
    assert hidden(out) == set()
    done = {name for name in names(out) if name.endswith(".json")}
    assert done == ({f"{APP}-libs-cu126-v1-linux-x86_64.json"} if moment == "packing-core" else set())
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("moment", ["packing-libs", "packing-core"])
def test_a_kill_leaves_staging_only_and_the_next_run_removes_it_and_goes_on(
    large: tuple[Path, Path, Path], tmp_path: Path, moment: str
) -> None:
    out = tmp_path / "out"

    code, _, _ = stopped(command(large, out), out, moment, signal.SIGKILL)

    assert code == -signal.SIGKILL
    assert len(hidden(out)) == 1
    assert not list(out.glob("*.release.json"))
    assert not list(out.glob("*-core-*"))
    again = subprocess.run(command(large, out), capture_output=True, text=True, check=True)
    told = {part["component"]: part["reused"] for part in json.loads(again.stdout)["components"]}
    assert told == {"core": False, "libs": moment == "packing-core"}
    assert hidden(out) == set()
    assert subprocess.run(["sha256sum", "-c", "--quiet", *out.glob("*.sha256")], cwd=out, check=True).returncode == 0
    shutil.rmtree(tmp_path)


def test_two_packers_into_one_folder_do_not_meet(large: tuple[Path, Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(command(large, out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as first:
        while not staging(out, "libs"):
            assert first.poll() is None
            time.sleep(0.002)
        second = subprocess.run(command(large, out), capture_output=True, text=True, check=False)
        stdout, stderr = first.communicate(timeout=SECONDS)

    assert first.returncode == 0, stdout + stderr
    assert json.loads(stdout)["release"]
    # The second may come when the first is done already; then it reuses everything.
    assert second.returncode in {0, 21}, second.stderr
    if second.returncode == 21:
        assert json.loads(second.stdout)["error"] == "Busy"
    assert hidden(out) == set()
    shutil.rmtree(tmp_path)
