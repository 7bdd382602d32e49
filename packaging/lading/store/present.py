"""What is there of a release already, whole or damaged, and what installed versions can give.

Looks only; changes nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lading.manifest.base import Component
from lading.manifest.index import Index
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.store.installed import Installed
from lading.store.plan import InstalledFiles
from lading.store.repair import Damage, examine
from lading.store.wish import Wish


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is there of a release.

    Attributes:
        whole: A version of it with nothing wrong.
        damaged: What is wrong with the others, by folder's name; nothing for one whose own records are damaged.
    """

    whole: Installed | None
    damaged: Mapping[str, tuple[Damage, ...]]

    @property
    def damaged_files(self) -> frozenset[tuple[str, str]]:
        """Version and path of every damaged file."""
        return frozenset((name, damage.path) for name, found in self.damaged.items() for damage in found)


def find_present(release: Release, installed: Sequence[Installed], wish: Wish | None = None) -> Found:
    """Look for whole and for damaged versions of a release.

    Args:
        release: Which.
        installed: What is there.
        wish: How thoroughly to look, who hears of it, and who ends it; the sizes and times alone when none.
    """
    damaged: dict[str, tuple[Damage, ...]] = {}
    for version in installed:
        if not is_release(version, release):
            continue
        entries = version.entries()
        wrong = (
            examine(version.tree, entries, thorough=wish.repair, progress=wish.progress, cancel=wish.cancel)
            if wish
            else examine(version.tree, entries)
        )
        if entries and not wrong:
            return Found(whole=version, damaged=damaged)
        damaged[version.name] = wrong
    return Found(whole=None, damaged=damaged)


def is_release(version: Installed, release: Release) -> bool:
    """Whether a version was installed from a release: the same app, version and tree."""
    marker = version.marker
    return (marker.app, marker.version, marker.tree) == (release.app, release.version, release.tree)


def files_of(
    installed: Sequence[Installed], release: Release, indexes: Mapping[Component, Index]
) -> tuple[InstalledFiles, ...]:
    """What versions can give; one of the very release can even when its own records are damaged."""

    def entries(version: Installed) -> tuple[TreeEntry, ...]:
        if is_release(version, release):
            return tuple(entry for index in indexes.values() for entry in index.files)
        return version.entries()

    return tuple(InstalledFiles(name=version.name, entries=entries(version)) for version in installed)


def free_room(folder: Path) -> int:
    """Free bytes where a folder lies or will lie."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free
