"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from lading.atomic import as_host_error, atomic_writer, write_atomic
from lading.errors import AccessDenied, DiskFailing, DiskFull


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.json"
    write_atomic(target, b"content")
    assert target.read_bytes() == b"content"
    assert names(target.parent) == ["a.json"]


@pytest.mark.parametrize("durable", [True, False])
def test_until_the_block_ends_the_old_content_is_there(tmp_path: Path, *, durable: bool) -> None:
    target = tmp_path / "a.json"
    target.write_bytes(b"old")
    with atomic_writer(target, durable=durable) as stream:
        stream.write(b"new")
        stream.flush()
        assert target.read_bytes() == b"old"
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_mode_is_the_asked_one_under_any_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_atomic(tmp_path / "plain", b"")
        write_atomic(tmp_path / "program", b"", mode=0o755)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "plain").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "program").stat().st_mode) == 0o755


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path: Path, kind: type[BaseException]) -> None:
    target = tmp_path / "a.json"
    target.write_bytes(b"old")

    def fail() -> None:
        with atomic_writer(target) as stream:
            stream.write(b"half of the n")
            raise kind

    with pytest.raises(kind):
        fail()
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_a_folder_under_the_name_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises((OSError, AccessDenied)):
        write_atomic(tmp_path / "a", b"x")
    assert names(tmp_path) == ["a"]


def test_a_hard_link_keeps_its_content(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"old")
    os.link(tmp_path / "a", tmp_path / "b")
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "b").read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")
def test_a_full_disk_is_told_as_such_and_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    code = """
        import resource, sys
        from pathlib import Path
        from lading.atomic import write_atomic
        from lading.errors import DiskFull

        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            write_atomic(Path(sys.argv[1]), b"x" * 200_000)
        except DiskFull as error:
            print(error.exit_code, "MB are free there" in error.what, sys.argv[1] in error.what)
        """
    done = subprocess.run(
        [sys.executable, "-c", dedent(code), str(target)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split() == ["40", "True", "True"]
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_is_a_full_disk(code: int, tmp_path: Path) -> None:
    found = as_host_error(OSError(code, os.strerror(code), str(tmp_path / "not" / "there")), "writing a")
    assert isinstance(found, DiskFull)
    assert "while writing a" in found.what
    assert "MB are free" in found.what


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_no_right_is_access_denied(code: int) -> None:
    found = as_host_error(OSError(code, os.strerror(code), "a"), "writing a")
    assert isinstance(found, AccessDenied)
    assert found.exit_code == 41


def test_a_disk_that_cannot_is_failing() -> None:
    found = as_host_error(OSError(errno.EIO, "broken disk"), "writing a")
    assert isinstance(found, DiskFailing)
    assert found.exit_code == 46


def test_another_error_stays_what_it_is() -> None:
    error = OSError(errno.EBADF, "bad descriptor")
    assert as_host_error(error, "writing a") is error
