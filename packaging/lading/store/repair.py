"""What is wrong with an installed version, file by file; what is put in order is decided by who asks.

Quick: everything is there, with its size, and nobody has written to it since (``sealed``); a file whose time says that
somebody did is digested. Thorough: everything is digested, which also finds what a failing disk has changed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from lading.cancel import stop_if
from lading.digest import sha256_file
from lading.host.facts import usable_cpus
from lading.manifest.base import Record
from lading.manifest.tree import TreeEntry
from lading.progress import Progress, Silent
from lading.store.linking import is_stand_in
from lading.store.sealed import looks_sealed

THREADS = min(8, usable_cpus())  # digesting leaves the interpreter
_EXECUTABLE = 0o111

How = Literal["missing", "another kind", "wrong size", "altered", "wrong link", "not executable", "unreadable"]


class Damage(Record):
    """One file that is not as it was installed.

    Attributes:
        path: Where, in the tree.
        how: What is wrong with it.
    """

    path: str
    how: How


def examine(
    tree: Path,
    entries: Sequence[TreeEntry],
    *,
    thorough: bool = False,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> tuple[Damage, ...]:
    """Find what is wrong with a tree.

    Args:
        tree: The installed tree.
        entries: What must lie there.
        thorough: Digest every file, not only those that were written to.
        progress: Hears of bytes when files are digested.
        cancel: Ends it half-way.

    Returns:
        What is wrong, by path; nothing when all is well.

    Raises:
        Interrupted: It was cancelled.
    """
    found: list[Damage] = []
    doubtful: list[TreeEntry] = []
    for entry in entries:
        stop_if(cancel)
        how, sure = glance(tree / entry.path, entry)
        if how is not None:
            found.append(Damage(path=entry.path, how=how))
        elif thorough or not sure:
            doubtful.append(entry)
    found += _digested(tree, [entry for entry in doubtful if entry.type == "file"], progress or Silent(), cancel)
    return tuple(sorted(found, key=lambda damage: damage.path))


def glance(path: Path, entry: TreeEntry) -> tuple[How | None, bool]:
    """Look at what the file system says of one entry, without reading it.

    Returns:
        What is wrong, or none; and whether nobody has written to it.
    """
    try:
        status = path.lstat()
        if entry.type == "link":
            return _wrong_link(path, status, entry.target or ""), True
    except (FileNotFoundError, NotADirectoryError):
        return "missing", True
    except OSError:
        return "unreadable", True
    return _wrong(status, entry), looks_sealed(status, entry.size)


def _wrong_link(path: Path, status: os.stat_result, target: str) -> How | None:
    if stat.S_ISLNK(status.st_mode):
        return None if str(path.readlink()) == target else "wrong link"
    return None if is_stand_in(path, target) else "another kind"


def _wrong(status: os.stat_result, entry: TreeEntry) -> How | None:
    if not stat.S_ISREG(status.st_mode):
        return "another kind"
    if status.st_size != entry.size:
        return "wrong size"
    if os.name == "posix" and entry.mode & _EXECUTABLE and not status.st_mode & _EXECUTABLE:
        return "not executable"
    return None


def _digested(
    tree: Path, entries: Sequence[TreeEntry], progress: Progress, cancel: threading.Event | None
) -> list[Damage]:
    if not entries:
        return []

    def look(entry: TreeEntry) -> How | None:
        stop_if(cancel)
        try:
            return None if sha256_file(tree / entry.path, task.advance) == entry.sha256 else "altered"
        except OSError:
            return "unreadable"

    with (
        progress.task("checking installed", sum(entry.size for entry in entries)) as task,
        ThreadPoolExecutor(THREADS, thread_name_prefix="examine") as workers,
    ):
        answers = list(workers.map(look, entries))
    return [Damage(path=entry.path, how=how) for entry, how in zip(entries, answers, strict=True) if how is not None]
