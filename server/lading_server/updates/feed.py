"""What followers see of the running change: always the latest state, never a queue.

Rules:
    * ``current``, ``total`` and ``progress`` never go back within a change.
    * A follower gets the present state at once, then each new one that it is fast enough for, and the last word always.
    * After the last word its stream ends; while nothing happens it gets heartbeats, so that a dead line is noticed.
    * A follower costs one event object, however slow it is; :data:`MOST` may follow at a time.

Used from one event loop. What happens in threads is brought there by who reports it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lading.progress import ProgressEvent
from lading_server.updates.records import Failure, JobKind, Progress, ProgressStatus

HEARTBEAT = 10.0  # seconds; well below what proxies and load balancers wait
MOST = 64  # followers
_FETCHING = ("fetching", "patch from")  # phases that receive bytes; all others put files together


class TooManyFollowers(Exception):
    """Nobody else can be told."""


@dataclass(frozen=True, kw_only=True)
class Sum:
    """Bytes of the downloads of a change that are over. Pure.

    Attributes:
        done, total: Of all of them together.
    """

    done: int = 0
    total: int = 0

    def with_(self, event: ProgressEvent) -> Sum:
        """Take note of the end of one."""
        return Sum(done=self.done + event.done, total=self.total + max(event.total or 0, event.done))


def fetches(event: ProgressEvent) -> bool:
    """Whether an event is of a phase that receives bytes."""
    return event.unit == "bytes" and event.phase.startswith(_FETCHING)


def advanced(before: Progress, event: ProgressEvent, over: Sum) -> Progress:
    """The state after an event.

    Args:
        before: The state so far.
        event: What happened.
        over: Downloads of this change that ended before.
    """
    known: dict[str, object] = {"progress": max(before.progress, round(min(event.share, 1.0) * 100, 2))}
    if event.message:
        known["message"] = event.message
    if event.kind in {"begin", "progress", "end"}:
        status: ProgressStatus = "downloading" if fetches(event) else "extracting"
        known |= {"status": status, "phase": event.phase, "speed": event.speed, "eta": event.eta}
        if fetches(event):
            current = max(before.current, over.done + event.done)
            total = before.total if event.total is None else max(before.total or 0, over.total + event.total)
            known |= {"current": current, "total": None if total is None else max(total, current)}
    return before.model_copy(update=known)


class Feed:
    """Holds the state and wakes who follows it.

    Args:
        heartbeat: Seconds of silence after which a follower hears a heartbeat.
    """

    def __init__(self, heartbeat: float = HEARTBEAT) -> None:
        self._heartbeat = heartbeat
        self._now = Progress()
        self._over = Sum()
        self._bells: set[asyncio.Event] = set()
        self._change = 0
        self._last_word = self._now
        self._closed = False

    @property
    def now(self) -> Progress:
        """The present state."""
        return self._now

    @property
    def followers(self) -> int:
        """How many follow."""
        return len(self._bells)

    def begin(self, job: JobKind, message: str) -> None:
        """A change begins."""
        self._over = Sum()
        self._change += 1
        self._say(Progress(job=job, status="downloading", message=message))

    def name(self, filename: str) -> None:
        """It is known what is fetched."""
        self._say(self._now.model_copy(update={"filename": filename}))

    def tell(self, event: ProgressEvent) -> None:
        """Something happened. The last word is not said here, but when everything is cleaned up."""
        if event.kind in {"result", "error"} or self._now.status not in {"downloading", "extracting"}:
            return
        self._say(advanced(self._now, event, self._over))
        if event.kind == "end" and fetches(event):
            self._over = self._over.with_(event)

    def complete(self, message: str) -> None:
        """It went well."""
        self._say(self._ended("complete", message).model_copy(update={"progress": 100.0}))

    def cancelled(self, message: str) -> None:
        """It was stopped by somebody."""
        self._say(self._ended("cancelled", message))

    def failed(self, failure: Failure) -> None:
        """It failed."""
        ended = self._ended("error", failure.what)
        self._say(ended.model_copy(update={"error": failure.what, "failure": failure}))

    def recall(self, failure: Failure) -> None:
        """An earlier server's change failed; forgotten when something happened since."""
        if self._now.status == "idle":
            self.failed(failure)

    def reset(self) -> None:
        """What was last said is not true any more."""
        self._say(Progress())

    def close(self) -> None:
        """End all streams; whoever follows comes back to the next server."""
        self._closed = True
        self._wake()

    @contextmanager
    def follower(self) -> Iterator[AsyncGenerator[Progress | None, None]]:
        """Follow the state until the last word.

        Yields:
            Gives the states; none for a heartbeat.

        Raises:
            TooManyFollowers: There are :data:`MOST` already.
        """
        if len(self._bells) >= MOST:
            raise TooManyFollowers
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            yield self._states(bell)
        finally:
            self._bells.discard(bell)

    async def _states(self, bell: asyncio.Event) -> AsyncGenerator[Progress | None, None]:
        said: Progress | None = None
        change = self._change
        while True:
            bell.clear()
            # Who was away for the end of a change, and for the beginning of the next, still hears how it ended.
            now = self._now if change in {0, self._change} else self._last_word
            change = self._change
            if now is not said:
                said = now
                yield now
            if now.final or self._closed:
                return
            try:
                await asyncio.wait_for(bell.wait(), self._heartbeat)
            except TimeoutError:
                yield None

    def _ended(self, status: ProgressStatus, message: str) -> Progress:
        return self._now.model_copy(update={"status": status, "message": message, "speed": None, "eta": None})

    def _say(self, now: Progress) -> None:
        self._now = now
        self._last_word = now if now.final else self._last_word
        self._wake()

    def _wake(self) -> None:
        for bell in self._bells:
            bell.set()
