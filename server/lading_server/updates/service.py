"""What can be asked and done about the CUDA backend of this server's data directory.

The data directory's own lock decides between processes. Every change looks again at what is installed under that lock,
so that nothing is downloaded twice because somebody else was faster. Nothing here blocks the event loop, and nothing
keeps a stopped server from ending. What is installed over what is decided by Lading's client; whoever runs the
installed program is not talked to here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

from lading.client import Client
from lading.errors import ConfigError, HostUnfit
from lading.progress import Listener, ProgressEvent
from lading.store.builds import Builds
from lading.store.status import Status
from lading_server.updates import refusals, view
from lading_server.updates.changes import DOWNLOADS, Changes, Job
from lading_server.updates.feed import Feed
from lading_server.updates.place import Place
from lading_server.updates.records import Check, CudaStatus, Done, JobKind, Renewal, Wanted
from lading_server.updates.threads import aside
from lading_server.variant import Variant

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 4.0  # for a change to come to its clean end when the server stops; a launcher waits for longer


class Updates:
    """The backends of one data directory, for one server.

    Args:
        place: Where they are.
        variant: Of this server.
        auto_update: Look for an update at the start.
        feed: Where progress goes.
    """

    def __init__(self, place: Place, variant: Variant, *, auto_update: bool = True, feed: Feed | None = None) -> None:
        self.place = place
        self.feed = feed or Feed()
        self._changes = Changes(self.feed, place.discreet)
        self._variant = variant
        self._auto_update = auto_update
        self._check: Check | None = None
        self._builds: Builds | None = None
        self._looking: asyncio.Task[None] | None = None
        self._recalled = False

    # --- what is known ------------------------------------------------------------------------------------------------

    async def status(self) -> CudaStatus:
        """Say everything; asks no network."""
        status = await self.place.status()
        known = await self.place.repository()
        machine = await self.place.machine()
        backend = view.backend_of(status)
        self._recall(backend)
        running = self._changes.running
        return CudaStatus(
            managed=self.place.managed,
            downloadable=self.place.managed and known.complete,
            active=self._variant == "cuda",
            restart_needed=self._variant == "cuda" and view.is_another(backend, Path(sys.executable)),
            **view.fields_of(backend, status),
            downloading=running in DOWNLOADS,
            download_progress=self.feed.now,
            last_failure=self.feed.now.failure or view.last_failure(backend, self.place.discreet),
            busy=view.elsewhere(status, ours=running is not None, pid=os.getpid()),
            check=self._check,
            builds=view.builds_of(self._builds),
            host=view.host_of(machine, self._builds),
        )

    async def recall(self) -> None:
        """Let the progress tell what went wrong in an earlier server; nothing when it did so before."""
        if not self._recalled:
            self._recall(view.backend_of(await self.place.status()))

    async def check(self) -> None:
        """Ask the repository what it has for this machine, and whether what is installed is out of date.

        Raises:
            ProblemError: It is not known which.
            LadingError: It does not answer, or is not to be trusted.
        """
        client = await self.place.client()
        await self.place.machine(anew=True)
        self._builds = await aside(lambda: client.builds(variant="cuda"), "builds")
        await self._checked(client)

    # --- what is done -------------------------------------------------------------------------------------------------

    async def download(self, wanted: Wanted) -> None:
        """Begin to download a CUDA backend.

        Raises:
            ProblemError: It runs already, one is installed, another process is at it, or it is not known from where.
        """
        self._need_place()
        with self._changes.claimed("download") as job:
            client = await self.place.client()
            status = await self.place.status()
            if view.backend_of(status).available:
                raise refusals.installed_already()
            _refuse_if_busy(status)
            self._changes.begin(job, self._download(job, client, wanted))

    async def update(self, renewal: Renewal) -> None:
        """Begin to update or repair the installed backend.

        Raises:
            ProblemError: As :meth:`download`; or none is installed.
        """
        self._need_place()
        kind: JobKind = "repair" if renewal.repair else "update"
        with self._changes.claimed(kind) as job:
            client = await self.place.client()
            status = await self.place.status()
            if view.backend_of(status).version is None:
                raise refusals.none_installed()
            _refuse_if_busy(status)
            self._changes.begin(job, self._update(job, client))

    def cancel(self) -> None:
        """Ask the running change to end; what is verified stays for the next one.

        Raises:
            ProblemError: None runs that could be stopped.
        """
        if not self._changes.stop():
            raise refusals.nothing_to_cancel()

    async def delete(self) -> Done:
        """Delete the backend, and what is left of unfinished downloads.

        Raises:
            ProblemError: There is none, this server is it, or a change runs.
            LadingError: It cannot be deleted.
        """
        self._need_place()
        if self._variant == "cuda":
            raise refusals.active()
        with self._changes.claimed("delete"):
            if not view.backend_of(await self.place.status()).anything:
                raise refusals.none_installed()
            removed = await aside(lambda: self.place.local().uninstall(variant="cuda"), "uninstall")
            self._forget()
            self.feed.reset()
        return Done(message="the CUDA backend was deleted", bytes_freed=removed.bytes_freed)

    async def rollback(self) -> Done:
        """Go back to the version that was in use before; it runs from the next start on.

        Raises:
            ProblemError: A change runs.
            LadingError: There is none to go back to.
        """
        self._need_place()
        with self._changes.claimed("rollback"):
            done = await aside(lambda: self.place.local().rollback(variant="cuda"), "rollback")
            self._forget()
        return Done(message=f"{done.current} is used from the next start on", version=done.current)

    # --- start and end ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Look in the background what an earlier server has left, and for an update if that is wished."""
        if self.place.managed:
            self._looking = asyncio.create_task(self._look(), name="look for an update")

    def leave(self) -> None:
        """The server is about to stop: end the streams, and begin to end the change."""
        self.feed.close()
        self._changes.stop()

    async def close(self) -> None:
        """Wait for the change's clean end, but not for long."""
        self.leave()
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        await self._changes.close(CLOSE_SECONDS)

    async def _look(self) -> None:
        try:
            backend = view.backend_of(await self.place.status())
            self._recall(backend)
            if not self._auto_update or backend.version is None or not (await self.place.repository()).complete:
                return
            client = await self.place.client()
            found = await self._checked(client)
            if found.available or (found.checked and not backend.version.whole):
                await self._renew(client)
        except Exception:  # noqa: BLE001 (whatever goes wrong here, the server goes on)
            _log.exception("the look for an update failed")

    async def _renew(self, client: Client) -> None:
        """Begin an update that nobody asked for, unless somebody is at it already."""
        if self._changes.running is not None:
            return
        with self._changes.claimed("update") as job:
            if view.backend_of(await self.place.status()).version is not None:  # it may have been deleted meanwhile
                _log.info("the CUDA backend is out of date or damaged, and is updated")
                self._changes.begin(job, self._update(job, client))

    # --- parts --------------------------------------------------------------------------------------------------------

    async def _download(self, job: Job, client: Client, wanted: Wanted) -> str:
        builds = self._builds = await job.stoppable(lambda: client.builds(variant="cuda"))
        flavor = choose(builds, wanted)
        build = builds.of(flavor)
        if build is not None:
            self.feed.name(f"{client.app} {build.version} ({build.flavor})")
        tell = self._listener()
        done = await aside(
            lambda: client.install(flavor=flavor, force=wanted.force, on_progress=tell, cancel=job.cancel), "install"
        )
        return f"{done.app} {done.version} ({done.flavor}) is installed"

    async def _update(self, job: Job, client: Client) -> str:
        change = client.repair if job.kind == "repair" else client.update
        tell = self._listener()
        report = await aside(lambda: change(variant="cuda", on_progress=tell, cancel=job.cancel), job.kind)
        found = report.variants[0]
        self._check = Check(
            checked=True, available=False, installed=found.newest if found.result else found.installed,
            newest=found.newest, reason="up to date", at=int(time.time()), failure=None,
        )  # fmt: skip
        return f"{found.newest} is installed" if found.outcome == "updated" else found.outcome

    def _listener(self) -> Listener:
        loop = asyncio.get_running_loop()

        def tell(event: ProgressEvent) -> None:
            told = event.model_copy(update={"message": self.place.discreet(event.message)})
            if not loop.is_closed():
                loop.call_soon_threadsafe(self.feed.tell, told)

        return tell

    async def _checked(self, client: Client) -> Check:
        found = await aside(lambda: client.check(variant="cuda"), "check")
        self._check = view.check_of(found, int(time.time()), self.place.discreet)
        return self._check

    def _recall(self, backend: view.Backend) -> None:
        """Show what went wrong in an earlier server, once."""
        if self._recalled:
            return
        self._recalled = True
        failure = view.last_failure(backend, self.place.discreet)
        if failure is not None:
            self.feed.recall(failure)

    def _forget(self) -> None:
        """What was said about what was installed is not true any more."""
        self._check = None

    def _need_place(self) -> None:
        if not self.place.managed:
            raise refusals.not_managed()


def _refuse_if_busy(status: Status | None) -> None:
    if status is not None and status.busy is not None:
        raise refusals.busy(status.busy)


def choose(builds: Builds, wanted: Wanted) -> str:
    """Which build to install. Pure.

    Args:
        builds: What there is.
        wanted: What somebody asked for.

    Returns:
        Its flavor.

    Raises:
        ConfigError: There is no such build.
        HostUnfit: None runs on this machine.
    """
    flavors = [build.flavor for build in builds.builds]
    if wanted.flavor is not None and wanted.flavor not in flavors:
        raise ConfigError(
            f"There is no build {wanted.flavor}; there are: {', '.join(flavors) or 'none'}.",
            todo="Choose one of these, or none.",
        )
    if wanted.flavor is not None:
        return wanted.flavor
    if builds.resolution.chosen is not None:
        return builds.resolution.chosen
    if wanted.force and flavors:
        return builds.resolution.assessments[-1].flavor  # the oldest CUDA: it runs on the oldest driver
    raise HostUnfit(
        builds.resolution.why.text,
        todo=" ".join(dict.fromkeys(remedy.text for remedy in builds.resolution.remedies)),
    )
