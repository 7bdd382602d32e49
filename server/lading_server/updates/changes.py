"""The one change that this server may be making to its backends: who may begin one, its task, and its end.

Invariants:
    * At most one runs. Who may begin is decided before anything else is looked at, and without waiting: the next one
      is told at once that one runs.
    * The task of a change is kept until it ended. Its failure is shown first, then logged with its traceback; by then
      the change has cleaned up, and the next one may begin.
    * Whatever becomes of a change, its last word is said.

Used from one event loop. What a change does is not known here.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lading.errors import Interrupted
from lading_server.updates import refusals
from lading_server.updates.feed import Feed
from lading_server.updates.records import JobKind
from lading_server.updates.refusals import Discreet
from lading_server.updates.threads import aside

_log = logging.getLogger(__name__)
T = TypeVar("T")

DOWNLOADS: frozenset[JobKind] = frozenset({"download", "update", "repair"})
_BEGINS: dict[JobKind, str] = {
    "download": "asking the repository",
    "update": "updating",
    "repair": "repairing",
    "delete": "deleting",
    "rollback": "going back",
}


@dataclass(kw_only=True)
class Job:
    """The running change.

    Attributes:
        kind: What it does.
        cancel: Stops it.
        stopping: The same for what waits in the event loop.
        task: Its task; none while it is decided whether it may begin, and for what is done while a request waits.
    """

    kind: JobKind
    cancel: threading.Event = field(default_factory=threading.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Ask it to come to its end."""
        self.cancel.set()
        self.stopping.set()

    async def stoppable(self, question: Callable[[], T]) -> T:
        """Ask something that changes nothing; given up at once when the change is stopped.

        Raises:
            Interrupted: It was stopped.
        """
        asked = aside(question, "question")
        stopped = asyncio.create_task(self.stopping.wait())
        waited: tuple[asyncio.Future[Any], ...] = (asked, stopped)
        try:
            await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
        if asked.done():
            return asked.result()
        asked.cancel()
        raise Interrupted("Stopped, as it was asked for.")


class Changes:
    """The place for the one change.

    Args:
        feed: Where its progress goes.
        discreet: Makes a text one that may be told.
    """

    def __init__(self, feed: Feed, discreet: Discreet) -> None:
        self._feed = feed
        self._discreet = discreet
        self._job: Job | None = None

    @property
    def running(self) -> JobKind | None:
        """What runs, if anything does."""
        return self._job.kind if self._job is not None else None

    @contextmanager
    def claimed(self, kind: JobKind) -> Iterator[Job]:
        """Be the one change; it goes on after the block when a task of it was begun there.

        Raises:
            ProblemError: One runs.
        """
        if self._job is not None:
            raise refusals.running(self._job.kind)
        job = self._job = Job(kind=kind)
        try:
            yield job
        finally:
            if job.task is None:
                self._job = None

    def begin(self, job: Job, work: Coroutine[Any, Any, str]) -> None:
        """Let a claimed change run on in the background.

        Args:
            job: The claim.
            work: Does it, and gives the last word for a person.
        """
        self._feed.begin(job.kind, _BEGINS[job.kind])
        job.task = asyncio.create_task(self._run(work), name=f"backend {job.kind}")
        job.task.add_done_callback(self._log_failure)

    def stop(self) -> bool:
        """Ask what runs to come to its end.

        Returns:
            Whether something runs that can.
        """
        if self._job is None or self._job.kind not in DOWNLOADS:
            return False
        self._job.stop()
        return True

    async def close(self, seconds: float) -> None:
        """Stop what runs and wait for its clean end; after some seconds it is as if it had been killed."""
        task = self._job.task if self.stop() and self._job is not None else None
        if task is not None:
            await asyncio.wait([task], timeout=seconds)
            task.cancel()
            await asyncio.wait([task])

    async def _run(self, work: Coroutine[Any, Any, str]) -> None:
        try:
            message = await work
        except (Interrupted, asyncio.CancelledError) as error:
            self._job = None
            self._feed.cancelled("stopped; the next download goes on from here")
            if not isinstance(error, Interrupted):
                raise
        except BaseException as error:
            self._job = None
            self._feed.failed(refusals.failure_of(error, self._discreet))
            raise
        else:
            self._job = None
            self._feed.complete(message)

    def _log_failure(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A traceback names places on this machine, which is no business of who reads a log that was sent around.
            told = self._discreet("".join(traceback.format_exception(error)))
            _log.error("the %s failed\n%s", task.get_name(), told)
