"""How a long step tells how far it is. Rooms report; who called them decides who hears of it.

A room reports to a :class:`Progress`: it begins tasks and advances them, from any thread. :class:`Events` makes of it
what another program can use: records that follow one another in one order, at most ten a second, with speed, time left
and the share of the whole. Nothing here draws (``cli``), and nothing here knows what the steps do.

Rules of the records:
    * Within a phase ``done`` never decreases, and is never more than ``total`` when that is known.
    * ``share`` never decreases over all phases, and is 1 only when everything ended well.
    * The first and the last record of a phase are always given; those between replace one another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from threading import Lock
from types import TracebackType
from typing import Literal, Protocol, Self

from pydantic import Field

from lading.manifest.base import Record

INTERVAL = 0.1  # seconds between two records of a phase: as often as a person can see
SMOOTHING = 3.0  # seconds that the speed is averaged over: long enough for a bursty line, short enough to be true

# How much of what is left of the whole a phase is expected to take, by how long it takes in a first install. A guess:
# it only makes the bar run evenly, and a phase that is not in the list gets half.
_USUAL = {"checking installed": 0.15, "linking": 0.15, "patching": 0.6, "fetching": 0.95}
_OTHER = 0.5
_ALMOST = 0.9999  # of the whole; all of it is done only when everything ended well


class Task(Protocol):
    """One running step; leaving the block ends it."""

    def advance(self, amount: int) -> None:
        """Say that so many more bytes (or items) are done. Called from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where steps report."""

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a step.

        Args:
            label: What is being done, for a person: ``packing libs``.
            total: Bytes or items in all, when known.
            unit: ``bytes`` or the name of the items.
        """

    def note(self, text: str) -> None:
        """Tell a fact worth a line, such as what was reused."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Silent:
    """Reports to nobody."""

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:  # noqa: ARG002 (the protocol's names)
        """Begin a step that nobody watches."""
        return _SilentTask()

    def note(self, text: str) -> None:
        """Tell nobody."""


class _BothTask:
    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    def advance(self, amount: int) -> None:
        for task in self._tasks:
            task.advance(amount)

    def __enter__(self) -> Self:
        for task in self._tasks:
            task.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in reversed(self._tasks):
            task.__exit__(kind, error, trace)


class Both:
    """Reports to several."""

    def __init__(self, *listeners: Progress) -> None:
        self._listeners = listeners

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a step that all of them watch."""
        return _BothTask([listener.task(label, total, unit=unit) for listener in self._listeners])

    def note(self, text: str) -> None:
        """Tell all of them."""
        for listener in self._listeners:
            listener.note(text)


class Rate:
    """Speed and time left of one step: an exponential average, so that one slow second is no alarm. Pure.

    Args:
        began: When the step began, in seconds of any clock.
    """

    def __init__(self, began: float) -> None:
        self._time = began
        self._done = 0
        self._weight = 0.0
        self._sum = 0.0

    def seen(self, done: int, now: float) -> None:
        """Take note of how much was done at a time.

        Args:
            done: Since the step began.
            now: Seconds of the same clock.
        """
        elapsed = now - self._time
        if elapsed <= 0:
            return
        kept = 0.5 ** (elapsed / SMOOTHING)
        self._sum = self._sum * kept + (done - self._done) / elapsed * (1 - kept)
        self._weight = self._weight * kept + (1 - kept)
        self._time, self._done = now, done

    @property
    def speed(self) -> float | None:
        """Bytes or items a second; none before anything can be said."""
        return self._sum / self._weight if self._weight else None

    def left(self, done: int, total: int | None) -> float | None:
        """Seconds that are left; none when the total is unknown or nothing moves."""
        if total is None or not self.speed:
            return None
        return max(0.0, (total - done) / self.speed)


class ProgressEvent(Record):
    """What happens, for another program.

    Attributes:
        kind: ``begin`` and ``end`` of a phase, ``progress`` within it, ``note`` for a fact worth a line; ``result`` or
            ``error`` is the last one.
        phase: What is being done: ``fetching``. Empty for a note outside of any phase and for the last one.
        done: Bytes or items of this phase that are done.
        total: Of how many; none when unknown.
        unit: ``bytes`` or the name of the items.
        speed: Of them a second, smoothed; none before anything can be said.
        eta: Seconds until this phase ends at that speed; none when it cannot be said.
        share: How much of the whole is done, from 0 to 1: an estimate that never goes back.
        message: One line for a person.
    """

    kind: Literal["begin", "progress", "end", "note", "result", "error"]
    phase: str = ""
    done: int = Field(default=0, ge=0)
    total: int | None = Field(default=None, ge=0)
    unit: str = "bytes"
    speed: float | None = None
    eta: float | None = None
    share: float = Field(default=0.0, ge=0.0, le=1.0)
    message: str = ""


Listener = Callable[[ProgressEvent], None]


class Events:
    """Turns what rooms report into events, one at a time and in order.

    Args:
        tell: Gets each event, from whichever thread it happened in, never two at once. It should return soon; what it
            raises ends the step that reported.
        interval: Seconds between two ``progress`` events of a phase.
        clock: Gives seconds.
    """

    def __init__(
        self, tell: Listener, *, interval: float = INTERVAL, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tell = tell
        self.interval = interval
        self.clock = clock
        self.speaking = Lock()
        self._share = 0.0
        self._claimed = 0.0

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a phase."""
        return _EventTask(self, label, total, unit)

    def note(self, text: str) -> None:
        """Tell a fact."""
        with self.speaking:
            self._say(ProgressEvent(kind="note", share=self._share, message=text))

    def finish(self, *, error: str | None = None, message: str = "") -> None:
        """Say that everything ended: the last event.

        Args:
            error: The kind of the failure, or none when all went well.
            message: One line for a person.
        """
        with self.speaking:
            self._share = self._share if error else 1.0
            kind: Literal["error", "result"] = "error" if error else "result"
            self._say(ProgressEvent(kind=kind, share=self._share, message=message or error or ""))

    def claim(self, label: str) -> tuple[float, float]:
        """The part of the whole that a phase stands for: where it begins, and how long it is."""
        begin = self._claimed
        size = (1.0 - begin) * _USUAL.get(label, _OTHER)
        self._claimed = begin + size
        return begin, size

    def say(self, event: ProgressEvent, share: float) -> None:
        """Give an event with its share of the whole; the caller holds ``speaking``."""
        self._share = max(self._share, min(round(share, 4), _ALMOST))
        self._say(event.model_copy(update={"share": self._share}))

    def _say(self, event: ProgressEvent) -> None:
        self._tell(event)


class _EventTask:
    def __init__(self, events: Events, label: str, total: int | None, unit: str) -> None:
        self._events = events
        self._label, self._total, self._unit = label, total, unit
        self._counting = Lock()
        self._done = 0
        self._rate = Rate(events.clock())
        self._spoke = events.clock()
        self._begin, self._size = 0.0, 0.0

    def __enter__(self) -> Self:
        with self._events.speaking:
            self._begin, self._size = self._events.claim(self._label)
            self._say("begin", self._begin)
        return self

    def advance(self, amount: int) -> None:
        """Count, and give an event when the last one was long enough ago and nobody else is giving one."""
        with self._counting:
            self._done += max(amount, 0)
        now = self._events.clock()
        if now - self._spoke < self._events.interval or not self._events.speaking.acquire(blocking=False):
            return
        try:
            if now - self._spoke >= self._events.interval:
                self._spoke = now
                self._rate.seen(self._done, now)
                self._say("progress", self._begin + self._size * self._part())
        finally:
            self._events.speaking.release()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._events.speaking:
            self._rate.seen(self._done, self._events.clock())
            part = self._part() if kind is not None else 1.0
            self._say("end", self._begin + self._size * part)

    def _part(self) -> float:
        """How much of the phase is done; nothing can be said without a total, and nothing to do is all done."""
        if self._total is None:
            return 0.0
        return min(1.0, self._done / self._total) if self._total else 1.0

    def _say(self, kind: Literal["begin", "progress", "end"], share: float) -> None:
        done = self._done if self._total is None else min(self._done, self._total)
        speed, left = self._rate.speed, self._rate.left(done, self._total)
        event = ProgressEvent(
            kind=kind,
            phase=self._label,
            done=done,
            total=self._total,
            unit=self._unit,
            speed=None if speed is None else round(speed, 1),
            eta=None if left is None or kind == "end" else round(left, 1),
            message=describe(self._label, done, self._total, self._unit),
        )
        self._events.say(event, share)


def describe(label: str, done: int, total: int | None, unit: str) -> str:
    """How far a step is, for a person: ``fetching: 120 MB of 1,940 MB (6%)``."""
    if unit == "bytes":
        amount, whole = f"{done / 1e6:,.0f} MB", "" if total is None else f"{total / 1e6:,.0f} MB"
    else:
        amount, whole = f"{done:,} {unit}", "" if total is None else f"{total:,}"
    share = f" ({done / total:.0%})" if total else ""
    return f"{label}: {amount}" + (f" of {whole}{share}" if whole else "")
