"""Which release of a channel a machine gets: decisions over the channel's index and the machine's facts.

The index names versions, platforms and flavors and whom they are offered to, and nothing else, because every update
check reads it. What a build needs is in its release manifest: those of several flavors are read only when a machine has
no flavor yet, or is refused the one that was named and must hear which others would do.

Rules:
    1. Without the machine's facts nothing is checked: the flavor must be named, or be the only one.
    2. A named flavor is taken unless it surely cannot run here; with ``force`` even then.
    3. Without a name, the newest release of each flavor is weighed (:func:`lading.host.resolve.resolve`).
    4. When nothing fits, everything is refused before the first byte of an archive; with ``force`` the only flavor is
       taken.
    5. Only what the publisher offers to this machine counts (:mod:`lading.store.rollout`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

from lading.errors import ConfigError, HostUnfit, NotOffered, listed
from lading.host.choice import Assessment, Candidate, Resolution
from lading.host.hints import hints
from lading.host.record import HostFacts
from lading.host.resolve import resolve
from lading.manifest.base import Variant
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.release import Release
from lading.store.rollout import Asked, is_offered, not_offered


def variant_of(flavor: str) -> Variant:
    """``cpu``, or ``cuda`` for every toolkit."""
    return "cpu" if flavor == "cpu" else "cuda"


def choose_entry(channel: Channel, asked: Asked) -> ChannelEntry:
    """Choose a release: the newest that fits, unless a version is named.

    Args:
        channel: The channel, newest first.
        asked: For which machine, and what; without a flavor the channel must have only one for this platform.

    Returns:
        The release's entry.

    Raises:
        ConfigError: Nothing fits, or several flavors do; says what there is.
        NotOffered: What fits was withdrawn, or is not rolled out to this machine yet.
    """
    found = newest_of_each(channel, asked)
    if len(found) > 1:
        raise ConfigError(
            f"{channel.app} has several flavors for {asked.platform}: "
            f"{', '.join(sorted(entry.flavor for entry in found))}.",
            usually="Which one fits depends on the machine's GPU and driver.",
            todo="Name one with --flavor; `lading doctor` says which fits.",
        )
    return found[0]


def newest_of_each(channel: Channel, asked: Asked) -> tuple[ChannelEntry, ...]:
    """The newest release of each flavor that a machine is offered, or those of one version.

    Args:
        channel: The channel, newest first.
        asked: For which machine, and what.

    Returns:
        At least one entry, in the channel's order.

    Raises:
        ConfigError: There is none; says what there is.
        NotOffered: What there is was withdrawn, or is not rolled out to this machine yet.
    """
    platform, flavor, version = asked.platform, asked.flavor, asked.number
    here = [entry for entry in channel.releases if entry.platform == platform]
    if not here:
        there = ", ".join(sorted({entry.platform for entry in channel.releases})) or "nothing at all"
        raise _nothing(channel, f"nothing for {platform}", f"It has {there}.")
    fitting = [entry for entry in here if flavor in {None, entry.flavor}]
    if not fitting:
        flavors = sorted({entry.flavor for entry in here})
        raise _nothing(channel, f"no flavor {flavor} for {platform}", f"It has {', '.join(flavors)}.")
    named = tuple(entry for entry in fitting if version is None or entry.version == version)
    if not named:
        versions = ", ".join(dict.fromkeys(entry.version for entry in fitting))
        raise _nothing(channel, f"no version {version} ({flavor or 'any flavor'}, {platform})", f"It has {versions}.")
    newest: dict[str, ChannelEntry] = {}
    for entry in named:
        if is_offered(channel, entry, asked):
            newest.setdefault(entry.flavor, entry)
    if not newest:
        raise not_offered(channel, named, asked)
    return tuple(newest.values())


def _nothing(channel: Channel, what: str, there: str) -> ConfigError:
    return ConfigError(
        f"The channel {channel.channel} of {channel.app} has {what}.",
        usually=there,
        todo="Choose one of these, or another channel with --channel.",
    )


def candidate_of(release: Release) -> Candidate:
    """What a release needs of a machine, as it says itself."""
    libs = release.component("libs")
    built = libs.torch.cuda if libs is not None and libs.torch is not None else None
    digits = release.flavor.removeprefix("cu")
    named = f"{digits[:-1]}.{digits[-1]}" if release.variant == "cuda" and digits.isdigit() else None
    return Candidate(
        flavor=release.flavor,
        version=release.version,
        cuda=(built or named or "0.0") if release.variant == "cuda" else None,
        driver=release.requirements.driver,
        archs=release.requirements.archs,
        glibc=release.requirements.glibc,
    )


def choose_release(
    channel: Channel,
    get: Callable[[ChannelEntry], Release],
    asked: Asked,
    *,
    host: HostFacts | None = None,
    force: bool = False,
) -> tuple[Release, Resolution | None]:
    """Choose a release for a machine.

    Args:
        channel: The channel, newest first.
        get: Gives an entry's release manifest.
        asked: For which machine, and what.
        host: What the machine has; nothing is checked without it.
        force: Take what was named, or the only one, although it cannot run here.

    Returns:
        The release, and what led to it when the machine was looked at.

    Raises:
        ConfigError: The channel has no such release, or several and no way to choose.
        NotOffered: What fits was withdrawn, or is not rolled out to this machine yet.
        HostUnfit: It cannot run here; says what would help.
    """
    if host is None:
        return get(choose_entry(channel, asked)), None
    flavor = asked.flavor
    releases = [get(entry) for entry in newest_of_each(channel, asked)]
    found = resolve(host, [candidate_of(release) for release in releases], forced=flavor)
    if found.chosen is not None and found.fits != "no":
        return next(release for release in releases if release.flavor == found.chosen), found
    if force:
        entry = choose_entry(channel, asked)
        named = resolve(host, [candidate_of(release) for release in releases], forced=entry.flavor)
        return next(release for release in releases if release.flavor == entry.flavor), named
    if flavor is not None:
        with suppress(NotOffered):  # nothing else is offered: then nothing else can be advised
            anything = newest_of_each(channel, replace(asked, flavor=None, version=None))
            releases += [get(entry) for entry in anything if entry.flavor != flavor]
        found = resolve(host, [candidate_of(release) for release in releases], forced=flavor)
    raise unfit(channel.app, releases, found, host)


def unfit(app: str, releases: Sequence[Release], found: Resolution, host: HostFacts) -> HostUnfit:
    """The refusal of what cannot run here, with what would.

    Args:
        app: The app's name.
        releases: What there is.
        found: What was found about them.
        host: The machine.
    """
    named = found.of(found.chosen) if found.chosen is not None else None
    if named is not None:
        version = next(release.version for release in releases if release.flavor == named.flavor)
        what = f"{app} {version} ({named.flavor}) cannot run on this machine: {against(named)}"
    elif len(found.assessments) == 1:
        can = "may not run here" if found.why.verdict == "unknown" else "cannot run here"
        only = found.assessments[0]
        what = f"{app} is offered only as {only.flavor}, which {can}: {against(only)}"
    else:
        lines = [f"{one.flavor}: {against(one)}" for one in found.assessments]
        what = f"No build of {app} can run on this machine:{listed(lines)}"
    explained = _sentences(hint.text for hint in hints(host))
    helps = _sentences(remedy.text for remedy in found.remedies)
    return HostUnfit(
        what,
        usually=explained,
        todo=f"{helps} `lading doctor` says more; --force installs it all the same.".strip(),
    )


def against(one: Assessment) -> str:
    """What speaks against a build, in a sentence; empty when nothing does."""
    return next((reason.text for reason in one.reasons if reason.verdict == one.verdict), "")


def _sentences(texts: Iterable[str]) -> str:
    return " ".join(dict.fromkeys(texts))
