"""Killed, raced and starved installs: the machine has the old version or the new one, whole, and goes on."""

from __future__ import annotations

import errno
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
from tests.packed_release import APP, ENTRY, Files, Link, Shop, program, tree_files
from tests.range_server import Answer, Fault, RangeServer

from lading.errors import AccessDenied, DiskFull, Interrupted
from lading.manifest.base import read_record
from lading.manifest.release import Release
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import installed_versions
from lading.store.journal import JOURNAL, journal_header, journaled_frames
from lading.store.removal import uninstall
from lading.store.status import status

LIBS: Files = {
    "_internal/nvidia/a.so": os.urandom(40_000),
    "_internal/nvidia/b.so": os.urandom(12_000),
    "_internal/a.so": Link("nvidia/a.so"),
}
ONE: Files = {ENTRY: program("one"), "_internal/base.pyc": os.urandom(20_000), "_internal/gone.pyc": b"g" * 3000}
TWO: Files = {ENTRY: program("two"), "_internal/base.pyc": os.urandom(21_000), "_internal/deep/new.pyc": b"n" * 3000}

needs_posix = pytest.mark.skipif(os.name != "posix", reason="kills and forks")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=30_000)
    made.release("0.1.0", ONE, LIBS)
    return made


# -- over a real line


def start_install(server: RangeServer, shop: Shop, tmp_path: Path) -> subprocess.Popen[str]:
    root_file = tmp_path / "root.json"
    root_file.write_bytes(shop.root)
    words = ["install", server.url, "--root", str(root_file), "--data", str(tmp_path / "data"), "--app", APP]
    words += ["--force", "--json"]  # whatever GPU this machine has
    return subprocess.Popen(
        [sys.executable, "-m", "lading", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(process: subprocess.Popen[str], what: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"it did not come to that: {process.communicate()}")
        time.sleep(0.02)


def stalling(after: int) -> Fault:
    def fault(answer: Answer) -> None:
        if ".tar.zst" in answer.path:
            answer.stall_after = after

    return fault


@needs_posix
@pytest.mark.proves("X-33", "S0-16")
@pytest.mark.parametrize("after", [0, 9_000, 20_000])
def test_a_killed_download_goes_on_where_it_stopped(
    shop: Shop, server: RangeServer, tmp_path: Path, after: int
) -> None:
    server.faults.append(stalling(after))
    process = start_install(server, shop, tmp_path)
    partial = tmp_path / "data/backends/cuda/partial"

    def frames() -> int:
        return sum(path.read_bytes().count(b"\n+ ") for path in partial.glob("*/journal"))

    wait_until(process, lambda: len(server.asked(".tar.zst")) >= 3 and (after == 0 or frames() >= 3))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert status(tmp_path / "data").variants[0].current is None
    kept = frames()
    server.faults.clear()
    server.requests.clear()
    result = install(server.url, shop.root, tmp_path / "data", app=APP)
    assert tree_files(Path(result.tree)) == {**ONE, **LIBS}
    assert (result.bytes_resumed > 0) == (kept > 0)
    sizes = sum(path.stat().st_size for path in shop.store.rglob("*.tar.zst*") if path.suffix != ".sha256")
    assert result.bytes_fetched + result.bytes_resumed <= sizes
    assert not list(partial.iterdir())


def test_two_processes_at_once_give_one_install_and_one_busy(shop: Shop, server: RangeServer, tmp_path: Path) -> None:
    server.faults.append(stalling(0))
    first = start_install(server, shop, tmp_path)
    wait_until(first, lambda: server.asked(".tar.zst"))
    began = time.monotonic()
    second = start_install(server, shop, tmp_path)
    said, _ = second.communicate(timeout=20)
    assert time.monotonic() - began < 15
    assert second.returncode == 21
    told = json.loads(said)
    assert told["error"] == "Busy"
    assert f"process {first.pid}" in told["what"]
    first.kill()
    first.communicate()
    server.faults.clear()
    result = install(server.url, shop.root, tmp_path / "data", app=APP)
    assert tree_files(Path(result.tree)) == {**ONE, **LIBS}


@needs_posix
def test_an_interrupted_install_ends_with_its_own_code_and_goes_on(
    shop: Shop, server: RangeServer, tmp_path: Path
) -> None:
    server.faults.append(stalling(9_000))
    process = start_install(server, shop, tmp_path)
    wait_until(process, lambda: len(server.asked(".tar.zst")) >= 3)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    server.ending.set()  # the silent lines end; without that the program waits for their time limit
    process.communicate(timeout=60)
    assert process.returncode == Interrupted.exit_code
    server.faults.clear()
    result = install(server.url, shop.root, tmp_path / "data", app=APP)
    assert result.bytes_resumed > 0


# -- a system that refuses


@needs_posix
@pytest.mark.proves("S0-15")
@pytest.mark.parametrize("call", ["rename", "replace", "symlink_to"])
def test_a_replacement_that_the_system_refuses_leaves_the_old_version_in_use(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    data = tmp_path / "data"
    install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/b.so": b"new" * 4000}, label="cu126-v2")

    def refuse(path: Path, target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, refuse)
        with pytest.raises(AccessDenied):
            install(str(shop.store), shop.root, data, app=APP)
    entry = data / "backends/cuda/current/tree" / ENTRY
    assert subprocess.run([entry], capture_output=True, check=True).stdout == b"one\n"
    result = install(str(shop.store), shop.root, data, app=APP)
    assert (result.bytes_fetched == 0) == (call == "rename")  # the others fail before the first frame
    assert subprocess.run([entry], capture_output=True, check=True).stdout == b"two\n"


# -- what a power cut leaves


def test_bytes_lost_by_a_power_cut_are_noticed_and_fetched_again(shop: Shop, tmp_path: Path) -> None:
    """The journal survived, a file's pages did not: zeros where verified bytes were."""
    data = tmp_path / "data"
    stage(shop, data)
    (folder,) = (data / "backends/cuda/partial").iterdir()
    victim = folder / "version/tree/_internal/nvidia/a.so"
    size = victim.stat().st_size
    victim.write_bytes(b"\0" * size)
    cut = folder / "version/tree/_internal/base.pyc"
    os.truncate(cut, 100)
    result = install(str(shop.store), shop.root, data, app=APP)
    assert tree_files(Path(result.tree)) == {**ONE, **LIBS}
    assert 0 < result.bytes_resumed < 75_000


def stage(shop: Shop, data: Path) -> None:
    """Everything fetched and journaled, nothing published: as if it had died just before the rename."""
    install(str(shop.store), shop.root, data, app=APP)
    home = Home(data, "cuda")
    (version,) = home.versions.iterdir()
    release = installed_versions(home)[0].release()
    staging = home.staging(release)
    staging.mkdir(parents=True)
    version.rename(staging / "version")
    (staging / ".lading-partial").write_text(json.dumps({"schema": "lading/partial/1", "tree": release.tree}))
    (staging / "version/.lading-version").unlink()
    lines = [f"+ {part.component} {number}\n" for part in release.components for number in range(40)]
    (staging / JOURNAL).write_bytes(journal_header(release) + "".join(lines).encode())
    assert journaled_frames(staging / JOURNAL, release)["core"]
    home.current.unlink()


def test_a_staged_file_that_is_a_link_to_an_installed_one_is_never_written_through(shop: Shop, tmp_path: Path) -> None:
    data = tmp_path / "data"
    first = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.2.0", TWO, LIBS)
    staging = _staging_of(shop, data, "0.2.0")
    target = staging / "version/tree/_internal/base.pyc"
    target.parent.mkdir(parents=True)
    os.link(Path(first.tree) / "_internal/base.pyc", target)
    os.truncate(target, 20_000)
    (staging / ".lading-partial").write_text(json.dumps({"schema": "lading/partial/1", "tree": "0" * 64}))
    second = install(str(shop.store), shop.root, data, app=APP)
    assert tree_files(Path(second.tree)) == {**TWO, **LIBS}
    assert tree_files(Path(first.tree)) == {**ONE, **LIBS}


def _staging_of(shop: Shop, data: Path, version: str) -> Path:
    file = next(shop.packed(version).glob("*.release.json"))
    return Home(data, "cuda").staging(read_record(Release, file.read_bytes(), origin="test"))


def test_another_release_clears_what_an_unfinished_one_left(shop: Shop, tmp_path: Path) -> None:
    data = tmp_path / "data"
    stage(shop, data)
    shop.release("0.2.0", TWO, LIBS)
    install(str(shop.store), shop.root, data, app=APP)
    assert not list((data / "backends/cuda/partial").iterdir())
    uninstall(data, "cuda")


# -- a full disk


TMPFS = """
mount -t tmpfs -o size={size} none {mount} || exit 99
exec {python} -m lading install {store} --root {root} --data {mount}/data --app {app} --force --json
"""


def _in_tmpfs(shop: Shop, tmp_path: Path, size: str) -> subprocess.CompletedProcess[str]:
    mount = tmp_path / "mount"
    mount.mkdir(exist_ok=True)
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    script = TMPFS.format(size=size, mount=mount, python=sys.executable, store=shop.store, root=root, app=APP)
    finished = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    if finished.returncode == 99 or "unshare" in finished.stderr:
        pytest.skip(f"no private mounts here: {finished.stderr.strip()}")
    return finished


@pytest.mark.proves("X-33")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs Linux namespaces")
def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(shop: Shop, tmp_path: Path) -> None:
    finished = _in_tmpfs(shop, tmp_path, "1m")
    assert finished.returncode == DiskFull.exit_code
    told = json.loads(finished.stdout)
    assert told["error"] == "DiskFull"
    assert "MB are needed in" in told["what"]
    assert "MB are free" in told["what"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_on_the_way_keeps_what_was_verified(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The operating system's own call fails after some writes, as it does when others fill the disk."""
    data = tmp_path / "data"
    real, left = os.write, [8]

    def failing(descriptor: int, block: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(number, os.strerror(number))
        return real(descriptor, block)

    with monkeypatch.context() as patch:
        patch.setattr("os.write", failing)
        with pytest.raises(DiskFull, match="No room left"):
            install(str(shop.store), shop.root, data, app=APP)
    assert status(data).variants[0].current is None
    result = install(str(shop.store), shop.root, data, app=APP)
    assert result.bytes_resumed > 0
    assert tree_files(Path(result.tree)) == {**ONE, **LIBS}
