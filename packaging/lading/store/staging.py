"""A version being put together, out of sight.

``partial/<digest>/`` holds the journal and ``version/``, which becomes the version by one rename. Crash safety:

    * Killed at any instant, nothing under ``versions/`` is half made, because nothing is written there.
    * A frame's bytes go to staged files as they come. Only when all of them were right, its line goes to the journal:
      no verified frame is fetched again, and what was not verified is written over.
    * A file counts when all its bytes are written and its SHA-256, read back, is right; then it gets its mode and is
      flushed. After a power cut a file may have lost bytes that the journal promises: its digest tells, and its frames
      are fetched again.
    * Files and folders are flushed before the rename, and the rename before the pointer is replaced.
    * A file is never opened for writing through a link: what is not surely our own half-written file is unlinked first.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lading.atomic import as_host_error, fsync_folder, write_atomic
from lading.digest import sha256_file
from lading.errors import DigestMismatch
from lading.host.facts import usable_cpus
from lading.manifest.base import Component, canonical_json
from lading.manifest.index import IndexEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry
from lading.store.journal import Journal
from lading.store.marker import PARTIAL_MARKER, VERSION_MARKER, PartialMarker, VersionMarker
from lading.store.plan import ComponentPlan, Reuse
from lading.store.segments import Segment, segments_of

THREADS = min(8, usable_cpus())  # for digesting, which leaves the interpreter
FLUSH_THREADS = 8  # waiting for the disk; file systems commit what waits together at once
RELEASE_FILE = "release.json"
TREE = "tree"
JOURNAL = "journal"


@dataclass
class _Pending:
    """A file that is being written."""

    entry: IndexEntry
    component: Component
    frames: frozenset[int]
    missing: set[int]


class Staging:
    """The staging folder of one release; the caller holds the variant's lock.

    Args:
        folder: ``partial/<digest>``.
        release: What is being put together.
    """

    def __init__(self, folder: Path, release: Release) -> None:
        self.folder = folder
        self.version = folder / "version"
        self.tree = self.version / TREE
        self.release = release
        if not (folder / PARTIAL_MARKER).exists():
            write_atomic(folder / PARTIAL_MARKER, canonical_json(PartialMarker(tree=release.tree)))
        _make_folder(self.tree)
        self.journal = Journal(folder / JOURNAL, release)
        self._lock = Lock()
        self._pending: dict[tuple[Component, int], list[_Pending]] = {}
        self._segments: dict[tuple[Component, int], list[Segment]] = {}
        self._finishing: list[tuple[_Pending, Future[bool]]] = []
        self._finishers = ThreadPoolExecutor(FLUSH_THREADS, thread_name_prefix="finish")

    def close(self) -> None:
        """Let go of everything; what is being finished is finished."""
        self._finishers.shutdown(wait=True, cancel_futures=True)
        self.journal.close()

    def keep_indexes(self, indexes: Mapping[str, bytes]) -> None:
        """Keep the compressed indexes by file name: for a later run, and as part of the version."""
        for name, data in indexes.items():
            write_atomic(self.folder / name, data)
            write_atomic(self.version / name, data)

    def can_link(self) -> bool:
        """Whether this file system has hard links."""
        probe = self.folder / "link-probe"
        probe.unlink(missing_ok=True)
        try:
            os.link(self.folder / PARTIAL_MARKER, probe)
        except OSError:
            return False
        probe.unlink()
        return True

    def reuse(self, items: Sequence[Reuse], versions: Path, advance: Callable[[int], None]) -> None:
        """Take files from installed versions, by link where the plan says so; counts files.

        Raises:
            AccessDenied, DiskFull: The system refuses.
        """
        for folder in {posix_parent(self.tree, item.entry.path) for item in items}:
            _make_folder(folder)
        with ThreadPoolExecutor(FLUSH_THREADS, thread_name_prefix="reuse") as workers:
            for _ in workers.map(lambda item: self._take(item, versions), items):
                advance(1)

    def _take(self, item: Reuse, versions: Path) -> None:
        source = versions / item.version / TREE / item.path
        target = self.tree / item.entry.path
        try:
            if item.link and target.exists() and target.samefile(source):
                return
            target.unlink(missing_ok=True)
            if item.link:
                os.link(source, target)
                return
            shutil.copyfile(source, target)
            if (found := sha256_file(target)) != item.entry.sha256:
                raise _damaged_copy(target, found, item.entry.sha256)
            target.chmod(item.entry.mode)
            _flush(target)
        except OSError as error:
            raise as_host_error(error, f"writing {target}") from error

    def make_links(self, links: Iterable[TreeEntry]) -> None:
        """Make the symbolic links."""
        for entry in links:
            path = self.tree / entry.path
            target = entry.target or ""
            _make_folder(path.parent)
            try:
                if path.is_symlink() and str(path.readlink()) == target:
                    continue
                path.unlink(missing_ok=True)
                path.symlink_to(target)
            except OSError as error:
                raise as_host_error(error, f"writing {path}") from error

    def prepare(self, parts: Sequence[ComponentPlan]) -> None:
        """Get the place of every file ready that will be written: its folder, and nothing there that is not ours alone.

        A file of an earlier run is kept when its frames are in the journal. When all of them are, it is digested; what
        proves wrong is forgotten by the journal, so that a plan made afterwards fetches it.
        """
        for folder in {posix_parent(self.tree, entry.path) for part in parts for entry in part.files}:
            _make_folder(folder)
        whole: list[_Pending] = []
        for part in parts:
            name = part.component.component
            done = self.journal.done(name)
            for entry in part.files:
                frames = frozenset(segment.frame for segment in segments_of(entry, part.index.frames))
                if not _usable(self.tree / entry.path, entry.size) or not frames & done:
                    self.journal.forget(name, frames)
                    _clear(self.tree / entry.path, empty=not entry.size)
                if self.journal.covers(name, frames):
                    whole.append(_Pending(entry=entry, component=name, frames=frames, missing=set()))
        with ThreadPoolExecutor(THREADS, thread_name_prefix="resume") as workers:
            for pending, good in zip(whole, workers.map(self._finish, whole), strict=True):
                if not good:
                    self.journal.forget(pending.component, pending.frames)

    def expect(self, parts: Sequence[ComponentPlan]) -> None:
        """Say which frames will come, and which files they complete."""
        self._finishing = []
        self._pending, self._segments = defaultdict(list), defaultdict(list)
        for part in parts:
            name = part.component.component
            done = self.journal.done(name)
            for entry in part.files:
                segments = tuple(segments_of(entry, part.index.frames))
                frames = frozenset(segment.frame for segment in segments)
                pending = _Pending(entry=entry, component=name, frames=frames, missing=set(frames - done))
                for segment in segments:
                    if segment.frame in pending.missing:
                        self._segments[name, segment.frame].append(segment)
                for frame in pending.missing:
                    self._pending[name, frame].append(pending)

    def write(self, component: ComponentRecord, frame: int, offset: int, data: bytes) -> None:
        """Write a piece of a frame to the files that want it; called from any thread.

        Raises:
            AccessDenied, DiskFull: The system refuses.
        """
        view = memoryview(data)
        for segment in self._segments.get((component.component, frame), ()):
            begin = max(segment.offset, offset)
            end = min(segment.offset + segment.length, offset + len(data))
            if begin < end:
                path = self.tree / segment.entry.path
                _write_at(path, segment.position + begin - segment.offset, view[begin - offset : end - offset])

    def commit(self, component: ComponentRecord, frame: int) -> None:
        """Note that a frame's bytes were right, and begin to finish the files that it completes; from any thread.

        Raises:
            AccessDenied, DiskFull: The system refuses.
        """
        self.journal.add(component.component, frame)
        for pending in self._pending.get((component.component, frame), ()):
            with self._lock:
                pending.missing.discard(frame)
                if not pending.missing:  # elsewhere, so that this thread can go on fetching while the disk works
                    self._finishing.append((pending, self._finishers.submit(self._finish, pending)))

    def take_back(self) -> tuple[str, ...]:
        """Wait until all completed files are finished, and forget the frames of those whose digest is wrong.

        Returns:
            Their paths; none when all is well.

        Raises:
            AccessDenied, DiskFull: The system refused to finish one.
        """
        bad = [pending for pending, outcome in self._finishing if not outcome.result()]
        for pending in bad:
            self.journal.forget(pending.component, pending.frames)
        return tuple(sorted(pending.entry.path for pending in bad))

    def _finish(self, pending: _Pending) -> bool:
        """Digest a complete file; give it its mode and flush it when it is right."""
        path = self.tree / pending.entry.path
        try:
            if sha256_file(path) != pending.entry.sha256:
                return False
            path.chmod(pending.entry.mode)
            _flush(path)
        except OSError as error:
            raise as_host_error(error, f"writing {path}") from error
        return True

    def seal(self, marker: VersionMarker, entries: Sequence[TreeEntry]) -> None:
        """Make the version complete, on disk as well: only the rename is missing afterwards.

        Args:
            marker: Written last.
            entries: The tree's entries; anything else in the staged tree is deleted.
        """
        wanted = {entry.path for entry in entries}
        try:
            _delete_strangers(self.tree, wanted)
            _delete_temporaries(self.version)
            write_atomic(self.version / RELEASE_FILE, canonical_json(self.release))
            folders = {posix_parent(self.tree, path) for path in wanted}
            folders |= {
                parent for folder in folders for parent in folder.parents if parent.is_relative_to(self.version)
            }
            with ThreadPoolExecutor(FLUSH_THREADS, thread_name_prefix="flush") as workers:
                list(workers.map(fsync_folder, folders))
            write_atomic(self.version / VERSION_MARKER, canonical_json(marker))
        except OSError as error:
            raise as_host_error(error, f"writing {self.version}") from error

    def publish(self, final: Path) -> None:
        """Let the sealed version appear under its name.

        Raises:
            AccessDenied: The system refuses; run again to go on.
        """
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            self.version.rename(final)
            fsync_folder(final.parent)
            fsync_folder(self.folder)
        except OSError as error:
            raise as_host_error(error, f"moving {self.version} to {final}") from error


def posix_parent(tree: Path, path: str) -> Path:
    """The folder of a tree's path."""
    return (tree / path).parent


def _damaged_copy(path: Path, found: str, wanted: str | None) -> DigestMismatch:
    return DigestMismatch(
        f"The copy {path} has SHA-256 {found}, its original {wanted}.",
        usually="The disk or the memory of this machine is failing.",
        todo="Check the disk, then run the same command again. What is installed is unchanged.",
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise as_host_error(error, f"writing {folder}") from error


def _usable(path: Path, size: int) -> bool:
    """Whether a staged file can be written on: a plain file, no longer than it may be, that no other version shares."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size <= size and found.st_nlink == 1


def _clear(path: Path, *, empty: bool) -> None:
    """Remove what lies in a file's place; an empty file is made at once, because no frame brings it."""
    try:
        path.unlink(missing_ok=True)
        if empty:
            path.touch(exist_ok=False)
    except OSError as error:
        raise as_host_error(error, f"writing {path}") from error


def _write_at(path: Path, position: int, data: memoryview) -> None:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        with os.fdopen(descriptor, "r+b") as stream:
            stream.seek(position)
            stream.write(data)
    except OSError as error:
        raise as_host_error(error, f"writing {path}") from error


def _flush(path: Path) -> None:
    with path.open("r+b") as stream:
        os.fsync(stream.fileno())


def _delete_temporaries(version: Path) -> None:
    """Delete what a killed run left of atomic writes beside the tree."""
    for path in version.glob(".*.tmp"):
        path.unlink()


def _delete_strangers(tree: Path, wanted: set[str]) -> None:
    """Delete what an earlier run left in the staged tree and this release does not have."""
    for folder, folders, files in os.walk(tree, topdown=False):
        here = Path(folder)
        for name in (*files, *(name for name in folders if (here / name).is_symlink())):
            if (here / name).relative_to(tree).as_posix() not in wanted:
                (here / name).unlink()
        if here != tree and not any(here.iterdir()):
            here.rmdir()
