"""From wanted frames to the fewest requests: pure arithmetic over an index and the sizes of an archive's volumes.

Invariants:
    * Every wanted frame is in exactly one range; no other frame is fetched.
    * A range lies in one volume, and is longer than the limit only when it is a single frame.
    * Frames do not cross volumes; an archive where one does is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lading.errors import FormatInvalid
from lading.manifest.index import Frame
from lading.manifest.release import Asset

RANGE_LIMIT = 16 * 2**20  # bytes a request: long enough to fill a line, short enough to lose little when it breaks


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a frame lies.

    Attributes:
        number: The frame's number in its archive.
        volume: The number of its volume, from 0.
        start: Its first byte in that volume.
        size: Its compressed bytes.
    """

    number: int
    volume: int
    start: int
    size: int


@dataclass(frozen=True, kw_only=True)
class Range:
    """One request: neighbouring frames of one volume.

    Attributes:
        volume: The volume's number, from 0.
        start: The first byte.
        size: Bytes in all.
        frames: The frames, in order.
    """

    volume: int
    start: int
    size: int
    frames: tuple[Place, ...]


def frame_places(frames: Sequence[Frame], volumes: Sequence[Asset], *, archive: str) -> tuple[Place, ...]:
    """Compute where every frame of an archive lies.

    Args:
        frames: The index's frame table.
        volumes: The archive's volumes, in order.
        archive: Its name, for the message.

    Returns:
        One place a frame, in order.

    Raises:
        FormatInvalid: The frames and the volumes do not add up.
    """
    places: list[Place] = []
    volume = start = 0
    for number, frame in enumerate(frames):
        if volume < len(volumes) and start == volumes[volume].size:
            volume, start = volume + 1, 0
        if volume == len(volumes) or start + frame.size > volumes[volume].size:
            raise _disagree(archive, f"frame {number} does not lie inside one volume")
        places.append(Place(number=number, volume=volume, start=start, size=frame.size))
        start += frame.size
    if not places or volume != len(volumes) - 1 or start != volumes[volume].size:
        raise _disagree(archive, f"the frames have {sum(frame.size for frame in frames)} bytes")
    return tuple(places)


def coalesce(places: Sequence[Place], wanted: Iterable[int], *, limit: int = RANGE_LIMIT) -> tuple[Range, ...]:
    """Join wanted frames that are neighbours into ranges.

    Args:
        places: All frames of the archive.
        wanted: Numbers of the frames to fetch.
        limit: The longest range in bytes.

    Returns:
        The ranges, in archive order.
    """
    runs: list[list[Place]] = []
    length = 0
    for place in (places[number] for number in sorted(set(wanted))):
        last = runs[-1][-1] if runs else None
        joins = last is not None and last.number + 1 == place.number and last.volume == place.volume
        if joins and length + place.size <= limit:
            runs[-1].append(place)
            length += place.size
        else:
            runs.append([place])
            length = place.size
    return tuple(range_of(run) for run in runs)


def range_of(run: Sequence[Place]) -> Range:
    """The range over neighbouring frames."""
    return Range(volume=run[0].volume, start=run[0].start, size=sum(place.size for place in run), frames=tuple(run))


def _disagree(archive: str, why: str) -> FormatInvalid:
    return FormatInvalid(
        f"The index of {archive} does not fit its volumes: {why}.",
        usually="The release was put together from two packings.",
        todo="Tell the publisher; nothing was changed here.",
    )
