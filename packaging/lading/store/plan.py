"""What to do for a release, given what is here: pure, so that it can be printed, tested and read beside its rules.

Rules for files:
    1. A file that an installed version has, with the same size and digest, is taken from there: from the same path if
       possible, from the newest version first. With the same mode it is linked, otherwise copied.
    2. A file known to be damaged there is not taken from there, nor patched from it.
    3. A file that lies whole in the staging folder is neither fetched nor patched; one whose frames are all verified
       there is not fetched.
    4. Every other file is *missing*. It comes out of the component's patch, when that is taken and carries it; else
       exactly its frames are fetched that are not verified yet. Neighbours share a request.
    5. Room is needed for what is fetched, patched and copied, and for the patch; not for what is linked.

Rules for a component's index and patch; what is already here costs nothing:
    6. A patch can be used when an installed version has exactly the tree that it starts from. Of several, the one with
       the fewest bytes left to fetch.
    7. Where the new index is not here, what the frames would cost is not known. To look costs the index. A patch of at
       most :data:`LOOK` indexes is taken without looking: it carries every changed file in no more bytes than the file
       alone has, so frames, which carry neighbours too, are seldom fewer; and to look costs a quarter of it or more.
    8. Otherwise the index is fetched and the two are compared.
    9. Where the index is here, the patch is taken when it and the frames that it leaves are fewer bytes than the frames
       without it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lading.fetch.ranges import Place, Range, coalesce, frame_places
from lading.manifest.base import Component
from lading.manifest.index import Index, IndexEntry
from lading.manifest.release import ComponentRecord, PatchRecord, Release
from lading.manifest.tree import TreeEntry
from lading.store.segments import segments_of

BLOCK = 4096  # bytes that a file system rounds a file up to
SLACK = 4 * 2**20  # bytes for folders, indexes and the journal
LOOK = 4  # indexes that a patch may be as large as before it is worth to look at the index first

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

    entry: IndexEntry
    version: str
    path: str
    link: bool


@dataclass(frozen=True, kw_only=True)
class Carried:
    """How a patch carries one file.

    Attributes:
        blobs: The numbers of its blobs.
        old: The files of the older tree that they are relative to.
    """

    blobs: tuple[int, ...]
    old: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PatchUse:
    """A patch that can be used.

    Attributes:
        record: The patch.
        version: The folder name of the installed version that it starts from.
        left: Bytes of it that are not here yet.
        files: What it carries, by the new file's digest; none while it has not been read.
    """

    record: PatchRecord
    version: str
    left: int
    files: Mapping[str, Carried] | None = None


@dataclass(frozen=True, kw_only=True)
class Patched:
    """A file that comes out of a patch.

    Attributes:
        entry: The file to have.
        carried: Its blobs.
    """

    entry: IndexEntry
    carried: Carried


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """What to fetch for one component.

    Attributes:
        component: The component.
        index: Its index.
        files: The files that are written from its frames.
        ranges: The requests for frames.
        staged: Compressed bytes of frames that need not be fetched, because they are verified already.
        patch: The patch that is taken, or none.
        patched: The files that come out of it.
        general: Bytes of frames that would be fetched without a patch.
        offered: The patch that could be taken.
    """

    component: ComponentRecord
    index: Index
    files: tuple[IndexEntry, ...]
    ranges: tuple[Range, ...]
    staged: int
    patch: PatchUse | None = None
    patched: tuple[Patched, ...] = ()
    general: int = 0
    offered: PatchUse | None = None

    @property
    def frame_bytes(self) -> int:
        """Compressed bytes of the frames to fetch."""
        return sum(part.size for part in self.ranges)

    @property
    def patch_bytes(self) -> int:
        """Bytes of the patch that are still to fetch."""
        return self.patch.left if self.patch else 0


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
        """Compressed bytes of the frames to fetch."""
        return sum(part.frame_bytes for part in self.components)

    @property
    def requests(self) -> int:
        """Range requests for frames."""
        return sum(len(part.ranges) for part in self.components)

    @property
    def staged_bytes(self) -> int:
        """Compressed bytes that an earlier run has fetched already."""
        return sum(part.staged for part in self.components)

    @property
    def reused_bytes(self) -> int:
        """Bytes of the files that are taken from installed versions."""
        return sum(item.entry.size for item in self.reuse)

    @property
    def written_files(self) -> int:
        """Files that are put together from frames."""
        return sum(len(part.files) for part in self.components)

    @property
    def patched_files(self) -> int:
        """Files that come out of patches."""
        return sum(len(part.patched) for part in self.components)


@dataclass(frozen=True, kw_only=True)
class Here:
    """What an install need not fetch.

    Attributes:
        installed: Installed versions, the preferred one first.
        staged: Numbers of the frames that are verified and written in the staging folder.
        whole: Paths of the files that lie whole in it.
        damaged: Version and path of installed files that were found damaged.
        unlinkable: Version and path of installed files that are sound but have another mode than they should.
        patches: The patch that each component could use.
        undecodable: Digests of files that the patch turned out not to give.
        can_link: The file system has hard links.
    """

    installed: Sequence[InstalledFiles]
    staged: Frames
    whole: frozenset[str] = frozenset()
    damaged: frozenset[tuple[str, str]] = frozenset()
    unlinkable: frozenset[tuple[str, str]] = frozenset()
    patches: Mapping[Component, PatchUse] = field(default_factory=dict)
    undecodable: frozenset[str] = frozenset()
    can_link: bool = True


class _Sources:
    """Where the bytes with a digest can be taken from."""

    def __init__(self, here: Here) -> None:
        self._here = here
        self._known: dict[tuple[str, int], list[tuple[str, TreeEntry]]] = defaultdict(list)
        for version in here.installed:
            for entry in version.entries:
                if entry.sha256 is not None and (version.name, entry.path) not in here.damaged:
                    self._known[entry.sha256, entry.size].append((version.name, entry))

    def best(self, wanted: IndexEntry) -> Reuse | None:
        candidates = self._known.get((wanted.sha256 or "", wanted.size), ())
        ranked = sorted(candidates, key=lambda found: (not self._linkable(found, wanted), found[1].path != wanted.path))
        if not ranked:
            return None
        version, entry = ranked[0]
        link = self._here.can_link and self._linkable(ranked[0], wanted)
        return Reuse(entry=wanted, version=version, path=entry.path, link=link)

    def _linkable(self, found: tuple[str, TreeEntry], wanted: IndexEntry) -> bool:
        version, entry = found
        return entry.mode == wanted.mode and (version, entry.path) not in self._here.unlinkable


def make_plan(release: Release, indexes: Mapping[Component, Index], here: Here) -> Plan:
    """Plan an install.

    Args:
        release: What to install.
        indexes: The index of each component.
        here: What need not be fetched.

    Returns:
        The plan.

    Raises:
        FormatInvalid: An index does not fit its archive.
    """
    sources = _Sources(here)
    reuse: list[Reuse] = []
    parts: list[ComponentPlan] = []
    for component in release.components:
        index = indexes[component.component]
        others: list[IndexEntry] = []
        for entry in index.files:
            if entry.type == "link":
                continue
            if (found := sources.best(entry)) is not None:
                reuse.append(found)
            else:
                others.append(entry)
        parts.append(_component_plan(component, index, others, here))
    links = [entry for index in indexes.values() for entry in index.files if entry.type == "link"]
    return Plan(reuse=tuple(reuse), links=tuple(links), components=tuple(parts), disk=_disk(reuse, parts, here))


def frames_of(files: Iterable[IndexEntry], index: Index) -> frozenset[int]:
    """The frames in which files lie."""
    return frozenset(segment.frame for entry in files for segment in segments_of(entry, index.frames))


def usable_patches(
    release: Release, component: ComponentRecord, starts: Mapping[str, str], received: Mapping[str, int]
) -> tuple[PatchUse, ...]:
    """The patches that lead to a component from what is installed (rule 6).

    Args:
        release: The release.
        component: The component.
        starts: The folder name of an installed version by the tree digest that the component has in it.
        received: Bytes that are here of patches, by the patch's digest.

    Returns:
        The usable ones, the one with the fewest bytes left first.
    """
    name = component.component
    found = [
        PatchUse(
            record=patch,
            version=starts[patch.from_tree],
            left=max(0, patch.asset.size - received.get(patch.asset.sha256, 0)),
        )
        for patch in release.patches
        if patch.component == name and patch.from_tree in starts
    ]
    return tuple(sorted(found, key=lambda use: use.left))


def taken_unseen(use: PatchUse, component: ComponentRecord) -> bool:
    """Whether a patch is taken although the new index is not known (rule 7)."""
    return use.left <= LOOK * component.index.size


def _component_plan(
    component: ComponentRecord, index: Index, others: Sequence[IndexEntry], here: Here
) -> ComponentPlan:
    places: tuple[Place, ...] = frame_places(index.frames, component.volumes, archive=component.index.name)
    staged = here.staged.get(component.component, frozenset())
    missing = [entry for entry in others if entry.path not in here.whole]
    there = frames_of((entry for entry in others if entry.path in here.whole), index)
    offered = here.patches.get(component.component)
    needed = frames_of(missing, index)
    without = coalesce(places, needed - staged)
    general = sum(part.size for part in without)
    patched = _patched(missing, index, staged, offered, here) if offered else ()
    paths = {item.entry.path for item in patched}
    rest = [entry for entry in missing if entry.path not in paths]
    still = frames_of(rest, index)
    ranges = coalesce(places, still - staged)
    if offered is None or not patched or offered.left + sum(part.size for part in ranges) >= general:
        patched, rest, still, ranges = (), list(missing), needed, without
    return ComponentPlan(
        component=component,
        index=index,
        files=tuple(rest),
        ranges=ranges,
        staged=sum(places[number].size for number in (still | there) & staged),
        patch=offered if patched else None,
        patched=patched,
        general=general,
        offered=offered,
    )


def _patched(
    missing: Sequence[IndexEntry], index: Index, staged: frozenset[int], use: PatchUse, here: Here
) -> tuple[Patched, ...]:
    """The missing files that a patch gives; before it was read, those that its older tree has under no name."""
    before = next((version for version in here.installed if version.name == use.version), None)
    older = {entry.sha256 for entry in before.entries} if before and use.files is None else frozenset()
    found: list[Patched] = []
    for entry in missing:
        digest = entry.sha256 or ""
        if digest in here.undecodable or frames_of([entry], index) <= staged:
            continue
        if use.files is None:
            carried = None if digest in older else Carried(blobs=(), old=())
        else:
            carried = use.files.get(digest)
        if carried and not any((use.version, path) in here.damaged for path in carried.old):
            found.append(Patched(entry=entry, carried=carried))
    return tuple(found)


def _disk(reuse: Iterable[Reuse], parts: Sequence[ComponentPlan], here: Here) -> int:
    room = sum(_room(item.entry.size) for item in reuse if not item.link)
    room += sum(_room(entry.size) for part in parts for entry in part.files)
    room += sum(_room(item.entry.size) for part in parts for item in part.patched)
    room += sum(_room(part.patch_bytes) for part in parts)
    return max(room + SLACK - sum(_staged_raw(part, here.staged) for part in parts), 0)


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
