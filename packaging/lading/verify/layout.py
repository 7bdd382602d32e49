"""Checks of a tree's files against a release: levels *layout* and *bytes*.

Comparing is pure (:func:`compare`, :func:`link_problems`); only reading the folder and the digests touch the disk.
"""

from __future__ import annotations

import posixpath
import stat
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lading.digest import sha256_file
from lading.errors import AccessDenied
from lading.linkage.scan import walk
from lading.manifest.tree import TreeEntry
from lading.store.linking import stand_in
from lading.verify.context import Digests, TreeContext
from lading.verify.engine import Outcome, failed, from_problems, passed, skipped

UNKNOWN = "no release or build record was given, so that nobody knows what should be in it"


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One entry as it lies on the disk.

    Attributes:
        type: ``file``, ``link`` or what else it is.
        executable: Whether its owner may run it.
        size: Bytes.
        target: A link's target.
    """

    type: str
    executable: bool = False
    size: int = 0
    target: str | None = None


def look(root: Path) -> dict[str, Seen]:
    """Read a tree's names, kinds, modes and sizes.

    Raises:
        OSError: It cannot be read.
    """
    seen: dict[str, Seen] = {}
    for path, entry in walk(root):
        if entry.is_symlink():
            seen[path] = Seen(type="link", target=Path(entry.path).readlink().as_posix())
            continue
        status = entry.stat(follow_symlinks=False)
        kind = "file" if stat.S_ISREG(status.st_mode) else "special"
        seen[path] = Seen(type=kind, executable=bool(status.st_mode & stat.S_IXUSR), size=status.st_size)
    return seen


def as_installed(expected: Mapping[str, TreeEntry], seen: Mapping[str, Seen]) -> dict[str, TreeEntry]:
    """What should lie on the disk: a copy of its file in the place of a link, where the file system had no links.

    Args:
        expected: The record.
        seen: The folder.

    Returns:
        The record, in which a link is the file that it leads to where a file was found.
    """
    found = dict(expected)
    entries = tuple(expected.values())
    for path, entry in expected.items():
        if entry.type == "link" and path in seen and seen[path].type == "file":
            with suppress(AccessDenied):  # it leads to a folder, which nothing can stand in for
                found[path] = stand_in(Path(), entry, entries).tree_entry().model_copy(update={"path": path})
    return found


def compare(seen: Mapping[str, Seen], expected: Mapping[str, TreeEntry], *, own: Iterable[str]) -> list[str]:
    """What differs between a folder and its record, other than the files' bytes and modes.

    Args:
        seen: The folder.
        expected: The record.
        own: Paths, and folders ending with ``/``, that may be there besides.

    Returns:
        One line a difference, in path order.
    """
    allowed = tuple(own)
    folders = tuple(path for path in allowed if path.endswith("/"))
    problems = [f"{path} is missing" for path in expected.keys() - seen.keys()]
    for path, found in seen.items():
        wanted = expected.get(path)
        if wanted is None:
            if path not in allowed and not path.startswith(folders or ("\0",)):
                problems.append(f"{path} is foreign: no component has it")
        elif found.type != wanted.type:
            problems.append(f"{path} is a {found.type}, should be a {wanted.type}")
        elif wanted.type == "link" and found.target != wanted.target:
            problems.append(f"{path} leads to {found.target}, should lead to {wanted.target}")
        elif wanted.type == "file" and found.size != wanted.size:
            problems.append(f"{path} has {found.size:,} bytes, should have {wanted.size:,}")
    return sorted(problems)


def link_problems(seen: Mapping[str, Seen]) -> list[str]:
    """The links that leave the tree or lead to nothing in it."""
    problems = []
    folders = {parent for path in seen for parent in _parents(path)}
    for path, found in seen.items():
        if found.type != "link" or found.target is None:
            continue
        lands = posixpath.normpath(posixpath.join(posixpath.dirname(path), found.target))
        if posixpath.isabs(found.target) or found.target[1:2] == ":" or lands == ".." or lands.startswith("../"):
            problems.append(f"{path} leads out of the tree, to {found.target}")
        elif lands not in seen and lands not in folders:
            problems.append(f"{path} leads to {found.target}, which is not there")
    return sorted(problems)


def _parents(path: str) -> Iterable[str]:
    while path := posixpath.dirname(path):
        yield path


def essential(entry: TreeEntry, *, program: str, payload: str) -> bool:
    """Whether nothing starts without an entry: the executable, what lies beside it, and the payload's top."""
    return entry.path == program or posixpath.dirname(entry.path) in {"", payload}


def chosen(expected: Mapping[str, TreeEntry], digests: Digests, *, program: str, payload: str) -> list[TreeEntry]:
    """The files whose bytes are compared, largest first so that no thread is left with a giant at the end."""
    if digests == "none":
        return []
    files = [entry for entry in expected.values() if entry.type == "file"]
    if digests == "essentials":
        files = [entry for entry in files if essential(entry, program=program, payload=payload)]
    return sorted(files, key=lambda entry: -entry.size)


def check_files(context: TreeContext) -> Outcome:
    """Exactly the entries of core and libs, nothing foreign, nothing missing."""
    if context.expected is None:
        return skipped(UNKNOWN)
    seen = look(context.tree)
    expected = as_installed(context.expected, seen)
    problems = compare(seen, expected, own=context.own)
    copies = sum(expected[path].type != entry.type for path, entry in context.expected.items())
    said = f", of links {copies} as copies of their files" if copies else ""
    return from_problems(
        problems, f"exactly the {len(expected):,} entries of the release{said}", files=len(seen), copies=copies
    )


def check_links(context: TreeContext) -> Outcome:
    """Every symbolic link stays in the tree and leads to something."""
    seen = look(context.tree)
    links = sum(found.type == "link" for found in seen.values())
    return from_problems(link_problems(seen), f"{links} links, all inside", links=links)


def check_modes(context: TreeContext) -> Outcome:
    """Executable where the release says so, and nowhere else."""
    if sys.platform == "win32":
        return skipped("Windows has no executable bit")
    if context.expected is None:
        return skipped(UNKNOWN)
    seen = look(context.tree)
    expected = as_installed(context.expected, seen)
    problems = [
        f"{path} is {'' if found.executable else 'not '}executable; its mode is {expected[path].mode:04o}"
        for path, found in sorted(seen.items())
        if path in expected and found.type == "file" and found.executable != (expected[path].mode == 0o755)  # noqa: PLR2004 (a mode)
    ]
    return from_problems(problems, "as the release says")


def check_entry(context: TreeContext) -> Outcome:
    """The executable is there, is a file, and may be run."""
    path = context.tree / context.entry
    if path.is_symlink() or not path.is_file():
        return failed(f"{context.entry} is not a file of the tree")
    if sys.platform != "win32" and not path.stat().st_mode & stat.S_IXUSR:
        return failed(f"{context.entry} is not executable (mode {stat.S_IMODE(path.stat().st_mode):04o})")
    if not (context.tree / context.payload).is_dir():
        return failed(f"the payload folder {context.payload} is not there")
    return passed(context.entry)


def check_digests(context: TreeContext) -> Outcome:
    """The bytes of the files are those of the release."""
    if context.expected is None:
        return skipped(UNKNOWN)
    expected = as_installed(context.expected, look(context.tree))
    files = chosen(expected, context.digests, program=context.entry, payload=context.payload)
    if not files:
        return skipped("digests were not asked for")
    total = sum(entry.size for entry in files)

    def wrong(entry: TreeEntry) -> str | None:
        path = context.tree / entry.path
        if not path.is_file():
            return f"{entry.path} is missing"
        found = sha256_file(path, task.advance)
        return None if found == entry.sha256 else f"{entry.path} has SHA-256 {found[:16]}…, should have {entry.sha256}"

    with context.progress.task("file digests", total) as task, ThreadPoolExecutor(context.threads) as pool:
        problems = sorted(filter(None, pool.map(wrong, files)))
    of = f" of {len(expected):,}" if context.digests == "essentials" else ""
    return from_problems(problems, f"SHA-256 of {len(files):,} files{of}", files=len(files), bytes=total)
