"""Where a repository is read from, and how hard we try.

A :class:`Source` makes one attempt and tells a failure that may pass (:class:`Temporary`) from one that will not
(:class:`SourceUnreachable`). It verifies only what its own protocol says (status, range, length); whether the bytes are
the right ones is decided by those who know their digest. A file that is not there is an answer, not an error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from threading import Lock
from typing import Protocol

from tenacity import RetryCallState, Retrying, nap, retry_if_exception_type, wait_random_exponential
from typing_extensions import override

from lading.errors import DigestMismatch, FormatInvalid, SourceUnreachable

ATTEMPTS = 5
DIGEST_ATTEMPTS = 3  # bytes that stay wrong are wrong at the source
BACKOFF = 0.5  # seconds before the second attempt at the most; doubled each time, drawn at random below
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is treated as not there


Stream = Generator[bytes, None, None]  # closing it lets the connection go


class Temporary(SourceUnreachable):
    """An attempt failed in a way that may pass.

    Attributes:
        retry_after: Seconds that the server asked us to wait, if it did.
    """

    def __init__(self, what: str, *, retry_after: float | None = None) -> None:
        super().__init__(
            what,
            usually="The network or the server had a moment's trouble.",
            todo="Run the same command again: what is verified already is not fetched twice.",
        )
        self.retry_after = retry_after

    @property
    @override
    def kind(self) -> str:
        """To the outside it is a source that cannot be reached; that it was tried several times is a detail."""
        return SourceUnreachable.__name__


@dataclass
class Traffic:
    """What has gone over a source: requests and body bytes; may be counted from several threads."""

    requests: int = 0
    bytes: int = 0
    _lock: Lock = field(default_factory=Lock, repr=False)

    def request(self) -> None:
        """Count a request."""
        with self._lock:
            self.requests += 1

    def received(self, amount: int) -> None:
        """Count body bytes."""
        with self._lock:
            self.bytes += amount


class Source(Protocol):
    """A repository's base. Paths are those of :mod:`lading.manifest.layout`."""

    @property
    def traffic(self) -> Traffic:
        """What has been asked and received so far."""

    def describe(self, path: str) -> str:
        """A file's address, for messages."""

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there.

        Raises:
            Temporary, SourceUnreachable: The attempt failed, now or while iterating.
        """

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start`` of a file of ``total`` bytes.

        Raises:
            Temporary, SourceUnreachable: The attempt failed, now or while iterating; a file that is not there included.
        """

    def close(self) -> None:
        """Let connections go."""


def _wait(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Temporary) else None
    if asked is not None:
        return min(asked, LONGEST_WAIT)
    return wait_random_exponential(multiplier=BACKOFF, max=LONGEST_WAIT)(state)


def _give_up(state: RetryCallState) -> bool:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after if isinstance(error, Temporary) else None
    attempts = DIGEST_ATTEMPTS if isinstance(error, DigestMismatch) else ATTEMPTS
    return (asked or 0) > LONGEST_WAIT or state.attempt_number >= attempts


def retrying(sleep: Callable[[float], None] = nap.sleep) -> Retrying:
    """Try again after what may pass, waiting as long as the server asks or a little longer each time.

    Bytes that fail their digest are fetched again as well: a proxy or cache may have damaged them on the way.

    Args:
        sleep: Waits for a number of seconds.
    """
    return Retrying(
        retry=retry_if_exception_type((Temporary, DigestMismatch)),
        wait=_wait,
        stop=_give_up,
        sleep=sleep,
        reraise=True,
    )


def fetch_small(source: Source, path: str, limit: int) -> bytes | None:
    """Fetch a whole small file, trying again after what may pass.

    Args:
        source: Where from.
        path: Which file.
        limit: The most bytes that it may have; not one byte more is kept.

    Returns:
        Its bytes, or none when it is not there.

    Raises:
        SourceUnreachable: It cannot be had.
        FormatInvalid: It is longer than it may be.
    """
    return retrying()(_read_once, source, path, limit)


def _read_once(source: Source, path: str, limit: int) -> bytes | None:
    stream = source.stream(path)
    if stream is None:
        return None
    data = bytearray()
    with closing(stream) as blocks:
        for block in blocks:
            data += block
            if len(data) > limit:
                raise FormatInvalid(
                    f"{source.describe(path)} is longer than the {limit} bytes that it may have.",
                    usually="Something between here and the publisher answers in its place, or somebody attacks.",
                    todo="Try another network or source; nothing was changed here.",
                )
    return bytes(data)
