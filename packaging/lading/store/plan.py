"""What to do for a release, given what is here: pure, so that it can be printed, tested and read beside its rules.

Rules:
    1. A file that an installed version has, with the same size and digest, is taken from there: from the same path if
       possible, from the newest version first. With the same mode it is linked, otherwise copied.
    2. A file known to be damaged there is not taken from there.
    3. A file whose frames are all verified in the staging folder is not fetched.
    4. Of every other file exactly the frames are fetched that are not verified yet; neighbours share a request.
    5. Room is needed for what is fetched and copied, not for what is linked.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import Field

from lading.fetch.ranges import Place, Range, coalesce, frame_places
from lading.manifest.base import Component, Record
from lading.manifest.index import Index, IndexEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry
from lading.store.segments import segments_of

BLOCK = 4096  # bytes that a file system rounds a file up to
SLACK = 4 * 2**20  # bytes for folders, indexes and the journal

Frames = Mapping[Component, frozenset[int]]


@dataclass(frozen=True, kw_only=True)
class InstalledFiles:
    """The files of an installed version.

    Attributes:
        name: The version's folder name.
        entries: What its indexes say.
    """

    name: str
    entries: Sequence[TreeEntry]


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """A file that is taken from an installed version.

    Attributes:
        entry: The file to have.
        version: The installed version's folder name.
        path: The file's path there.
        link: It can be a hard link; else it is a copy.
    """

    entry: TreeEntry
    version: str
    path: str
    link: bool


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """What to fetch of one archive.

    Attributes:
        component: The archive.
        index: Its index.
        files: The files that are written from its frames.
        ranges: The requests.
        staged: Compressed bytes of frames that need not be fetched, because they are verified already.
    """

    component: ComponentRecord
    index: Index
    files: tuple[IndexEntry, ...]
    ranges: tuple[Range, ...]
    staged: int

    @property
    def fetch_bytes(self) -> int:
        """Compressed bytes to fetch."""
        return sum(part.size for part in self.ranges)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything to do, before anything is done.

    Attributes:
        reuse: Files taken from installed versions.
        links: Symbolic links to make.
        components: What to fetch.
        disk: Bytes of room that are needed.
    """

    reuse: tuple[Reuse, ...]
    links: tuple[TreeEntry, ...]
    components: tuple[ComponentPlan, ...]
    disk: int

    @property
    def fetch_bytes(self) -> int:
        """Compressed bytes to fetch."""
        return sum(part.fetch_bytes for part in self.components)

    @property
    def requests(self) -> int:
        """Range requests."""
        return sum(len(part.ranges) for part in self.components)

    @property
    def staged_bytes(self) -> int:
        """Compressed bytes that an earlier run has fetched already."""
        return sum(part.staged for part in self.components)

    @property
    def reused_bytes(self) -> int:
        """Bytes of the files that are taken from installed versions."""
        return sum(item.entry.size for item in self.reuse)


class PlanReport(Record):
    """A plan for a person or a program to read.

    Attributes:
        version_id: The version's folder name.
        installed: It is installed already; nothing to do but, perhaps, to point to it.
        fetch_bytes, requests: Archive bytes and range requests, by component.
        staged_bytes: Archive bytes that an earlier run has fetched already.
        reused_files, reused_bytes: Taken from installed versions.
        written_files: Put together from frames.
        disk_needed, disk_free: Bytes.
    """

    version_id: str
    installed: bool
    fetch_bytes: dict[str, int] = Field(default_factory=dict)
    requests: dict[str, int] = Field(default_factory=dict)
    staged_bytes: int = 0
    reused_files: int = 0
    reused_bytes: int = 0
    written_files: int = 0
    disk_needed: int = 0
    disk_free: int = 0


@dataclass
class _Sources:
    """Where the bytes with a digest can be taken from."""

    damaged: frozenset[tuple[str, str]]
    known: dict[tuple[str, int], list[tuple[str, TreeEntry]]] = field(default_factory=lambda: defaultdict(list))

    def add(self, version: InstalledFiles) -> None:
        for entry in version.entries:
            if entry.sha256 is not None and (version.name, entry.path) not in self.damaged:
                self.known[entry.sha256, entry.size].append((version.name, entry))

    def best(self, wanted: IndexEntry, *, can_link: bool) -> Reuse | None:
        candidates = self.known.get((wanted.sha256 or "", wanted.size), ())
        ranked = sorted(candidates, key=lambda found: (found[1].mode != wanted.mode, found[1].path != wanted.path))
        if not ranked:
            return None
        version, entry = ranked[0]
        link = can_link and entry.mode == wanted.mode
        return Reuse(entry=wanted.tree_entry(), version=version, path=entry.path, link=link)


def make_plan(
    release: Release,
    indexes: Mapping[Component, Index],
    installed: Sequence[InstalledFiles],
    *,
    staged: Frames,
    damaged: Iterable[tuple[str, str]] = (),
    can_link: bool = True,
) -> Plan:
    """Plan an install.

    Args:
        release: What to install.
        indexes: The index of each component.
        installed: What is here, the preferred version first.
        staged: Numbers of the frames that are verified and written in the staging folder.
        damaged: Version and path of installed files that were found damaged.
        can_link: The file system has hard links.

    Returns:
        The plan.

    Raises:
        FormatInvalid: An index does not fit its archive.
    """
    sources = _Sources(frozenset(damaged))
    for version in installed:
        sources.add(version)
    reuse: list[Reuse] = []
    parts: list[ComponentPlan] = []
    for component in release.components:
        index = indexes[component.component]
        files: list[IndexEntry] = []
        for entry in index.files:
            if entry.type == "link":
                continue
            if (found := sources.best(entry, can_link=can_link)) is not None:
                reuse.append(found)
            else:
                files.append(entry)
        parts.append(_component_plan(component, index, files, staged.get(component.component, frozenset())))
    links = [entry.tree_entry() for index in indexes.values() for entry in index.files if entry.type == "link"]
    disk = sum(_room(item.entry.size) for item in reuse if not item.link)
    disk += sum(_room(entry.size) for part in parts for entry in part.files) + SLACK
    disk -= sum(_staged_raw(part, staged) for part in parts)
    return Plan(reuse=tuple(reuse), links=tuple(links), components=tuple(parts), disk=max(disk, 0))


def frames_of(files: Iterable[IndexEntry], index: Index) -> frozenset[int]:
    """The frames in which files lie."""
    return frozenset(segment.frame for entry in files for segment in segments_of(entry, index.frames))


def _component_plan(
    component: ComponentRecord, index: Index, files: Sequence[IndexEntry], staged: frozenset[int]
) -> ComponentPlan:
    places: tuple[Place, ...] = frame_places(index.frames, component.volumes, archive=component.index.name)
    needed = frames_of(files, index)
    return ComponentPlan(
        component=component,
        index=index,
        files=tuple(files),
        ranges=coalesce(places, needed - staged),
        staged=sum(places[number].size for number in needed & staged),
    )


def _room(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _staged_raw(part: ComponentPlan, staged: Frames) -> int:
    done = staged.get(part.component.component, frozenset())
    return sum(
        segment.length
        for entry in part.files
        for segment in segments_of(entry, part.index.frames)
        if segment.frame in done
    )
