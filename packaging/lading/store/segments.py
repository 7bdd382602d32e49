"""Which bytes of which frame belong where in which file: pure arithmetic over an index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lading.errors import FormatInvalid
from lading.manifest.index import Frame, IndexEntry


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a file.

    Attributes:
        entry: The file.
        position: Where in the file.
        frame: Which frame.
        offset: Where in the frame's raw bytes.
        length: Bytes.
    """

    entry: IndexEntry
    position: int
    frame: int
    offset: int
    length: int


def segments_of(entry: IndexEntry, frames: Sequence[Frame]) -> Iterator[Segment]:
    """The pieces of a file, in order: the first at its offset, the others at the start of the frames that follow.

    Raises:
        FormatInvalid: The frames end before the file does.
    """
    position, number, offset = 0, entry.frame, entry.offset
    while position < entry.size:
        if number >= len(frames) or offset > frames[number].raw:
            raise FormatInvalid(
                f"The index puts {entry.path} ({entry.size} bytes) where its {len(frames)} frames end.",
                usually="The publisher signed a mistake, or somebody attacks.",
                todo="Tell the publisher; nothing was changed here.",
            )
        length = min(entry.size - position, frames[number].raw - offset)
        if length:
            yield Segment(entry, position, number, offset, length)
        position, number, offset = position + length, number + 1, 0
