"""The lowest glibc and libstdc++ that a tree runs on: the highest symbol version that any object asks for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lading.linkage.elf import version_key
from lading.linkage.record import SharedObject


def glibc_floor(objects: Iterable[SharedObject]) -> str | None:
    """The lowest glibc, such as ``2.28``; none when nothing asks for one (Windows)."""
    return max((item.glibc for item in objects if item.glibc), key=version_key, default=None)


def glibcxx_floor(objects: Iterable[SharedObject]) -> str | None:
    """The lowest libstdc++ symbol version, such as ``3.4.29``; none when nothing asks for one."""
    return max((item.glibcxx for item in objects if item.glibcxx), key=version_key, default=None)


def setting_the_floor(objects: Sequence[SharedObject]) -> tuple[str, ...]:
    """Paths of the objects that ask for the highest glibc: what to replace to get a lower floor."""
    floor = glibc_floor(objects)
    return tuple(item.path for item in objects if floor is not None and item.glibc == floor)


def within(floor: str | None, stated: str | None) -> bool:
    """Whether a computed floor is not above the stated one; a floor without a statement is above it."""
    if floor is None:
        return True
    return stated is not None and version_key(floor) <= version_key(stated)
