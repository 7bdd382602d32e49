"""The client for threads: one object that knows the repository, the trusted root and the data directory.

It holds no state and no open file between two calls: several objects, threads and processes may use one data directory,
and the lock decides. It does not restart anything: whoever runs the installed program decides when.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lading.errors import LadingError
from lading.fetch.source import Source
from lading.host.facts import host_facts
from lading.manifest.base import Variant
from lading.progress import Events, Listener, Progress, Silent
from lading.store.builds import Builds, find_builds
from lading.store.collect import KEEP
from lading.store.install import install
from lading.store.planned import PlanReport
from lading.store.preview import plan_install
from lading.store.removal import UninstallResult, uninstall
from lading.store.result import InstallResult
from lading.store.rollback import RollbackResult, rollback
from lading.store.status import Status, status
from lading.store.update import Overrides, UpdateCheck, UpdateReport, check_for_update, update


class Client:
    """Installs, updates and rolls back one app of one repository; may be used by several threads.

    Args:
        data: The data directory.
        source: The repository: an address, a folder, or several in order of preference.
        root: The bytes of the root metadata that the program embeds; everything else is verified from it.
        app: The app's name.
        channel: The channel.
        keep: How many versions to keep, the one in use and the one before included, which always stay.
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
        self.data = Path(data)
        self.source = source
        self.root = root
        self.app = app
        self.channel = channel
        self.keep = keep

    def status(self) -> Status:
        """Say what is installed; asks nobody and takes no lock."""
        return status(self.data)

    def check(self, *, variant: Variant | None = None) -> UpdateCheck:
        """Ask whether there is an update, as a program does when it starts; two small requests when there is none.

        Args:
            variant: Which; the one that is installed without it, ``cuda`` before ``cpu``.

        Returns:
            The answer. What went wrong is in it, and never raised: a server starts without a network.
        """
        return check_for_update(self.data, self._variant(variant), overrides=self._overrides())

    def builds(self, *, variant: Variant | None = None) -> Builds:
        """Say which builds there are for this machine, which of them fits, and why; change nothing.

        Args:
            variant: Only builds of this variant: without it the CPU build is chosen where no CUDA build fits.

        Raises:
            LadingError: As :meth:`install`, without those about writing.
        """
        return find_builds(
            self.source,
            self.root,
            self.data,
            app=self.app,
            channel=self.channel,
            variant=variant,
            host=host_facts(),
        )

    def plan(self, *, version: str | None = None, flavor: str | None = None, force: bool = False) -> PlanReport:
        """Say what :meth:`install` would fetch, reuse and need, and change nothing.

        Args:
            version, flavor, force: As for :meth:`install`.

        Raises:
            LadingError: As :meth:`install`, without those about writing.
        """
        return plan_install(
            self.source,
            self.root,
            self.data,
            app=self.app,
            channel=self.channel,
            version=version,
            flavor=flavor,
            host=host_facts,
            force=force,
        )

    def install(
        self,
        *,
        version: str | None = None,
        flavor: str | None = None,
        force: bool = False,
        repair: bool = False,
        on_progress: Listener | None = None,
        cancel: threading.Event | None = None,
    ) -> InstallResult:
        """Install a release beside what is there, and put it in use.

        Args:
            version: A version; the channel's newest without it.
            flavor: ``cpu`` or a toolkit's name; what fits this machine without it.
            force: Install even what cannot run on this machine; and a version that is named although it was withdrawn.
            repair: Read every installed file, and fetch what is wrong.
            on_progress: Hears of everything, from whichever thread it happens in, never twice at once. It should return
                soon; what it raises ends the install and is raised here.
            cancel: Ends it when it is set; what is verified is kept for the next call.

        Returns:
            What was done; ``entry`` is the program to run.

        Raises:
            Busy: Somebody else changes this data directory.
            SourceUnreachable: No source answers.
            Untrusted: What they gave is not what the publisher signed; the kinds are its subclasses.
            HostCannot: This machine cannot: disk, permission, driver.
            ConfigError: There is no such release.
            Interrupted: It was cancelled.
        """
        with _told(on_progress) as progress:
            return install(
                self.source,
                self.root,
                self.data,
                app=self.app,
                channel=self.channel,
                version=version,
                flavor=flavor,
                host=host_facts,
                force=force,
                keep=self.keep,
                repair=repair,
                progress=progress,
                cancel=cancel,
            )

    def update(
        self,
        *,
        variant: Variant | None = None,
        on_progress: Listener | None = None,
        cancel: threading.Event | None = None,
    ) -> UpdateReport:
        """Bring what is installed up to date. Never goes back by itself, nor to what was left by a roll back.

        Args:
            variant: Only this one; all that are installed without it.
            on_progress, cancel: As for :meth:`install`.

        Returns:
            What was found and done, for each variant.

        Raises:
            NotInstalled: There is nothing to update.
            LadingError: As :meth:`install`.
        """
        return self._updated(variant, on_progress, cancel, repair=False)

    def repair(
        self,
        *,
        variant: Variant | None = None,
        on_progress: Listener | None = None,
        cancel: threading.Event | None = None,
    ) -> UpdateReport:
        """Read every file of what is installed, and put it in order by fetching just what is wrong.

        Args:
            variant, on_progress, cancel: As for :meth:`update`; what is newer is installed on this occasion.

        Returns:
            What was found and done, for each variant; the damage is in its ``result``.

        Raises:
            LadingError: As :meth:`update`.
        """
        return self._updated(variant, on_progress, cancel, repair=True)

    def rollback(self, *, variant: Variant | None = None, to: str | None = None) -> RollbackResult:
        """Go back to the version that was in use before: at once, and without a network.

        Args:
            variant: As for :meth:`check`.
            to: A version's folder name from :meth:`status`, instead.

        Raises:
            NotInstalled: There is none to go back to.
            Busy: Somebody else changes this data directory.
        """
        return rollback(self.data, self._variant(variant), to=to)

    def uninstall(self, *, variant: Variant | None = None) -> UninstallResult:
        """Delete everything of a variant.

        Args:
            variant: As for :meth:`check`.

        Raises:
            NotInstalled: There is nothing of it.
            Busy: Somebody else changes this data directory.
            HostCannot: A program of it still runs.
        """
        return uninstall(self.data, self._variant(variant))

    def _updated(
        self, variant: Variant | None, on_progress: Listener | None, cancel: threading.Event | None, *, repair: bool
    ) -> UpdateReport:
        with _told(on_progress) as progress:
            return update(
                self.data,
                variant,
                overrides=self._overrides(),
                host=host_facts,
                keep=self.keep,
                repair=repair,
                progress=progress,
                cancel=cancel,
            )

    def _overrides(self) -> Overrides:
        """What this program embeds counts, not what an older one of it installed from."""
        return Overrides(source=self.source, root=self.root, channel=self.channel)

    def _variant(self, wanted: Variant | None) -> Variant:
        if wanted is not None:
            return wanted
        there = {found.variant for found in self.status().variants if found.current is not None}
        return "cpu" if there == {"cpu"} else "cuda"


@contextmanager
def _told(on_progress: Listener | None) -> Iterator[Progress]:
    """Progress for a listener, with the last word at the end."""
    if on_progress is None:
        yield Silent()
        return
    events = Events(on_progress)
    try:
        yield events
    except LadingError as error:
        events.finish(error=error.kind, message=error.what)
        raise
    except Exception as error:
        events.finish(error=type(error).__name__, message=str(error))
        raise
    events.finish()
