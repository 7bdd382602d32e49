"""A machine that refuses: full and dying disks, read-only folders, file systems without links."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, Files, Link, Shop, program, run_entry, tree_files

from lading.errors import AccessDenied, DiskFull
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version
from lading.store.pointer import read_pointer
from lading.store.rollback import rollback
from lading.store.status import status
from lading.store.update import update

POINTS = 12
LIBS: Files = {
    "_internal/nvidia/a.so": os.urandom(60_000),
    "_internal/nvidia/b.so": os.urandom(12_000),
    "_internal/a.so": Link("nvidia/a.so"),
    "_internal/first.so": Link("a.so"),
}
ONE: Files = {ENTRY: program("one"), "_internal/base.pyc": os.urandom(20_000), "_internal/same.pyc": b"s" * 4000}
TWO: Files = {**ONE, ENTRY: program("two"), "_internal/new.pyc": b"n" * 3000}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=30_000)
    made.release("0.1.0", ONE, LIBS)
    return made


# -- system calls that fail


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, root: Path) -> list[dict[str, Any]]:
    if shutil.which("fiu-run") is None:
        pytest.skip("fiu-run is not here: install libfiu (Debian and Ubuntu: fiu-utils, libfiu0)")
    script = Path(__file__).with_name("fault_points.py")
    finished = subprocess.run(
        ["fiu-run", "-x", sys.executable, script, tmp_path_factory.mktemp("faults"), str(POINTS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    found: list[dict[str, Any]] = json.loads(finished.stdout)
    told = Counter((item["call"].rpartition("/")[2], errno.errorcode[item["number"]], item["error"]) for item in found)
    for what, times in sorted(told.items(), key=str):
        print(times, *what)
    return found


def test_faults_did_happen_in_every_kind_of_call(seen: list[dict[str, Any]]) -> None:
    assert all(item["faults"] > 0 for item in seen)
    calls = Counter(item["call"].rpartition("/")[2] for item in seen)
    assert set(calls) == {"write", "fsync", "rename", "unlink", "truncate", "open"}
    assert len(seen) >= 100


@pytest.mark.proves("S0-15")
def test_whatever_call_fails_the_old_version_runs_and_the_next_run_completes(seen: list[dict[str, Any]]) -> None:
    assert [item for item in seen if item["problems"]] == []
    assert {item["finally_"] for item in seen} == {"two"}
    failed = [item for item in seen if item["error"] is not None]
    assert len(failed) > len(seen) / 2
    assert sum(item["after"] == "one" for item in failed) > len(failed) / 2


def test_a_full_disk_and_a_failing_disk_are_told_apart(seen: list[dict[str, Any]]) -> None:
    expected = {errno.ENOSPC: {"DiskFull"}, errno.EIO: {"DiskFailing"}}
    for item in seen:
        # what cannot be opened may as well be a file of the repository, which lies in a folder here
        allowed = expected[item["number"]] | ({"SourceUnreachable"} if item["call"].endswith("open") else set())
        assert item["error"] is None or item["error"] in allowed, item
        assert item["recorded"] in {None, item["error"]}


# -- a disk that is really full, or read-only

FILLING = """
import json, subprocess, sys
from pathlib import Path
from lading.errors import LadingError
from lading.progress import Silent
from lading.store.install import install
from lading.store.installed import current_version
from lading.store.home import Home
from lading.store.status import status

mount, store, root, app = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_bytes(), sys.argv[4]
data, filler = mount / "data", mount / "filler"

class Filling(Silent):
    def task(self, label, total, *, unit="bytes"):
        if label == "fetching":
            with filler.open("wb") as stream:
                try:
                    while stream.write(bytes(4096)):
                        stream.flush()
                except OSError:
                    pass
        return super().task(label, total, unit=unit)

def printed():
    return subprocess.run([current_version(Home(data, "cuda")).entry], capture_output=True, text=True).stdout.strip()

install(store, root, data, app=app, version="0.1.0")
told = {}
try:
    install(store, root, data, app=app, progress=Filling())
except LadingError as error:
    told["error"], told["what"] = error.kind, error.what
told["full"] = printed()
filler.unlink()
told["unfinished"] = len(status(data).variants[0].unfinished)
told["finished"] = install(store, root, data, app=app).version
told["then"] = printed()
print(json.dumps(told))
"""

READ_ONLY = """
set -e
lading="{python} -m lading"
at="--data {mount}/data --app {app}"
$lading install {store} --root {root} $at --version 0.1.0 --flavor cu126 --force --json > {out}/first
mount -o remount,ro {mount}
set +e
$lading update $at --force --json > {out}/update; echo $? > {out}/update.code
$lading rollback $at --json > {out}/rollback; echo $? > {out}/rollback.code
$lading uninstall $at --json > {out}/uninstall; echo $? > {out}/uninstall.code
$lading update --check $at --force --json > {out}/check; echo $? > {out}/check.code
$lading status $at --json > {out}/status; echo $? > {out}/status.code
{mount}/data/backends/cuda/current/tree/{entry} > {out}/entry
"""


def in_mount(tmp_path: Path, size: str, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where a small file system of its own is mounted."""
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not here: it needs Linux namespaces")
    mount = tmp_path / "mount"
    mount.mkdir()
    whole = f"mount -t tmpfs -o size={size},mode=755 none {mount} || exit 99\n{script}"
    finished = subprocess.run(
        ["unshare", "-rm", "sh", "-c", whole], capture_output=True, text=True, check=False, timeout=120
    )
    if finished.returncode == 99 or "unshare" in finished.stderr:
        pytest.skip(f"no private mounts here: {finished.stderr.strip()}")
    return finished


def test_a_disk_that_others_fill_meanwhile_leaves_the_old_version_and_the_next_run_goes_on(
    shop: Shop, tmp_path: Path
) -> None:
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/b.so": os.urandom(900_000)}, label="cu126-v2")
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    program_file = tmp_path / "filling.py"
    program_file.write_text(FILLING)
    words = [sys.executable, program_file, tmp_path / "mount", shop.store, root, APP]
    finished = in_mount(tmp_path, "20m", f"exec {' '.join(map(str, words))}")
    assert finished.returncode == 0, finished.stderr
    told = json.loads(finished.stdout)
    assert told["error"] == DiskFull.__name__
    assert "No room left" in told["what"]
    assert told["full"] == "one"
    assert told["unfinished"] == 1
    assert (told["finished"], told["then"]) == ("0.2.0", "two")


def test_a_read_only_data_directory_is_told_and_can_still_be_used_and_asked_about(shop: Shop, tmp_path: Path) -> None:
    shop.release("0.2.0", TWO, LIBS)
    root, out = tmp_path / "root.json", tmp_path / "out"
    root.write_bytes(shop.root)
    out.mkdir()
    script = READ_ONLY.format(
        python=sys.executable, mount=tmp_path / "mount", app=APP, store=shop.store, root=root, out=out, entry=ENTRY
    )
    finished = in_mount(tmp_path, "20m", script)
    assert finished.returncode == 0, finished.stderr
    for name in ("update", "rollback", "uninstall"):
        told = json.loads((out / name).read_text())
        assert told["error"] == AccessDenied.__name__, told
        assert int((out / f"{name}.code").read_text()) == AccessDenied.exit_code
    assert int((out / "check.code").read_text()) == 3
    assert json.loads((out / "check").read_text())["variants"][0]["newest"] == "0.2.0"
    assert int((out / "status.code").read_text()) == 0
    assert (out / "entry").read_text() == "one\n"


# -- file systems without links


def refuse_links(monkeypatch: pytest.MonkeyPatch, number: int, only: str = "") -> None:
    real = os.link

    def link(source: Path, target: Path, **options: Any) -> None:
        if only in str(source):
            raise OSError(number, os.strerror(number), str(source))
        real(source, target, **options)

    monkeypatch.setattr("os.link", link)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.EMLINK])
def test_without_hard_links_files_are_copied(
    shop: Shop, data: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    first = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.2.0", TWO, LIBS)
    refuse_links(monkeypatch, number)
    second = install(str(shop.store), shop.root, data, app=APP)
    assert tree_files(Path(second.tree)) == {**TWO, **LIBS}
    assert second.files_reused == 4
    same = "_internal/same.pyc"
    assert not (Path(first.tree) / same).samefile(Path(second.tree) / same)
    found = status(data).variants[0].versions[0]
    assert (found.whole, found.changed) == (True, 0)
    assert install(str(shop.store), shop.root, data, app=APP).already_installed
    assert run_entry(data) == "two"


def test_a_file_with_as_many_names_as_it_can_have_is_copied_and_the_others_linked(
    shop: Shop, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.2.0", TWO, LIBS)
    refuse_links(monkeypatch, errno.EMLINK, only="base.pyc")
    second = install(str(shop.store), shop.root, data, app=APP)
    assert tree_files(Path(second.tree)) == {**TWO, **LIBS}
    linked = {
        path
        for path in (*ONE, *LIBS)
        if not (Path(first.tree) / path).is_symlink() and (Path(first.tree) / path).samefile(Path(second.tree) / path)
    }
    assert linked == {"_internal/same.pyc", "_internal/nvidia/a.so", "_internal/nvidia/b.so"}


def test_without_symbolic_links_files_stand_in_their_place_and_the_pointer_is_a_file(
    shop: Shop, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, target: object, **_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))

    monkeypatch.setattr(Path, "symlink_to", refuse)
    first = install(str(shop.store), shop.root, data, app=APP)
    plain = {**ONE, **LIBS, "_internal/a.so": LIBS["_internal/nvidia/a.so"]}
    plain["_internal/first.so"] = plain["_internal/a.so"]
    assert tree_files(Path(first.tree)) == plain
    assert not (data / "backends/cuda/current").is_symlink()
    assert read_pointer(data / "backends/cuda/current") == first.version_id
    assert status(data).variants[0].versions[0].whole
    assert install(str(shop.store), shop.root, data, app=APP).already_installed
    shop.release("0.2.0", TWO, LIBS)
    assert update(data).variants[0].outcome == "updated"
    assert run_entry(data) == "two"
    rollback(data, "cuda")
    assert run_entry(data) == "one"
    (Path(first.tree) / "_internal/a.so").write_bytes(b"other")
    assert not status(data).variants[0].versions[0].whole
    assert install(str(shop.store), shop.root, data, app=APP, version="0.1.0").damage


# -- a data directory on another disk than the one for temporary files


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="needs a second file system")
def test_a_data_directory_on_another_file_system(shop: Shop, tmp_path: Path) -> None:
    other = Path("/dev/shm") / f"lading-test-{os.getpid()}"
    if other.parent.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("/dev/shm is not a file system of its own here")
    try:
        first = install(str(shop.store), shop.root, other, app=APP)
        assert tree_files(Path(first.tree)) == {**ONE, **LIBS}
        shop.release("0.2.0", TWO, LIBS)
        assert update(other).variants[0].outcome == "updated"
        version = current_version(Home(other, "cuda"))
        assert version is not None
        assert tree_files(version.tree) == {**TWO, **LIBS}
    finally:
        shutil.rmtree(other, ignore_errors=True)
