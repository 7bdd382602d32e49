"""What to publish and what is there already: pure decisions over what a destination says that it has.

Rules:
    1. An object that is there with the same bytes is left alone.
    2. An object that is there with other bytes stops everything before the first byte is sent: a version and a label
       name one content for ever.
    3. An object that is neither there nor in the packed folder is taken from another destination that has it; when
       there is none, that stops everything as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lading.errors import FormatInvalid, LabelTaken, ReleaseTaken
from lading.manifest.release import Release
from lading.publish.destination import Stored
from lading.publish.packed import Packed, PackedObject


@dataclass(frozen=True, kw_only=True)
class PublishPlan:
    """What to do.

    Attributes:
        upload: Objects to send, in order.
        skip: Objects that are there.
        absent: Objects that are neither there nor at hand.
    """

    upload: tuple[PackedObject, ...]
    skip: tuple[PackedObject, ...]
    absent: tuple[PackedObject, ...]


def plan_objects(packed: Packed, there: Mapping[str, Stored]) -> PublishPlan:
    """Divide a release's objects by what a destination has.

    Args:
        packed: The release.
        there: What the destination has, by path.

    Returns:
        The plan.

    Raises:
        LabelTaken, ReleaseTaken: Rule 2.
    """
    upload: list[PackedObject] = []
    skip: list[PackedObject] = []
    absent: list[PackedObject] = []
    for item in packed.objects:
        found = there.get(item.path)
        if found is None:
            at_hand = item.data is not None or (item.source is not None and item.source.is_file())
            (upload if at_hand else absent).append(item)
        elif (found.size, found.sha256) == (item.size, item.sha256):
            skip.append(item)
        else:
            raise taken(packed.release, item, found)
    return PublishPlan(upload=tuple(upload), skip=tuple(skip), absent=tuple(absent))


def nowhere(release: Release, absent: Sequence[PackedObject]) -> FormatInvalid:
    """The error for rule 3."""
    first = absent[0].source or absent[0].path
    return FormatInvalid(
        f"{len(absent)} files of {release.app} {release.version} ({release.flavor}, {release.platform}) are neither "
        f"packed nor published, first {first}.",
        usually="Packing was interrupted, or a libs label was packed elsewhere and never published here.",
        todo="Pack again, then publish.",
    )


def taken(release: Release, item: PackedObject, found: Stored) -> ReleaseTaken | LabelTaken:
    """The error for rule 2."""
    published, packed = f"{found.size} bytes ({found.sha256})", f"{item.size} ({item.sha256})"
    detail = f"{item.path} is published with {published}, packed with {packed}."
    if item.component == "libs":
        label = next(component.version for component in release.components if component.component == "libs")
        return LabelTaken(
            f"The libs label {label} already names other content: {detail}",
            usually="The libraries changed, but the toolkit's label did not.",
            todo="Raise the label in the toolkit's manifest, pack and publish again.",
        )
    return release_taken(release, detail)


def release_taken(release: Release, detail: str) -> ReleaseTaken:
    """The error for a version that names other content."""
    return ReleaseTaken(
        f"{release.app} {release.version} ({release.flavor}, {release.platform}) already names other content: {detail}",
        usually="The program was built again under a version that is already published.",
        todo="Raise the version, build and publish again.",
    )
