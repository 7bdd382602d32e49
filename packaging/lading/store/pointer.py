"""``current``: which version is in use. One atomic replacement changes it.

On POSIX it is a relative symbolic link, so that a person and any program can follow it; on Windows, where links need a
privilege, and on file systems without links, a small file with the version's name. Reading understands both.
"""

from __future__ import annotations

import errno
import os
import secrets
from pathlib import Path
from typing import Protocol

from lading import patience
from lading.atomic import as_host_error, fsync_folder, write_atomic

_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})  # how file systems say it
_NAME_LIMIT = 300  # characters; a version's name is far shorter


class Pointer(Protocol):
    """A way to write the pointer."""

    def write(self, current: Path, name: str) -> None:
        """Let ``current`` name a version, atomically and durably."""


class SymlinkPointer:
    """A relative symbolic link ``versions/<name>``."""

    def write(self, current: Path, name: str) -> None:
        """Replace the link by another one; where the file system has no links, by a file.

        Raises:
            AccessDenied, DiskFull: The system refuses; the old pointer stays.
        """
        temporary = current.with_name(f".{current.name}.{secrets.token_hex(4)}.tmp")
        try:
            temporary.symlink_to(Path("versions") / name)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise as_host_error(error, f"pointing {current} to {name}") from error
            FilePointer().write(current, name)
            return
        try:
            patience.replace(temporary, current)
            fsync_folder(current.parent)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise as_host_error(error, f"pointing {current} to {name}") from error


class FilePointer:
    """A small file that holds ``versions/<name>`` and a newline."""

    def write(self, current: Path, name: str) -> None:
        """Replace the file.

        Raises:
            AccessDenied, DiskFull: The system refuses; the old pointer stays.
        """
        write_atomic(current, f"versions/{name}\n".encode())


def system_pointer(system: str = os.name) -> Pointer:
    """The way that suits an operating system."""
    return SymlinkPointer() if system == "posix" else FilePointer()


def write_pointer(current: Path, name: str) -> None:
    """Let ``current`` name a version, in the way that suits this system."""
    system_pointer().write(current, name)


def read_pointer(current: Path) -> str | None:
    """The version that ``current`` names, or none.

    A pointer that names nothing inside ``versions/`` counts as none: nothing outside our folder is ever run.
    """
    try:
        text = str(current.readlink()) if current.is_symlink() else current.read_text("utf-8")[:_NAME_LIMIT]
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeDecodeError):
        return None
    parts = Path(text.rstrip("\n")).parts
    return parts[1] if len(parts) == 2 and parts[0] == "versions" and parts[1] != ".." else None  # noqa: PLR2004 (folder and name)
