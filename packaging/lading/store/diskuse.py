"""What folders really take on the disk: a file with several names counts once, and is freed with its last name only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

BLOCK = 512  # bytes, the unit of ``st_blocks``


@dataclass(frozen=True, kw_only=True)
class DiskUse:
    """What a folder takes.

    Attributes:
        own: Bytes that its removal frees.
        shared: Bytes that it shares with other folders by hard links.
    """

    own: int
    shared: int


@dataclass
class _Inode:
    size: int
    names: int
    seen: int = 0


def disk_use(folders: Iterable[Path]) -> DiskUse:
    """Measure folders together; they are not changed.

    Args:
        folders: Their paths; one that is not there takes nothing.

    Returns:
        What they take. Copies that a file system stores once (reflinks) count as if they were stored twice.

    Raises:
        OSError: A folder cannot be read.
    """
    inodes: dict[tuple[int, int], _Inode] = {}
    for found in (entry for folder in folders for entry in _entries(folder)):
        folders_have_one_name = stat.S_ISDIR(found.st_mode)
        inode = inodes.setdefault(
            (found.st_dev, found.st_ino),
            _Inode(size=_allocated(found), names=1 if folders_have_one_name else found.st_nlink),
        )
        inode.seen += 1
    own = sum(inode.size for inode in inodes.values() if inode.seen >= inode.names)
    return DiskUse(own=own, shared=sum(inode.size for inode in inodes.values()) - own)


def _entries(folder: Path) -> Iterator[os.stat_result]:
    try:
        yield folder.lstat()
    except FileNotFoundError:
        return
    for here, folders, files in os.walk(folder, onerror=_fail):
        for name in (*folders, *files):
            yield Path(here, name).lstat()


def _fail(error: OSError) -> None:
    raise error


def _allocated(found: os.stat_result) -> int:
    blocks: int | None = getattr(found, "st_blocks", None)  # Windows does not say
    return found.st_size if blocks is None else blocks * BLOCK
