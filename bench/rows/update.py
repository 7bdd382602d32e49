"""What an update costs: bytes, requests, seconds, memory and disk, against downloading the archive again.

Three updates of the same installed release: a line of the app's code, another version of a dependency, another build
of one native library. Each by patch, and again without any patch, as a client finds it that is older than all of them.
The peer downloads the core archive again, hashes it and unpacks it over the live folder, from the same kind of server.
"""

from __future__ import annotations

from bench.bed import Bed, Edit, Taken, made
from bench.changed import code_changed, dependency_changed, library_changed
from bench.fileserver import serving
from bench.measure import run
from bench.rows.base import PEER, ROOT, Context, Need, Result, kilobytes, mebibytes

from lading.fetch.indexes import read_index
from lading.fetch.ranges import frame_places
from lading.manifest.release import Release
from lading.store.segments import segments_of

CODE = Edit(name="code", version="0.1.1", change=code_changed)
DEPENDENCY = Edit(name="dependency", version="0.1.2", change=dependency_changed)
LIBRARY = Edit(name="library", version="0.1.3", change=library_changed, label="cu126-v2")

MEMORY_LIMIT = 250.0  # MiB
DISK_LIMIT = 1.0  # per cent of an installed version
CHECK_BYTES, CHECK_REQUESTS = 4.0, 2.0  # kB


class Check:
    """Asking for an update when there is none: the next root, which is not there, and the timestamp."""

    name = "check"
    needs: tuple[Need, ...] = ("store",)

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Ask twice: the first time also brings what the second one knows already."""
        with made(context) as bed:
            bed.check()
            found = bed.check()
        what = "update check, nothing new"
        return (
            Result(row=self.name, what=what, unit="requests", ours=found["requests"], limit=CHECK_REQUESTS),
            Result(row=self.name, what="… bytes", unit="kB", ours=found["bytes_received"] / 1e3, limit=CHECK_BYTES),
        )


class CodeUpdate:
    """A line of the app's code."""

    name = "update-code"
    needs: tuple[Need, ...] = ("store",)

    def __init__(self, edit: Edit = CODE, *, patch: float = 32, whole: float = 500) -> None:
        self.edit = edit
        self.patch, self.whole = patch, whole  # the goals, in kB

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Update by patch and without, and let the peer do its way."""
        peer = peer_update(context)
        with made(context) as bed:
            installed = installed_bytes(bed)
            by_patch, without = both_ways(bed, self.edit)
        share = 100 * by_patch.disk / installed
        return (
            *_bytes(self, "code update", by_patch, without, peer_kb=peer[1]),
            *_requests(self.name, by_patch, without),
            Result(row=self.name, what="… time", unit="s", peer=peer[0], ours=by_patch.measured.seconds, goal=20),
            Result(row=self.name, what="… time without a patch", unit="s", peer=peer[0], ours=without.measured.seconds),
            _memory(self.name, by_patch, without),
            Result(row=self.name, what="… disk for the version", unit="%", ours=share, limit=DISK_LIMIT),
        )


class DependencyUpdate:
    """Another version of an ordinary dependency."""

    name = "update-dependency"
    needs: tuple[Need, ...] = ("store", "wheels")

    def __init__(self, edit: Edit = DEPENDENCY, *, patch: float = 600, whole: float = 6_000) -> None:
        self.edit = edit
        self.patch, self.whole = patch, whole

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Update by patch and without."""
        peer = peer_update(context)
        with made(context) as bed:
            by_patch, without = both_ways(bed, self.edit)
        return (
            *_bytes(self, "dependency update", by_patch, without, peer_kb=peer[1]),
            *_requests(self.name, by_patch, without),
            Result(row=self.name, what="… time", unit="s", peer=peer[0], ours=by_patch.measured.seconds),
            _memory(self.name, by_patch, without),
        )


class LibraryUpdate:
    """Another build of one native library, against the frames of that file and against both archives of the peer."""

    name = "update-library"
    needs: tuple[Need, ...] = ("store", "wheels")

    def __init__(self, edit: Edit = LIBRARY) -> None:
        self.edit = edit

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Update by patch and without; the peer's value is what the file's own frames have."""
        with made(context) as bed:
            release = bed.publish(self.edit)
            own = own_frames(bed, release, tuple(self.edit.change(bed.base)))
            by_patch, without = _both(bed, self.edit)
        archives = kilobytes(context.peer_packed()[1]["size"])
        ours, what = kilobytes(by_patch.received), "native library update"
        return (
            Result(row=self.name, what=what, unit="kB", peer=kilobytes(own), ours=ours, goal=3),
            Result(row=self.name, what="… against the archives", unit="kB", peer=archives, ours=ours),
            Result(row=self.name, what="… without a patch", unit="kB", ours=kilobytes(without.received)),
            *_requests(self.name, by_patch, without),
            Result(row=self.name, what="… time", unit="s", ours=by_patch.measured.seconds),
            _memory(self.name, by_patch, without),
        )


def both_ways(bed: Bed, edit: Edit) -> tuple[Taken, Taken]:
    """Publish an edit and install it from the first release: by patch, then without one."""
    bed.publish(edit)
    return _both(bed, edit)


def _both(bed: Bed, edit: Edit) -> tuple[Taken, Taken]:
    by_patch = bed.install(edit.version)
    bed.back(edit.version)
    bed.remove_patches(edit.version)
    without = bed.install(edit.version)
    bed.back(edit.version)
    return by_patch, without


def peer_update(context: Context) -> tuple[float, float]:
    """The peer's update of the core: seconds, and kB downloaded. Measured once in a run."""
    if "peer-update" not in context.cache:
        _, said, archives = context.peer_packed()
        with context.folder("peer-live") as live, serving(archives) as url:
            argv = [*PEER, "install", url, live, said["core"]]
            run(argv, cwd=ROOT)  # what is there before the update
            measured = run(argv, cwd=ROOT)
        context.cache["peer-update"] = (measured.seconds, kilobytes((archives / said["core"]).stat().st_size))
    found: tuple[float, float] = context.cache["peer-update"]
    return found


def installed_bytes(bed: Bed) -> int:
    """Bytes of the files of the first release."""
    return sum(entry.size for entry in bed.base.info().files)


def own_frames(bed: Bed, release: Release, paths: tuple[str, ...]) -> int:
    """Compressed bytes of the frames in which files of a release lie."""
    total = 0
    for component in release.components:
        data = next((bed.store / "assets").rglob(component.index.name)).read_bytes()
        index = read_index(data, component)
        places = frame_places(index.frames, component.volumes, archive=component.index.name)
        wanted = {
            segment.frame
            for entry in index.files
            if entry.path in paths
            for segment in segments_of(entry, index.frames)
        }
        total += sum(places[number].size for number in wanted)
    return total


def _bytes(
    row: CodeUpdate | DependencyUpdate, what: str, by_patch: Taken, without: Taken, *, peer_kb: float
) -> tuple[Result, Result]:
    return (
        Result(row=row.name, what=what, unit="kB", peer=peer_kb, ours=kilobytes(by_patch.received), limit=row.patch),
        Result(
            row=row.name,
            what="… without a patch",
            unit="kB",
            peer=peer_kb,
            ours=kilobytes(without.received),
            limit=row.whole,
        ),
    )


def _requests(name: str, by_patch: Taken, without: Taken) -> tuple[Result, Result]:
    return (
        Result(row=name, what="… requests", unit="requests", ours=by_patch.requests),
        Result(row=name, what="… requests without a patch", unit="requests", ours=without.requests),
    )


def _memory(name: str, *taken: Taken) -> Result:
    peak = mebibytes(max(one.measured.peak_rss for one in taken))
    return Result(row=name, what="… memory", unit="MiB", ours=peak, limit=MEMORY_LIMIT)
