"""Fill a release's staging folder: reuse what is sound, patch and fetch what is missing, until every file is right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from lading.errors import DigestMismatch, DiskFull
from lading.fetch.frames import FrameJob, fetch_frames
from lading.manifest.base import Component
from lading.store.home import Home
from lading.store.indexes import Known, Seeker
from lading.store.patching import Base, apply_patch
from lading.store.plan import ComponentPlan, InstalledFiles, Plan
from lading.store.planned import Way, way_of
from lading.store.staging import TREE, Staging
from lading.store.survey import Survey

ROUNDS = 2  # a file may prove wrong once, when a power cut took what the journal promised


class Builder:
    """Fills the staging folder.

    Args:
        seeker: The repository, the release, and how to come by its patches.
        home: The variant's folder.
        known: The index of each component.
        installed: The files of installed versions, the preferred one first.
        damaged: Version and path of files that are known to be damaged.
        thorough: Digest every file before it is linked, not only those that somebody wrote to.

    Attributes:
        staging: The staging folder; the caller closes it.
        fetched: Bytes of frames that were fetched.
        resumed: Bytes of frames that an earlier run had verified.
        patched, written: Files that came out of patches, and out of frames.
        ways: How each component was come by.
    """

    def __init__(
        self,
        seeker: Seeker,
        home: Home,
        *,
        known: Mapping[Component, Known],
        installed: Sequence[InstalledFiles],
        damaged: Iterable[tuple[str, str]] = (),
        thorough: bool = False,
    ) -> None:
        self.staging = Staging(home.staging(seeker.release), seeker.release)
        self.fetched = 0
        self.resumed = 0
        self.patched = 0
        self.written = 0
        self.ways: tuple[Way, ...] = ()
        self._home = home
        self._seeker = seeker
        self._progress = seeker.progress
        self._survey = Survey(
            seeker.release,
            known,
            installed,
            versions=home.versions,
            staged_tree=self.staging.tree,
            staged=lambda: {name: self.staging.journal.done(name) for name in known},
            can_link=self.staging.can_link(),
            damaged=damaged,
            thorough=thorough,
            progress=seeker.progress,
            cancel=seeker.cancel,
        )

    def run(self, free: int) -> Plan:
        """Fill the staging folder.

        Args:
            free: Bytes of room on the disk.

        Returns:
            What was planned, and done when nothing proved wrong on the way.

        Raises:
            DiskFull: Before anything was fetched, or while writing.
            DigestMismatch, SourceUnreachable: The source fails for good; what was verified stays for the next run.
            Interrupted: It was cancelled.
        """
        self.staging.tidy({entry.path for known in self._survey.known.values() for entry in known.index.files})
        plan = self._survey.settled()
        check_room(plan.disk, free, self._home.data)
        plan = first = self._taken(self._with_patches(plan))
        while not self._patch(plan):  # every round finds something that cannot be used, and there is only so much
            plan = self._taken(self._survey.settled())
        rest = self._survey.plan()
        self.written, self.resumed = rest.written_files, rest.staged_bytes
        self.ways = tuple(map(self._way, first.components, rest.components))
        self._fetch(rest)
        return plan

    def _way(self, first: ComponentPlan, rest: ComponentPlan) -> Way:
        """How a component is come by: as planned, and with the frames of what could not be patched."""
        way = way_of(first, self._survey.known[first.component.component].acquired)
        requests = way.requests - len(first.ranges) + len(rest.ranges)
        return way.model_copy(update={"frame_bytes": rest.frame_bytes, "requests": requests})

    def _with_patches(self, plan: Plan) -> Plan:
        """Fetch and read the patches that are taken; without those that prove wrong."""
        known = self._survey.known
        while unread := [part for part in plan.components if part.patch is not None and part.patch.files is None]:
            for part in unread:
                name = part.component.component
                known[name] = self._seeker.fetch(known[name])
            plan = self._survey.plan()
        return plan

    def _taken(self, plan: Plan) -> Plan:
        """Link and copy what is here, and make the places of other files ready; the plan may be another one then."""
        if self.staging.prepare(plan.components):
            plan = self._survey.plan()
        self.staging.make_links(plan.links)
        with self._progress.task("linking", len(plan.reuse), unit="files") as task:
            self.staging.reuse(plan.reuse, self._home.versions, task.advance)
        return plan

    def _patch(self, plan: Plan) -> bool:
        """Make the files that come out of patches. False when some could not be made."""
        return all(self._apply(part) for part in plan.components if part.patched)

    def _apply(self, part: ComponentPlan) -> bool:
        survey, patch = self._survey, self._survey.known[part.component.component].patch
        if part.patch is None or patch is None:
            message = f"the patch of {part.component.component} was not read"
            raise RuntimeError(message)
        base = self._base(part.patch.version)
        with self._progress.task("patching", sum(item.entry.size for item in part.patched)) as task:
            outcome = apply_patch(patch, part.patched, base, self.staging, task.advance, cancel=self._seeker.cancel)
        survey.whole |= outcome.made
        survey.damaged |= outcome.damaged
        survey.undecodable |= outcome.undecodable
        self.patched += len(outcome.made)
        if outcome.damaged:
            self._progress.note(f"{len(outcome.damaged)} installed files are damaged and are not used")
        if outcome.undecodable:
            self._progress.note(f"the patch does not give {len(outcome.undecodable)} files; they are fetched")
        return not outcome.damaged and not outcome.undecodable

    def _base(self, name: str) -> Base:
        files = next(version for version in self._survey.installed if version.name == name)
        entries = {entry.path: entry for entry in files.entries}
        return Base(name=name, tree=self._home.versions / name / TREE, entries=entries)

    def _fetch(self, plan: Plan) -> None:
        wrong: tuple[str, ...] = ()
        for _ in range(ROUNDS):
            self.staging.expect(plan.components)
            jobs = [FrameJob(component=p.component, frames=p.index.frames, ranges=p.ranges) for p in plan.components]
            with self._seeker.tally.of("frames"), self._progress.task("fetching", plan.fetch_bytes) as task:
                fetch_frames(self._seeker.source, jobs, self.staging, task.advance, stop=self._seeker.cancel)
            self.fetched += plan.fetch_bytes
            wrong = self.staging.take_back()
            if not wrong:
                return
            plan = self._survey.plan()
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
