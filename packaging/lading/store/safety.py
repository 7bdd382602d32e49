"""May this release be written to a disk at all? Decided from its records, before anything is touched.

The signature says who made a release; these rules say that even a signed mistake, or a stolen key, writes nothing
outside its own folder.

Rules:
    1. Every path is relative, without ``..`` and control characters, of bounded length, and can exist on the release's
       system (names, reserved words).
    2. No path occurs twice, in core and libs together; none lies under a file or under a link. Paths are the same when
       a file system could take them for the same: by Unicode normalisation anywhere, by case on Windows.
    3. A link's target is relative, goes up only at its beginning, stays inside the tree, and is no device.
    4. Modes are 0644 and 0755; there is nothing but files and links.
    5. Frames, files, sizes and digests agree with the release: the tree digest follows from the entries.
    6. The entry is an executable file of the tree.

The archive itself is not asked: it is a sequence of frames, of which the bytes between offsets are files. What its tar
headers say (other names, devices, hard links) is never read.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Mapping, Sequence

from lading.digest import sha256_bytes
from lading.errors import FormatInvalid
from lading.manifest.base import Component, Platform
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry, folders_of, tree_digest
from lading.store.segments import segments_of

MODES = frozenset({0o644, 0o755})
EXECUTABLE = 0o755
EMPTY = sha256_bytes(b"")
FILES_LIMIT = 250_000  # entries of both components; the largest real tree has a hundredth of it
NAME_LIMIT = 255  # bytes of one name, on every file system that counts
PATH_LIMIT = 1024  # bytes of a path in the tree, so that it fits below any data directory
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # a line break could make two trees of one digest
_DRIVE = re.compile(r"^[A-Za-z]:")
_WINDOWS_FORBIDDEN = re.compile(r'[<>:"|?*]')
_WINDOWS_RESERVED = re.compile(
    r"^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\..*)?$", re.IGNORECASE
)


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
    if len(files) > FILES_LIMIT:
        raise _refused(release.entry, f"the release has {len(files)} files, and {FILES_LIMIT} are the most")
    for entry in files:
        _check_path(entry.path, release.platform)
        _check_kind(entry)
    _check_distinct(files, release.platform)
    _check_parents(files, release.platform)
    for entry in files:
        if entry.type == "link":
            check_link(entry.path, entry.target or "")
            _check_names(entry.path, entry.target or "", release.platform)
    entries = tuple(entry for component in release.components for entry in indexes[component.component].files)
    for component in release.components:
        _check_component(component, indexes[component.component])
    if tree_digest(entries) != release.tree:
        raise _refused(release.entry, "the files do not add up to the release's tree digest")
    _check_entry(release, entries)
    return entries


def _check_kind(entry: IndexEntry) -> None:
    if entry.mode not in MODES:
        raise _refused(entry.path, f"its mode is {entry.mode:04o}")
    if (entry.sha256 is None, entry.target is None) != ((False, True) if entry.type == "file" else (True, False)):
        raise _refused(entry.path, f"it is a {entry.type} without what makes one")
    if entry.type == "link" and entry.size:
        raise _refused(entry.path, f"it is a link of {entry.size} bytes")
    if entry.type == "file" and (entry.size == 0) != (entry.sha256 == EMPTY):
        raise _refused(entry.path, f"it has {entry.size} bytes and the digest {entry.sha256}")


def _check_path(path: str, platform: Platform) -> None:
    parts = path.split("/")
    if posixpath.isabs(path) or "\\" in path or _DRIVE.match(path) or {"", ".", ".."} & set(parts):
        raise _refused(path, "it is not a plain path inside the tree")
    if _CONTROL.search(path):
        raise _refused(path, "it has a control character")
    longest = max(len(part.encode()) for part in parts)
    if longest > NAME_LIMIT or len(path.encode()) > PATH_LIMIT:
        raise _refused(f"{path[:60]}…", f"its path has {len(path.encode())} bytes, a name in it {longest}")
    _check_names(path, path, platform)


def _check_names(path: str, names: str, platform: Platform) -> None:
    """Names on Windows; of a link's target too, because one called ``nul`` leads to a device."""
    for part in names.split("/") if platform.startswith("windows") else ():
        if part == "..":
            continue
        if _WINDOWS_FORBIDDEN.search(part) or _WINDOWS_RESERVED.match(part) or part[-1] in ". ":
            raise _refused(path, f"Windows cannot have a file called {part!r}")


def _same(path: str, platform: Platform) -> str:
    """What two paths have in common when some file system takes them for one."""
    normal = unicodedata.normalize("NFC", path)
    return normal.casefold() if platform.startswith("windows") else normal


def _check_distinct(files: Sequence[IndexEntry], platform: Platform) -> None:
    seen: dict[str, str] = {}
    for entry in files:
        key = _same(entry.path, platform)
        if key in seen:
            raise _refused(entry.path, f"it occurs twice, the other time as {seen[key]!r}")
        seen[key] = entry.path


def _check_parents(files: Sequence[IndexEntry], platform: Platform) -> None:
    paths = {_same(entry.path, platform): entry.path for entry in files}
    if clash := min(folders_of(paths) & paths.keys(), default=None):
        below = min(path for key, path in paths.items() if key.startswith(f"{clash}/"))
        raise _refused(below, f"it lies under {paths[clash]}, which is not a folder")


def check_link(path: str, target: str) -> None:
    """Rule 3 for one link.

    ``..`` in the middle of a target is refused even when it cancels out: through another link it leads elsewhere.

    Raises:
        FormatInvalid: The link could leave the tree.
    """
    parts = target.split("/")
    ups = next((number for number, part in enumerate(parts) if part != ".."), len(parts))
    depth = path.count("/")
    plain = not {"", ".", ".."} & set(parts[ups:]) and "\\" not in target and not _CONTROL.search(target)
    if not plain or ups > depth or ups == len(parts) or _DRIVE.match(target) or len(target.encode()) > PATH_LIMIT:
        raise _refused(path, f"it is a link to {target!r}, which is or could lead outside the tree")


def _check_component(component: ComponentRecord, index: Index) -> None:
    name = component.index.name
    facts = (len(index.files), sum(entry.size for entry in index.files), tree_digest(index.files))
    if facts != (component.files, component.unpacked, component.tree):
        raise _refused(name, f"it lists {facts[0]} files of {facts[1]} bytes, tree {facts[2]}, unlike the release")
    if (size := sum(frame.size for frame in index.frames)) != component.size:
        raise _refused(name, f"its frames have {size} bytes, the archive {component.size}")
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
