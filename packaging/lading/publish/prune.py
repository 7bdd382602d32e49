"""Make room at destinations: take old releases off the channels first, delete their assets later.

What is done follows from :mod:`lading.publish.retention`. In two steps, each under the destinations' locks:

    1. New signed metadata without the releases that go, the timestamp last. They are put on record, signed like
       everything else, with the time.
    2. Assets that nothing needs are deleted, those of a release as soon as the grace period after step 1 is over: by a
       later run, unless there is no grace.

Killed at any moment, no listed release lacks anything, and the next run does the rest. Nothing is deleted when the
manifest of a listed release cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from lading.manifest.base import Record, canonical_json
from lading.manifest.channel import Retired
from lading.manifest.layout import RETIRED, channel_target
from lading.manifest.release import Release
from lading.publish.catalog import read_channels, read_releases, read_retired, read_target, release_paths, the_app
from lading.publish.destination import Destination, Listed
from lading.publish.retention import Retention, Room, divide, in_flight, objects_of, retain, retired_after
from lading.publish.together import Files, Signing, held, looked_at, write_all
from lading.publish.union import Member, leader
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import Role

GRACE = 86_400  # seconds
KEEP = 5  # versions


class PrunedRelease(Record):
    """A release that a channel gives up.

    Attributes:
        channel, version, platform, flavor: Which, and where.
        why: Why it goes.
        size: Bytes that nothing else needs; 0 while another channel lists it.
    """

    channel: str
    version: str
    platform: str
    flavor: str
    why: str
    size: int


class PrunedDestination(Record):
    """What was done at one destination, or would be.

    Attributes:
        destination: Where.
        removed: Names of what was deleted, or would be now.
        waiting: Names of what is deleted by a run after the grace period.
        missing: Names of what listed releases need and is not there.
        bytes_kept, bytes_removed, bytes_waiting: What they take.
        files: Signed files that were written, in order.
    """

    destination: str
    removed: tuple[str, ...]
    waiting: tuple[str, ...]
    missing: tuple[str, ...]
    bytes_kept: int
    bytes_removed: int
    bytes_waiting: int
    files: tuple[str, ...] = ()


class PruneReport(Record):
    """What was done, or would be.

    Attributes:
        app: Whose channels were looked at.
        keep: How many versions of each channel, platform and flavor stay.
        grace: Seconds for which what was taken off stays.
        unlisted: What is taken off the channels.
        kept: How many releases stay listed, of all apps.
        destinations: What happens at each.
        versions: The version of every TUF role.
    """

    app: str
    keep: int
    grace: int
    unlisted: tuple[PrunedRelease, ...]
    kept: int
    destinations: tuple[PrunedDestination, ...]
    versions: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is asked for.

    Attributes:
        keep: How many versions of each channel, platform and flavor stay.
        grace: Seconds for which the assets of a release stay after it was taken off.
        app: Whose channels; the only app's when none.
    """

    keep: int = KEEP
    grace: int = GRACE
    app: str | None = None


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What follows from what the destinations list.

    Attributes:
        app: Whose channels.
        channels: What changes of them: index by name.
        retention: What stays listed.
        dropped: Digests of the manifests that are taken off, by their target paths.
        retired: What is on record then.
        needed, waiting: Assets that listed releases need, and those that were taken off a short while ago.
        gone: What each release that is taken off needs, by its target path.
        kept: How many releases stay listed.
    """

    app: str
    channels: Mapping[str, bytes]
    retention: Retention
    dropped: Mapping[str, str]
    retired: Retired
    needed: frozenset[str]
    waiting: frozenset[str]
    gone: Mapping[str, Mapping[str, int]]
    kept: int

    @property
    def targets(self) -> dict[str, bytes]:
        """What is to be signed; nothing when nothing is taken off."""
        changes = self.dropped or self.retention.unlisted
        return {**self.channels, RETIRED: canonical_json(self.retired)} if changes else {}


def preview_prune(destinations: Sequence[Destination], wanted: Wanted, clock: Clock = system_clock) -> PruneReport:
    """Say what :func:`prune` would do; needs no keys and no lock.

    Raises:
        LadingError: As :func:`prune`, without those about writing.
    """
    with looked_at(destinations) as members:
        plan = _plan(leader(members), wanted, clock(), take_off=True)
        rooms = {member.name: _room(member.destination, plan, wanted.grace) for member in members}
        return _report(wanted, plan, rooms, leader(members).state.versions())


def prune(
    destinations: Sequence[Destination],
    wanted: Wanted,
    signing: Signing | None,
    *,
    clock: Clock = system_clock,
    tell: Callable[[PruneReport], None] = lambda _: None,
) -> PruneReport:
    """Make room.

    Args:
        destinations: Where one repository is published.
        wanted: What stays.
        signing: Keys; without them nothing is taken off, and only what was taken off before is deleted.
        clock: What time it is, when there are no keys.
        tell: Hears the plan before anything is done.

    Returns:
        What was done.

    Raises:
        ConfigError: There is no such app, there are several and none was named, or the destinations differ.
        KeyMissing, KeyUnusable: The keys are not at hand; nothing was changed.
        SignatureInvalid, FormatInvalid: What is published is not what was signed, or not ours to build upon.
        Busy: A publisher is at it.
        AccessDenied, DiskFull, Unavailable: A destination refuses; run again to go on.
    """
    now = (signing.clock if signing else clock)()
    with held(destinations, signing.keys if signing else None) as members:
        lead = leader(members)
        plan = _plan(lead, wanted, now, take_off=signing is not None)
        rooms = {member.name: _room(member.destination, plan, wanted.grace) for member in members}
        tell(_report(wanted, plan, rooms, lead.state.versions()))
        versions, written = write_all(members, signing, plan.targets, plan.dropped)
    with held(destinations, None) as members:  # anew: what was taken off is visible now, and others may have published
        again = _plan(leader(members), wanted, now, take_off=False)
        for member in members:
            rooms[member.name] = _room(member.destination, again, wanted.grace)
            member.destination.remove([item.name for item in rooms[member.name].room.remove])
    return _report(wanted, plan, rooms, versions, written)


def _plan(lead: Member, wanted: Wanted, now: datetime, *, take_off: bool) -> _Plan:
    state, read, moment = lead.state, lead.read, int(now.timestamp())
    app = the_app(state, wanted.app, lead.destination)
    channels = read_channels(state, read, app)
    retention = retain(channels, wanted.keep) if take_off else Retention(channels=channels, unlisted=())
    gone = set(release_paths(state, app)) - retention.targets if take_off else set[str]()
    dropped = {path: sha256 for path in sorted(gone) if (sha256 := state.target_sha256(path)) is not None}
    listed = {path: objects_of(release) for path, release in read_releases(state, read, release_paths(state))}
    retired = retired_after(read_retired(state, read), dropped, moment, wanted.grace)
    recent = [
        listed.get(one.target) or objects_of(_retired_release(lead, one.target, one.sha256))
        for one in in_flight(retired, moment, wanted.grace)
    ]
    return _Plan(
        app=app,
        channels={
            channel_target(app, name): canonical_json(channel)
            for name, channel in retention.channels.items()
            if channel != channels[name]
        },
        retention=retention,
        dropped=dropped,
        retired=retired,
        needed=frozenset(path for target, objects in listed.items() if target not in dropped for path in objects),
        waiting=frozenset(path for objects in recent for path in objects),
        gone={target: objects for target, objects in listed.items() if target in dropped},
        kept=len(listed) - len(dropped),
    )


def _retired_release(lead: Member, target: str, sha256: str) -> Release:
    found = read_target(Release, target, lead.state, lead.read, sha256=sha256)
    assert found is not None  # with a digest it is there or an error
    return found


@dataclass(frozen=True, kw_only=True)
class _There:
    """One destination's assets, divided; and what is not among them."""

    room: Room
    missing: tuple[str, ...]


def _room(destination: Destination, plan: _Plan, grace: int) -> _There:
    there = tuple(destination.listing())
    needed = {destination.lies_at(path) for path in plan.needed}
    waiting = {destination.lies_at(path) for path in plan.waiting}
    missing = sorted(needed - {item.name for item in there})
    return _There(room=divide(there, needed, waiting, grace), missing=tuple(missing))


def _report(
    wanted: Wanted,
    plan: _Plan,
    rooms: Mapping[str, _There],
    versions: Mapping[Role, int],
    written: Mapping[str, Files] | None = None,
) -> PruneReport:
    return PruneReport(
        app=plan.app,
        keep=wanted.keep,
        grace=wanted.grace,
        unlisted=tuple(
            PrunedRelease(
                channel=one.channel,
                version=one.entry.version,
                platform=one.entry.platform,
                flavor=one.entry.flavor,
                why=one.why,
                size=_own(plan, one.entry.target or ""),
            )
            for one in plan.retention.unlisted
        ),
        kept=plan.kept,
        destinations=tuple(_pruned(name, there, (written or {}).get(name, ())) for name, there in rooms.items()),
        versions=dict(versions),
    )


def _own(plan: _Plan, target: str) -> int:
    """Bytes that only a release that goes needs."""
    return sum(size for path, size in plan.gone.get(target, {}).items() if path not in plan.needed)


def _pruned(name: str, there: _There, files: Files) -> PrunedDestination:
    room = there.room
    return PrunedDestination(
        destination=name,
        removed=tuple(item.name for item in room.remove),
        waiting=tuple(item.name for item in room.wait),
        missing=there.missing,
        bytes_kept=_bytes(room.keep),
        bytes_removed=_bytes(room.remove),
        bytes_waiting=_bytes(room.wait),
        files=tuple(path for path, _ in files),
    )


def _bytes(items: Sequence[Listed]) -> int:
    return sum(item.size for item in items)
