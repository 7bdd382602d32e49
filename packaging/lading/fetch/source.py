"""Where a repository is read from, and how hard we try.

A :class:`Source` makes one attempt and tells a failure that may pass (:class:`Temporary`) from one that will not
(:class:`SourceUnreachable`). It verifies only what its own protocol says (status, range, length); whether the bytes are
the right ones is decided by those who know their digest. A file that is not there is an answer, not an error.

Attempts that fail are logged with address and reason by the logger ``lading.fetch``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass, field
from threading import Event, Lock
from typing import Protocol

from tenacity import RetryCallState, Retrying, nap, wait_random_exponential
from typing_extensions import override

from lading.cancel import sleeping_until
from lading.errors import DigestMismatch, LadingError, LengthExceeded, SourceUnreachable

ATTEMPTS = 5  # also of bytes that prove wrong: sources that know several places end it earlier
BACKOFF = 0.5  # seconds before the second attempt at the most; doubled each time, drawn at random below
LONGEST_WAIT = 60.0  # seconds; a server that asks for more is treated as not there


Stream = Generator[bytes, None, None]  # closing it lets the connection go

LOG = logging.getLogger("lading.fetch")
LOG.addHandler(logging.NullHandler())  # a library is silent until somebody wants to hear


class Temporary(SourceUnreachable):
    """An attempt failed in a way that may pass.

    Attributes:
        retry_after: Seconds that the server asked us to wait, if it did.
    """

    def __init__(
        self,
        what: str,
        *,
        usually: str = "The network or the server had a moment's trouble.",
        todo: str = "Run the same command again: what is verified already is not fetched twice.",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, usually=usually, todo=todo)
        self.retry_after = retry_after

    @property
    @override
    def kind(self) -> str:
        """To the outside it is a source that cannot be reached; that it was tried several times is a detail."""
        return SourceUnreachable.__name__


class NotNow(SourceUnreachable):
    """One of several places fails in a way that may pass: the others are asked before anybody waits.

    Attributes:
        retry_after: Seconds that its server asked us to wait, if it did.
    """

    def __init__(self, error: Temporary) -> None:
        super().__init__(error.what, usually=error.usually, todo=error.todo)
        self.retry_after = error.retry_after

    @property
    @override
    def kind(self) -> str:
        """To the outside it is a source that cannot be reached."""
        return SourceUnreachable.__name__


def soonest(errors: Iterable[Temporary | NotNow]) -> float | None:
    """How long the most willing of several servers asked us to wait; none when one of them asked for nothing."""
    asked = [error.retry_after for error in errors]
    return None if None in asked else min((seconds for seconds in asked if seconds is not None), default=None)


class AllWrong(DigestMismatch):
    """Every place has given wrong bytes for a file: there is nobody left to ask."""

    @property
    @override
    def kind(self) -> str:
        """To the outside these are bytes that are not what was signed."""
        return DigestMismatch.__name__


@dataclass(frozen=True, kw_only=True)
class Waits:
    """How long a server may take.

    Attributes:
        connect: Seconds until there is a connection.
        silence: Seconds without a byte; a slow line is no error, a silent one is.
        window, slowest: An answer that brings less than ``slowest`` bytes a second for ``window`` seconds is given up.
    """

    connect: float = 15.0
    silence: float = 30.0
    window: float = 60.0
    slowest: float = 100.0


@dataclass
class Traffic:
    """What has gone over a source: requests and body bytes; may be counted from several threads.

    Attributes:
        requests: Requests sent, redirects included.
        bytes: Body bytes received.
        also: Counts the same, for several sources together.
    """

    requests: int = 0
    bytes: int = 0
    also: Traffic | None = None
    _lock: Lock = field(default_factory=Lock, repr=False)

    def request(self) -> None:
        """Count a request."""
        with self._lock:
            self.requests += 1
        if self.also is not None:
            self.also.request()

    def received(self, amount: int) -> None:
        """Count body bytes."""
        with self._lock:
            self.bytes += amount
        if self.also is not None:
            self.also.received(amount)


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

    def distrust(self, path: str, why: str) -> None:
        """Hear that bytes of a file which this source gave this thread last proved wrong.

        Whoever finds a digest wrong says so before trying again. A source that knows only one place has no choice and
        ignores it; one that knows several takes another from then on.

        Args:
            path: Which file.
            why: What was wrong, for messages.
        """

    def interrupt(self) -> None:
        """Let the threads that wait for bytes fail soon instead of after their patience; called from another thread."""

    def close(self) -> None:
        """Let connections go."""


def _error_of(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _is_worth_it(state: RetryCallState) -> bool:
    error = _error_of(state)
    return isinstance(error, Temporary | DigestMismatch | _TooLong) and not isinstance(error, AllWrong)


def _wait(state: RetryCallState) -> float:
    error = _error_of(state)
    if isinstance(error, DigestMismatch | _TooLong):
        return 0.0  # nobody is overloaded: the bytes are wrong, and another place may have the right ones
    asked = error.retry_after if isinstance(error, Temporary) else None
    if asked is not None:
        return min(asked, LONGEST_WAIT)
    return wait_random_exponential(multiplier=BACKOFF, max=LONGEST_WAIT)(state)


def _give_up(state: RetryCallState) -> bool:
    error = _error_of(state)
    asked = error.retry_after if isinstance(error, Temporary) else None
    return (asked or 0) > LONGEST_WAIT or state.attempt_number >= ATTEMPTS


def _log_wait(state: RetryCallState) -> None:
    pause = state.next_action.sleep if state.next_action else 0.0
    LOG.info("attempt %d of %d failed, next in %.1f s: %s", state.attempt_number, ATTEMPTS, pause, _what(state))


def _what(state: RetryCallState) -> str:
    error = _error_of(state)
    return error.what if isinstance(error, LadingError) else str(error)


def retrying(sleep: Callable[[float], None] = nap.sleep) -> Retrying:
    """Try again after what may pass, waiting as long as the server asks or a little longer each time.

    Bytes that fail their digest are fetched again as well, at once: a proxy or cache may have damaged them on the way,
    and a source that was told of it (:meth:`Source.distrust`) takes another place.

    Args:
        sleep: Waits for a number of seconds.
    """
    return Retrying(
        retry=_is_worth_it,
        wait=_wait,
        stop=_give_up,
        sleep=sleep,
        before_sleep=_log_wait,
        reraise=True,
    )


def fetch_small(source: Source, path: str, limit: int, *, stop: Event | None = None) -> bytes | None:
    """Fetch a whole small file, trying again after what may pass.

    Args:
        source: Where from.
        path: Which file.
        limit: The most bytes that it may have; not one byte more is kept.
        stop: Ends the waits between attempts.

    Returns:
        Its bytes, or none when it is not there.

    Raises:
        Interrupted: ``stop`` was set.
        SourceUnreachable: It cannot be had.
        LengthExceeded: It is longer than it may be.
    """
    too_long: list[_TooLong] = []

    def attempt() -> bytes | None:
        try:
            return _read_once(source, path, limit)
        except _TooLong as error:
            too_long.append(error)
            raise

    # Whoever asked may try again on its own: what was tried often enough here is final for it.
    try:
        return retrying(sleeping_until(stop))(attempt)
    except (_TooLong, AllWrong) as error:
        if not too_long:
            raise
        raise LengthExceeded(error.what, usually=too_long[-1].usually, todo=too_long[-1].todo) from error
    except Temporary as error:
        raise SourceUnreachable(error.what, usually=error.usually, todo=error.todo) from error


class _TooLong(LengthExceeded):
    """An attempt gave more bytes than a file may have; another place may have the right ones."""


def _read_once(source: Source, path: str, limit: int) -> bytes | None:
    stream = source.stream(path)
    if stream is None:
        return None
    data = bytearray()
    with closing(stream) as blocks:
        for block in blocks:
            data += block
            if len(data) > limit:
                raise _too_long(source, path, limit)
    return bytes(data)


def _too_long(source: Source, path: str, limit: int) -> _TooLong:
    what = f"{source.describe(path)} is longer than the {limit} bytes that it may have."
    source.distrust(path, what)
    return _TooLong(
        what,
        usually="Something between here and the publisher answers in its place, or somebody attacks.",
        todo="Try another network or source; nothing was changed here.",
    )
