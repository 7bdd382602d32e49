"""The client for asyncio: every call works in a thread of its own, so that the event loop never waits.

Invariants:
    * Cancelling the task that waits for a change cancels the change, and the cancellation arrives only after the change
      has come to its clean end: when the task is gone, nothing is written any more and the lock is free.
    * What follows a change never slows it down: it gets the latest figures, and the last word always.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TypeAlias, TypeVar

from lading.client.finished import Finished
from lading.client.mailbox import Mailbox
from lading.client.sync import Client
from lading.fetch.source import Source
from lading.manifest.base import Record, Variant
from lading.progress import Listener, ProgressEvent
from lading.store.builds import Builds
from lading.store.collect import KEEP
from lading.store.planned import PlanReport
from lading.store.removal import UninstallResult
from lading.store.result import InstallResult
from lading.store.rollback import RollbackResult
from lading.store.status import Status
from lading.store.update import UpdateCheck, UpdateReport

R = TypeVar("R", bound=Record)
T = TypeVar("T")
AsyncListener = Callable[[ProgressEvent], Awaitable[None]]
Change: TypeAlias = Callable[[Listener, threading.Event], R]


class AsyncClient:
    """Installs, updates and rolls back one app of one repository; may be used by several tasks of one event loop.

    Args:
        data, source, root, app, channel, keep: As for :class:`~lading.client.Client`.

    Attributes:
        client: The client that the threads use.
    """

    def __init__(
        self,
        data: Path,
        *,
        source: Source | str | Sequence[str],
        root: bytes,
        app: str,
        channel: str = "stable",
        keep: int = KEEP,
    ) -> None:
        self.client = Client(data, source=source, root=root, app=app, channel=channel, keep=keep)

    async def status(self) -> Status:
        """As :meth:`Client.status <lading.client.Client.status>`."""
        return await _in_thread(self.client.status)

    async def check(self, *, variant: Variant | None = None) -> UpdateCheck:
        """As :meth:`Client.check <lading.client.Client.check>`."""
        return await _in_thread(lambda: self.client.check(variant=variant))

    async def builds(self, *, variant: Variant | None = None) -> Builds:
        """As :meth:`Client.builds <lading.client.Client.builds>`."""
        return await _in_thread(lambda: self.client.builds(variant=variant))

    async def plan(self, *, version: str | None = None, flavor: str | None = None, force: bool = False) -> PlanReport:
        """As :meth:`Client.plan <lading.client.Client.plan>`."""
        return await _in_thread(lambda: self.client.plan(version=version, flavor=flavor, force=force))

    async def install(
        self,
        *,
        version: str | None = None,
        flavor: str | None = None,
        force: bool = False,
        repair: bool = False,
        on_progress: AsyncListener | None = None,
    ) -> InstallResult:
        """As :meth:`Client.install <lading.client.Client.install>`.

        Args:
            version, flavor, force, repair: As there.
            on_progress: Awaited for each event; what it raises cancels the install.

        Raises:
            LadingError: As there.
            asyncio.CancelledError: The task was cancelled; the install has ended.
        """
        events = self.install_events(version=version, flavor=flavor, force=force, repair=repair)
        return await _followed(events, on_progress)

    def install_events(
        self, *, version: str | None = None, flavor: str | None = None, force: bool = False, repair: bool = False
    ) -> AsyncGenerator[ProgressEvent | Finished[InstallResult], None]:
        """Install, and give what happens: events, and as the last thing a :class:`Finished`.

        Closing the iterator before its end (``contextlib.aclosing``) cancels the install and awaits its end.
        """
        return _events(
            lambda tell, cancel: self.client.install(
                version=version, flavor=flavor, force=force, repair=repair, on_progress=tell, cancel=cancel
            )
        )

    async def update(self, *, variant: Variant | None = None, on_progress: AsyncListener | None = None) -> UpdateReport:
        """As :meth:`Client.update <lading.client.Client.update>`; see :meth:`install` for the rest."""
        return await _followed(self.update_events(variant=variant), on_progress)

    def update_events(
        self, *, variant: Variant | None = None
    ) -> AsyncGenerator[ProgressEvent | Finished[UpdateReport], None]:
        """Update, and give what happens, as :meth:`install_events`."""
        return _events(lambda tell, cancel: self.client.update(variant=variant, on_progress=tell, cancel=cancel))

    async def repair(self, *, variant: Variant | None = None, on_progress: AsyncListener | None = None) -> UpdateReport:
        """As :meth:`Client.repair <lading.client.Client.repair>`; see :meth:`install` for the rest."""
        return await _followed(self.repair_events(variant=variant), on_progress)

    def repair_events(
        self, *, variant: Variant | None = None
    ) -> AsyncGenerator[ProgressEvent | Finished[UpdateReport], None]:
        """Repair, and give what happens, as :meth:`install_events`."""
        return _events(lambda tell, cancel: self.client.repair(variant=variant, on_progress=tell, cancel=cancel))

    async def rollback(self, *, variant: Variant | None = None, to: str | None = None) -> RollbackResult:
        """As :meth:`Client.rollback <lading.client.Client.rollback>`."""
        return await _in_thread(lambda: self.client.rollback(variant=variant, to=to))

    async def uninstall(self, *, variant: Variant | None = None) -> UninstallResult:
        """As :meth:`Client.uninstall <lading.client.Client.uninstall>`."""
        return await _in_thread(lambda: self.client.uninstall(variant=variant))


async def _followed(events: AsyncGenerator[ProgressEvent | Finished[R], None], on_progress: AsyncListener | None) -> R:
    async with aclosing(events):
        async for event in events:
            if isinstance(event, Finished):
                return event.unwrap()
            if on_progress is not None:
                await on_progress(event)
    raise RuntimeError("a change ended without its last word")


async def _events(change: Change[R]) -> AsyncGenerator[ProgressEvent | Finished[R], None]:
    loop = asyncio.get_running_loop()
    mailbox: Mailbox[R] = Mailbox()
    cancel = threading.Event()

    def tell(event: ProgressEvent) -> None:
        with suppress(RuntimeError):  # the loop is gone, and with it everybody who could listen
            loop.call_soon_threadsafe(mailbox.put, event)

    work = _start(lambda: change(tell, cancel))
    work.add_done_callback(lambda done: mailbox.end(_outcome(done)))
    try:
        while True:
            event = await mailbox.take()
            yield event
            if isinstance(event, Finished):
                return
    finally:
        cancel.set()
        await _ended(work)


def _outcome(done: asyncio.Future[R]) -> Finished[R]:
    error = done.exception()
    return Finished(result=None if error else done.result(), error=error)


async def _in_thread(call: Callable[[], T]) -> T:
    """Do something short that cannot be cancelled; a cancellation arrives when it is done."""
    work = _start(call)
    try:
        return await asyncio.shield(work)
    finally:
        await _ended(work)


def _start(call: Callable[[], T]) -> asyncio.Future[T]:
    """Run something in a thread of its own; the event loop's own threads may be few, and a change is long."""
    workers = ThreadPoolExecutor(1, thread_name_prefix="lading-client")
    work = asyncio.get_running_loop().run_in_executor(workers, call)
    workers.shutdown(wait=False)
    return work


async def _ended(work: asyncio.Future[T]) -> None:
    """Wait until a thread's work is over, however often the waiting task is cancelled meanwhile."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait([work])
        except asyncio.CancelledError as error:
            cancelled = error
    if not work.cancelled():
        work.exception()  # it was handed on, or came from a change that nobody waits for any more
    if cancelled is not None:
        raise cancelled
