"""Look at what is here before it is planned with, without changing anything.

A plan takes files from installed versions and from the staging folder by what their indexes say. Whether they still are
what the indexes say is looked at here, once for each file; what is not is planned without.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from lading.cancel import stop_if
from lading.digest import sha256_file
from lading.host.facts import usable_cpus
from lading.manifest.base import Component
from lading.manifest.index import IndexEntry
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.progress import Progress
from lading.store.indexes import Known
from lading.store.plan import Frames, Here, InstalledFiles, Plan, Reuse, make_plan
from lading.store.sealed import looks_sealed
from lading.store.unfinished import same_mode, whole_files

THREADS = min(8, usable_cpus())  # for digesting, which leaves the interpreter
TREE = "tree"

State = Literal["sound", "other mode", "damaged"]


@dataclass(frozen=True, slots=True)
class _Look:
    """What the file system says of a file; doubtful when somebody may have written to it."""

    state: State
    doubtful: bool


class Survey:
    """What is here, as far as it was looked at; gives plans.

    Args:
        release: What is to be installed.
        known: The index of each component, and its patch.
        installed: The files of installed versions, the preferred one first.
        versions: The folder of installed versions.
        staged_tree: The tree of the unfinished install.
        staged: Says which frames are verified and written there.
        can_link: The file system has hard links.
        damaged: Version and path of files that are known to be damaged.
        thorough: Digest every file, not only those that somebody wrote to.
        progress: Hears of bytes, and of what is damaged.
        cancel: Ends it half-way.
    """

    def __init__(
        self,
        release: Release,
        known: Mapping[Component, Known],
        installed: Sequence[InstalledFiles],
        *,
        versions: Path,
        staged_tree: Path,
        staged: Callable[[], Frames],
        can_link: bool,
        damaged: Iterable[tuple[str, str]],
        thorough: bool,
        progress: Progress,
        cancel: threading.Event | None = None,
    ) -> None:
        self.known = dict(known)
        self.installed = installed
        self.whole: set[str] = set()
        self.damaged = set(damaged)
        self.undecodable: set[str] = set()
        self._release = release
        self._versions = versions
        self._staged_tree = staged_tree
        self._staged = staged
        self._can_link = can_link
        self._thorough = thorough
        self._progress = progress
        self._cancel = cancel
        self._sound: set[tuple[str, str]] = set()
        self._sound_bases: set[tuple[str, str]] = set()
        self._unlinkable: set[tuple[str, str]] = set()
        self._not_whole: set[str] = set()

    def plan(self) -> Plan:
        """A plan with what is known now."""
        return make_plan(
            self._release,
            {name: known.index for name, known in self.known.items()},
            Here(
                installed=self.installed,
                staged=self._staged(),
                whole=frozenset(self.whole),
                damaged=frozenset(self.damaged),
                unlinkable=frozenset(self._unlinkable),
                patches={name: known.use for name, known in self.known.items() if known.use is not None},
                undecodable=frozenset(self.undecodable),
                can_link=self._can_link,
            ),
        )

    def settled(self) -> Plan:
        """A plan of which everything that is to be reused was looked at.

        Raises:
            Interrupted: It was cancelled.
        """
        plan = self.plan()
        while self._look_at_reuse(plan) or self._look_at_bases(plan) or self._look_at_staged(plan):
            plan = self.plan()
        return plan

    def _look_at_reuse(self, plan: Plan) -> bool:
        """True when the plan must change."""
        items = [item for item in plan.reuse if (item.version, item.path) not in self._sound]
        damaged, unlinkable = len(self.damaged), len(self._unlinkable)
        for item, state in zip(items, self._states(items), strict=True):
            if state == "other mode" and item.link:
                self._unlinkable.add((item.version, item.path))
            else:
                (self.damaged if state == "damaged" else self._sound).add((item.version, item.path))
        self._tell(len(self.damaged) - damaged)
        return (damaged, unlinkable) != (len(self.damaged), len(self._unlinkable))

    def _states(self, items: Sequence[Reuse]) -> list[State]:
        """What state files are in; those that nobody wrote to and that will be linked are not read."""
        looks = [self._look(item.version, item.path, item.entry) for item in items]
        read = [n for n, item in enumerate(items) if looks[n].doubtful or self._thorough or not item.link]
        read = [n for n in read if looks[n].state != "damaged"]
        states = [look.state for look in looks]
        with (
            self._task("checking installed", sum(items[n].entry.size for n in read)),
            ThreadPoolExecutor(THREADS, thread_name_prefix="check") as workers,
        ):
            sound = workers.map(lambda n: self._is_sound(items[n].version, items[n].path, items[n].entry), read)
            for n, right in zip(read, sound, strict=True):
                states[n] = states[n] if right else "damaged"
        return states

    def _look_at_bases(self, plan: Plan) -> bool:
        """Look at the files that a patch starts from; those that look untouched are read when it is applied.

        True when the plan must change.
        """
        damaged = len(self.damaged)
        for part in plan.components:
            version = part.patch.version if part.patch else ""
            seen = self._sound | self._sound_bases
            paths = {path for item in part.patched for path in item.carried.old if (version, path) not in seen}
            entries = self._entries(version) if paths else {}
            for path in sorted(paths):
                look = self._look(version, path, entries[path])
                right = look.state != "damaged" and (not look.doubtful or self._is_sound(version, path, entries[path]))
                (self._sound_bases if right else self.damaged).add((version, path))
        self._tell(len(self.damaged) - damaged)
        return damaged != len(self.damaged)

    def _entries(self, name: str) -> Mapping[str, TreeEntry]:
        files = next(version for version in self.installed if version.name == name)
        return {entry.path: entry for entry in files.entries}

    def _tell(self, damaged: int) -> None:
        if damaged:
            self._progress.note(f"{damaged} installed files are damaged and are not used")

    def _task(self, label: str, total: int) -> AbstractContextManager[object]:
        return self._progress.task(label, total) if total else nullcontext()

    def _look(self, version: str, path: str, entry: TreeEntry | IndexEntry) -> _Look:
        """What the file system says of an installed file."""
        stop_if(self._cancel)
        try:
            found = os.lstat(f"{self._versions}/{version}/{TREE}/{path}")
        except OSError:  # gone or unreadable: it is fetched instead
            return _Look("damaged", doubtful=False)
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            return _Look("damaged", doubtful=False)
        state: State = "sound" if same_mode(found.st_mode, entry.mode) else "other mode"
        return _Look(state, doubtful=not looks_sealed(found, entry.size))

    def _is_sound(self, version: str, path: str, entry: TreeEntry | IndexEntry) -> bool:
        stop_if(self._cancel)
        try:
            return sha256_file(self._versions / version / TREE / path) == entry.sha256
        except OSError:  # gone or unreadable: it is fetched instead
            return False

    def _look_at_staged(self, plan: Plan) -> bool:
        """True when the plan must change."""
        missing = [entry for part in plan.components for entry in (*part.files, *(item.entry for item in part.patched))]
        unknown = [entry for entry in missing if entry.path not in self.whole and entry.path not in self._not_whole]
        found = whole_files(self._staged_tree, unknown)
        self.whole |= found
        self._not_whole |= {entry.path for entry in unknown} - found
        return bool(found)
