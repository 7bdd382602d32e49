"""Records of the linkage analysis: what a shared object says about itself, and what was found for its needs.

Invariants:
    * Paths are relative to the tree's root, with forward slashes, on every system.
    * Nothing here reads a file.
"""

from __future__ import annotations

from typing import Literal

from lading.manifest.base import OperatingSystem, Record

How = Literal["rpath", "runpath", "payload", "own-folder", "dll-folder", "elsewhere", "system"]


class SharedObject(Record):
    """An ELF or PE file with the part of it that the loader acts on.

    Attributes:
        path: Where it lies in the tree.
        format: ``elf`` or ``pe``.
        machine: The processor as its header names it: ``EM_X86_64``, ``IMAGE_FILE_MACHINE_AMD64``.
        soname: The name that others need it by (ELF), or none.
        needed: Libraries it names, in its own order.
        delayed: Libraries that are loaded at the first call into them (PE delay imports).
        rpath: Entries of ``DT_RPATH``, as written.
        runpath: Entries of ``DT_RUNPATH``, as written; when there are any, the loader ignores ``rpath``.
        interpreter: The loader that an ELF program asks for.
        glibc: Highest ``GLIBC_x.y`` that its symbols ask for, such as ``2.28``.
        glibcxx: Highest ``GLIBCXX_x.y.z`` that its symbols ask for.
    """

    path: str
    format: Literal["elf", "pe"]
    machine: str
    soname: str | None = None
    needed: tuple[str, ...] = ()
    delayed: tuple[str, ...] = ()
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    interpreter: str | None = None
    glibc: str | None = None
    glibcxx: str | None = None

    @property
    def search(self) -> tuple[str, ...]:
        """The search path that the loader really uses for this object's needs."""
        return self.runpath or self.rpath


class Need(Record):
    """One needed name and what answers it.

    Attributes:
        importer: The object that needs it.
        name: The library's name.
        how: ``rpath``, ``runpath``: by the object's own search path; ``payload``: in the folder where the bootloader
            lets the loader look; ``own-folder``, ``dll-folder``: Windows' search; ``elsewhere``: the tree has a
            library of that name, which works only if the program loads it first; ``system``: on the list of what
            every host has.
        provider: The file in the tree; none for ``system``.
    """

    importer: str
    name: str
    how: How
    provider: str | None = None


class Unresolved(Record):
    """A needed name that nothing answers.

    Attributes:
        importer: The object that needs it.
        name: The library's name.
        reason: What was looked at, or why what was found does not count.
    """

    importer: str
    name: str
    reason: str


class Escape(Record):
    """A search path entry that leaves the tree.

    Attributes:
        path: The object that carries it.
        entry: The entry as written.
        reason: Why it leaves the tree.
        reached: Needed names that the loader would look for there, because nothing in the tree answers them earlier.
            When there are none the entry is dead (many wheels and interpreters carry such entries, and NVIDIA's
            libraries may not be modified). System libraries are not counted: the loader asks the host for them anyway.
    """

    path: str
    entry: str
    reason: str
    reached: tuple[str, ...] = ()


class Unreadable(Record):
    """A file that begins like a shared object and cannot be read as one."""

    path: str
    reason: str


class Linkage(Record):
    """All shared objects of a tree and how they hang together.

    Attributes:
        system: Whose loader the objects are made for.
        payload: The payload folder that the bootloader puts on the search path.
        objects: Every shared object and program, in path order.
        symlinks: Target of every symbolic link that stays in the tree, by path.
        needs: Every need that something answers.
        unresolved: Every need that nothing answers.
        escapes: Search path entries that leave the tree.
        unreadable: Files that begin like shared objects and are broken.
        glibc: The tree's glibc floor: the highest version that any object asks for.
        glibcxx: The same for libstdc++.
        floor_objects: The objects that set the glibc floor.
    """

    system: OperatingSystem
    payload: str
    objects: tuple[SharedObject, ...]
    symlinks: dict[str, str]
    needs: tuple[Need, ...]
    unresolved: tuple[Unresolved, ...]
    escapes: tuple[Escape, ...]
    unreadable: tuple[Unreadable, ...] = ()
    glibc: str | None = None
    glibcxx: str | None = None
    floor_objects: tuple[str, ...] = ()
