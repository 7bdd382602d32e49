"""Fill a release's staging folder: reuse what is sound, fetch what is missing, until every file is right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lading.digest import sha256_file
from lading.errors import DigestMismatch, DiskFull
from lading.fetch.frames import FrameJob, fetch_frames
from lading.fetch.source import Source
from lading.manifest.base import Component
from lading.manifest.index import Index
from lading.manifest.release import Release
from lading.progress import Progress
from lading.store.home import Home
from lading.store.plan import InstalledFiles, Plan, Reuse, make_plan
from lading.store.staging import THREADS, TREE, Staging

ROUNDS = 2  # a file may prove wrong once, when a power cut took what the journal promised


class Builder:
    """Fills the staging folder: plan, reuse, fetch, until every file is right."""

    def __init__(
        self,
        source: Source,
        release: Release,
        home: Home,
        *,
        indexes: Mapping[Component, Index],
        installed: Sequence[InstalledFiles],
        progress: Progress,
    ) -> None:
        self.source = source
        self.release = release
        self.home = home
        self.indexes = indexes
        self.progress = progress
        self.installed = installed
        self.staging = Staging(home.staging(release), release)
        self.fetched = 0
        self.resumed = 0
        self._can_link = self.staging.can_link()
        self._damaged: set[tuple[str, str]] = set()
        self._sound: set[tuple[str, str]] = set()

    def run(self, free: int) -> Plan:
        """Fill the staging folder.

        Args:
            free: Bytes of room on the disk.

        Returns:
            What was done.

        Raises:
            DiskFull: Before anything was fetched, or while writing.
            DigestMismatch, SourceUnreachable: The source fails for good; what was verified stays for the next run.
        """
        plan = self._plan()
        while self._check(plan):
            plan = self._plan()
        check_room(plan.disk, free, self.home.data)
        self.staging.prepare(plan.components)
        plan = self._plan()
        self.resumed = plan.staged_bytes
        self.staging.make_links(plan.links)
        with self.progress.task("linking", len(plan.reuse), unit="files") as task:
            self.staging.reuse(plan.reuse, self.home.versions, task.advance)
        self._fetch(plan)
        return plan

    def _plan(self) -> Plan:
        names = [component.component for component in self.release.components]
        return make_plan(
            self.release,
            self.indexes,
            self.installed,
            staged={name: self.staging.journal.done(name) for name in names},
            damaged=self._damaged,
            can_link=self._can_link,
        )

    def _check(self, plan: Plan) -> bool:
        """Digest what is to be reused; what is not as it was installed is not used. True when the plan must change."""
        items = [item for item in plan.reuse if (item.version, item.path) not in self._sound]
        before = len(self._damaged)
        total = sum(item.entry.size for item in items)
        with (
            self.progress.task("checking installed", total) as task,
            ThreadPoolExecutor(THREADS, thread_name_prefix="check") as workers,
        ):
            for item, sound in zip(items, workers.map(self._is_sound, items), strict=True):
                task.advance(item.entry.size)
                (self._sound if sound else self._damaged).add((item.version, item.path))
        if found := len(self._damaged) - before:
            self.progress.note(f"{found} installed files are damaged and are not used")
        return bool(found)

    def _is_sound(self, item: Reuse) -> bool:
        path = self.home.versions / item.version / TREE / item.path
        try:
            if path.is_symlink() or path.stat().st_size != item.entry.size:
                return False
            return sha256_file(path) == item.entry.sha256
        except OSError:  # gone or unreadable: it is fetched instead
            return False

    def _fetch(self, plan: Plan) -> None:
        wrong: tuple[str, ...] = ()
        for _ in range(ROUNDS):
            self.staging.expect(plan.components)
            jobs = [FrameJob(component=p.component, frames=p.index.frames, ranges=p.ranges) for p in plan.components]
            with self.progress.task("fetching", plan.fetch_bytes) as task:
                fetch_frames(self.source, jobs, self.staging, task.advance)
            self.fetched += plan.fetch_bytes
            wrong = self.staging.take_back()
            if not wrong:
                return
            plan = self._plan()
        raise DigestMismatch(
            f"{len(wrong)} files are wrong although every part of them is right, first {wrong[0]}.",
            usually="The index contradicts itself (the publisher signed a mistake), or this machine's disk is failing.",
            todo="Check the disk; then tell the publisher. What is installed keeps running.",
        )


def check_room(needed: int, free: int, folder: Path) -> None:
    """Refuse what does not fit, before the first byte.

    Raises:
        DiskFull: With both numbers.
    """
    if needed > free:
        raise DiskFull(
            f"{needed / 1e6:,.1f} MB are needed in {folder}, {free / 1e6:,.1f} MB are free.",
            usually="A new version is built beside the old one, so that a failure leaves the old one running.",
            todo="Free some space, or choose another disk with --data; nothing was changed.",
        )
