"""Which release of a channel a machine gets: pure decisions over the channel's index."""

from __future__ import annotations

from lading.errors import ConfigError
from lading.manifest.base import Platform, Variant
from lading.manifest.release import Channel, ChannelEntry


def variant_of(flavor: str) -> Variant:
    """``cpu``, or ``cuda`` for every toolkit."""
    return "cpu" if flavor == "cpu" else "cuda"


def choose_entry(channel: Channel, *, platform: Platform, flavor: str | None, version: str | None) -> ChannelEntry:
    """Choose a release: the newest that fits, unless a version is named.

    Args:
        channel: The channel, newest first.
        platform: The machine's platform.
        flavor: ``cpu`` or a toolkit's name; none when the channel has only one for this platform.
        version: A version, with or without a leading ``v``.

    Returns:
        The release's entry.

    Raises:
        ConfigError: Nothing fits, or several flavors do; says what there is.
    """
    here = [entry for entry in channel.releases if entry.platform == platform]
    if not here:
        there = ", ".join(sorted({entry.platform for entry in channel.releases})) or "nothing at all"
        raise _nothing(channel, f"nothing for {platform}", f"It has {there}.")
    flavors = sorted({entry.flavor for entry in here})
    if flavor is None and len(flavors) > 1:
        raise ConfigError(
            f"{channel.app} has several flavors for {platform}: {', '.join(flavors)}.",
            usually="Which one fits depends on the machine's GPU and driver.",
            todo="Name one with --flavor; `lading doctor` says which fits.",
        )
    wanted = flavor or flavors[0]
    fitting = [entry for entry in here if entry.flavor == wanted]
    if not fitting:
        raise _nothing(channel, f"no flavor {wanted} for {platform}", f"It has {', '.join(flavors)}.")
    if version is None:
        return fitting[0]
    named = [entry for entry in fitting if entry.version == version.removeprefix("v")]
    if not named:
        versions = ", ".join(entry.version for entry in fitting)
        raise _nothing(channel, f"no version {version} ({wanted}, {platform})", f"It has {versions}.")
    return named[0]


def _nothing(channel: Channel, what: str, there: str) -> ConfigError:
    return ConfigError(
        f"The channel {channel.channel} of {channel.app} has {what}.",
        usually=there,
        todo="Choose one of these, or another channel with --channel.",
    )
