"""Read files back out of a packed component, by frames; every frame is checked before its bytes are used."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

from backports import zstd

from lading.errors import DigestMismatch, FormatInvalid
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.release import ComponentRecord
from lading.pack.assets import read_index


class PackedReader:
    """Random access to the files of a packed component.

    Args:
        folder: Where its assets are.
        record: Its record.
    """

    def __init__(self, folder: Path, record: ComponentRecord) -> None:
        self._folder = folder
        self._record = record
        self.index: Index = read_index(folder, record.index)
        self._frame_ends = list(accumulate(frame.size for frame in self.index.frames))
        self._volume_ends = list(accumulate(volume.size for volume in record.volumes))
        self._last: tuple[int, bytes] = (-1, b"")

    def _stored(self, number: int) -> bytes:
        frame = self.index.frames[number]
        start = self._frame_ends[number] - frame.size
        volume = bisect_right(self._volume_ends, start)
        at = start - (self._volume_ends[volume] - self._record.volumes[volume].size)
        with (self._folder / self._record.volumes[volume].name).open("rb") as stream:
            stream.seek(at)
            return stream.read(frame.size)

    def frame(self, number: int) -> bytes:
        """The raw bytes of a frame.

        Raises:
            FormatInvalid: It cannot be decompressed.
            DigestMismatch: Its bytes are not those of the index.
        """
        if self._last[0] != number:
            self._last = (number, decode_frame(self._stored(number), self.index.frames[number], number))
        return self._last[1]

    def read(self, entry: IndexEntry, start: int = 0, size: int | None = None) -> bytes:
        """The bytes of a file, or a piece of them.

        Args:
            entry: The file.
            start: Where the piece begins.
            size: Its bytes; to the end of the file when none.

        Raises:
            FormatInvalid: A frame cannot be decompressed, or the index leads beyond the frames.
            DigestMismatch: A frame's bytes are not those of the index.
        """
        parts = []
        number, offset = self._at(entry, start)
        missing = entry.size - start if size is None else size
        while missing > 0:
            part = self.frame(number)[offset : offset + missing] if number < len(self.index.frames) else b""
            if not part:
                raise FormatInvalid(
                    f"The index places {entry.path} at byte {offset} of frame {number}, where nothing is.",
                    usually="The archive and the index belong to different builds.",
                    todo="Fetch or pack it again.",
                )
            parts.append(part)
            missing -= len(part)
            number, offset = number + 1, 0
        return b"".join(parts)

    def _at(self, entry: IndexEntry, start: int) -> tuple[int, int]:
        """The frame and the place in it where a file's byte lies."""
        number, offset = entry.frame, entry.offset + start
        while start and number < len(self.index.frames) and offset >= self.index.frames[number].raw:
            number, offset = number + 1, offset - self.index.frames[number].raw
        return number, offset


def decode_frame(stored: bytes, frame: Frame, number: int) -> bytes:
    """Decompress one frame, never to more than it should have, and check it.

    Raises:
        FormatInvalid: It cannot be decompressed.
        DigestMismatch: Its bytes are not those of the index.
    """
    try:
        raw = zstd.ZstdDecompressor().decompress(stored, max_length=frame.raw + 1)
    except zstd.ZstdError as error:
        raise FormatInvalid(
            f"Frame {number} ({len(stored)} bytes) cannot be decompressed: {error}",
            usually="The archive was cut off or altered.",
            todo="Fetch or pack it again.",
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != frame.sha256:
        raise DigestMismatch(
            f"Frame {number} has SHA-256 {found}; the index says {frame.sha256}.",
            usually="The archive was altered, or archive and index belong to different builds.",
            todo="Fetch or pack it again.",
        )
    return raw
