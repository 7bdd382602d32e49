"""What a destination's signed metadata says, read by the client's own workflow; and which destinations are behind.

Reading follows the signatures from a root that the caller trusts. What is compared is what a client would notice: a
client that has seen version 12 of the timestamp refuses a mirror that has 11 as a rollback.

Does not: look at archives.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.version import Version
from tuf.api.metadata import Metadata

from lading.digest import sha256_bytes
from lading.errors import ConfigError, FormatInvalid
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.manifest.base import read_record
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.release import Release

ROLES = ("root", "timestamp", "snapshot", "targets")


@dataclass(frozen=True, kw_only=True)
class State:
    """What one destination says.

    Attributes:
        versions: The version of every role.
        channel: The channel's index.
        trust: Reads further signed files from the same destination.
    """

    versions: Mapping[str, int]
    channel: Channel
    trust: Trust


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What every destination should have.

    Attributes:
        version: Of the app.
        releases: The releases of that version, by target path.
        digests: SHA-256 of each release manifest, by target path.
    """

    version: str
    releases: Mapping[str, Release]
    digests: Mapping[str, str]


def read_state(source: Source, root: bytes, folder: Path, *, app: str, channel: str) -> State:
    """Follow a destination's signatures from a trusted root.

    Args:
        source: Where it is read.
        root: The root metadata.
        folder: An empty folder, for what was seen.
        app, channel: Which channel.

    Raises:
        Untrusted: The metadata cannot be trusted; see :class:`lading.fetch.trust.Trust`.
        SourceUnreachable: It cannot be had.
    """
    trust = Trust(source, root, folder)
    found = trust.channel(app, channel)
    files = {role: (folder / f"{role}.json").read_bytes() for role in ROLES}
    versions = {role: Metadata.from_bytes(data).signed.version for role, data in files.items()}
    return State(versions=versions, channel=found, trust=trust)


def newest(states: Mapping[str, State]) -> str | None:
    """The destination whose metadata is the newest; the first of several, none of none."""
    ranked = sorted(states, key=lambda name: tuple(states[name].versions[role] for role in ROLES), reverse=True)
    best = ranked[0] if ranked else None
    return next((name for name in states if best and states[name].versions == states[best].versions), None)


def behind(name: str, states: Mapping[str, State]) -> list[str]:
    """In which roles a destination is older than another one.

    Args:
        name: The destination.
        states: All that could be read, this one among them.

    Returns:
        One line for each role; none when a client that comes from any other would accept it.
    """
    own, problems = states[name].versions, []
    for role in ROLES:
        other = max(states, key=lambda item: states[item].versions[role])
        if (there := states[other].versions[role]) > own[role]:
            problems.append(f"{role} is version {own[role]} here, {there} at {other}")
    return problems


def entries_of(channel: Channel, version: str | None) -> tuple[ChannelEntry, ...]:
    """The releases of one version for all platforms and flavors.

    Args:
        channel: The channel.
        version: Which, with or without a leading ``v``; none for the newest that is not withdrawn.

    Raises:
        ConfigError: The channel has none.
    """
    wanted = version.removeprefix("v") if version else None
    found = [entry for entry in channel.releases if entry.target is not None]
    found = [entry for entry in found if (entry.version == wanted if wanted else entry.withdrawn is None)]
    if not found:
        raise ConfigError(
            f"The channel {channel.channel} of {channel.app} has no {f'version {wanted}' if wanted else 'release'}.",
            usually="The version is mistyped, is in another channel, or was not published yet.",
            todo="Check --app, --channel and --version.",
        )
    latest = max((entry.version for entry in found), key=Version)
    return tuple(entry for entry in found if entry.version == latest)


def expected_of(state: State, version: str | None) -> Expected:
    """What should be everywhere, as the newest metadata has it.

    Args:
        state: The newest state.
        version: Which version; none for the newest.

    Raises:
        ConfigError: The channel has none.
        LadingError: A release manifest cannot be had or trusted.
    """
    entries = entries_of(state.channel, version)
    targets = [entry.target for entry in entries if entry.target is not None]
    manifests = {target: state.trust.target(target) for target in targets}
    return Expected(
        version=entries[0].version,
        releases={target: read_record(Release, data, origin=target) for target, data in manifests.items()},
        digests={target: sha256_bytes(data) for target, data in manifests.items()},
    )


def other_releases(state: State, expected: Expected) -> Sequence[Release]:
    """The releases of a channel that are not the expected ones; they may share libs with these."""
    others = []
    for entry in state.channel.releases:
        if entry.target is not None and entry.target not in expected.releases:
            try:
                others.append(state.trust.release(entry, state.channel.app))
            except FormatInvalid:  # of a version that this Lading cannot read: its files are unknown to us
                continue
    return others


def not_listed(state: State, expected: Expected) -> list[str]:
    """Which of the expected releases a destination does not list, or lists with other content."""
    listed = {entry.target for entry in state.channel.releases}
    problems = []
    for target, digest in expected.digests.items():
        if target not in listed:
            problems.append(f"the channel {state.channel.channel} does not list {target}")
        elif (found := sha256_bytes(state.trust.target(target))) != digest:
            problems.append(f"{target} has SHA-256 {found[:16]}…, elsewhere {digest[:16]}…")
    return problems
