"""Files that are whole or not there."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lading import patience
from lading.errors import AccessDenied, DiskFailing, DiskFull, LadingError

_BROKEN = {getattr(errno, name, errno.EIO) for name in ("EIO", "ENXIO", "ENODEV", "ESTALE", "EUCLEAN", "EREMOTEIO")}


def as_host_error(error: OSError, doing: str) -> LadingError | OSError:
    """Translate the operating system's refusals that a user can do something about.

    Args:
        error: What the system said.
        doing: What was being done, such as ``writing out/a.tar.zst``.

    Returns:
        A :class:`DiskFull`, :class:`AccessDenied` or :class:`DiskFailing`, or the error itself.
    """
    if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
        room = ""
        with suppress(OSError, TypeError):
            folder = Path(error.filename or ".").absolute()
            while not folder.exists():
                folder = folder.parent
            room = f"; {shutil.disk_usage(folder).free / 1e6:,.0f} MB are free there"
        return DiskFull(
            f"No room left while {doing} ({error.strerror}){room}.",
            usually="The disk or quota is full; nothing that was there before has been changed.",
            todo="Free some space and run the same command again.",
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return AccessDenied(
            f"The system refuses access while {doing}: {error}",
            usually="The folder belongs to another user, is read-only, or a running program holds the file.",
            todo="Check the folder's owner and permissions, then run the same command again.",
        )
    if error.errno in _BROKEN:
        return DiskFailing(
            f"The disk reports an error while {doing}: {error}",
            usually="The disk or its connection is failing, or a network drive went away; what was there is unchanged.",
            todo="Check the disk and the system's log, then run the same command again.",
        )
    return error


def fsync_folder(folder: Path) -> None:
    """Make renames inside a folder durable (POSIX; Windows has no such call and needs none)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_writer(path: Path, *, mode: int = 0o644, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a file that appears under its name only when the block ends without an exception.

    The temporary file lies in the same folder, so that the final rename cannot cross file systems.

    Args:
        path: The file's final name; its folder is made if need be.
        mode: Permission bits of the file.
        durable: Flush the data and the folder to disk.

    Yields:
        A binary stream.

    Raises:
        DiskFull, AccessDenied: The system refuses; no file is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    except OSError as error:
        raise as_host_error(error, f"writing {path}") from error
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(stream.fileno())
        temporary.chmod(mode)
        patience.replace(temporary, path)
        if durable:
            fsync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename = error.filename or str(path)  # which disk is full, where the system did not say
            raise as_host_error(error, f"writing {path}") from error
        raise


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Write a whole file atomically; see :func:`atomic_writer`."""
    with atomic_writer(path, mode=mode, durable=durable) as stream:
        stream.write(data)
