"""A repository in a folder: a mounted disk, a USB stick, or what a build has just published."""

from __future__ import annotations

from pathlib import Path

from lading.atomic import as_host_error
from lading.errors import SourceUnreachable
from lading.fetch.source import Stream, Traffic

BLOCK = 2**18  # bytes a read; also the granularity in which a download can be cancelled


class FolderSource:
    """Reads a repository's files from a folder.

    Args:
        folder: The repository's base.

    Raises:
        SourceUnreachable: There is no such folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise SourceUnreachable(
                f"There is no folder {folder}.",
                usually="The path is wrong, or the disk is not mounted.",
                todo="Give the folder that holds metadata, targets and assets, or an http(s) address.",
            )
        self._folder = folder
        self.traffic = Traffic()

    def describe(self, path: str) -> str:
        """The file's path."""
        return str(self._folder / path)

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there."""
        self.traffic.request()
        file = self._folder / path
        return self._read(file, 0, None) if file.is_file() else None

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start``; the file must have ``total`` bytes."""
        self.traffic.request()
        file = self._folder / path
        found = file.stat().st_size if file.is_file() else None
        if found != total:
            state = "is not there" if found is None else f"has {found} bytes, not {total}"
            raise SourceUnreachable(
                f"{file} {state}.",
                usually="The folder was not copied completely.",
                todo="Copy the repository again, or use another source.",
            )
        return self._read(file, start, size)

    def _read(self, file: Path, start: int, size: int | None) -> Stream:
        try:
            with file.open("rb", buffering=0) as stream:
                stream.seek(start)
                while size is None or size > 0:
                    block = stream.read(BLOCK if size is None else min(BLOCK, size))
                    if not block:
                        break
                    size = None if size is None else size - len(block)
                    self.traffic.received(len(block))
                    yield block
        except OSError as error:
            raise as_host_error(error, f"reading {file}") from error

    def close(self) -> None:
        """Nothing is open between two reads."""
