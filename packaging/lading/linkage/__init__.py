"""Shared libraries of a tree: what each needs, what answers it, which glibc the whole asks for."""

from __future__ import annotations

from lading.linkage.elf import BrokenObject, read_elf
from lading.linkage.floor import glibc_floor, glibcxx_floor
from lading.linkage.pe import read_pe
from lading.linkage.record import Escape, Linkage, Need, SharedObject, Unreadable, Unresolved
from lading.linkage.resolve import answers, escapes, unresolved
from lading.linkage.scan import scan

__all__ = [
    "BrokenObject",
    "Escape",
    "Linkage",
    "Need",
    "SharedObject",
    "Unreadable",
    "Unresolved",
    "answers",
    "escapes",
    "glibc_floor",
    "glibcxx_floor",
    "read_elf",
    "read_pe",
    "scan",
    "unresolved",
]
