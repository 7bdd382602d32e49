"""May this release be written to a disk at all? Decided from its records, before anything is touched.

The signature says who made a release; these rules say that even a signed mistake, or a stolen key, writes nothing
outside its own folder.

Rules:
    1. Every path is relative, without ``..``, and can exist on the release's system (names, case, reserved words).
    2. No path occurs twice, in core and libs together; none lies under a file or under a link.
    3. A link's target is relative, goes up only at its beginning, and stays inside the tree.
    4. Modes are 0644 and 0755; there is nothing but files and links.
    5. Frames, files, sizes and digests agree with the release: the tree digest follows from the entries.
    6. The entry is an executable file of the tree.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence

from lading.digest import sha256_bytes
from lading.errors import FormatInvalid
from lading.manifest.base import Component, Platform
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry, tree_digest
from lading.store.segments import segments_of

MODES = frozenset({0o644, 0o755})
EXECUTABLE = 0o755
EMPTY = sha256_bytes(b"")
_WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
_WINDOWS_RESERVED = re.compile(r"^(?:con|prn|aux|nul|com[1-9¹²³]|lpt[1-9¹²³])(?:\..*)?$", re.IGNORECASE)


def check_release(release: Release, indexes: Mapping[Component, Index]) -> tuple[TreeEntry, ...]:
    """Apply all rules.

    Args:
        release: A release whose signature has been verified.
        indexes: The index of each of its components, whose digests have been verified.

    Returns:
        The whole tree's entries.

    Raises:
        FormatInvalid: A rule is broken; names the rule's subject.
    """
    files = [entry for component in release.components for entry in indexes[component.component].files]
    for entry in files:
        _check_path(entry.path, release.platform)
        if entry.mode not in MODES:
            raise _refused(entry.path, f"its mode is {entry.mode:04o}")
        if (entry.sha256 is None, entry.target is None) != ((False, True) if entry.type == "file" else (True, False)):
            raise _refused(entry.path, f"it is a {entry.type} without what makes one")
        if entry.type == "link" and entry.size:
            raise _refused(entry.path, f"it is a link of {entry.size} bytes")
        if entry.type == "file" and (entry.size == 0) != (entry.sha256 == EMPTY):
            raise _refused(entry.path, f"it has {entry.size} bytes and the digest {entry.sha256}")
    _check_distinct(files, release.platform)
    links = {entry.path for entry in files if entry.type == "link"}
    paths = {entry.path for entry in files}
    for entry in files:
        _check_parents(entry.path, paths)
        if entry.path in links:
            check_link(entry.path, entry.target or "")
    entries = tuple(entry.tree_entry() for entry in files)
    for component in release.components:
        _check_component(component, indexes[component.component])
    if tree_digest(entries) != release.tree:
        raise _refused(release.entry, "the files do not add up to the release's tree digest")
    _check_entry(release, entries)
    return entries


def _check_path(path: str, platform: Platform) -> None:
    parts = path.split("/")
    if posixpath.isabs(path) or "\\" in path or "\0" in path or {"", ".", ".."} & set(parts):
        raise _refused(path, "it is not a plain path inside the tree")
    if not platform.startswith("windows"):
        return
    for part in parts:
        if _WINDOWS_FORBIDDEN.search(part) or _WINDOWS_RESERVED.match(part) or part[-1] in ". ":
            raise _refused(path, f"Windows cannot have a file called {part!r}")


def _check_distinct(files: Sequence[IndexEntry], platform: Platform) -> None:
    seen: dict[str, str] = {}
    for entry in files:
        key = entry.path.casefold() if platform.startswith("windows") else entry.path
        if key in seen:
            raise _refused(entry.path, f"it occurs twice, the other time as {seen[key]}")
        seen[key] = entry.path


def _check_parents(path: str, paths: set[str]) -> None:
    parent = posixpath.dirname(path)
    while parent:
        if parent in paths:
            raise _refused(path, f"it lies under {parent}, which is not a folder")
        parent = posixpath.dirname(parent)


def check_link(path: str, target: str) -> None:
    """Rule 3 for one link.

    ``..`` in the middle of a target is refused even when it cancels out: through another link it leads elsewhere.

    Raises:
        FormatInvalid: The link could leave the tree.
    """
    parts = target.split("/")
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = path.count("/")
    plain = not {"", ".", ".."} & set(parts[ups:]) and "\\" not in target and "\0" not in target
    if not plain or ups > depth or ups == len(parts) or re.match(r"^[A-Za-z]:", target):
        raise _refused(path, f"it is a link to {target!r}, which is or could lead outside the tree")


def _check_component(component: ComponentRecord, index: Index) -> None:
    name = component.index.name
    entries = [entry.tree_entry() for entry in index.files]
    facts = (len(entries), sum(entry.size for entry in entries), tree_digest(entries))
    if facts != (component.files, component.unpacked, component.tree):
        raise _refused(name, f"it lists {facts[0]} files of {facts[1]} bytes, tree {facts[2]}, unlike the release")
    for number, frame in enumerate(index.frames):
        if frame.size > _compressed_bound(frame):
            raise _refused(name, f"frame {number} has {frame.size} bytes compressed and only {frame.raw} raw")
    for entry in index.files:
        for _ in segments_of(entry, index.frames):
            pass


def _compressed_bound(frame: Frame) -> int:
    """More than zstd ever makes of that many bytes, header and checksum included."""
    return frame.raw + frame.raw // 128 + 1024


def _check_entry(release: Release, entries: Sequence[TreeEntry]) -> None:
    found = next((entry for entry in entries if entry.path == release.entry), None)
    if found is None or found.type != "file":
        raise _refused(release.entry, "it is the entry, but no file of the tree")
    if not release.platform.startswith("windows") and found.mode != EXECUTABLE:
        raise _refused(release.entry, f"it is the entry, but its mode is {found.mode:04o}")


def _refused(path: str, why: str) -> FormatInvalid:
    return FormatInvalid(
        f"The release is refused for {path!r}: {why}.",
        usually="The publisher signed a mistake, or somebody attacks.",
        todo="Tell the publisher; nothing was changed here.",
    )
