"""Where updates are measured: a store with several releases, a server on loopback, and an installed first release.

The first release is the tree as it was given; the others differ from it in one thing each. All of it lies below the
benchmark's work folder. Libs that the given store has are published from there and not packed again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.changed import Change, Tree, next_version
from bench.fileserver import serving
from bench.measure import Measured, run
from bench.rows.base import LADING, ROOT, Context

from lading.manifest.base import read_record
from lading.manifest.release import Release
from lading.store.home import trust_folder

COPIED = ("manifests", "build", "server", "packaging")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """A kind of update.

    Attributes:
        name: ``code``.
        version: The release that has it.
        change: Gives the changed files.
        label: Another label for the libs, when they change.
    """

    name: str
    version: str
    change: Change
    label: str | None = None


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What an update took.

    Attributes:
        measured: Seconds and memory of the command.
        received: All bytes that it received.
        requests: All requests.
        disk: Bytes that the new version takes on the disk.
    """

    measured: Measured
    received: int
    requests: int
    disk: int


class Bed:
    """The releases, the store, the data directory.

    Args:
        context: What the benchmark works with; it has a store.
        folder: Where everything lies.
        url: The store's address.
    """

    def __init__(self, context: Context, folder: Path, url: str) -> None:
        assert context.store is not None
        self.context = context
        self.folder = folder
        self.url = url
        self.given = context.store
        self.base = Tree(folder=context.tree, buildinfo=context.buildinfo, wheels=context.wheels)
        self.data = folder / "data"
        self.releases: dict[str, Release] = {}

    @property
    def store(self) -> Path:
        """The store that is served."""
        return self.folder / "store"

    def publish_base(self) -> None:
        """Publish the tree as it was given, and install it."""
        _link_tree(self.given / "assets", self.store / "assets")
        self._publish(self.base, self.base.info().version, ROOT)
        self.install()
        shutil.copytree(trust_folder(self.data), self.folder / "trust")

    def publish(self, edit: Edit) -> Release:
        """Make, pack and publish the release that has an edit, with patches from the first release."""
        work = self.folder / edit.name
        tree = next_version(self.base, work / "tree", edit.version, edit.change(self.base))
        release = self._publish(tree, edit.version, self._project(work / "project", edit.label))
        shutil.rmtree(work)
        return release

    def _publish(self, tree: Tree, version: str, project: Path) -> Release:
        out = self.folder / f"packed-{version}"
        words: list[str | Path] = ["--published", self.store, "--previous", self.store, "--project", project]
        packed = run(Context.pack_command(tree.folder, tree.buildinfo, "release", out, *words), cwd=ROOT)
        file = Path(json.loads(packed.stdout)["release"])
        keys = ["--keys", str(self.folder / "keys"), "--project", str(ROOT)]
        run([*LADING, "publish", out, "--to", self.store, *keys, "--json"], cwd=ROOT)
        self.releases[version] = read_record(Release, file.read_bytes(), origin=str(file))
        shutil.rmtree(out)
        return self.releases[version]

    def _project(self, target: Path, label: str | None) -> Path:
        """The project, with another label for the libs if need be."""
        if label is None:
            return ROOT
        for name in COPIED:
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (target / "manifests" / "toolkits").glob(f"{self.context.flavor}.yaml"):
            old = next(line for line in path.read_text("utf-8").splitlines() if line.startswith("label:"))
            path.write_text(path.read_text("utf-8").replace(old, f"label: {label}"), "utf-8")
        return target

    def client(self, *words: str | Path) -> Measured:
        """Run a command of the client on the data directory."""
        return run([*LADING, *words, "--data", self.data, "--json"], cwd=ROOT)

    def install(self, version: str | None = None) -> Taken:
        """Install a release, as a person would, and measure it."""
        before = disk_use(self.data)
        info = self.base.info()
        words: list[str | Path] = ["--root", self.store / "metadata" / "1.root.json", "--app", info.app]
        words += ["--flavor", self.context.flavor, "--force", "--version", version or info.version]
        measured = self.client("install", self.url, *words)
        said = json.loads(measured.stdout)
        return Taken(
            measured=measured,
            received=said["bytes_received"],
            requests=said["requests"],
            disk=disk_use(self.data) - before,
        )

    def check(self) -> Mapping[str, Any]:
        """Ask for an update when there is none."""
        said: dict[str, Any] = json.loads(self.client("update", "--check").stdout)
        found: Mapping[str, Any] = said["variants"][0]
        return found

    def back(self, version: str) -> None:
        """Be at the first release again, and nowhere else; what is known of the repository is as old as it was."""
        words = ("--app", self.base.info().app, "--variant", self.base.info().variant)
        self.client("rollback", *words, "--to", self.base.info().version)
        self.client("uninstall", *words, "--version", version)
        shutil.rmtree(trust_folder(self.data))
        shutil.copytree(self.folder / "trust", trust_folder(self.data))

    def remove_patches(self, version: str) -> None:
        """Take a release's patches from the store: the state of a client that is older than all of them."""
        release = self.releases[version]
        for patch in release.patches:
            for path in (self.store / "assets").rglob(patch.asset.name):
                path.unlink()


def disk_use(folder: Path) -> int:
    """Bytes that a folder takes on the disk; what has several names counts once."""
    seen: dict[tuple[int, int], int] = {}
    for path in folder.rglob("*"):
        found = path.lstat()
        seen[found.st_dev, found.st_ino] = getattr(found, "st_blocks", -(-found.st_size // 512)) * 512
    return sum(seen.values())


def _link_tree(source: Path, target: Path) -> None:
    """A copy without taking room where the file system can do that."""

    def link(one: str, other: str) -> None:
        try:
            os.link(one, other)
        except OSError:
            shutil.copy2(one, other)

    shutil.copytree(source, target, copy_function=link)


@contextmanager
def made(context: Context) -> Iterator[Bed]:
    """The bed of this run: made by the first row that needs it, removed with the work folder."""
    folder = context.work / "updates"
    (folder / "store").mkdir(parents=True, exist_ok=True)
    with serving(folder / "store") as url:
        if "bed" not in context.cache:
            bed = Bed(context, folder, url)
            bed.publish_base()
            context.cache["bed"] = bed
        found: Bed = context.cache["bed"]
        found.url = url
        yield found
