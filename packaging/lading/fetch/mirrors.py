"""Several places that should hold the same repository: the first that serves soundly is used, the others wait.

A place that fails is passed over at once, for this request and for a while for all others; nobody waits before all of
them have failed in a round. What it gave so far is kept: the next place goes on at the byte where it broke off. Which
place did what wrong is logged and kept for a report. Whether bytes are right is found out by whoever knows their digest
and told by :meth:`MirrorSource.distrust`.

What a place can do wrong, and what follows:

    * no answer, 503, a broken connection: passed over for half a minute, and longer each time
    * a missing file, an unusable answer: passed over for this file for an hour, for others asked as before
    * wrong bytes: passed over for an hour, and asked when no other is left
    * wrong bytes from every place: the end (:class:`AllWrong`), which names each of them

Metadata that decides (the next root, the timestamp) must come from one place by itself; for that,
:attr:`MirrorSource.mirrors` gives the places one by one (see :mod:`lading.fetch.trust`).
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from lading.errors import SourceUnreachable, listed
from lading.fetch.source import LOG, AllWrong, NotNow, Source, Stream, Temporary, Traffic, soonest
from lading.manifest.base import Record
from lading.manifest.layout import METADATA

PENALTY = 30.0  # seconds for which a place is passed over after a failure that may pass; doubled each time
LONGEST_PENALTY = 3600.0  # seconds; at once for wrong bytes, and for a file that a place does not have
WRONG = 3  # times that wrong bytes are fetched again at the least, before every place is held to be wrong
PROGRESS = 64 * 2**10  # bytes: a place that breaks off after so many may go on, without a round being counted
TOLD = 20  # failures of a place that are kept word for word


class MirrorFailure(Record):
    """One failure of a mirror.

    Attributes:
        path: Which file.
        why: What happened, with the address.
    """

    path: str
    why: str


class MirrorReport(Record):
    """What one mirror did.

    Attributes:
        where: Its address or folder.
        requests: Requests sent to it.
        bytes: Body bytes received from it.
        failed: How often it failed.
        failures: The first of them.
    """

    where: str
    requests: int
    bytes: int
    failed: int
    failures: tuple[MirrorFailure, ...] = ()


def failed_mirrors(source: Source) -> tuple[MirrorReport, ...]:
    """The reports of those mirrors of a source that failed in something; none of a source that is no list of them."""
    reports = source.report() if isinstance(source, MirrorSource) else ()
    return tuple(report for report in reports if report.failed)


class _Place:
    """One mirror, and how it has behaved."""

    def __init__(self, source: Source, clock: Callable[[], float]) -> None:
        self.source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._until = float("-inf")
        self._lacks: dict[str, float] = {}
        self._strikes = 0
        self._failed = 0
        self._failures: list[MirrorFailure] = []

    def penalty(self, path: str = "") -> float:
        """Seconds for which it should be passed over for a file; 0 when it should not."""
        return max(0.0, self._until - self._clock(), self._lacks.get(path, 0.0) - self._clock())

    def note(self, path: str, why: str) -> None:
        """Remember and log a failure."""
        LOG.warning("%s", why)
        with self._lock:
            self._failed += 1
            if len(self._failures) < TOLD:
                self._failures.append(MirrorFailure(path=path, why=why))

    def refused(self, path: str, error: SourceUnreachable) -> None:
        """Remember a request that failed, and let others be preferred for a while, or for this file."""
        self.note(path, error.what)
        with self._lock:
            now = self._clock()
            if not isinstance(error, Temporary):
                self._lacks[path] = now + LONGEST_PENALTY
                return
            if now >= self._until:  # requests that ran side by side fail together: that is one failure
                self._strikes += 1
            self._until = max(self._until, now + min(LONGEST_PENALTY, PENALTY * 2 ** (self._strikes - 1)))

    def lied(self, path: str, why: str) -> None:
        """Remember wrong bytes, and let others be preferred for long."""
        self.note(path, why)
        with self._lock:
            self._until = self._clock() + LONGEST_PENALTY

    def report(self) -> MirrorReport:
        """What it did."""
        traffic = self.source.traffic
        with self._lock:
            return MirrorReport(
                where=self.source.describe(""),
                requests=traffic.requests,
                bytes=traffic.bytes,
                failed=self._failed,
                failures=tuple(self._failures),
            )


@dataclass
class _Effort(threading.local):
    """What one thread is trying to get: it ends with a success, so that its failures count together.

    Attributes:
        path: The file.
        over: The last stream ended well, and nobody has complained yet.
        givers: The places that gave the last stream's bytes, in order.
        wrong: How often a place gave wrong bytes, and why it was said to be wrong.
    """

    path: str = ""
    over: bool = True
    givers: list[_Place] = field(default_factory=list)
    wrong: Counter[_Place] = field(default_factory=Counter)
    reasons: dict[_Place, str] = field(default_factory=dict)

    def begin(self, path: str) -> None:
        """A new stream of a file."""
        if self.over or self.path != path:
            self.wrong = Counter()
            self.reasons = {}
        self.path = path
        self.over = False
        self.givers = []


class MirrorSource:
    """Reads from the first of several sources that serves soundly; may be used by several threads at once.

    Args:
        sources: In order of preference; closed with this one.
        clock: Tells seconds.
    """

    def __init__(self, sources: Sequence[Source], *, clock: Callable[[], float] = time.monotonic) -> None:
        if not sources:
            raise TypeError("at least one source is needed")
        self._places = tuple(_Place(source, clock) for source in sources)
        self._effort = _Effort()
        self._last: dict[str, _Place] = {}
        self._interrupts = 0
        self.traffic = Traffic()
        for source in sources:
            source.traffic.also = self.traffic

    @property
    def mirrors(self) -> Sequence[Source]:
        """The places one by one, the sound ones first."""
        alone = len(self._places) == 1
        return tuple(_View(place, patient=alone) for place in self._order())

    def report(self) -> tuple[MirrorReport, ...]:
        """What each mirror did so far, in order of preference."""
        return tuple(place.report() for place in self._places)

    def describe(self, path: str) -> str:
        """The file's address at the place that gave it last, or else at the place that would be asked first."""
        effort = self._effort
        given = effort.givers[-1] if effort.path == path and effort.givers else self._last.get(path)
        return (given or self._order(path)[0]).source.describe(path)

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when no place has it."""
        blocks = self._served(path, lambda source, done: _whole_from(source, path, done))
        try:
            first = next(blocks)
        except _NowhereThere:
            return None
        except StopIteration:  # an empty file
            return _chain(b"", blocks)
        return _chain(first, blocks)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start`` of a file of ``total`` bytes."""
        return self._served(path, lambda source, done: source.stream_range(path, start + done, size - done, total))

    def distrust(self, path: str, why: str) -> None:
        """Prefer another place than the one whose bytes proved wrong."""
        effort = self._effort
        effort.over = False
        givers = set(effort.givers) if effort.path == path else {self._last[path]} if path in self._last else set()
        if len(givers) != 1:  # bytes of several places, or of none: the next attempt will show whose fault it is
            LOG.warning("%s", why)
            return
        (place,) = givers
        place.lied(path, why)
        effort.wrong[place] += 1
        effort.reasons[place] = why

    def interrupt(self) -> None:
        """Let the threads that wait for bytes fail now, and not turn to the next place."""
        self._interrupts += 1
        for place in self._places:
            place.source.interrupt()

    def close(self) -> None:
        """Close all of them."""
        for place in self._places:
            place.source.close()

    def _order(self, path: str = "") -> list[_Place]:
        wrong = self._effort.wrong
        return sorted(self._places, key=lambda place: (wrong[place], place.penalty(path)))

    def _served(self, path: str, open_at: Callable[[Source, int], Stream | None]) -> Stream:
        """The bytes of a file or range, from one place after the other until they are complete."""
        self._effort.begin(path)
        self._end_if_all_wrong(path)
        interrupts, done = self._interrupts, 0
        left, refused = self._order(path), list[SourceUnreachable]()
        while left:
            place, before = left.pop(0), done
            try:
                for block in self._given(place, path, open_at, done):
                    done += len(block)
                    yield block
            except SourceUnreachable as error:
                if isinstance(error, _NotThere) and _is_answer(path):
                    raise _NowhereThere(error.what) from error
                place.refused(path, error)
                refused.append(error)
                if self._interrupts != interrupts:
                    raise
                if done - before >= PROGRESS:
                    left, refused = self._order(path), []
            else:
                self._effort.over = True
                return
        raise _together(path, refused)

    def _given(
        self, place: _Place, path: str, open_at: Callable[[Source, int], Stream | None], done: int
    ) -> Iterator[bytes]:
        """What one place gives, remembered as its own from the first byte on."""
        stream = open_at(place.source, done)
        if stream is None:
            raise _absent(place.source.describe(path))
        self._last[path] = place
        with closing(stream):
            first = next(stream, b"")  # no byte at all, and no failure, is a statement too
            self._effort.givers.append(place)
            yield first
            yield from stream

    def _end_if_all_wrong(self, path: str) -> None:
        effort = self._effort
        if len(effort.wrong) < len(self._places) or effort.wrong.total() < max(WRONG, len(self._places)):
            return
        reasons = [effort.reasons[place] for place in self._places]
        raise AllWrong(
            reasons[0] if len(reasons) == 1 else f"Every mirror gives wrong bytes for {path}:{listed(reasons)}",
            usually="The file was damaged at the source or altered on the way.",
            todo="Use another source or network, or tell the publisher. What is installed keeps running.",
        )


class _View:
    """One place by itself, its failures remembered.

    Args:
        place: Which.
        patient: There is no other: what may pass may be waited for.
    """

    def __init__(self, place: _Place, *, patient: bool) -> None:
        self._place = place
        self._patient = patient

    @property
    def traffic(self) -> Traffic:
        return self._place.source.traffic

    def describe(self, path: str) -> str:
        return self._place.source.describe(path)

    def stream(self, path: str) -> Stream | None:
        blocks = self._told(path, lambda: self._place.source.stream(path))
        try:
            first = next(blocks)
        except _NotThere as error:
            if not _is_answer(path):  # a place may hold assets alone: worth a line, and no reason to pass it over
                self._place.note(path, error.what)
            return None
        except StopIteration:
            return _chain(b"", blocks)
        return _chain(first, blocks)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        return self._told(path, lambda: self._place.source.stream_range(path, start, size, total))

    def distrust(self, path: str, why: str) -> None:
        self._place.lied(path, why)

    def interrupt(self) -> None:
        self._place.source.interrupt()

    def close(self) -> None:
        """Nothing: whoever has all places closes them."""

    def _told(self, path: str, opened: Callable[[], Stream | None]) -> Stream:
        try:
            stream = opened()
            if stream is None:
                raise _absent(self.describe(path))
            with closing(stream):
                yield from stream
        except _NotThere:
            raise
        except SourceUnreachable as error:
            self._place.refused(path, error)
            if isinstance(error, Temporary) and not self._patient:
                raise NotNow(error) from error
            raise


class _NotThere(SourceUnreachable):
    """A place does not have a file."""


class _NowhereThere(SourceUnreachable):
    """No place has it, and that is an answer."""


def _is_answer(path: str) -> bool:
    """Whether a file that is not there says something: there is no newer root than the one before."""
    return path.startswith(f"{METADATA}/") and path.endswith("root.json")


def _absent(where: str) -> _NotThere:
    return _NotThere(f"{where} is not there.", usually="The mirror is incomplete.", todo="Use another source.")


def _whole_from(source: Source, path: str, done: int) -> Stream | None:
    """A file without its first bytes, which another place gave already."""
    stream = source.stream(path)
    return stream if stream is None or not done else _without(stream, done)


def _without(stream: Stream, skip: int) -> Stream:
    with closing(stream):
        for block in stream:
            if len(block) > skip:
                yield block[skip:]
            skip = max(0, skip - len(block))


def _chain(first: bytes, rest: Stream) -> Stream:
    with closing(rest):
        yield first
        yield from rest


def _together(path: str, refused: Sequence[SourceUnreachable]) -> SourceUnreachable:
    """One error for what all places said in a round; temporary when any of them may do better next time."""
    if all(isinstance(error, _NotThere) for error in refused):
        return _NowhereThere(_list(path, refused), usually=refused[0].usually, todo=refused[0].todo)
    passing = [error for error in refused if isinstance(error, Temporary)]
    if not passing:
        todo = "Use another source or network, or tell the publisher; nothing was changed here."
        return refused[0] if len(refused) == 1 else SourceUnreachable(_list(path, refused), todo=todo)
    if len(refused) == 1:
        return passing[0]
    return Temporary(_list(path, refused), retry_after=soonest(passing))


def _list(path: str, refused: Sequence[SourceUnreachable]) -> str:
    if len(refused) == 1:
        return refused[0].what
    return f"No mirror gives {path}:{listed([error.what for error in refused])}"
