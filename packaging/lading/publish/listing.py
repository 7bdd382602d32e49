"""How a channel's index changes: pure decisions of a publisher.

Rules:
    1. A release is in a channel once. Publishing or promoting it again changes nothing about it: what was withdrawn
       stays withdrawn, what is rolled out to some stays so.
    2. Promoting lists the same signed manifest in another channel. What is withdrawn is not promoted.
    3. Withdrawing needs a reason; the first reason and time stay until it is restored.
    4. A release that is restored is offered as far as it was rolled out before; one whose files are gone cannot be.
    5. A rollout may go up and down. Going down takes nothing away from those who have it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from packaging.version import Version
from pydantic import ValidationError

from lading.errors import ConfigError
from lading.manifest.base import Platform
from lading.manifest.channel import EVERYBODY, Channel, ChannelEntry, Withdrawal
from lading.manifest.release import Release

Channels = Mapping[str, Channel]


@dataclass(frozen=True, kw_only=True)
class Which:
    """Which entries are meant.

    Attributes:
        version: A version, with or without a leading ``v``.
        platform, flavor: Only these.
        channels: Only in these; in all when empty.
    """

    version: str
    platform: Platform | None = None
    flavor: str | None = None
    channels: tuple[str, ...] = ()

    def fits(self, entry: ChannelEntry) -> bool:
        """Whether an entry is meant, whatever channel it is in."""
        return (
            entry.version == self.version.removeprefix("v")
            and self.platform in {None, entry.platform}
            and self.flavor in {None, entry.flavor}
        )

    def among(self, channels: Channels) -> tuple[tuple[str, ChannelEntry], ...]:
        """The entries that are meant, each with its channel's name.

        Raises:
            ConfigError: There is none, or no such channel; says what there is.
        """
        for name in self.channels:
            if name not in channels:
                raise _no_channel(name, channels)
        looked = {name: channel for name, channel in channels.items() if not self.channels or name in self.channels}
        found = tuple(
            (name, entry) for name, channel in looked.items() for entry in channel.releases if self.fits(entry)
        )
        if not found:
            there = sorted({f"{e.version} ({e.flavor}, {e.platform})" for c in looked.values() for e in c.releases})
            only = "".join(f", {text}" for text in (self.flavor, self.platform) if text)
            raise ConfigError(
                f"No channel lists {self.version}{only}: looked in {', '.join(looked) or 'none'}.",
                usually=f"Listed are: {', '.join(there) or 'no releases at all'}.",
                todo="`lading channel show` lists all channels; publish the release first.",
            )
        return found


def with_release(channel: Channel, release: Release, target: str, *, rollout: int | None = None) -> Channel:
    """A channel with one more release, newest first; rule 1.

    Args:
        channel: The index.
        release: What is published.
        target: Its manifest's TUF target path.
        rollout: Percentage of the installations that are offered it, if it is new; everybody when none.
    """
    known = channel.entry(release.version, release.platform, release.flavor)
    entry = ChannelEntry(
        version=release.version,
        platform=release.platform,
        flavor=release.flavor,
        target=target,
        rollout=known.rollout if known else stage(rollout),
        withdrawn=known.withdrawn if known else None,
    )
    return _with(channel, [entry])


def newest_first(entries: Iterable[ChannelEntry]) -> tuple[ChannelEntry, ...]:
    """Order by version, the newest first, then by platform and flavor."""
    named = sorted(entries, key=lambda entry: (entry.platform, entry.flavor))
    return tuple(sorted(named, key=lambda entry: Version(entry.version), reverse=True))


def stage(percent: int | None) -> int | None:
    """A percentage as an index has it: everybody is written as none."""
    return None if percent is None or percent >= EVERYBODY else percent


def promoted(channels: Channels, which: Which, into: str, *, rollout: int | None = None) -> dict[str, Channel]:
    """List a release in another channel; rule 2.

    Args:
        channels: All of the app's.
        which: What is promoted, and from where.
        into: The channel that gets it; a new one when there is none of that name.
        rollout: Percentage of the channel's installations that are offered it, if it is new there.

    Raises:
        ConfigError: There is no such release elsewhere, it is withdrawn there, or it is withdrawn in the other channel.
    """
    sources = {name: channel for name, channel in channels.items() if name != into}
    if not which.channels and not any(which.fits(e) for c in sources.values() for e in c.releases):
        sources = dict(channels)  # promoted before, and pruned from where it came
    found = which.among(sources)
    app = next(iter(channels.values())).app
    channel = channels.get(into) or _new_channel(app, into)
    added = []
    for _, entry in found:
        known = channel.entry(entry.version, entry.platform, entry.flavor)
        if (stop := next((one for one in (entry, known) if one and one.withdrawn), None)) and stop.withdrawn:
            raise ConfigError(
                f"{entry.version} ({entry.flavor}, {entry.platform}) was withdrawn: {stop.withdrawn.reason}",
                usually="A release that is withdrawn is not given to more users.",
                todo=f"Promote the other builds of {entry.version} by --flavor and --platform; if that was a mistake, "
                f"`lading channel restore {entry.version}`, then promote it.",
            )
        added.append(known or entry.model_copy(update={"rollout": stage(rollout)}))
    return {**channels, into: _with(channel, added)}


def withdrawn(channels: Channels, which: Which, reason: str, now: int) -> dict[str, Channel]:
    """Withdraw a release; rule 3.

    Args:
        channels: All of the app's.
        which: What is withdrawn, and where.
        reason: Why, in one line.
        now: The present moment, seconds since 1970.

    Raises:
        ConfigError: There is no such release, or no reason.
    """
    try:
        word = Withdrawal(reason=reason, at=now)
    except ValidationError as error:
        raise ConfigError(
            f"{reason!r} is no reason: {error.errors()[0]['msg']}.",
            usually="It is empty, has several lines or is longer than 300 characters.",
            todo="Say in one line what is wrong with the release: those who have it will read that.",
        ) from error
    return _each(channels, which, lambda entry: entry.model_copy(update={"withdrawn": entry.withdrawn or word}))


def restored(channels: Channels, which: Which) -> dict[str, Channel]:
    """Take a withdrawal back; rule 4.

    Raises:
        ConfigError: There is no such release, or its files were deleted.
    """

    def change(entry: ChannelEntry) -> ChannelEntry:
        if entry.target is None:
            raise ConfigError(
                f"{entry.version} ({entry.flavor}, {entry.platform}) cannot be restored: its files were deleted.",
                usually="It was withdrawn, and `lading prune` has made room since.",
                todo="Publish it again from its packed folder, then restore it; or publish a newer version.",
            )
        return entry.model_copy(update={"withdrawn": None})

    return _each(channels, which, change)


def rolled_out(channels: Channels, which: Which, percent: int) -> dict[str, Channel]:
    """Say how many installations are offered a release; rule 5.

    Args:
        channels: All of the app's.
        which: What, and in which channels.
        percent: From 0 to 100.

    Raises:
        ConfigError: There is no such release.
    """
    return _each(channels, which, lambda entry: entry.model_copy(update={"rollout": stage(percent)}))


def _new_channel(app: str, name: str) -> Channel:
    try:
        return Channel(app=app, channel=name, releases=())
    except ValidationError as error:
        raise ConfigError(
            f"{name!r} is no name for a channel: {error.errors()[0]['msg']}.",
            usually="Names have lower-case letters and digits, with - or _ between them.",
            todo="Choose another one, such as stable, beta or nightly.",
        ) from error


def _each(channels: Channels, which: Which, change: Callable[[ChannelEntry], ChannelEntry]) -> dict[str, Channel]:
    result = dict(channels)
    for name, entry in which.among(channels):
        result[name] = _with(result[name], [change(entry)])
    return result


def _with(channel: Channel, entries: Iterable[ChannelEntry]) -> Channel:
    merged = {entry.key: entry for entry in (*channel.releases, *entries)}
    return channel.model_copy(update={"releases": newest_first(merged.values())})


def _no_channel(name: str, channels: Channels) -> ConfigError:
    return ConfigError(
        f"There is no channel {name}.",
        usually=f"Its name is mistyped; there are {', '.join(channels) or 'none at all'}.",
        todo="`lading channel show` lists all channels.",
    )
