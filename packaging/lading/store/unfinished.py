"""What an install that was not finished has left, and how another one goes on with it.

An install that was interrupted may not be repeated: meanwhile there is a newer release, most of which is the same. Its
folder then takes the place of the new one's by one rename. The journal says which archive a frame is of, so frames of
an archive that both releases have stay verified; files that lie whole in the staged tree are known by their digest.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lading import patience
from lading.atomic import as_host_error, fsync_folder, write_atomic
from lading.digest import sha256_file
from lading.host.facts import usable_cpus
from lading.manifest.base import canonical_json
from lading.manifest.index import IndexEntry
from lading.manifest.release import Release
from lading.store.home import Home, version_id
from lading.store.journal import JOURNAL, journaled_frames
from lading.store.marker import PARTIAL_MARKER, VERSION_MARKER, PartialMarker
from lading.store.sealed import looks_sealed

THREADS = min(8, usable_cpus())  # for digesting, which leaves the interpreter
KEEPS_MODES = os.name == "posix"


def begin(folder: Path, release: Release) -> None:
    """Mark a folder as the staging folder of a release; made if need be.

    Raises:
        AccessDenied, DiskFull: The system refuses.
    """
    marker = canonical_json(PartialMarker(tree=release.tree, version=version_id(release)))
    path = folder / PARTIAL_MARKER
    try:
        if path.is_file() and path.read_bytes() == marker:
            return
    except OSError as error:
        raise as_host_error(error, f"reading {path}") from error
    write_atomic(path, marker)


def resumable(home: Home, release: Release) -> Path | None:
    """The folder that an install of a release would go on with: its own, else the most useful of another release.

    Args:
        home: The variant's folder.
        release: What is to be installed.

    Returns:
        The folder, or none when there is nothing to go on with.
    """
    own = home.staging(release)
    if own.exists():
        return own
    others = [folder for folder in sorted(home.partial.glob("*")) if _is_unfinished(folder)]
    return max(others, key=lambda folder: _frames(folder, release), default=None)


def _is_unfinished(folder: Path) -> bool:
    """An install's folder, and not a version that is being deleted."""
    marked = not folder.is_symlink() and (folder / PARTIAL_MARKER).is_file()
    return marked and not (folder / VERSION_MARKER).exists()


def _frames(folder: Path, release: Release) -> int:
    done = journaled_frames(folder / JOURNAL, release)
    return sum(len(done[component.component]) for component in release.components)


def take_over(home: Home, release: Release) -> bool:
    """Let a release's install go on with what another one left; the caller holds the lock.

    Returns:
        Whether there was one.

    Raises:
        AccessDenied: The system refuses.
    """
    own, found = home.staging(release), resumable(home, release)
    if found is None or found == own:
        return False
    try:
        patience.rename(found, own)
        fsync_folder(home.partial)
    except OSError as error:
        raise as_host_error(error, f"moving {found} to {own}") from error
    begin(own, release)
    return True


def whole_files(
    tree: Path, entries: Iterable[IndexEntry], advance: Callable[[int], None] | None = None
) -> frozenset[str]:
    """The files of a staged tree that an earlier run finished.

    Args:
        tree: The staged tree.
        entries: What should be there.
        advance: Gets digested bytes.

    Returns:
        The paths of those that were sealed, with the right mode, and have the right digest.
    """
    sealed = [entry for entry in entries if _is_sealed(tree / entry.path, entry)]

    def is_right(entry: IndexEntry) -> bool:
        try:
            return sha256_file(tree / entry.path, advance) == entry.sha256
        except OSError:  # it is fetched again
            return False

    if not sealed:
        return frozenset()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="whole") as workers:
        answers = list(workers.map(is_right, sealed))
    return frozenset(entry.path for entry, right in zip(sealed, answers, strict=True) if right)


def _is_sealed(path: Path, entry: IndexEntry) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return looks_sealed(found, entry.size) and same_mode(found.st_mode, entry.mode)


def same_mode(found: int, wanted: int) -> bool:
    """Whether a file has the mode that it should have, as far as this system keeps modes."""
    return not KEEPS_MODES or stat.S_IMODE(found) == wanted
