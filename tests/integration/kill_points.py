"""Ends an install at its n-th change of the disk, for every n, and looks at what the next run makes of it.

A program of its own: it forks, which a test process with threads must not do. Usage::

    kill_points.py STORE ROOT TEMPLATE WORK OLD NEW

``TEMPLATE`` is a data directory as it was before the install; ``OLD`` and ``NEW`` are what the entry prints then and
afterwards (``-`` for nothing installed). Prints one JSON line with the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.packed_release import APP, ENTRY, tree_files
from typing_extensions import override

from lading.fetch.folder import FolderSource
from lading.fetch.indexes import read_index
from lading.fetch.ranges import frame_places
from lading.fetch.source import Stream
from lading.manifest.base import read_record
from lading.manifest.index import Index
from lading.manifest.release import ComponentRecord, Release
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version, installed_versions
from lading.store.journal import journaled_frames
from lading.store.staging import JOURNAL

EVENTS = {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate"}
BELONGS = {"current", "lock", "partial", "state.json", "versions"}
BELONGS_TO_VERSION = {".lading-version", "core.index.zst", "libs.index.zst", "release.json", "tree"}
WRITING = os.O_WRONLY | os.O_RDWR


class CountingSource(FolderSource):
    """Remembers which bytes of which archive were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, int, int]] = []

    @override
    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        self.asked.append((path.rpartition("/")[2], start, size))
        return super().stream_range(path, start, size, total)


@dataclass
class Countdown:
    """Kills this process before its n-th change of the disk below a folder."""

    folder: str
    left: int

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if arguments[2] is not None and arguments[2] & WRITING:
                self.at(arguments[0])
        elif event in EVENTS:
            self.at(*arguments[:2])

    def at(self, *paths: object) -> None:
        if any(isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder) for path in paths):
            self.tick()

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Count a call that the interpreter does not announce."""

        def counted(*arguments: Any) -> Any:
            self.tick()
            return real(*arguments)

        return counted

    def arm(self) -> None:
        sys.addaudithook(self.hook)
        os.fsync = self.wrap(os.fsync)
        os.write = self.wrap(os.write)


@dataclass
class Figures:
    """What was seen."""

    points: int = 0
    old_after_kill: int = 0
    new_after_kill: int = 0
    frames_kept: int = 0
    frames_fetched_twice: int = 0
    problems: list[str] = field(default_factory=list)


def killed_at(number: int, store: Path, root: bytes, data: Path) -> bool:
    """Run an install in a child that dies at a point; false when it ended before it came there."""
    child = os.fork()
    if child == 0:
        try:
            Countdown(str(data), number).arm()
            install(CountingSource(store), root, data, app=APP)
        except BaseException as error:  # noqa: BLE001 (a child reports by its exit status alone)
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the install failed at point {number}")
    return False


def printed(data: Path) -> str:
    """What the installed program prints, or ``-``."""
    version = current_version(Home(data, "cuda"))
    if version is None:
        return "-"
    via_pointer = data / "backends/cuda/current/tree" / ENTRY
    return subprocess.run([via_pointer], check=True, capture_output=True, text=True).stdout.strip()


def kept_bytes(data: Path, store: Path) -> dict[str, list[tuple[int, int]]]:
    """The places, by volume, of frames that the dead run had verified."""
    kept: dict[str, list[tuple[int, int]]] = {}
    for folder in (data / "backends/cuda/partial").glob("*"):
        for release in _releases(store):
            done = journaled_frames(folder / JOURNAL, release)
            for component in release.components:
                index = _index(store, component)
                places = frame_places(index.frames, component.volumes, archive="test")
                for number in done[component.component]:
                    place = places[number]
                    name = component.volumes[place.volume].name
                    kept.setdefault(name, []).append((place.start, place.size))
    return kept


def _releases(store: Path) -> list[Release]:
    return [read_record(Release, path.read_bytes(), origin="test") for path in store.rglob("*.release.json")]


def _index(store: Path, component: ComponentRecord) -> Index:
    return read_index(next(store.rglob(component.index.name)).read_bytes(), component)


def main() -> None:
    store, root_file, template, work = map(Path, sys.argv[1:5])
    old, new = sys.argv[5:]
    root = root_file.read_bytes()
    clean = work / "clean"
    _copy(template, clean)
    wanted = tree_files(Path(install(FolderSource(store), root, clean, app=APP).tree))
    figures = Figures()
    while True:
        data = work / f"data-{figures.points}"
        _copy(template, data)
        if not killed_at(figures.points, store, root, data):
            break
        look(figures, data, store, root, old=old, new=new, wanted=wanted)
        shutil.rmtree(data)
        figures.points += 1
    print(json.dumps(figures.__dict__))


def look(figures: Figures, data: Path, store: Path, root: bytes, *, old: str, new: str, wanted: dict[str, Any]) -> None:
    """Check the machine after a kill, run again, and check it once more."""
    where = f"point {figures.points}"
    found = printed(data)
    if found not in {old, new}:
        figures.problems.append(f"{where}: the program prints {found!r} after the kill")
    figures.old_after_kill += found == old
    figures.new_after_kill += found == new
    for version in installed_versions(Home(data, "cuda")):
        if not version.looks_whole():
            figures.problems.append(f"{where}: {version.name} is visible and not whole")
    kept = kept_bytes(data, store)
    figures.frames_kept += sum(map(len, kept.values()))
    source = CountingSource(store)
    result = install(source, root, data, app=APP)
    for name, start, size in source.asked:
        for begin, length in kept.get(name, ()):
            if begin < start + size and start < begin + length:
                figures.frames_fetched_twice += 1
    if tree_files(Path(result.tree)) != wanted or printed(data) != new:
        figures.problems.append(f"{where}: the next run did not end in the new version")
    left = [path.name for path in (data / "backends/cuda/partial").iterdir()]
    left += [path.name for path in (data / "backends/cuda").iterdir() if path.name not in BELONGS]
    left += [path.name for path in Path(result.path).iterdir() if path.name not in BELONGS_TO_VERSION]
    if left:
        figures.problems.append(f"{where}: {left} is left over")


def _copy(template: Path, data: Path) -> None:
    if template.exists():
        shutil.copytree(template, data, symlinks=True)


if __name__ == "__main__":
    main()
