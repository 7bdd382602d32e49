"""How a large file is cut before it is patched, so that no blob needs more memory than a small machine has. Pure.

Every method holds the older bytes and the newer ones in memory at once, one of them twice. So a file larger than
:data:`WHOLE` is cut into parts, each relative to the piece of the older file in which its bytes most likely were:
around the same place, counted from the beginning and from the end. A relinked library moves what it has by less.

Limits, which hold for every patch and which a reader applies before it decodes anything:
    * A blob makes at most :data:`WHOLE` bytes.
    * It is relative to at most :data:`OLDER` bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

WHOLE = 32 * 2**20  # bytes of a file that is patched in one piece
PART = 16 * 2**20  # bytes of a part of a larger file
OLDER = 32 * 2**20  # bytes of the older file that a blob is relative to


@dataclass(frozen=True)
class Part:
    """One piece of a file, and the piece of the older file that it is made from.

    Attributes:
        start, size: The piece of the newer file, in bytes.
        old_start, old_size: The piece of the older file; size 0 when there is none.
    """

    start: int
    size: int
    old_start: int
    old_size: int


def cut(new: int, old: int) -> tuple[Part, ...]:
    """Cut a file.

    Args:
        new: Bytes of the newer file.
        old: Bytes of the older one; 0 when there is none.

    Returns:
        The parts in order; one for a file of at most :data:`WHOLE` bytes.
    """
    step = new if new <= WHOLE else PART
    return tuple(_part(start, min(step, new - start), new, old) for start in range(0, max(new, 1), max(step, 1)))


def _part(start: int, size: int, new: int, old: int) -> Part:
    begin, end = _where(start, size, new, old)
    return Part(start, size, begin, end - begin)


def _where(start: int, size: int, new: int, old: int) -> tuple[int, int]:
    """The piece of the older file to look in."""
    if old <= OLDER:
        return 0, old
    low, high = sorted((start, start + old - new))  # what comes before, or after, may have grown or shrunk
    if high + size - low > OLDER:  # too far apart to see both: look at the same share of the way
        low = high = start * old // max(new, 1)
    middle = (low + high + size) // 2
    begin = min(max(0, middle - OLDER // 2), old - OLDER)
    return begin, begin + OLDER
