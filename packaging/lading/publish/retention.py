"""Which releases stay listed, and which assets they need: pure decisions about making room.

Rules, for each channel, platform and flavor by itself:
    1. The newest versions that everybody is offered stay, as many as are asked for, and at least one.
    2. What is being rolled out stays while it is newer than all of them; it does not count as one of them.
    3. What is withdrawn goes. While nothing newer is offered to everybody, its withdrawal stays listed without its
       files: machines that have it must still hear of it.
    4. Everything else goes.

A release's files stay while any channel lists it. An asset may be deleted when all of this holds:
    5. No listed release of any app names it: neither its archives, indexes and records, nor its patches, also those
       from versions that are gone, because machines that still have these fetch them.
    6. No release names it that was taken off less than the grace period ago: clients that read the index before may
       be fetching it.
    7. It was put there at least the grace period ago: it may belong to a publication that somebody goes on with.

Signed files are small, and say for ever what was published: none of them is deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from lading.manifest.channel import Channel, ChannelEntry, Retired, RetiredRelease
from lading.manifest.release import Release
from lading.publish.destination import Listed
from lading.publish.packed import release_objects


@dataclass(frozen=True, kw_only=True)
class Unlisted:
    """A release that a channel gives up.

    Attributes:
        channel: The channel's name.
        entry: What it listed.
        why: Which rule, for a person.
    """

    channel: str
    entry: ChannelEntry
    why: str


@dataclass(frozen=True, kw_only=True)
class Retention:
    """What is listed from now on.

    Attributes:
        channels: All channels of the app.
        unlisted: What they gave up.
    """

    channels: Mapping[str, Channel]
    unlisted: tuple[Unlisted, ...]

    @property
    def targets(self) -> frozenset[str]:
        """The TUF target paths of the releases that stay."""
        return frozenset(entry.target for c in self.channels.values() for entry in c.releases if entry.target)


def retain(channels: Mapping[str, Channel], keep: int) -> Retention:
    """Decide what stays listed; rules 1 to 4.

    Args:
        channels: All channels of an app.
        keep: How many versions of each channel, platform and flavor; at least 1.
    """
    if keep < 1:
        message = "at least one version is kept"
        raise ValueError(message)
    kept: dict[str, Channel] = {}
    unlisted: list[Unlisted] = []
    for name, channel in channels.items():
        stay: list[ChannelEntry] = []
        newest = _newest_sound(channel, keep)
        for entry in channel.releases:
            sound = newest.get((entry.platform, entry.flavor), ())
            remains, why = _judge(entry, sound, keep)
            if remains is not None:
                stay.append(remains)
            if entry.target is not None and (remains is None or remains.target is None):
                unlisted.append(Unlisted(channel=name, entry=entry, why=why))
        kept[name] = channel.model_copy(update={"releases": tuple(stay)})
    return Retention(channels=kept, unlisted=tuple(unlisted))


def _newest_sound(channel: Channel, keep: int) -> dict[tuple[str, str], tuple[str, ...]]:
    """The newest versions that everybody is offered, by platform and flavor."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for entry in channel.releases:
        key = (entry.platform, entry.flavor)
        if entry.for_everybody and len(found.get(key, ())) < keep:
            found[key] = (*found.get(key, ()), entry.version)
    return found


def _judge(entry: ChannelEntry, sound: Sequence[str], keep: int) -> tuple[ChannelEntry | None, str]:
    """What remains of an entry, and why not all of it."""
    ahead = not sound or Version(entry.version) > Version(sound[0])
    if entry.withdrawn is not None:
        return (entry.model_copy(update={"target": None}) if ahead else None), "withdrawn"
    if entry.rollout is not None:
        return (entry if ahead else None), f"never rolled out to all, and older than {sound[0] if sound else ''}"
    return (
        entry if entry.version in sound else None
    ), "not the newest" if keep == 1 else f"not among the newest {keep}"


def objects_of(release: Release) -> dict[str, int]:
    """Every asset that a release names, with its size: path in the repository and bytes."""
    return {item.path: item.size for item in release_objects(release)}


def retired_after(known: Retired, dropped: Mapping[str, str], now: int, grace: int) -> Retired:
    """What is on record as taken off, once more releases are.

    Args:
        known: What is on record; what is older than the grace period is forgotten.
        dropped: Digests of the manifests that are taken off, by their target paths.
        now: The present moment, seconds since 1970.
        grace: Seconds.
    """
    recent = {release.target: release for release in in_flight(known, now, grace)}
    added = {path: RetiredRelease(target=path, sha256=sha256, at=now) for path, sha256 in dropped.items()}
    return Retired(releases=tuple(release for _, release in sorted((recent | added).items())))


def in_flight(retired: Retired, now: int, grace: int) -> tuple[RetiredRelease, ...]:
    """The releases that were taken off less than the grace period ago."""
    return tuple(release for release in retired.releases if now - release.at < grace)


@dataclass(frozen=True, kw_only=True)
class Room:
    """What a destination has, divided by what may become of it.

    Attributes:
        remove: May be deleted now, in this order.
        wait: Is needed by no release, and stays until the grace period is over.
        keep: Is needed.
    """

    remove: tuple[Listed, ...]
    wait: tuple[Listed, ...]
    keep: tuple[Listed, ...]


def divide(there: Iterable[Listed], needed: Collection[str], waiting: Collection[str], grace: float) -> Room:
    """Divide what is there; rules 5 to 7.

    Args:
        there: What a destination has.
        needed: Names of what the listed releases need.
        waiting: Names of what those need that were taken off less than the grace period ago.
        grace: Seconds.
    """
    keep, wait, remove = [], [], []
    for item in there:
        if item.name in needed:
            keep.append(item)
        elif item.name in waiting or max(0.0, item.age) < grace:
            wait.append(item)
        else:
            remove.append(item)
    return Room(remove=tuple(_records_first(remove)), wait=tuple(wait), keep=tuple(keep))


def _records_first(items: Iterable[Listed]) -> Iterator[Listed]:
    """A component's record says that the component is there, so it is the first of it to go."""
    return iter(sorted(items, key=lambda item: (not item.name.endswith(".json"), item.name)))
