"""Change what the channels of a published repository offer: no archive is sent, only signed metadata.

The indexes are read under the destinations' locks, changed by a decision of :mod:`lading.publish.listing`, signed once
and written, the timestamp last: clients see either all of it or nothing. A change that changes nothing writes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lading.manifest.base import Record, canonical_json
from lading.manifest.channel import Channel
from lading.manifest.layout import channel_target
from lading.publish.catalog import read_channels, the_app
from lading.publish.destination import Destination
from lading.publish.signing import signed_channels
from lading.publish.together import Files, Signing, held, looked_at, write_all
from lading.publish.union import leader
from lading.sign.keys import Role
from lading.sign.repository import State, is_development, load_state

Channels = Mapping[str, Channel]
Change = Callable[[Channels], Channels]


class Written(Record):
    """What was written to one destination.

    Attributes:
        destination: Where.
        files: Signed files, in order.
    """

    destination: str
    files: tuple[str, ...] = ()


class ChannelsReport(Record):
    """The channels of an app.

    Attributes:
        app: The app's name.
        channels: All of them, as they are now, or as they would be.
        changed: The names of those that were changed, or would be.
        destinations: What was written to each.
        versions: The version of every TUF role.
        development: The repository is signed with development keys.
    """

    app: str
    channels: tuple[Channel, ...]
    changed: tuple[str, ...] = ()
    destinations: tuple[Written, ...]
    versions: dict[str, int]
    development: bool


def show_channels(destinations: Sequence[Destination], app: str | None = None) -> ChannelsReport:
    """Say what the channels offer; needs no keys and no lock.

    Args:
        destinations: Where one repository is published.
        app: The app; the only one when none.

    Raises:
        ConfigError: There is no such app, or there are several and none was named; or the destinations differ.
        SignatureInvalid, FormatInvalid: What is published is not what was signed.
    """
    return preview_change(destinations, lambda channels: channels, app)


def preview_change(destinations: Sequence[Destination], change: Change, app: str | None = None) -> ChannelsReport:
    """Say what :func:`change_channels` would do; needs no keys and no lock.

    Raises:
        LadingError: As :func:`change_channels`.
    """
    with looked_at(destinations) as members:
        lead = leader(members)
        name = the_app(lead.state, app, lead.destination)
        before = read_channels(lead.state, lead.read, name)
    written = {member.name: () for member in members}
    return _report(name, before, change(before), lead.state, written=written)


def change_channels(
    destinations: Sequence[Destination], change: Change, signing: Signing, app: str | None = None
) -> ChannelsReport:
    """Change channels.

    Args:
        destinations: Where one repository is published.
        change: Gives the channels as they shall be.
        signing: Keys and clock.
        app: The app; the only one when none.

    Returns:
        What they are now, and what was written.

    Raises:
        ConfigError: There is no such app, channel or release, the change makes no sense, or the destinations differ.
        KeyMissing, KeyUnusable: The keys are not at hand; nothing was written.
        SignatureInvalid, FormatInvalid: What is published is not what was signed, or not ours to build upon.
        Busy: A publisher is at it.
        AccessDenied, DiskFull, Unavailable: A destination refuses; run again to go on.
    """
    with held(destinations, signing.keys) as members:
        lead = leader(members)
        name = the_app(lead.state, app, lead.destination)
        before = read_channels(lead.state, lead.read, name)
        after = change(before)
        targets = {channel_target(name, key): canonical_json(after[key]) for key in _changed(before, after)}
        versions, written = write_all(members, signing, targets)
    return _report(name, before, after, lead.state, written=written, versions=versions)


def upload_channels(destination: Destination, folder: Path, app: str | None = None) -> ChannelsReport:
    """Bring a change that was signed elsewhere to a destination, from a machine without keys.

    Args:
        destination: The repository.
        folder: A copy of its metadata and targets, in which the change was made.
        app: The app whose channels are told; the only one when none.

    Raises:
        SignatureInvalid: The folder did not grow from what the destination has now, or has releases that it has not.
        Busy, AccessDenied, DiskFull, Unavailable: As :func:`change_channels`.
    """
    with destination.hold():
        there = load_state(destination.read, None)
        name = the_app(there, app, destination)
        before = read_channels(there, destination.read, name)
        update, state, read = signed_channels(folder, there, destination.read)
        after = read_channels(state, read, name)
        for path, data in update.files:
            destination.put_bytes(path, data)
    return _report(name, before, after, there, written={destination.name: update.files}, versions=update.versions)


def _changed(before: Channels, after: Channels) -> tuple[str, ...]:
    return tuple(name for name in after if after[name] != before.get(name))


def _report(
    app: str,
    before: Channels,
    after: Channels,
    state: State,
    *,
    written: Mapping[str, Files],
    versions: Mapping[Role, int] | None = None,
) -> ChannelsReport:
    return ChannelsReport(
        app=app,
        channels=tuple(channel for _, channel in sorted(after.items())),
        changed=_changed(before, after),
        destinations=tuple(
            Written(destination=name, files=tuple(path for path, _ in files)) for name, files in written.items()
        ),
        versions=dict(versions or state.versions()),
        development=is_development(state.data["root"]),
    )
