"""Ends a change of an installation at its n-th change of the disk, for every n, and looks at what the next run does.

A program of its own: it forks, which a test process with threads must not do. Usage::

    kill_points.py WORK SCENARIO...

Every write counts twice: before it, and when half of it is done. ``fsync`` counts and does nothing: a process that is
killed loses no page, and the disk would only make it slow. Prints one JSON line with the figures of each scenario.
"""

from __future__ import annotations

import builtins
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tests.packed_release import APP, ENTRY, Files, Link, Shop, program, tree_files
from typing_extensions import override

from lading.fetch.folder import FolderSource
from lading.fetch.indexes import read_index
from lading.fetch.ranges import frame_places
from lading.fetch.source import Source, Stream
from lading.manifest.base import read_record
from lading.manifest.index import Index
from lading.manifest.release import ComponentRecord, Release
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version, installed_versions
from lading.store.journal import JOURNAL, journaled_frames
from lading.store.removal import uninstall
from lading.store.rollback import rollback
from lading.store.update import Overrides, update

EVENTS = {
    "os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate", "os.utime",
}  # fmt: skip
BELONGS = {"current", "origin.json", "partial", "state.json", "versions"}
BELONGS_TO_VERSION = {".lading-version", "core.index.zst", "libs.index.zst", "release.json", "tree"}
WRITING = os.O_WRONLY | os.O_RDWR
NOTHING = "-"


# -- ending a process at a point


@dataclass
class Countdown:
    """Kills this process at its n-th change of the disk below a folder."""

    folder: str
    left: int

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if arguments[2] is not None and arguments[2] & WRITING and self.is_ours(arguments[0]):
                self.tick()
        elif event in EVENTS and any(map(self.is_ours, arguments)):
            self.tick()

    def is_ours(self, argument: object) -> bool:
        """A path below the folder, or an open file or folder: nothing else has one here that is changed."""
        if isinstance(argument, str | os.PathLike):
            return os.fspath(argument).startswith(self.folder)
        return isinstance(argument, int) and argument > 2

    def tick(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def written(self, write: Callable[[Any], int], data: Any) -> int:
        """A write, which may end before it or half-way."""
        self.tick()
        if self.left == 0:
            write(memoryview(data)[: len(data) // 2])
        self.tick()
        return write(data)

    def arm(self) -> None:
        sys.addaudithook(self.hook)
        real = os.write
        os.write = lambda descriptor, data: self.written(partial(real, descriptor), data)
        os.fsync = self.flushed  # type: ignore[assignment]
        for name in ("sendfile", "copy_file_range"):
            if hasattr(os, name):
                setattr(os, name, self.counted(getattr(os, name)))
        io.open = builtins.open = self.opener()

    def flushed(self, _fd: object) -> None:
        """What takes the place of ``fsync``."""
        self.tick()

    def counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*arguments: Any, **options: Any) -> Any:
            self.tick()
            return call(*arguments, **options)

        return counting

    def opener(self) -> Callable[..., Any]:
        """``open`` whose files count their writes."""
        real, countdown = io.open, self

        class Raw(io.FileIO):
            @override
            def write(self, data: Any, /) -> int:
                return countdown.written(super().write, data)

        def opened(file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **options: Any) -> Any:
            if "b" not in mode or not set(mode) & set("wax+") or not self.is_ours(file):
                return real(file, mode, buffering, *rest, **options)
            raw = Raw(file, mode.replace("b", ""), options.get("closefd", True))
            if buffering == 0:
                return raw
            return io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)

        return opened


# -- what is changed


class CountingSource(FolderSource):
    """Remembers which bytes of which archive were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked: list[tuple[str, int, int]] = []
        self.whole: list[str] = []

    @override
    def stream(self, path: str) -> Stream | None:
        self.whole.append(path.rpartition("/")[2])
        return super().stream(path)

    @override
    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        self.asked.append((path.rpartition("/")[2], start, size))
        return super().stream_range(path, start, size, total)


Change = Callable[[Source, Path], object]


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A change of an installation.

    Attributes:
        prepare: Makes the data directory as it is before.
        change: Is killed, and is the next run as well.
        before, after: What the entry prints.
    """

    prepare: Callable[[Path], None]
    change: Change
    before: str
    after: str


def noise(size: int, seed: int) -> bytes:
    """Bytes that do not compress, the same in every process."""
    return random.Random(seed).randbytes(size)


def small_files(count: int, seed: int) -> Files:
    """Many small files in a few folders."""
    return {f"_internal/part{number % 3}/m{number}.pyc": noise(200 + number, seed + number) for number in range(count)}


LIBS: Files = {
    "_internal/nvidia/a.so": noise(40_000, 1),
    "_internal/nvidia/b.so": noise(12_000, 2),
    "_internal/nvidia/empty": b"",
    "_internal/a.so": Link("nvidia/a.so"),
}
COMMON = small_files(9, 100)
ONE: Files = {
    ENTRY: program("one"),
    "_internal/base.pyc": noise(20_000, 3),
    "_internal/gone.pyc": b"g" * 3000,
    **COMMON,
}
TWO: Files = {
    **COMMON,
    **small_files(8, 200),
    ENTRY: program("two"),
    "_internal/base.pyc": noise(21_000, 4),
    "_internal/deep/new.pyc": b"n" * 3000,
    "_internal/newest": Link("deep/new.pyc"),
}
THREE: Files = {**TWO, ENTRY: program("three"), "_internal/third.pyc": b"3" * 500}
PATCHED: Files = {
    **TWO,
    ENTRY: program("patched"),
    "_internal/base.pyc": noise(21_000, 4)[:9_000] + b"new" + noise(21_000, 4)[9_000:],
    "_internal/deep/new.pyc": b"n" * 2900 + b"o" * 200,
}
NEW_LIBS: Files = {**LIBS, "_internal/nvidia/b.so": noise(12_000, 5)}


class Stage:
    """A publisher with three versions, and the ways in which an installation changes."""

    def __init__(self, work: Path) -> None:
        self.shop = Shop(work / "shop", volume=30_000)
        self.shop.release("0.1.0", ONE, LIBS)
        self.shop.release("0.2.0", TWO, NEW_LIBS, label="cu126-v2")
        self.shop.release("0.3.0", THREE, NEW_LIBS, label="cu126-v2")
        later = {**NEW_LIBS, "_internal/nvidia/a.so": noise(40_000, 1)[:30_000] + noise(11_000, 6)}
        self.shop.release("0.4.0", PATCHED, later, label="cu126-v3", patches=["0.2.0"])
        self.store, self.root = self.shop.store, self.shop.root

    def scenarios(self) -> dict[str, Scenario]:
        return {
            "first install": Scenario(prepare=self.having(), change=self.to("0.1.0"), before=NOTHING, after="one"),
            "update": Scenario(prepare=self.having("0.1.0"), change=self.updated("0.2.0"), before="one", after="two"),
            "update by patch": Scenario(
                prepare=self.having("0.2.0"), change=self.updated("0.4.0"), before="two", after="patched"
            ),
            "roll back": Scenario(
                prepare=self.having("0.1.0", "0.2.0"), change=self.rolled_back, before="two", after="one"
            ),
            "repair": Scenario(prepare=self.damaged, change=self.repaired, before="two", after="two"),
            "garbage collection": Scenario(
                prepare=self.having("0.1.0", "0.2.0", "0.3.0"), change=self.to("0.3.0"), before="three", after="three"
            ),
            "uninstall": Scenario(
                prepare=self.having("0.1.0", "0.2.0"), change=self.removed, before="two", after=NOTHING
            ),
        }

    def to(self, version: str, **options: Any) -> Change:
        return lambda source, data: install(source, self.root, data, app=APP, version=version, **options)

    def updated(self, version: str, **options: Any) -> Change:
        def change(source: Source, data: Path) -> object:
            return update(data, overrides=Overrides(source=source, root=self.root, version=version), **options)

        return change

    def having(self, *versions: str) -> Callable[[Path], None]:
        def prepare(data: Path) -> None:
            for version in versions:
                self.to(version, keep=9)(str(self.store), data)  # type: ignore[arg-type]

        return prepare

    def damaged(self, data: Path) -> None:
        self.having("0.1.0", "0.2.0")(data)
        version = current_version(Home(data, "cuda"))
        assert version is not None
        (version.tree / "_internal/base.pyc").unlink()
        (version.tree / "_internal/nvidia/b.so").write_bytes(b"x" * 12_000)
        os.truncate(version.tree / "_internal/deep/new.pyc", 7)

    def repaired(self, source: Source, data: Path) -> object:
        return install(source, self.root, data, app=APP, version="0.2.0", repair=True)

    def rolled_back(self, _source: Source, data: Path) -> object:
        return rollback(data, "cuda", to="0.1.0")

    def removed(self, _source: Source, data: Path) -> object:
        return uninstall(data, "cuda") if (data / "backends/cuda").exists() else None


# -- looking at it


@dataclass
class Figures:
    """What was seen."""

    points: int = 0
    runs: int = 0
    before: int = 0
    after: int = 0
    frames_kept: int = 0
    frames_fetched_twice: int = 0
    patches_kept: int = 0
    patches_fetched_twice: int = 0
    problems: list[str] = field(default_factory=list)


def killed_at(number: int, change: Change, source: Source, data: Path) -> bool:
    """Make a change in a child that dies at a point; false when it ended before it came there."""
    child = os.fork()
    if child == 0:
        try:
            Countdown(str(data), number).arm()
            change(source, data)
        except BaseException as error:  # noqa: BLE001 (a child reports by its exit status alone)
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"the change failed at point {number}")
    return False


def printed(data: Path) -> str:
    """What the installed program prints, or ``-``."""
    if current_version(Home(data, "cuda")) is None:
        return NOTHING
    via_pointer = data / "backends/cuda/current/tree" / ENTRY
    return subprocess.run([via_pointer], check=True, capture_output=True, text=True).stdout.strip()


class Looker:
    """Runs one scenario.

    Args:
        stage: The publisher.
        scenario: What is changed.
        work: An own folder.
    """

    def __init__(self, stage: Stage, scenario: Scenario, work: Path) -> None:
        self.stage, self.scenario, self.work = stage, scenario, work
        self.figures = Figures()
        self.template = work / "template"
        scenario.prepare(self.template)
        self.untouched = _content(self.template)
        clean = work / "clean"
        clone(self.template, clean)
        scenario.change(FolderSource(stage.store), clean)
        self.wanted = _current_tree(clean)

    def run(self) -> Figures:
        while True:
            data = self.work / f"data-{self.figures.points}"
            clone(self.template, data)
            source = FolderSource(self.stage.store)
            if not killed_at(self.figures.points, self.scenario.change, source, data):
                break
            self.figures.points += 1
            self.look(data)
            shutil.rmtree(data)
        if _content(self.template) != self.untouched:
            self.problem("an installed file was written to")
        return self.figures

    def problem(self, text: str) -> None:
        self.figures.problems.append(f"point {self.figures.points}: {text}")

    def look(self, data: Path) -> None:
        """Check the machine after a kill, run again, and check it once more."""
        found = printed(data)
        self.figures.runs += 1
        if found not in {self.scenario.before, self.scenario.after}:
            self.problem(f"the program prints {found!r} after the kill")
        self.figures.before += found == self.scenario.before
        self.figures.after += found == self.scenario.after
        for version in installed_versions(Home(data, "cuda")):
            damaged = "repair" in self.work.name and not version.name.endswith(".2")
            if not damaged and not version.looks_whole():
                self.problem(f"{version.name} is visible and not whole")
        kept = self.kept_bytes(data)
        self.figures.frames_kept += sum(map(len, kept.values()))
        patches = self.kept_patches(data)
        self.figures.patches_kept += len(patches)
        source = CountingSource(self.stage.store)
        self.scenario.change(source, data)
        self.figures.patches_fetched_twice += len(patches.intersection(source.whole))
        for name, start, size in source.asked:
            for begin, length in kept.get(name, ()):
                if begin < start + size and start < begin + length:
                    self.figures.frames_fetched_twice += 1
        if _current_tree(data) != self.wanted or printed(data) != self.scenario.after:
            self.problem("the next run did not end where it should")
        if left := leftovers(data):
            self.problem(f"{left} is left over")

    def kept_bytes(self, data: Path) -> dict[str, list[tuple[int, int]]]:
        """The places, by volume, of frames that the dead run had verified."""
        kept: dict[str, list[tuple[int, int]]] = {}
        for folder in (data / "backends/cuda/partial").glob("*"):
            for release in self.releases():
                done = journaled_frames(folder / JOURNAL, release)
                for component in release.components:
                    index = self.index(component)
                    places = frame_places(index.frames, component.volumes, archive="test")
                    for number in done[component.component]:
                        place = places[number]
                        name = component.volumes[place.volume].name
                        kept.setdefault(name, []).append((place.start, place.size))
        return kept

    def kept_patches(self, data: Path) -> set[str]:
        """The patches that the dead run had verified, whatever they are called there."""
        kept = [
            path for path in (data / "backends/cuda/partial").rglob("*") if path.is_file() and not path.is_symlink()
        ]
        contents = {path.read_bytes() for path in kept if not path.name.endswith(".tmp")}
        return {path.name for path in self.stage.store.rglob("*.patch") if path.read_bytes() in contents}

    def releases(self) -> list[Release]:
        if not hasattr(self, "_releases"):
            files = sorted(self.stage.store.rglob("*.release.json"))
            self._releases = [read_record(Release, path.read_bytes(), origin="test") for path in files]
            self._indexes: dict[str, Index] = {}
        return self._releases

    def index(self, component: ComponentRecord) -> Index:
        name = component.index.name
        if name not in self._indexes:
            data = next(self.stage.store.rglob(name)).read_bytes()
            self._indexes[name] = read_index(data, component)
        return self._indexes[name]


def leftovers(data: Path) -> list[str]:
    """What no run should leave."""
    home = data / "backends/cuda"
    if not home.exists():
        return [path.name for path in data.rglob("*.tmp")]
    left = [path.name for path in (home / "partial").glob("*")]
    left += [path.name for path in home.iterdir() if path.name not in BELONGS]
    for version in (home / "versions").iterdir():
        left += [path.name for path in version.iterdir() if path.name not in BELONGS_TO_VERSION]
    return left


def _current_tree(data: Path) -> dict[str, Any] | None:
    version = current_version(Home(data, "cuda"))
    return None if version is None else tree_files(version.tree)


def _content(folder: Path) -> dict[str, Any]:
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mode, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def clone(template: Path, data: Path) -> None:
    """A copy whose installed files are links: they are never written to, which is checked at the end."""
    if not template.exists():
        return
    for folder, folders, files in os.walk(template):
        here = data / Path(folder).relative_to(template)
        here.mkdir(parents=True)
        for name in (*files, *folders):
            source = Path(folder, name)
            if source.is_symlink():
                (here / name).symlink_to(source.readlink())
            elif name in files and "tree" in source.relative_to(template).parts:
                os.link(source, here / name)
            elif name in files:
                shutil.copy2(source, here / name)


def main() -> None:
    work = Path(sys.argv[1])
    stage = Stage(work)
    scenarios = stage.scenarios()
    found = {}
    for name in sys.argv[2:]:
        folder = work / name.replace(" ", "-")
        folder.mkdir()
        found[name] = asdict(Looker(stage, scenarios[name], folder).run())
    print(json.dumps(found))


if __name__ == "__main__":
    main()
