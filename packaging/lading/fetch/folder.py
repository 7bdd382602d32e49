"""A repository in a folder: a mounted disk, a USB stick, what a build has just published, or a folder of downloads.

A file is looked for under its path in the repository, then under its name alone: names of published files carry app,
component and version, and metadata its number or digest, so a flat folder into which somebody copied downloaded files
is as good. Whether they are the right files is decided by their digests, as everywhere.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from lading.errors import SourceUnreachable
from lading.fetch.source import Stream, Temporary, Traffic

BLOCK = 2**18  # bytes a read; also the granularity in which a download can be cancelled


class FolderSource:
    """Reads a repository's files from a folder, which may appear and disappear with its disk.

    Args:
        folder: The repository's base.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.traffic = Traffic()

    def describe(self, path: str) -> str:
        """The file's path."""
        return str(self._locate(path) or self._folder / path)

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there."""
        self.traffic.request()
        file = self._find(path)
        return None if file is None else self._read(file, 0, None)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start``; the file must have ``total`` bytes."""
        self.traffic.request()
        file = self._find(path)
        if file is None:
            raise _incomplete(f"{self._folder / path} is not there")
        if (found := file.stat().st_size) != total:
            raise _incomplete(f"{file} has {found} bytes, not {total}")
        return self._read(file, start, size)

    def distrust(self, path: str, why: str) -> None:
        """Nothing: there is one place to read from."""

    def interrupt(self) -> None:
        """Nothing: a folder does not keep anybody waiting."""

    def close(self) -> None:
        """Nothing is open between two reads."""

    def _locate(self, path: str) -> Path | None:
        candidates = (self._folder / path, self._folder / PurePosixPath(path).name)
        return next((file for file in candidates if os.path.isfile(file)), None)  # noqa: PTH113 (Path.is_file raises)

    def _find(self, path: str) -> Path | None:
        found = self._locate(path)
        if found is None and not os.path.isdir(self._folder):  # noqa: PTH112 (Path.is_dir raises)
            raise SourceUnreachable(
                f"There is no folder {self._folder}, or it cannot be looked into.",
                usually="The path is wrong, or the disk is not mounted.",
                todo="Give the folder that holds metadata, targets and assets, or an http(s) address.",
            )
        return found

    def _read(self, file: Path, start: int, size: int | None) -> Stream:
        left = size
        try:
            with file.open("rb", buffering=0) as stream:
                stream.seek(start)
                while left is None or left > 0:
                    block = stream.read(BLOCK if left is None else min(BLOCK, left))
                    if not block:
                        break
                    left = None if left is None else left - len(block)
                    self.traffic.received(len(block))
                    yield block
        except OSError as error:
            raise SourceUnreachable(
                f"{file} cannot be read: {error.strerror}.",
                usually="The disk is damaged or was taken out, or the file belongs to another user.",
                todo="Copy the file again, check its permissions, or use another source.",
            ) from error
        if left:
            raise Temporary(f"{file} ended {left} bytes too early: it became shorter while it was read.")


def _incomplete(what: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{what}.", usually="The folder was not copied completely.", todo="Copy the file again, or use another source."
    )
