"""A second name for a file, or a copy where the file system gives none; and what stands in for a symbolic link.

Hard links are refused by FAT and some network and container file systems, across file systems, and for a file that has
as many names already as its file system can count (65,000 on ext4, 1,023 on NTFS). Symbolic links are refused by FAT
and, without a privilege, by Windows: the file that a link leads to stands in its place then.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from lading.errors import AccessDenied
from lading.manifest.tree import TreeEntry
from lading.store.sealed import looks_sealed

NO_LINK = frozenset({
    errno.EPERM, errno.EMLINK, errno.EXDEV, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL,
})  # fmt: skip
NO_SYMLINK = frozenset({errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL})
_TOO_MANY_LINKS = 1142  # Windows
_NO_PRIVILEGE = 1314  # Windows
_CLONE = 0x40049409  # FICLONE: the copy shares its blocks until one of the two is written to (btrfs, xfs)


def link(source: Path | str, target: Path | str) -> bool:
    """Give a file a second name.

    Returns:
        False where the file system will not: a copy is wanted then.

    Raises:
        OSError: Something else is wrong.
    """
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno in NO_LINK or getattr(error, "winerror", None) == _TOO_MANY_LINKS:
            return False
        raise
    return True


def copy(source: Path, target: Path) -> None:
    """Copy a file's bytes; without taking room where the file system can share blocks.

    Raises:
        OSError: It cannot be read or written.
    """
    if not _clone(source, target):
        shutil.copyfile(source, target)


def _clone(source: Path, target: Path) -> bool:
    if sys.platform != "linux":
        return False
    import fcntl  # noqa: PLC0415 (POSIX only)

    with source.open("rb") as reading, target.open("wb") as writing:
        try:
            fcntl.ioctl(writing.fileno(), _CLONE, reading.fileno())
        except OSError:  # the file system cannot, or the two are on different ones
            return False
    return True


def symlink(path: Path, target: str) -> bool:
    """Make a symbolic link.

    Returns:
        False where the file system or the user's rights give none.

    Raises:
        OSError: Something else is wrong.
    """
    try:
        path.symlink_to(target)
    except OSError as error:
        if error.errno in NO_SYMLINK or getattr(error, "winerror", None) == _NO_PRIVILEGE:
            return False
        raise
    return True


def stand_in(tree: Path, entry: TreeEntry, entries: Sequence[TreeEntry]) -> TreeEntry:
    """The file that takes the place of a link that cannot be made.

    Args:
        tree: The installed tree, for the message.
        entry: The link.
        entries: All entries of the tree.

    Returns:
        The entry of the file that the link leads to, through other links if need be.

    Raises:
        AccessDenied: It leads to a folder, which nothing can stand in for.
    """
    known = {other.path: other for other in entries}
    found, steps = entry, 0
    while found.type == "link":
        place = os.path.normpath(os.path.join(os.path.dirname(found.path), found.target or ""))  # noqa: PTH118, PTH120 (a tree's path, no file)
        steps += 1
        following = known.get(place.replace(os.sep, "/"))
        if following is None or steps > len(known):
            raise AccessDenied(
                f"{tree / entry.path} is a link to the folder {entry.target}, and this file system has no links.",
                usually="The data directory is on a FAT disk, or on a share that knows no symbolic links.",
                todo="Choose a data directory on another disk with --data.",
            )
        found = following
    return found


def is_stand_in(path: Path, target: str) -> bool:
    """Whether a file stands in for a link: sealed, and as large as what the link would lead to."""
    try:
        return looks_sealed(path.lstat(), (path.parent / target).stat().st_size)
    except OSError:
        return False
