"""The record of a whole build: how long each step took, what came out, whether it is good, and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from lading.manifest.base import Component, Record
from lading.manifest.buildinfo import OwnedEntry
from lading.verify.record import Verification


class Step(Record):
    """One step of the road.

    Attributes:
        name: Such as ``pack``.
        seconds: How long it took.
        reused: It had nothing to do, because an earlier result still holds.
        note: What it did or reused, in a few words.
    """

    name: str
    seconds: float = Field(ge=0)
    reused: bool = False
    note: str = ""


class OwnerSize(Record):
    """How much of a tree belongs to one owner.

    Attributes:
        owner: A distribution, or ``app``, ``python`` and so on.
        component: Where its files go; none for a tree that is not split.
        files: Number of files and links.
        size: Bytes, unpacked.
    """

    owner: str
    component: Component | None = None
    files: int
    size: int


class Part(Record):
    """One component as it is shipped.

    Attributes:
        name: core or libs.
        version: The app's version, or the label.
        files: Number of entries.
        unpacked: Bytes of the files.
        packed: Bytes that a first install downloads.
        budget: Largest allowed ``packed``, when there is one.
        reused: It was packed or published before.
    """

    name: Component
    version: str
    files: int
    unpacked: int
    packed: int
    budget: int | None = None
    reused: bool = False


class SummaryAsset(Record):
    """A published file.

    Attributes:
        name: Its file name.
        size: Bytes.
    """

    name: str
    size: int


class Place(Record):
    """Where something is.

    Attributes:
        what: Such as ``tree`` or ``store``.
        path: A path relative to the project, or a URL.
    """

    what: str
    path: str


class BuildSummary(Record):
    """What a build did and made.

    Attributes:
        app, version, flavor, platform, commit: Which build.
        profile: The compression profile.
        steps: In order.
        seconds: From the first command to the last.
        tree_files, tree_size: The whole tree.
        owners: Its content by owner, largest first.
        parts: core, then libs.
        assets: Published files.
        facts: Further facts for a person, such as the torch build, by name.
        verifications: Reports by what was verified: ``packed``, ``installed``.
        places: Where everything is.
        outcome: How it ended.
        problem: Why it did not end well.
    """

    schema_: Literal["lading/summary/1"] = Field(default="lading/summary/1", alias="schema")
    app: str
    version: str
    flavor: str
    platform: str
    commit: str = "unknown"
    profile: str | None = None
    steps: tuple[Step, ...]
    seconds: float = Field(ge=0)
    tree_files: int = 0
    tree_size: int = 0
    owners: tuple[OwnerSize, ...] = ()
    parts: tuple[Part, ...] = ()
    assets: tuple[SummaryAsset, ...] = ()
    facts: dict[str, str] = Field(default_factory=dict)
    verifications: dict[str, Verification] = Field(default_factory=dict)
    places: tuple[Place, ...] = ()
    outcome: Literal["done", "failed"] = "done"
    problem: str | None = None

    @property
    def good(self) -> bool:
        """It ended well and every verification passed."""
        return self.outcome == "done" and all(report.passed for report in self.verifications.values())

    @property
    def downloads(self) -> int:
        """Bytes of a first install."""
        return sum(part.packed for part in self.parts)


def sizes_by_owner(
    entries: Iterable[OwnedEntry], components: Mapping[str, Component] | None = None
) -> tuple[OwnerSize, ...]:
    """Add up a tree by owner.

    Args:
        entries: The tree.
        components: The component of each path, when the tree is split.

    Returns:
        One record for each owner and component, largest first.
    """
    sums: dict[tuple[str, Component | None], list[int]] = {}
    for entry in entries:
        key = (entry.owner, components.get(entry.path) if components is not None else None)
        total = sums.setdefault(key, [0, 0])
        total[0] += 1
        total[1] += entry.size
    found = (
        OwnerSize(owner=owner, component=component, files=files, size=size)
        for (owner, component), (files, size) in sums.items()
    )
    return tuple(sorted(found, key=lambda item: (-item.size, item.owner, item.component or "")))


def top(owners: Iterable[OwnerSize], count: int) -> tuple[OwnerSize, ...]:
    """The largest owners, and one line for all others together (their components are not told apart)."""
    ordered = sorted(owners, key=lambda item: (-item.size, item.owner))
    if len(ordered) <= count + 1:  # a line "1 other" would take the room of its name
        return tuple(ordered)
    rest = ordered[count:]
    files, size = sum(item.files for item in rest), sum(item.size for item in rest)
    return (*ordered[:count], OwnerSize(owner=f"{len(rest)} others", files=files, size=size))
