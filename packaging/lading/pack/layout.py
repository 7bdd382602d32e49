"""How a component's files are laid out in frames. Pure.

The tar stream is cut into frames by these rules, so that the same files always give the same frames:

    * Members come in the order owner, path: what is updated together lies together.
    * A member larger than :data:`SMALL` begins a frame of its own and is cut every ``FRAME_LIMIT`` bytes; nothing
      shares its last frame.
    * Smaller members are grouped. A group ends when the owner changes, when it would pass :data:`GROUP`, or when a
      digest of the next member's path says so (about every :data:`TYPICAL` bytes). A border that depends on names and
      not on what came before stays where it is when a file before it grows: the frames after a change stay the same,
      and so do their lines in the index.
    * The two zero blocks that end a tar are the last frame.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.index import FRAME_LIMIT

SMALL = 2**20  # members above this get frames of their own
GROUP = 2**20  # raw bytes of a group at most: one changed file costs at most such a frame
LEAST = 256 * 2**10  # a group shorter than this is not ended by a path's digest, only by owner or size
TYPICAL = 512 * 2**10  # mean distance between borders that digests make
BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A run of bytes of one member inside a frame.

    Attributes:
        member: Number of the member.
        start, end: Which bytes of the member (header, data and padding together).
    """

    member: int
    start: int
    end: int


@dataclass(frozen=True, kw_only=True)
class Member:
    """One entry as it lies in the tar stream.

    Attributes:
        entry: The file or link.
        header: Its tar header, with a pax header before it where the name needs one.
        size: Header, data and padding, in bytes.
    """

    entry: OwnedEntry
    header: bytes
    size: int


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Members in archive order and the frames that they fill; the end of the tar is not listed.

    Attributes:
        members: In archive order.
        frames: Each a sequence of pieces.
        places: For each member, the number of the frame and the offset in it where its data begins.
    """

    members: tuple[Member, ...]
    frames: tuple[tuple[Piece, ...], ...]
    places: tuple[tuple[int, int], ...]


def tar_header(entry: OwnedEntry) -> bytes:
    """The normalised header: no times, no owners, 0644 or 0755; pax where ustar is too narrow."""
    info = tarfile.TarInfo(entry.path)
    info.mode = entry.mode
    info.size = entry.size
    if entry.type == "link":
        info.type = tarfile.SYMTYPE
        info.linkname = entry.target or ""
        info.mode = 0o777  # what every link has on Linux, so that stock tar shows no difference
    return info.tobuf(format=tarfile.PAX_FORMAT)


def _member(entry: OwnedEntry) -> Member:
    header = tar_header(entry)
    data = entry.size + -entry.size % BLOCK
    return Member(entry=entry, header=header, size=len(header) + data)


def _border(path: str, size: int) -> bool:
    """Whether the path's digest ends a group: more often for larger members, so that borders are even in bytes."""
    number = int.from_bytes(hashlib.sha256(path.encode()).digest()[:8])
    return number < size * 2**64 // TYPICAL


def _groups(members: Sequence[Member]) -> Iterator[list[int]]:
    group: list[int] = []
    filled = 0
    for number, member in enumerate(members):
        large = member.size > SMALL
        if group and (
            large
            or member.entry.owner != members[group[-1]].entry.owner
            or filled + member.size > GROUP
            or (filled >= LEAST and _border(member.entry.path, member.size))
        ):
            yield group
            group, filled = [], 0
        if large:
            yield [number]
            continue
        group.append(number)
        filled += member.size
    if group:
        yield group


def _cut(number: int, member: Member) -> Iterator[tuple[Piece, ...]]:
    for start in range(0, member.size, FRAME_LIMIT):
        yield (Piece(member=number, start=start, end=min(start + FRAME_LIMIT, member.size)),)


def plan_layout(entries: Sequence[OwnedEntry]) -> Layout:
    """Lay a component's entries out.

    Args:
        entries: In any order.

    Returns:
        The layout, the same for the same entries.
    """
    ordered = sorted(entries, key=lambda entry: (entry.owner, entry.path.encode()))
    members = tuple(_member(entry) for entry in ordered)
    frames: list[tuple[Piece, ...]] = []
    places: list[tuple[int, int]] = []
    for group in _groups(members):
        at = 0
        for number in group:
            places.append((len(frames), at + len(members[number].header)))
            at += members[number].size
        if len(group) == 1:
            frames.extend(_cut(group[0], members[group[0]]))
        else:
            frames.append(tuple(Piece(member=n, start=0, end=members[n].size) for n in group))
    return Layout(members=members, frames=tuple(frames), places=tuple(places))
