"""Folders as destinations in tests: what lies there, and one whose network goes away."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from tests.packed_release import ENTRY, Files, program
from typing_extensions import override

from lading.errors import DestinationUnreachable
from lading.publish.destination import Stored
from lading.publish.folder import LOCK, FolderDestination

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 30_000}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(60_000)}
OBJECTS = 12  # of a release with core and libs in one volume each
SIGNED = 5  # files of a release after the first: two targets, three metadata


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its path, but for the lock."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != LOCK}


class Breaking(FolderDestination):
    """A destination whose network goes away before a given change, or when it is looked at.

    Args:
        folder: The repository's base.
        after: How many changes come to pass.
        reads: It can be looked at.
        unread: Files whose paths begin so cannot be read.
    """

    def __init__(self, folder: Path, after: int, *, reads: bool = True, unread: str = "-") -> None:
        super().__init__(folder)
        self.left = after
        self.reads = reads
        self.unread = unread

    def _count(self) -> None:
        if self.left == 0:
            raise DestinationUnreachable("the network went away")
        self.left -= 1

    @override
    def read(self, path: str) -> bytes | None:
        if path.startswith(self.unread):
            raise DestinationUnreachable("the network went away")
        return super().read(path)

    @override
    def stat(self, path: str) -> Stored | None:
        if not self.reads:
            raise DestinationUnreachable("the network went away")
        return super().stat(path)

    @override
    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> int:
        self._count()
        return super().put_file(path, source, stored, advance)

    @override
    def put_bytes(self, path: str, data: bytes) -> int:
        self._count()
        return super().put_bytes(path, data)
