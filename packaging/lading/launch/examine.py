"""Whether an installed version is whole enough to be started: looked at in a bounded time, nothing is run.

A half-extracted tree may still answer ``--version``, because the program says it before it loads anything. So every
file has to be there with its size; those whose time says that somebody wrote to them, and those without which nothing
starts at all, are digested, up to a limit. Core and libs have to be those of one release: the digest over both lists of
files is in the version's marker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from backports.zstd import ZstdError

from lading.digest import sha256_file
from lading.errors import FormatInvalid, LadingError
from lading.fetch.indexes import read_index
from lading.manifest.base import Component, Variant
from lading.manifest.index import Index
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry, tree_digest
from lading.store.home import Home
from lading.store.installed import Installed, current_version, index_file, kept_index
from lading.store.repair import glance

DIGEST_LIMIT = 24 * 2**20  # bytes: twenty milliseconds from memory, a quarter of a second from a slow disk
_NAMED = 3  # files in a message


@dataclass(frozen=True, kw_only=True)
class Build:
    """Something that can be started.

    Attributes:
        variant: ``cpu`` or ``cuda``.
        name: The installed version's folder, or the tree's path.
        version: Its release's number; none when it is not installed.
        app: What its log is called after.
        tree: The folder that it is started in.
        entry: The executable, relative to it.
    """

    variant: Variant
    name: str
    version: str | None
    app: str
    tree: Path
    entry: str


def build_of(version: Installed, variant: Variant) -> Build:
    """An installed version as something to start."""
    marker = version.marker
    return Build(
        variant=variant,
        name=version.name,
        version=marker.version,
        app=marker.app,
        tree=version.tree,
        entry=marker.entry,
    )


def damage_of(version: Installed, *, limit: int = DIGEST_LIMIT) -> str | None:
    """What keeps an installed version from being started, in words; none when nothing does.

    Args:
        version: The version.
        limit: Bytes to digest at most.
    """
    if (entry := _entry_problem(version.entry)) is not None:
        return entry
    try:
        release = version.release()
        if (odd := _pairing_problem(version, release)) is not None:
            return odd
        indexes = _indexes(version, release)
    except (LadingError, ZstdError) as error:
        return error.what if isinstance(error, LadingError) else f"a list of its files is damaged: {error}"
    entries = [file.tree_entry() for index in indexes.values() for file in index.files]
    if (found := tree_digest(entries)) != version.marker.tree:
        return f"its core and libs are not of one release: digest {found[:12]}…, needs {version.marker.tree[:12]}…"
    return _files_problem(version.tree, entries, version.marker.entry, limit)


def _entry_problem(entry: Path) -> str | None:
    if not entry.is_file():
        return f"its executable {entry.name} is missing"
    if os.name == "posix" and not os.access(entry, os.X_OK):
        return f"its executable {entry.name} may not be run"
    return None


def _pairing_problem(version: Installed, release: Release) -> str | None:
    """Whether marker and release speak of the same core and libs."""
    marker, libs = version.marker, release.component("libs")
    label = libs.version if libs else None
    pairs = (
        ("libs", marker.label, label),
        ("version", marker.version, release.version),
        ("tree", marker.tree, release.tree),
    )
    for what, installed, needed in pairs:
        if installed != needed:
            return f"it has {what} {installed}, and its release needs {needed}"
    return None


def _indexes(version: Installed, release: Release) -> Mapping[Component, Index]:
    """The lists of its files.

    Raises:
        FormatInvalid: One is missing, damaged, or of another component.
    """
    found: dict[Component, Index] = {}
    for component in release.components:
        data = kept_index([version.folder], component)
        if data is None:
            name = index_file(component.component)
            raise FormatInvalid(f"{name} is missing, or is not that of {component.component} {component.version}")
        found[component.component] = read_index(data, component)
    return found


def _files_problem(tree: Path, entries: Sequence[TreeEntry], program: str, limit: int) -> str | None:
    problems: list[str] = []
    doubtful: list[TreeEntry] = []
    for entry in entries:
        how, sealed = glance(tree / entry.path, entry)
        if how is not None:
            problems.append(f"{entry.path} ({how})")
        elif not sealed:
            doubtful.append(entry)
    if not problems:
        first = [entry for entry in entries if entry.path == program]
        top = sorted((entry for entry in entries if entry.path.count("/") <= 1), key=lambda entry: entry.size)
        problems = _altered(tree, [*first, *doubtful, *top], limit)
    if not problems:
        return None
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    return f"{', '.join(problems[:_NAMED])}{more}"


def _altered(tree: Path, entries: Sequence[TreeEntry], limit: int) -> list[str]:
    """Those of some files, in their order and up to so many bytes, that have another digest."""
    problems: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        if entry.type != "file" or entry.path in seen or entry.size > limit:
            continue
        seen.add(entry.path)
        limit -= entry.size
        try:
            if sha256_file(tree / entry.path) != entry.sha256:
                problems.append(f"{entry.path} (altered)")
        except OSError as error:
            problems.append(f"{entry.path} ({error.strerror or error})")
    return problems


def find_cpu_build(data: Path, tree: Path | None, app: str) -> Build | None:
    """The CPU build: the one that was named, else the installed one, else one beside this program.

    Args:
        data: The data directory.
        tree: The folder, or executable, that was named.
        app: The app's name, after which a build beside this program is called.

    Returns:
        The build; none when there is none, or the one that was named is not there.
    """
    if tree is not None:
        return _loose_build(tree, app)
    version = current_version(Home(data, "cpu"))
    if version is not None:
        return build_of(version, "cpu")
    return _loose_build(Path(sys.executable).parent / app, app)


def _loose_build(place: Path, app: str) -> Build | None:
    """A tree that is not installed: the executable itself, or a folder that holds one called after the app."""
    suffix = ".exe" if os.name == "nt" else ""
    program = place.absolute() if place.is_file() else place.absolute() / f"{app}{suffix}"
    if not program.is_file():
        return None
    return Build(
        variant="cpu", name=str(program.parent), version=None, app=app, tree=program.parent, entry=program.name
    )
