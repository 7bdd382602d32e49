"""One part of a file as a stream of its own, so that several parts are sent at once without holding one in memory."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from typing_extensions import Buffer, override

SENT_AT_ONCE = 256 * 2**10  # bytes


class Transfer(Protocol):
    """What hears how far a part has been sent."""

    def at(self, position: int) -> None:
        """So many bytes of the part are sent."""


class Mark:
    """Counts a part's bytes once, however often it is sent.

    Args:
        advance: Hears of new bytes.
    """

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._highest = 0

    def at(self, position: int) -> None:
        """So many bytes of the part are sent, or were before."""
        if position > self._highest:
            self._advance(position - self._highest)
            self._highest = position


class FileSection(io.RawIOBase):
    """Reads one part of a file.

    Args:
        path: The file.
        start: Where the part begins, in bytes.
        length: Its bytes.
        mark: Hears how far it was read while :attr:`sending`.
    """

    def __init__(self, path: Path, start: int, length: int, mark: Transfer) -> None:
        super().__init__()
        self._file = path.open("rb", buffering=0)
        self._start = start
        self._length = length
        self._mark = mark
        self._position = 0
        self.sending = False  # a part is also read to be signed, and that is no progress
        self._file.seek(start)

    def __len__(self) -> int:
        return self._length

    @override
    def readable(self) -> bool:
        return True

    @override
    def seekable(self) -> bool:
        return True

    @override
    def readinto(self, buffer: Buffer, /) -> int:
        view = memoryview(buffer)
        count = self._file.readinto(view[: max(0, self._length - self._position)])
        self._position += count
        if self.sending:
            self._mark.at(self._position)
        return count

    @override
    def read(self, size: int = -1, /) -> bytes | None:
        """Read so many bytes, or more at once while sending.

        HTTP clients ask for a few kilobytes at a time and send whatever they get, which costs more than the sending.
        """
        return super().read(max(size, SENT_AT_ONCE) if self.sending and size > 0 else size)

    @override
    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._length}[whence]
        self._position = min(max(0, base + offset), self._length)
        self._file.seek(self._start + self._position)
        return self._position

    @override
    def tell(self) -> int:
        return self._position

    @override
    def close(self) -> None:
        self._file.close()
        super().close()
