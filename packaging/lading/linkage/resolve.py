"""Which library of a tree answers which need: pure rules, the ones of the loader as the bootloader sets it up.

Linux, in order:
    1. ``DT_RPATH``, unless the object has ``DT_RUNPATH``; ``$ORIGIN`` is the object's own folder.
    2. The payload folder, which the bootloader puts on ``LD_LIBRARY_PATH``.
    3. ``DT_RUNPATH``.
    4. The short list of system libraries.
    5. A library of that name or soname anywhere else in the tree: it answers when the program has loaded it before.

Windows, in order (names compare without case):
    1. The importing file's own folder.
    2. The payload folder, and the root where the executable lies.
    3. Folders registered by ``os.add_dll_directory``.
    4. The short list of system libraries.
    5. Anywhere else in the tree, as above.

A candidate for another processor, or a link that leads nowhere, does not count. Case does count on Linux.
A library that the tree has itself is preferred to the system's: that is what the search path does too.

Does not: read files; prove that a library "elsewhere" is loaded in time (starting the program does).
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from lading.linkage.record import Escape, How, Need, SharedObject, Unresolved
from lading.linkage.system import system_reason
from lading.manifest.base import OperatingSystem, Platform

LINK_DEPTH = 16  # links in a row; the kernel stops at 40, and a tree has two


def operating_system(platform: Platform) -> OperatingSystem:
    """Whose loader runs on that platform."""
    return "windows" if platform.startswith("windows") else "linux"


@dataclass(frozen=True, kw_only=True)
class _Tree:
    """The tree as the loader sees it; keys are folded for Windows."""

    system: OperatingSystem
    payload: str
    dll_folders: tuple[str, ...]
    paths: dict[str, str]
    symlinks: dict[str, str]
    objects: dict[str, SharedObject]
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def fold(self, path: str) -> str:
        return path.lower() if self.system == "windows" else path

    def real(self, path: str) -> str | None:
        """The file that a path of the tree leads to; none when it leads nowhere or outside."""
        for _ in range(LINK_DEPTH):
            known = self.paths.get(self.fold(path))
            if known is None:
                return None
            target = self.symlinks.get(known)
            if target is None:
                return known
            path = posixpath.normpath(posixpath.join(posixpath.dirname(known), target))
        return None

    def usable(self, path: str, importer: SharedObject) -> str | None:
        """The real path when it is a library that the importer's processor can load."""
        real = self.real(path)
        found = self.objects.get(real) if real is not None else None
        return real if found is not None and found.machine == importer.machine else None


def _build(
    objects: Iterable[SharedObject],
    tree_paths: Collection[str],
    links: Mapping[str, str],
    *,
    system: OperatingSystem,
    payload: str,
    dll_folders: Iterable[str],
) -> _Tree:
    by_path = {item.path: item for item in objects}
    windows = system == "windows"
    names: dict[str, list[str]] = defaultdict(list)
    for path in sorted({*tree_paths, *links, *by_path}):
        base = posixpath.basename(path)
        names[base.lower() if windows else base].append(path)
    for item in by_path.values():
        if item.soname and item.path not in names[item.soname]:
            names[item.soname].append(item.path)
    return _Tree(
        system=system,
        payload=payload,
        dll_folders=tuple(dll_folders),
        paths={path.lower() if windows else path: path for path in (*tree_paths, *links, *by_path)},
        symlinks=dict(links),
        objects=by_path,
        names={name: tuple(paths) for name, paths in names.items()},
    )


def expand(entry: str, folder: str) -> tuple[str | None, str]:
    """Where an entry of a search path leads.

    Args:
        entry: As written, such as ``$ORIGIN/../lib``.
        folder: The object's folder, relative to the tree's root (``""`` is the root).

    Returns:
        The folder relative to the root and ``""``; or none and the reason why it is not inside the tree.
    """
    if entry == "":
        return None, "an empty entry means the folder that the program happens to be started in"
    origin = entry.replace("${ORIGIN}", "$ORIGIN")
    if not (origin == "$ORIGIN" or origin.startswith("$ORIGIN/")):
        kind = "an absolute folder of the machine it was built on" if entry.startswith("/") else "not under $ORIGIN"
        return None, kind
    inner = posixpath.normpath(posixpath.join("/", "r", folder, origin.removeprefix("$ORIGIN").lstrip("/")))
    # "/r" stands for the root, so that an entry that climbs above the root does not end on it by accident.
    climbed = posixpath.normpath(posixpath.join(folder or ".", origin.removeprefix("$ORIGIN").lstrip("/") or "."))
    if climbed == ".." or climbed.startswith("../"):
        return None, "it leads above the tree's root"
    return ("" if inner == "/r" else inner.removeprefix("/r/")), ""


def _places(tree: _Tree, item: SharedObject) -> list[tuple[How, str, str]]:
    """Where the loader looks for an object's needs, in order: how, the place as written, why it is not in the tree."""
    if tree.system == "windows":
        folders: list[tuple[How, str]] = [("own-folder", posixpath.dirname(item.path)), ("payload", tree.payload)]
        folders += [("payload", ""), *(("dll-folder", folder) for folder in tree.dll_folders)]
        return [(how, folder, "") for how, folder in folders]
    payload: list[tuple[How, str, str]] = [("payload", tree.payload, "")]
    how: How = "runpath" if item.runpath else "rpath"
    searched: list[tuple[How, str, str]] = []
    for entry in item.search:
        folder, outside = expand(entry, posixpath.dirname(item.path))
        searched.append((how, entry if folder is None else folder, outside))
    return payload + searched if item.runpath else searched + payload


def _hit(tree: _Tree, item: SharedObject, name: str, places: Iterable[tuple[How, str, str]]) -> tuple[How, str] | None:
    """The first place inside the tree that has a usable library of that name."""
    for how, folder, outside in places:
        provider = None if outside else tree.usable(posixpath.join(folder, name), item)
        if provider is not None:
            return how, provider
    return None


def _answer(tree: _Tree, item: SharedObject, name: str) -> Need | Unresolved:
    if "/" in name:
        return Unresolved(importer=item.path, name=name, reason="it is needed by a path, which no other machine has")
    hit = _hit(tree, item, name, _places(tree, item))
    if hit is not None:
        return Need(importer=item.path, name=name, how=hit[0], provider=hit[1])
    if system_reason(name, tree.system) is not None:
        return Need(importer=item.path, name=name, how="system")
    candidates = tree.names.get(tree.fold(name), ())
    for candidate in candidates:
        provider = tree.usable(candidate, item)
        if provider is not None:
            return Need(importer=item.path, name=name, how="elsewhere", provider=provider)
    reason = "no file of the tree has this name, and it is not on the list of system libraries"
    if candidates:
        reason = f"{candidates[0]} has this name and is no library for {item.machine}, or a link that leads nowhere"
    return Unresolved(importer=item.path, name=name, reason=reason)


def answers(
    objects: Iterable[SharedObject],
    tree_paths: Collection[str],
    links: Mapping[str, str],
    *,
    platform: Platform,
    payload: str = "_internal",
    dll_folders: Iterable[str] = (),
) -> tuple[Need | Unresolved, ...]:
    """Answer every need of every object.

    Args:
        objects: The tree's shared objects and programs.
        tree_paths: All paths of the tree.
        links: Target of each symbolic link by its path.
        platform: Whose loader.
        payload: The payload folder.
        dll_folders: Folders that the program registers (Windows).

    Returns:
        One answer for each needed name, in the objects' order.
    """
    given = tuple(objects)
    system = operating_system(platform)
    tree = _build(given, tree_paths, links, system=system, payload=payload, dll_folders=dll_folders)
    return tuple(_answer(tree, item, name) for item in given for name in (*item.needed, *item.delayed))


def unresolved(
    objects: Iterable[SharedObject],
    tree_paths: Collection[str],
    links: Mapping[str, str],
    *,
    platform: Platform,
    payload: str = "_internal",
    dll_folders: Iterable[str] = (),
) -> tuple[Unresolved, ...]:
    """The needs that nothing answers; see :func:`answers` for the arguments."""
    found = answers(objects, tree_paths, links, platform=platform, payload=payload, dll_folders=dll_folders)
    return tuple(item for item in found if isinstance(item, Unresolved))


def escapes(
    objects: Iterable[SharedObject],
    tree_paths: Collection[str],
    links: Mapping[str, str],
    *,
    platform: Platform,
    payload: str = "_internal",
) -> tuple[Escape, ...]:
    """Search path entries that leave the tree, and the needs that reach them; arguments as in :func:`answers`."""
    given = tuple(objects)
    system = operating_system(platform)
    tree = _build(given, tree_paths, links, system=system, payload=payload, dll_folders=())
    found = []
    for item in given:
        places = _places(tree, item)
        open_names = [name for name in item.needed if system_reason(name, system) is None]
        for position, (_, entry, outside) in enumerate(places):
            if outside:
                earlier = places[:position]
                reached = tuple(name for name in open_names if _hit(tree, item, name, earlier) is None)
                found.append(Escape(path=item.path, entry=entry, reason=outside, reached=reached))
    return tuple(found)
