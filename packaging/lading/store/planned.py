"""A plan as a record: what an install would do, or did, for a person or a program to read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from lading.manifest.base import Component, Record
from lading.store.plan import ComponentPlan, Plan

How = Literal["nothing", "patch", "frames"]


class Way(Record):
    """How one component is come by, and why.

    Attributes:
        component, version: Which.
        how: ``nothing`` need be fetched; by ``patch``; or by ``frames`` of its archive.
        why: The reason, for a person.
        index_bytes, patch_bytes, frame_bytes: What is fetched for it.
        requests: In how many requests.
        instead: Bytes that the other way would have cost, where it is known.
    """

    component: Component
    version: str
    how: How
    why: str
    index_bytes: int = 0
    patch_bytes: int = 0
    frame_bytes: int = 0
    requests: int = 0
    instead: int | None = None

    @property
    def bytes(self) -> int:
        """Everything that is fetched for the component."""
        return self.index_bytes + self.patch_bytes + self.frame_bytes


class Acquired(Record):
    """How a component's index was come by, and what became of its patch.

    Attributes:
        index_bytes: Bytes fetched for the index itself; none when it was here or came out of the patch.
        patch_bytes: Bytes fetched of the patch so far.
        refused: Why the patch that could have been used is not, when it proved wrong.
    """

    index_bytes: int = 0
    patch_bytes: int = 0
    refused: str | None = None


def way_of(part: ComponentPlan, acquired: Acquired) -> Way:
    """Say how a component is come by.

    Args:
        part: What is planned for it.
        acquired: What was fetched before the plan could be made.
    """
    patch_bytes = acquired.patch_bytes + part.patch_bytes
    frame_bytes = part.frame_bytes
    way = Way(
        component=part.component.component,
        version=part.component.version,
        how="patch" if part.patch or acquired.patch_bytes else "frames" if part.general else "nothing",
        why="",
        index_bytes=acquired.index_bytes,
        patch_bytes=patch_bytes,
        frame_bytes=frame_bytes,
        requests=bool(acquired.index_bytes) + bool(patch_bytes) + len(part.ranges),
    )
    return way.model_copy(update=_reason(part, way, acquired))


def _reason(part: ComponentPlan, way: Way, acquired: Acquired) -> Mapping[str, object]:
    index = part.component.index.size
    if acquired.refused is not None:
        return {"how": "frames" if part.general else "nothing", "why": f"the patch cannot be used: {acquired.refused}"}
    if way.how == "nothing":
        return {"why": "every file of it is here"}
    start = part.offered.record.from_version if part.offered else None
    if way.how == "patch":
        instead = part.general + index
        return {"why": f"the patch from {start} is fewer bytes", "instead": instead}
    if part.offered is None:
        return {"why": "no patch leads here from an installed version"}
    return {"why": f"fewer bytes than the patch from {start}", "instead": part.offered.left}


class PlannedReuse(Record):
    """A file taken from an installed version: linked, or copied."""

    path: str
    version: str
    source: str
    link: bool


class PlannedRange(Record):
    """One request for frames."""

    volume: str
    start: int
    size: int
    frames: tuple[int, ...]


class PlanReport(Record):
    """A plan for a person or a program to read.

    Attributes:
        version_id: The version's folder name.
        installed: It is installed already; nothing to do but, perhaps, to point to it.
        ways: How each component is come by.
        expected: Bytes that an install receives, by kind: metadata, indexes, patches, frames.
        fetch_bytes, requests: Bytes of frames and requests for them, by component.
        staged_bytes: Archive bytes that an earlier run has fetched already.
        reused_files, reused_bytes: Taken from installed versions.
        patched_files: Made from older files by patches.
        written_files: Put together from frames.
        disk_needed, disk_free: Bytes.
        reuse: Every file that is taken from an installed version.
        patched, written: Every file that comes out of a patch, and out of frames.
        ranges: Every request for frames.
    """

    version_id: str
    installed: bool
    ways: tuple[Way, ...] = ()
    expected: dict[str, int] = Field(default_factory=dict)
    fetch_bytes: dict[str, int] = Field(default_factory=dict)
    requests: dict[str, int] = Field(default_factory=dict)
    staged_bytes: int = 0
    reused_files: int = 0
    reused_bytes: int = 0
    patched_files: int = 0
    written_files: int = 0
    disk_needed: int = 0
    disk_free: int = 0
    reuse: tuple[PlannedReuse, ...] = ()
    patched: tuple[str, ...] = ()
    written: tuple[str, ...] = ()
    ranges: tuple[PlannedRange, ...] = ()


def report_plan(
    plan: Plan, acquired: Mapping[Component, Acquired], *, version_id: str, metadata: int, free: int
) -> PlanReport:
    """Write a plan down.

    Args:
        plan: The plan.
        acquired: How each component's index was come by.
        version_id: The version's folder name.
        metadata: Bytes of metadata that were received.
        free: Bytes of room.
    """
    ways = tuple(way_of(part, acquired[part.component.component]) for part in plan.components)
    return PlanReport(
        version_id=version_id,
        installed=False,
        ways=ways,
        expected={
            "metadata": metadata,
            "indexes": sum(way.index_bytes for way in ways),
            "patches": sum(way.patch_bytes for way in ways),
            "frames": plan.fetch_bytes,
        },
        fetch_bytes={part.component.component: part.frame_bytes for part in plan.components},
        requests={part.component.component: len(part.ranges) for part in plan.components},
        staged_bytes=plan.staged_bytes,
        reused_files=len(plan.reuse),
        reused_bytes=plan.reused_bytes,
        patched_files=plan.patched_files,
        written_files=plan.written_files,
        disk_needed=plan.disk,
        disk_free=free,
        reuse=tuple(
            PlannedReuse(path=item.entry.path, version=item.version, source=item.path, link=item.link)
            for item in plan.reuse
        ),
        patched=tuple(item.entry.path for part in plan.components for item in part.patched),
        written=tuple(entry.path for part in plan.components for entry in part.files),
        ranges=tuple(_ranges(plan)),
    )


def _ranges(plan: Plan) -> list[PlannedRange]:
    return [
        PlannedRange(
            volume=part.component.volumes[item.volume].name,
            start=item.start,
            size=item.size,
            frames=tuple(place.number for place in item.frames),
        )
        for part in plan.components
        for item in part.ranges
    ]
