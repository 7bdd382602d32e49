"""What a row of the benchmark is: two sides measured in one run on one machine, their ratio, and a goal for it.

Rows know nothing of how they are printed; a side that several rows need (the peer's packing takes minutes) is measured
once in a run and never taken from an earlier one.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.measure import Measured, run, warm

from lading.manifest.base import read_record
from lading.manifest.buildinfo import BuildInfo

ROOT = Path(__file__).resolve().parent.parent.parent
PEER = (sys.executable, "-m", "bench.peers.reference_way")
LADING = (sys.executable, "-m", "lading")
Unit = Literal["s", "kB", "MB", "MiB", "ms", "requests", "%"]
Need = Literal["store", "freeze_python", "wheels", "object_store"]

OPTIONS: dict[Need, str] = {
    "store": "no signed store was given (--store)",
    "freeze_python": "no interpreter with PyInstaller was given (--freeze-python)",
    "wheels": "the other versions of what is updated were not given (--wheels) and could not be fetched",
    "object_store": "boto3 and the object store of the tests are not installed here: uploads are measured apart",
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """One line of the table.

    Attributes:
        row: The row's name.
        what: What is compared.
        unit: Of both values: smaller is better in every unit.
        peer: The peer's value; none where the goal is a limit.
        ours: Lading's value.
        goal: The smallest ratio peer / ours that is good enough; none where the goal is a limit.
        limit: The largest good value of ours; none where the goal is a ratio.
    """

    row: str
    what: str
    unit: Unit
    ours: float
    peer: float | None = None
    goal: float | None = None
    limit: float | None = None

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer."""
        return None if self.peer is None else self.peer / self.ours

    @property
    def reached(self) -> bool:
        """Whether the goal, or the limit, or both are met."""
        ratio_ok = self.goal is None or (self.ratio is not None and self.ratio >= self.goal)
        return ratio_ok and (self.limit is None or self.ours <= self.limit)


@dataclass(kw_only=True)
class Context:
    """What rows work with.

    Attributes:
        tree: A frozen tree.
        buildinfo: Its ``buildinfo.json``.
        work: A folder for temporary output; the driver removes it.
        store: A published, signed folder store with that build, for rows that install; none to skip them.
        freeze_python: An interpreter with PyInstaller, for rows that freeze; none to skip them.
        wheels: A folder with other versions of some dependencies, unpacked; none to skip the rows that update them.
        object_store: What uploads are measured with is installed; none to skip the rows that upload.
        cache: Sides that were measured in this run.
    """

    tree: Path
    buildinfo: Path
    work: Path
    store: Path | None = None
    freeze_python: Path | None = None
    wheels: Path | None = None
    object_store: Literal[True] | None = None
    cache: dict[str, Any] = field(default_factory=dict)

    @property
    def flavor(self) -> str:
        """The tree's toolkit, or ``cpu``."""
        return read_record(BuildInfo, self.buildinfo.read_bytes(), origin=str(self.buildinfo)).toolkit or "cpu"

    @contextmanager
    def folder(self, name: str) -> Iterator[Path]:
        """A fresh folder that is gone after the block; several 5 GB trees at once do not fit everywhere."""
        path = self.work / name
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path)

    def peer_packed(self) -> tuple[Measured, dict[str, Any], Path]:
        """The tree as the peer packs it: measured figures, what it said, and where the archives are."""
        if "peer" not in self.cache:
            out = self.work / "peer"
            warm(self.tree)
            measured = run([*PEER, "pack", self.tree, out], cwd=ROOT)
            self.cache["peer"] = (measured, json.loads(measured.stdout), out)
        found: tuple[Measured, dict[str, Any], Path] = self.cache["peer"]
        return found

    def lading_packed(self, profile: str, out: Path, *extra: str | Path) -> Measured:
        """Pack the tree with Lading into an empty folder."""
        warm(self.tree)
        return run(self.pack_command(self.tree, self.buildinfo, profile, out, *extra), cwd=ROOT)

    @staticmethod
    def pack_command(tree: Path, buildinfo: Path, profile: str, out: Path, *extra: str | Path) -> list[str | Path]:
        """The command line that packs a tree."""
        return [*LADING, "pack", tree, "--buildinfo", buildinfo, "--profile", profile, "--out", out, *extra, "--json"]


class CannotMeasure(Exception):
    """A row finds out while it is measured that it cannot be, and says why."""


class Row(Protocol):
    """One comparison, which may give several lines."""

    name: str
    needs: tuple[Need, ...]

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Measure both sides."""


def unable(row: Row, context: Context) -> str | None:
    """Why a row cannot be measured with what there is, or none."""
    return next((OPTIONS[need] for need in row.needs if getattr(context, need) is None), None)


def published_bytes(folder: Path) -> int:
    """Every byte of a packed folder that a first install downloads: archives, indexes and manifests, not checksums."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".sha256")


def kilobytes(size: int) -> float:
    """Bytes as kB."""
    return size / 1e3


def megabytes(size: int) -> float:
    """Bytes as MB."""
    return size / 1e6


def mebibytes(size: int) -> float:
    """Bytes as MiB."""
    return size / 2**20
