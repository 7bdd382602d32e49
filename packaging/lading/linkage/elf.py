"""Read what the dynamic loader reads of an ELF file, and nothing else.

Only headers, the dynamic segment, its strings and the version needs are read: a few kilobytes of a file of any size.
Everything is found through the program headers, as the loader does, so that stripped section headers do not matter.

Does not: follow links, look at symbols, or decide what a need resolves to.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path
from typing import IO

from elftools.common.exceptions import ELFError
from elftools.common.utils import struct_parse
from elftools.elf.dynamic import DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.segments import InterpSegment

from lading.linkage.record import SharedObject

MAGIC = b"\x7fELF"
# What pyelftools meets damage with, depending on which field is wrong.
_DAMAGE = (ELFError, ValueError, AssertionError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)
VERSION_NEEDS_LIMIT = 4096  # no real object names more; a damaged chain must not run for ever


class BrokenObject(ValueError):
    """A file begins like a shared object and cannot be read as one."""


def version_key(version: str) -> tuple[int, ...]:
    """A version such as ``2.2.5`` as numbers, for comparison."""
    return tuple(int(part) for part in version.split("."))


def highest(names: Iterable[str], prefix: str) -> str | None:
    """The highest version among symbol version names.

    Args:
        names: Such as ``GLIBC_2.17``, ``GLIBC_PRIVATE``, ``CXXABI_1.3``.
        prefix: Such as ``GLIBC_``.

    Returns:
        Such as ``2.17``; none when no name with the prefix carries a number.
    """
    versions = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    numbers = [version for version in versions if version.replace(".", "").isdigit()]
    return max(numbers, key=version_key, default=None)


def read_elf(path: Path, name: str | None = None) -> SharedObject | None:
    """Read an ELF file's dynamic information.

    Args:
        path: The file.
        name: Its path in the tree; the file's own name when none.

    Returns:
        The record, or none when the file is not ELF or has nothing dynamic (a static program, a relocatable ``.o``).

    Raises:
        BrokenObject: It begins like ELF and is damaged or cut off.
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            return None
        try:
            return _parse(stream, name or path.name)
        except _DAMAGE as error:
            raise BrokenObject(
                f"{name or path}: not a readable ELF file: {str(error) or type(error).__name__}"
            ) from error
        except OSError as error:
            if error.errno != errno.EINVAL:  # a place that no file can have
                raise
            raise BrokenObject(f"{name or path}: not a readable ELF file: it points outside itself") from error


def _parse(stream: IO[bytes], name: str) -> SharedObject | None:
    elf = ELFFile(stream)
    _check_length(elf, stream)
    dynamic: DynamicSegment | None = None
    interpreter: str | None = None
    for segment in elf.iter_segments():
        if isinstance(segment, DynamicSegment):
            dynamic = segment
        elif isinstance(segment, InterpSegment):
            interpreter = segment.get_interp_name()
    if dynamic is None:
        return None
    soname: str | None = None
    needed: list[str] = []
    searches: dict[str, tuple[str, ...]] = {}
    for tag in dynamic.iter_tags():
        kind = tag.entry.d_tag
        if kind == "DT_NEEDED":
            needed.append(str(vars(tag)["needed"]))
        elif kind == "DT_SONAME":
            soname = str(vars(tag)["soname"])
        elif kind in {"DT_RPATH", "DT_RUNPATH"}:
            text = str(vars(tag)[kind.removeprefix("DT_").lower()])
            searches[kind] = tuple(text.split(":")) if text else ()  # the loader ignores a wholly empty path
    versions = _version_needs(elf, dynamic)
    return SharedObject(
        path=name,
        format="elf",
        machine=str(elf["e_machine"]),
        soname=soname,
        needed=tuple(needed),
        rpath=searches.get("DT_RPATH", ()),
        runpath=searches.get("DT_RUNPATH", ()),
        interpreter=interpreter,
        glibc=highest(versions, "GLIBC_"),
        glibcxx=highest(versions, "GLIBCXX_"),
    )


def _check_length(elf: ELFFile, stream: IO[bytes]) -> None:
    """Refuse a file that ends before its own segments do, which the loader would only notice by a crash."""
    end = max((segment["p_offset"] + segment["p_filesz"] for segment in elf.iter_segments()), default=0)
    have = stream.seek(0, 2)
    if have < end:
        message = f"it has {have:,} bytes, its segments need {end:,}"
        raise ValueError(message)


def _version_needs(elf: ELFFile, dynamic: DynamicSegment) -> set[str]:
    """All version names that the object asks of others (``.gnu.version_r``), by the dynamic segment's own pointer."""
    names: set[str] = set()
    _, offset = dynamic.get_table_offset("DT_VERNEED")
    if offset is None:
        return names
    _, strings = dynamic.get_table_offset("DT_STRTAB")
    if strings is None:
        message = "it has version needs and no string table"
        raise ValueError(message)
    for _ in range(VERSION_NEEDS_LIMIT):
        need = struct_parse(elf.structs.Elf_Verneed, elf.stream, offset)
        at = offset + need["vn_aux"]
        for _ in range(need["vn_cnt"]):
            entry = struct_parse(elf.structs.Elf_Vernaux, elf.stream, at)
            names.add(_string(elf.stream, strings + entry["vna_name"]))
            at += entry["vna_next"]
            if entry["vna_next"] == 0:
                break
        if need["vn_next"] == 0:
            return names
        offset += need["vn_next"]
    message = "its version needs do not end"
    raise ValueError(message)


def _string(stream: IO[bytes], offset: int) -> str:
    stream.seek(offset)
    return stream.read(256).partition(b"\0")[0].decode("ascii", "replace")
