"""Channel indexes for tests of the rules about them."""

from __future__ import annotations

from lading.manifest.base import Platform
from lading.manifest.channel import Channel, ChannelEntry, Withdrawal
from lading.publish.listing import newest_first

APP = "demo"
LINUX: Platform = "linux-x86_64"
BAD = Withdrawal(reason="It loses data.", at=1_700_000_000)


def entry(
    version: str,
    *,
    flavor: str = "cpu",
    platform: Platform = LINUX,
    rollout: int | None = None,
    withdrawn: Withdrawal | None = None,
    gone: bool = False,
) -> ChannelEntry:
    """One release in a channel."""
    target = None if gone else f"releases/{APP}/{version}/{APP}-{version}-{flavor}-{platform}.release.json"
    return ChannelEntry(
        version=version, platform=platform, flavor=flavor, target=target, rollout=rollout, withdrawn=withdrawn
    )


def channel(*entries: ChannelEntry, name: str = "stable") -> Channel:
    """A channel with these releases."""
    return Channel(app=APP, channel=name, releases=newest_first(entries))
