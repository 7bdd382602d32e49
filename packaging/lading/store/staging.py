"""A version being put together, out of sight.

``partial/<digest>/`` holds the journal and ``version/``, which becomes the version by one rename. Crash safety:

    * Killed at any instant, nothing under ``versions/`` is half made, because nothing is written there.
    * A frame's bytes go to staged files once they are verified, and then its line goes to the journal: no verified
      frame is fetched again, and nothing unverified reaches the disk.
    * A file counts when all its frames were written; then it gets its mode and time and is flushed. A file that lies in
      one frame is digested on the way. A file of which an earlier run wrote a part is digested as a whole, read back:
      after a power cut it may have lost bytes that the journal promises; then its frames are fetched again.
    * Files and folders are flushed before the rename, and the rename before the pointer is replaced.
    * A file is never opened for writing through a link: what is not surely our own half-written file is unlinked first.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from lading import patience
from lading.atomic import as_host_error, fsync_folder, write_atomic
from lading.digest import sha256_bytes, sha256_file
from lading.errors import DigestMismatch, FormatInvalid
from lading.host.facts import usable_cpus
from lading.manifest.base import Component, canonical_json
from lading.manifest.index import IndexEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry, folders_of
from lading.store import linking
from lading.store.journal import JOURNAL, Journal
from lading.store.marker import PARTIAL_MARKER, VERSION_MARKER, VersionMarker
from lading.store.plan import ComponentPlan, Reuse
from lading.store.sealed import seal_time
from lading.store.segments import Segment, segments_of
from lading.store.unfinished import begin

THREADS = min(8, usable_cpus())  # for digesting, which leaves the interpreter
SETTLE = 4 * 2**20  # bytes; larger pieces go to the disk as they come
FLUSH_THREADS = 8  # waiting for the disk; file systems commit what waits together at once
RELEASE_FILE = "release.json"
TREE = "tree"


@dataclass
class _Pending:
    """A file that is being written; ``resumed`` when an earlier run wrote some of its frames."""

    entry: IndexEntry
    component: Component
    frames: frozenset[int]
    missing: set[int]
    resumed: bool


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
        begin(folder, release)
        _make_folder(self.tree)
        self.journal = Journal(folder / JOURNAL, release)
        self._links_as_files: list[TreeEntry] = []
        self._lock = Lock()
        self._pending: dict[tuple[Component, int], list[_Pending]] = {}
        self._segments: dict[tuple[Component, int], list[Segment]] = {}
        self._finishing: list[tuple[_Pending, Future[bool]]] = []
        self._settling: list[Future[None]] = []
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
        _make_folders(self.tree, (item.entry.path for item in items))
        rest = []
        for item in items:  # links take microseconds each: threads would only be in each other's way
            if item.link and self._link(item, versions):
                advance(1)
            else:
                rest.append(item)
        with ThreadPoolExecutor(FLUSH_THREADS, thread_name_prefix="reuse") as workers:
            for _ in workers.map(lambda item: self._take(item, versions), rest):
                advance(1)

    def _link(self, item: Reuse, versions: Path) -> bool:
        """Link a file whose place is free; false when there is more to it."""
        target = f"{self.tree}/{item.entry.path}"
        try:
            return linking.link(f"{versions}/{item.version}/{TREE}/{item.path}", target)
        except FileExistsError:
            return False
        except OSError as error:
            raise as_host_error(error, f"writing {target}") from error

    def _take(self, item: Reuse, versions: Path) -> None:
        source = versions / item.version / TREE / item.path
        target = self.tree / item.entry.path
        try:
            if item.link and target.exists() and target.samefile(source):
                return
            target.unlink(missing_ok=True)
            if item.link and linking.link(source, target):
                return
            linking.copy(source, target)
            if (found := sha256_file(target)) != item.entry.sha256:
                raise _damaged_copy(target, found, item.entry.sha256)
            _seal_file(target, item.entry.mode)
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
                if not linking.symlink(path, target):
                    self._links_as_files.append(entry)
            except OSError as error:
                raise as_host_error(error, f"writing {path}") from error

    def prepare(self, parts: Sequence[ComponentPlan]) -> bool:
        """Get the place of every file ready that will be written: its folder, and nothing there that is not ours alone.

        A file of an earlier run is kept when its frames are in the journal. When all of them are, it is digested; what
        proves wrong is forgotten by the journal, so that a plan made afterwards fetches it.

        Returns:
            Whether there was anything to do, so that a plan may have become another one.
        """
        _make_folders(self.tree, (entry.path for part in parts for entry in part.files))
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
                    whole.append(_Pending(entry=entry, component=name, frames=frames, missing=set(), resumed=True))
        with ThreadPoolExecutor(THREADS, thread_name_prefix="resume") as workers:
            for pending, good in zip(whole, workers.map(self._finish, whole), strict=True):
                if not good:
                    self.journal.forget(pending.component, pending.frames)
        return any(part.files for part in parts)

    def tidy(self, wanted: set[str]) -> None:
        """Delete what the release does not have, such as what an unfinished install of another one left.

        A file in a folder's place, or a link that leads elsewhere, would be in the way or lead astray.

        Args:
            wanted: The paths of the release's files and links.

        Raises:
            AccessDenied: The system refuses.
        """
        try:
            _delete_strangers(self.tree, wanted)
        except OSError as error:
            raise as_host_error(error, f"deleting in {self.tree}") from error

    def place(self, entry: IndexEntry, pieces: Iterable[bytes]) -> str:
        """Write a file that is made from others: under another name until its digest is right; from any thread.

        Args:
            entry: The file.
            pieces: Its bytes, in order.

        Returns:
            The digest that the bytes have; when it is another one than the entry's, nothing has changed.

        Raises:
            AccessDenied, DiskFull: The system refuses.
            Exception: Whatever making the pieces raises; nothing has changed.
        """
        target = self.tree / entry.path
        temporary = target.with_name(f".{secrets.token_hex(4)}.tmp")
        _make_folder(target.parent)
        digest = hashlib.sha256()
        try:
            with temporary.open("xb") as stream:
                for piece in pieces:
                    digest.update(piece)
                    stream.write(piece)
            if digest.hexdigest() == entry.sha256:
                _seal_file(temporary, entry.mode)
                patience.replace(temporary, target)
        except OSError as error:
            error.filename = error.filename or str(target)
            raise as_host_error(error, f"writing {target}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return digest.hexdigest()

    def expect(self, parts: Sequence[ComponentPlan]) -> None:
        """Say which frames will come, and which files they complete."""
        self._finishing, self._settling = [], []
        self._pending, self._segments = defaultdict(list), defaultdict(list)
        for part in parts:
            name = part.component.component
            done = self.journal.done(name)
            for entry in part.files:
                segments = tuple(segments_of(entry, part.index.frames))
                frames = frozenset(segment.frame for segment in segments)
                resumed = not done.isdisjoint(frames)
                pending = _Pending(
                    entry=entry, component=name, frames=frames, missing=set(frames - done), resumed=resumed
                )
                for segment in segments:
                    if segment.frame in pending.missing:
                        self._segments[name, segment.frame].append(segment)
                for frame in pending.missing:
                    self._pending[name, frame].append(pending)

    def put(self, component: ComponentRecord, frame: int, data: memoryview) -> None:
        """Write a verified frame to the files that want it, and note it; called from any thread.

        Raises:
            FormatInvalid: A file in it is not what the index says of it.
            AccessDenied, DiskFull: The system refuses.
        """
        name = component.component
        for segment in self._segments.get((name, frame), ()):
            piece = data[segment.offset : segment.offset + segment.length]
            if segment.length == segment.entry.size and (found := sha256_bytes(piece)) != segment.entry.sha256:
                raise _contradiction(segment.entry.path, found, segment.entry.sha256)
            path = self.tree / segment.entry.path
            _write_at(path, segment.position, piece)
            if segment.length >= SETTLE:
                self._settling.append(self._finishers.submit(_settle, path, segment.position, segment.length))
        self.journal.add(name, frame)
        for pending in self._pending.get((name, frame), ()):
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
        for settled in self._settling:
            settled.result()
        bad = [pending for pending, outcome in self._finishing if not outcome.result()]
        for pending in bad:
            self.journal.forget(pending.component, pending.frames)
        return tuple(sorted(pending.entry.path for pending in bad))

    def _finish(self, pending: _Pending) -> bool:
        """Give a complete file its mode and time and flush it; digest it first when another run wrote a part of it."""
        path = self.tree / pending.entry.path
        try:
            if pending.resumed and sha256_file(path) != pending.entry.sha256:
                return False
            _seal_file(path, pending.entry.mode)
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
            self._stand_in(entries)
            _delete_strangers(self.tree, wanted)
            _delete_temporaries(self.version)
            write_atomic(self.version / RELEASE_FILE, canonical_json(self.release))
            folders = [self.version, self.tree, *(self.tree / folder for folder in folders_of(wanted))]
            with ThreadPoolExecutor(FLUSH_THREADS, thread_name_prefix="flush") as workers:
                list(workers.map(_flush, (folders[start::FLUSH_THREADS] for start in range(FLUSH_THREADS))))
            write_atomic(self.version / VERSION_MARKER, canonical_json(marker))
        except OSError as error:
            raise as_host_error(error, f"writing {self.version}") from error

    def _stand_in(self, entries: Sequence[TreeEntry]) -> None:
        """Put files in the place of links that this file system does not have."""
        for entry in self._links_as_files:
            path = self.tree / entry.path
            file = linking.stand_in(self.tree, entry, entries)
            path.unlink(missing_ok=True)
            linking.copy(self.tree / file.path, path)
            _seal_file(path, file.mode)

    def publish(self, final: Path) -> None:
        """Let the sealed version appear under its name.

        Raises:
            AccessDenied: The system refuses; run again to go on.
        """
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            patience.rename(self.version, final)
            fsync_folder(final.parent)
            fsync_folder(self.folder)
        except OSError as error:
            raise as_host_error(error, f"moving {self.version} to {final}") from error


def _damaged_copy(path: Path, found: str, wanted: str | None) -> DigestMismatch:
    return DigestMismatch(
        f"The copy {path} has SHA-256 {found}, its original {wanted}.",
        usually="The disk or the memory of this machine is failing.",
        todo="Check the disk, then run the same command again. What is installed is unchanged.",
    )


def _make_folders(tree: Path, paths: Iterable[str]) -> None:
    """Make the folders of a tree's paths, the outer ones first."""
    for folder in sorted(folders_of(paths)):
        place = f"{tree}/{folder}"
        try:
            os.mkdir(place)  # noqa: PTH102 (hundreds of folders)
        except FileExistsError:
            _make_folder(Path(place))  # it is one already, or something is in its way
        except OSError as error:
            raise as_host_error(error, f"writing {place}") from error


def _flush(folders: Sequence[Path]) -> None:
    for folder in folders:
        fsync_folder(folder)


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
        with os.fdopen(descriptor, "r+b", buffering=0) as stream:
            stream.seek(position)
            while data:
                data = data[stream.write(data) or 0 :]
    except OSError as error:
        raise as_host_error(error, f"writing {path}") from error


def _settle(path: Path, position: int, size: int) -> None:
    """Send a written piece to the disk now, and let its memory go.

    Otherwise 5 GB of unwritten data pile up in the system's memory, push out what other programs keep there, and make
    the last flush long. Measured on a CUDA version: a first install takes a quarter less time.
    """
    try:
        with path.open("r+b", buffering=0) as stream:
            os.fsync(stream.fileno())
            if sys.platform == "linux":
                os.posix_fadvise(stream.fileno(), position, size, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        raise as_host_error(error, f"writing {path}") from error


def _seal_file(path: Path, mode: int) -> None:
    """Give a complete file its mode and its time, and flush it."""
    path.chmod(mode)
    with path.open("r+b") as stream:
        seal_time(path)
        os.fsync(stream.fileno())


def _contradiction(path: str, found: str, wanted: str | None) -> FormatInvalid:
    return FormatInvalid(
        f"{path} has SHA-256 {found} in a frame that is right; the index says {wanted}.",
        usually="The index contradicts itself: the publisher signed a mistake.",
        todo="Tell the publisher. What is installed keeps running.",
    )


def _delete_temporaries(version: Path) -> None:
    """Delete what a killed run left of atomic writes beside the tree."""
    for path in version.glob(".*.tmp"):
        path.unlink()


def _delete_strangers(tree: Path, wanted: set[str]) -> None:
    """Delete what an earlier run left in the staged tree and this release does not have."""
    begin = len(str(tree)) + 1
    kept = {str(tree)}  # folders that something wanted lies below
    for folder, folders, files in os.walk(tree, topdown=False):
        inside = folder[begin:].replace(os.sep, "/") + "/" if len(folder) > begin else ""
        links = [name for name in folders if os.path.islink(f"{folder}/{name}")]  # noqa: PTH114 (thousands of names)
        for name in (*files, *links):
            if inside + name in wanted:
                kept.add(folder)
            else:
                Path(folder, name).unlink()
        if folder in kept:
            kept.add(os.path.dirname(folder))  # noqa: PTH120 (thousands of names)
        else:
            Path(folder).rmdir()
