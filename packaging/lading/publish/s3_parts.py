"""How a file is cut into the parts of a multipart upload, and which parts of an earlier one still count. Pure.

Rules:
    * All parts but the last have one length (R2 refuses others), at least 5 MiB, and there are at most 10,000.
    * A part that is there counts when it has the length that it should have and its digest is the file's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from lading.digest import BLOCK
from lading.publish.destination import Stored

MIB = 2**20
SMALLEST_PART = 5 * MIB
MOST_PARTS = 10_000
LARGEST = 5_000_000_000_000  # bytes of an object: S3 takes 5 TiB, R2 a little less; both 5 GiB a part
PART = 16 * MIB  # large enough that a request's own cost is nothing, small enough that a cut costs little


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a file.

    Attributes:
        number: From 1.
        start, length: Where it lies, in bytes.
    """

    number: int
    start: int
    length: int


@dataclass(frozen=True, kw_only=True)
class PartThere:
    """A part that a host says it has.

    Attributes:
        length: Its bytes.
        etag: Its MD5, unless the bucket is encrypted with a key of its own.
    """

    length: int
    etag: str


def part_length(size: int, wanted: int = PART) -> int:
    """The length of all parts but the last.

    Args:
        size: The file's bytes.
        wanted: The length, unless that made too many parts.
    """
    needed = -(-size // MOST_PARTS)
    return max(wanted, SMALLEST_PART, -(-needed // MIB) * MIB)


def parts_of(size: int, length: int) -> tuple[Part, ...]:
    """Cut a file.

    Args:
        size: Its bytes.
        length: Of all parts but the last.
    """
    starts = range(0, size, length)
    return tuple(
        Part(number=number, start=start, length=min(length, size - start)) for number, start in enumerate(starts, 1)
    )


def counts(part: Part, md5: str, there: Mapping[int, PartThere]) -> bool:
    """Whether a part need not be sent."""
    return there.get(part.number) == PartThere(length=part.length, etag=md5)


class Digests:
    """Reads a file once, in order, and digests it as a whole and in parts.

    Attributes:
        size: Bytes read so far.
        md5s: Of the parts that were read so far.
    """

    def __init__(self) -> None:
        self.size = 0
        self.md5s: list[str] = []
        self._whole = hashlib.sha256()

    def read(self, stream: BinaryIO, parts: Sequence[Part]) -> Iterator[tuple[Part, str]]:
        """Give each part with its MD5 as soon as it was read; ends early where the file does."""
        buffer = memoryview(bytearray(BLOCK))
        for part in parts:
            md5 = hashlib.md5(usedforsecurity=False)
            left = part.length
            while left > 0 and (count := stream.readinto(buffer[: min(left, BLOCK)])):  # type: ignore[attr-defined]
                self._whole.update(buffer[:count])
                md5.update(buffer[:count])
                left -= count
            self.size += part.length - left
            if left > 0:
                return
            self.md5s.append(md5.hexdigest())
            yield part, self.md5s[-1]

    @property
    def stored(self) -> Stored:
        """What was read, as a whole."""
        return Stored(size=self.size, sha256=self._whole.hexdigest())
