"""What to publish and what is there already: pure decisions over what a destination says that it has.

Rules:
    1. An object that is there with the same bytes is left alone.
    2. An object that is there with other bytes stops everything before the first byte is sent: a version and a label
       name one content for ever.
    3. An object that is neither there nor in the packed folder stops everything as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.version import Version

from lading.errors import FormatInvalid, LabelTaken, ReleaseTaken
from lading.manifest.release import Channel, ChannelEntry, Release
from lading.publish.destination import Stored
from lading.publish.packed import Packed, PackedObject


@dataclass(frozen=True, kw_only=True)
class PublishPlan:
    """What to do.

    Attributes:
        upload: Objects to send, in order.
        skip: Objects that are there.
    """

    upload: tuple[PackedObject, ...]
    skip: tuple[PackedObject, ...]


def plan_objects(packed: Packed, there: Mapping[str, Stored]) -> PublishPlan:
    """Divide a release's objects by what a destination has.

    Args:
        packed: The release.
        there: What the destination has, by path.

    Returns:
        The plan.

    Raises:
        LabelTaken, ReleaseTaken: Rule 2.
        FormatInvalid: Rule 3.
    """
    upload: list[PackedObject] = []
    skip: list[PackedObject] = []
    for item in packed.objects:
        found = there.get(item.path)
        if found is None:
            upload.append(item)
        elif (found.size, found.sha256) == (item.size, item.sha256):
            skip.append(item)
        else:
            raise taken(packed.release, item, found)
    absent = [item for item in upload if item.source is not None and not item.source.is_file()]
    if absent:
        raise FormatInvalid(
            f"{len(absent)} of the release's files are neither packed nor published, first {absent[0].source}.",
            usually="Packing was interrupted, or a libs label was packed elsewhere and never published here.",
            todo="Pack again, then publish.",
        )
    return PublishPlan(upload=tuple(upload), skip=tuple(skip))


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


def with_release(channel: Channel, release: Release, target: str) -> Channel:
    """A channel with one more release, newest first; the same channel when it has the release already."""
    entry = ChannelEntry(version=release.version, platform=release.platform, flavor=release.flavor, target=target)
    entries = {(e.version, e.platform, e.flavor): e for e in (*channel.releases, entry)}
    return Channel(app=channel.app, channel=channel.channel, releases=newest_first(entries.values()))


def newest_first(entries: Iterable[ChannelEntry]) -> tuple[ChannelEntry, ...]:
    """Order by version, the newest first, then by platform and flavor."""
    named = sorted(entries, key=lambda entry: (entry.platform, entry.flavor))
    return tuple(sorted(named, key=lambda entry: Version(entry.version), reverse=True))
