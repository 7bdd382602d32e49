"""What a channel offers to this machine: withdrawals and staged rollouts. Pure.

Rules:
    1. What is withdrawn is taken by nobody, unless its version is named and the caller says that it is to be taken all
       the same.
    2. A release that is rolled out to some is offered to a machine whose draw is below its percentage. The draw of a
       machine for a version never changes, so raising the percentage adds machines and takes none away.
    3. A machine that has a version is offered that version, however far it is rolled out: lowering the percentage takes
       nothing away either.
    4. Who names a version gets it, whatever the draw.
    5. A machine whose version was withdrawn is offered the newest of the others, older as it may be; but not one that
       it was rolled back from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from packaging.version import Version as Number

from lading.errors import NotOffered
from lading.manifest.base import Platform
from lading.manifest.channel import EVERYBODY, Channel, ChannelEntry, Withdrawal


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a machine asks a channel for.

    Attributes:
        platform: The machine's platform.
        flavor: ``cpu`` or a toolkit's name, when somebody named one.
        version: A version, with or without a leading ``v``.
        take_withdrawn: Take the version that is named although it was withdrawn.
        machine: The installation's id, by which staged rollouts are drawn; without one it is not among the first.
        installed: The versions that are in use, by flavor.
        held: The newest version that a roll back left.
    """

    platform: Platform
    flavor: str | None = None
    version: str | None = None
    take_withdrawn: bool = False
    machine: str | None = None
    installed: Mapping[str, str] = field(default_factory=dict)
    held: str | None = None

    @property
    def number(self) -> str | None:
        """The version that is named, without a leading ``v``."""
        return self.version.removeprefix("v") if self.version is not None else None


def draw(machine: str, app: str, version: str) -> int:
    """A machine's draw for a version: from 0 to 99, each equally likely, and always the same.

    Args:
        machine: The installation's id.
        app: The app's name.
        version: The version; another one is another draw, so that not the same machines are always the first.
    """
    digest = hashlib.sha256(f"{machine}\n{app}\n{version}".encode()).digest()
    return int.from_bytes(digest[:8], "big") * EVERYBODY >> 64


def needs_draw(channel: Channel, asked: Asked) -> bool:
    """Whether the answer depends on the machine's draw."""
    return asked.version is None and any(
        entry.rollout is not None and entry.platform == asked.platform for entry in channel.releases
    )


def is_offered(channel: Channel, entry: ChannelEntry, asked: Asked) -> bool:
    """Whether a machine may take a release, by the rules above."""
    if entry.target is None:
        return False
    if asked.number is not None:
        return entry.version == asked.number and (entry.withdrawn is None or asked.take_withdrawn)
    if entry.withdrawn is not None or _left_behind(channel, entry, asked):
        return False
    return _is_covered(channel.app, entry, asked)


def _is_covered(app: str, entry: ChannelEntry, asked: Asked) -> bool:
    if entry.rollout is None or entry.version == asked.installed.get(entry.flavor):
        return True
    return asked.machine is not None and draw(asked.machine, app, entry.version) < entry.rollout


def _left_behind(channel: Channel, entry: ChannelEntry, asked: Asked) -> bool:
    """Rule 5: what was rolled back from is no way out of a version that was withdrawn."""
    installed = asked.installed.get(entry.flavor)
    if asked.held is None or installed is None or withdrawal_of_installed(channel, asked) is None:
        return False
    return Number(installed) < Number(entry.version) <= Number(asked.held)


def withdrawal_of_installed(channel: Channel, asked: Asked) -> Withdrawal | None:
    """The word that the version in use of the flavor that is asked for was withdrawn, or none."""
    installed = asked.installed.get(asked.flavor or "")
    entry = channel.entry(installed, asked.platform, asked.flavor or "") if installed else None
    return entry.withdrawn if entry is not None else None


def waiting(channel: Channel, asked: Asked, chosen: str) -> str | None:
    """The newest version that is being rolled out and not offered to this machine yet, or none.

    Args:
        channel: The channel, newest first.
        asked: By whom.
        chosen: What the machine is offered; only what is newer is told, and newer than what is in use.
    """
    newest = max((chosen, asked.installed.get(asked.flavor or "", chosen)), key=Number)
    return next(
        (
            entry.version
            for entry in channel.releases
            if entry.platform == asked.platform
            and asked.flavor in {None, entry.flavor}
            and entry.withdrawn is None
            and Number(entry.version) > Number(newest)
            and not _is_covered(channel.app, entry, asked)
        ),
        None,
    )


def not_offered(channel: Channel, entries: tuple[ChannelEntry, ...], asked: Asked) -> NotOffered:
    """Why a machine may take none of some releases.

    Args:
        channel: The channel.
        entries: What would fit otherwise, newest first; at least one.
        asked: By whom.
    """
    first = next((entry for entry in entries if entry.withdrawn is None), entries[0])
    what = f"{channel.app} {first.version} ({first.flavor}, {first.platform})"
    others = f" The channel {channel.channel} has no other for this machine." if asked.version is None else ""
    if first.withdrawn is None:
        return NotOffered(
            f"{what} is being rolled out, and not offered to this machine yet.{others}",
            usually=f"The publisher offers it to {first.rollout or 0} % of all machines at first.",
            todo=f"Wait, or name it: `--version {first.version}`.",
        )
    gone = first.target is None
    return NotOffered(
        f"{what} was withdrawn by its publisher: {first.withdrawn.reason}{others}",
        usually=f"A mistake was found in it{', and its files were deleted' if gone else ''}. "
        "What is installed here stays as it is.",
        todo="Wait for a newer version, or name another one with --version."
        + ("" if gone else f" `--version {first.version} --force` takes it all the same."),
    )
