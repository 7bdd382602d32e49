"""Walk a tree and analyse all its shared objects.

Does not: follow symbolic links out of the tree, run anything, or judge; a caller decides what an escape means.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lading.linkage.elf import MAGIC as ELF_MAGIC
from lading.linkage.elf import BrokenObject, read_elf
from lading.linkage.floor import glibc_floor, glibcxx_floor, setting_the_floor
from lading.linkage.pe import MAGIC as PE_MAGIC
from lading.linkage.pe import read_pe
from lading.linkage.record import Linkage, Need, SharedObject, Unreadable, Unresolved
from lading.linkage.resolve import answers, escapes, operating_system
from lading.manifest.base import Platform

# Files that are never shared objects; not opening them saves most of a scan of a tree with loose modules.
_NEVER = (".pyc", ".py", ".pyi", ".txt", ".json", ".h", ".hpp", ".cuh", ".cmake", ".html", ".css", ".js")


def walk(root: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All files and links below a folder with their paths in it, in path order; links are not followed."""
    pending = [("", root)]
    while pending:
        prefix, folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{prefix}{entry.name}"
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{path}/", Path(entry.path)))
                else:
                    yield path, entry


def read_object(path: Path, name: str) -> SharedObject | None:
    """Read a file that may be a shared object of either kind.

    Args:
        path: The file.
        name: Its path in the tree.

    Returns:
        Its record, or none when it is no shared object.

    Raises:
        BrokenObject: It begins like one and is damaged.
        OSError: It cannot be read.
    """
    if name.lower().endswith(_NEVER):
        return None
    with path.open("rb", buffering=0) as stream:
        magic = stream.read(4)
    if magic == ELF_MAGIC:
        return read_elf(path, name)
    if magic[:2] == PE_MAGIC:
        return read_pe(path, name)
    return None


def guess_platform(objects: Iterable[SharedObject]) -> Platform:
    """The platform of a tree by the format and processor that most of its objects have."""
    kinds = [(item.format, item.machine) for item in objects]
    if not kinds:
        return "linux-x86_64"
    kind, machine = max(set(kinds), key=lambda kind: (kinds.count(kind), kind))
    if kind == "pe":
        return "windows-x86_64"
    return "linux-aarch64" if machine == "EM_AARCH64" else "linux-x86_64"


def scan(
    root: Path, payload: str = "_internal", *, platform: Platform | None = None, dll_folders: Iterable[str] = ()
) -> Linkage:
    """Analyse a tree.

    Args:
        root: The tree: the folder that holds the executable.
        payload: Its payload folder.
        platform: Whose loader; when none, by what most objects are.
        dll_folders: Folders that the program registers itself (Windows).

    Returns:
        All objects, answers, unanswered needs, escapes and floors. Objects for another processor than the
        platform's (launcher stubs that packages carry as data) are listed and their needs are not judged.

    Raises:
        OSError: The tree cannot be read.
    """
    objects: list[SharedObject] = []
    broken: list[Unreadable] = []
    paths: list[str] = []
    links: dict[str, str] = {}
    for path, entry in walk(root):
        paths.append(path)
        if entry.is_symlink():
            links[path] = Path(entry.path).readlink().as_posix()
            continue
        try:
            item = read_object(Path(entry.path), path)
        except BrokenObject as error:
            broken.append(Unreadable(path=path, reason=str(error)))
            continue
        if item is not None:
            objects.append(item)
    objects.sort(key=lambda item: item.path)
    chosen = platform or guess_platform(objects)
    native = [item for item in objects if native_to(item, chosen)]
    found = answers(native, paths, links, platform=chosen, payload=payload, dll_folders=dll_folders)
    return Linkage(
        system=operating_system(chosen),
        payload=payload,
        objects=tuple(objects),
        symlinks=links,
        needs=tuple(item for item in found if isinstance(item, Need)),
        unresolved=tuple(item for item in found if isinstance(item, Unresolved)),
        escapes=escapes(native, paths, links, platform=chosen, payload=payload),
        unreadable=tuple(broken),
        glibc=glibc_floor(native),
        glibcxx=glibcxx_floor(native),
        floor_objects=setting_the_floor(native),
    )


_MACHINES: dict[Platform, tuple[str, str]] = {
    "linux-x86_64": ("elf", "EM_X86_64"),
    "linux-aarch64": ("elf", "EM_AARCH64"),
    "windows-x86_64": ("pe", "IMAGE_FILE_MACHINE_AMD64"),
}


def native_to(item: SharedObject, platform: Platform) -> bool:
    """Whether the platform's loader can load the object at all."""
    return (item.format, item.machine) == _MACHINES[platform]
