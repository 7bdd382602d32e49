"""Bring what is installed up to date, from where it came; and say whether there is something newer.

Rules:
    1. What is newer than the installed release is installed; with the same number, what has another content.
    2. An update by itself never goes back: a channel whose newest release is older is told, and nothing happens.
    3. After a roll back nothing is installed until there is something newer than the release that was left.
    4. Naming a version overrides all of this, as ``install`` does.
    5. What is up to date is looked at all the same: a damaged version is repaired.
    6. A version that its publisher withdrew is left for the newest of the others, older as it may be
       (:mod:`lading.store.rollout`); and it is not come back to.
    7. Another channel is remembered when it was named, also where it has nothing to install now.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from packaging.version import Version as Number

from lading.errors import AccessDenied, FormatInvalid, LadingError, NotInstalled
from lading.fetch.source import Source
from lading.manifest.base import Record, Variant
from lading.manifest.channel import Withdrawal
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.store.collect import KEEP
from lading.store.home import Home, lock_file
from lading.store.install import install_release
from lading.store.installed import VARIANTS, Installed, current_version, versions_in_use
from lading.store.lock import hold
from lading.store.marker import VersionMarker
from lading.store.origin import Origin, read_origin, write_origin
from lading.store.planned import PlanReport
from lading.store.preview import plan_wish
from lading.store.result import InstallResult
from lading.store.state import Failure, read_state
from lading.store.wish import Chosen, Machine, Wish, copied_trust, opened, trusted_choice

Outcome = Literal["available", "up to date", "held back", "older", "updated"]


class VariantUpdate(Record):
    """What an update found or did for one variant.

    Attributes:
        variant: Which.
        outcome: ``available`` and not installed (yet), ``up to date``, ``held back`` after a roll back, ``older``: the
            channel's newest release is older than the installed one; ``updated``.
        installed: The release that was in use before; none when there was none.
        newest: The channel's newest release, or the one that was named.
        channel: The channel.
        held: The release that was left by a roll back.
        withdrawn: That the version that was in use was withdrawn, and why.
        waiting: A newer version that is being rolled out, and not offered to this machine yet.
        plan: What an update would do, when only that was asked for.
        result: What was done.
        requests, bytes_received: What was asked and received to find out, when nothing was installed.
    """

    variant: Variant
    outcome: Outcome
    installed: str | None
    newest: str
    channel: str
    held: str | None = None
    withdrawn: Withdrawal | None = None
    waiting: str | None = None
    plan: PlanReport | None = None
    result: InstallResult | None = None
    requests: int = 0
    bytes_received: int = 0


class UpdateReport(Record):
    """What an update found or did: one entry an installed variant."""

    variants: tuple[VariantUpdate, ...]

    @property
    def available(self) -> bool:
        """Whether there is something to install."""
        return any(variant.outcome == "available" for variant in self.variants)


class UpdateCheck(Record):
    """The answer to whether there is an update, failures included.

    Attributes:
        variant: Which.
        checked: The repository was asked, and what it said was verified.
        available: There is something to install.
        installed: The release in use; none when there is none.
        newest: The channel's newest release, if it is known.
        reason: Why there is nothing to say, or what there is, in one line.
        withdrawn: That the version in use was withdrawn, and why; ``newest`` is then what to go to, if it is available.
        waiting: A newer version that is being rolled out, and not offered to this machine yet.
        failure: What went wrong.
    """

    variant: Variant
    checked: bool
    available: bool
    installed: str | None
    newest: str | None
    reason: str
    withdrawn: Withdrawal | None = None
    waiting: str | None = None
    failure: Failure | None = None


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What a caller wants other than it was installed with; nothing by itself.

    Attributes:
        source: Another repository, as for :func:`lading.store.install.install`.
        root: Another trusted root.
        channel: Another channel.
        version: Exactly this version, older or held back as it may be.
    """

    source: Source | str | Sequence[str] | None = None
    root: bytes | None = None
    channel: str | None = None
    version: str | None = None


def decide(
    installed: VersionMarker | None,
    newest: Release,
    held: str | None,
    *,
    named: bool = False,
    withdrawn: bool = False,
) -> Outcome:
    """Decide what is to be done about a channel's newest release, by the rules above.

    Args:
        installed: What is in use.
        newest: What the channel has.
        held: The release that a roll back left.
        named: The caller named this release.
        withdrawn: What is in use was withdrawn.

    Returns:
        The outcome; ``available`` means that it is to be installed.
    """
    if installed is not None and installed.tree == newest.tree and installed.version == newest.version:
        return "up to date"
    if installed is None or named or withdrawn:
        return "available"
    if Number(newest.version) < Number(installed.version):
        return "older"
    if held is not None and Number(newest.version) <= Number(held):
        return "held back"
    return "available"


def update(
    data: Path,
    variant: Variant | None = None,
    *,
    overrides: Overrides | None = None,
    host: Machine | None = None,
    force: bool = False,
    keep: int = KEEP,
    repair: bool = False,
    limit: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> UpdateReport:
    """Bring the installed variants up to date.

    Args:
        data: The data directory.
        variant: Only this one; all that are installed without it.
        overrides: What to do other than it was installed with.
        host: This machine, or how to look at it. A release that no longer runs on it is refused, unless the installed
            one does not either.
        force: Install even that; and a version that is named although its publisher withdrew it.
        keep, repair, limit, progress, cancel: As for :func:`lading.store.install.install`.

    Returns:
        What was found and done.

    Raises:
        NotInstalled: Nothing is installed, or it is not known where it came from.
        LadingError: As :func:`lading.store.install.install`. The other variants were brought up to date all the same.
    """
    wished = overrides or Overrides()
    talk = progress or Silent()
    failed: LadingError | None = None
    done: list[VariantUpdate] = []
    _need_data(data)
    with hold(lock_file(data), "updating"):
        for home in _homes(data, variant):
            try:
                wish = _wish(home, wished, talk, host=host, force=force)
                wish = replace(wish, keep=keep, repair=repair, limit=limit, cancel=cancel)
                done.append(_update(home, wish, named=wished.version is not None))
            except LadingError as error:
                failed = failed or error
                if failed is not error:
                    failed.add_note(f"And for the {home.variant} variant: {error.what}")
    if failed is not None:
        raise failed
    return UpdateReport(variants=tuple(done))


def _update(home: Home, wish: Wish, *, named: bool) -> VariantUpdate:
    began = time.monotonic()
    with opened(wish.source, limit=wish.limit) as repository:
        chosen = trusted_choice(repository, home.data, wish)
        found = _judged(home, chosen, wish, repository, named=named)
        if found.outcome in {"held back", "older"}:
            _remember_channel(home, wish)
            return found
        wish = replace(wish, going_back=found.withdrawn is not None and not named)
        result = install_release(repository, chosen.release, home.data, wish, began=began)
    outcome: Outcome = "updated" if found.outcome == "available" or not result.already_installed else "up to date"
    return found.model_copy(update={"outcome": outcome, "result": result})


def _remember_channel(home: Home, wish: Wish) -> None:
    """Look into the named channel from now on, although it has nothing to install."""
    origin = read_origin(home.origin)
    if origin is not None and origin.channel != wish.channel:
        write_origin(home.origin, origin.model_copy(update={"channel": wish.channel}))


def find_updates(
    data: Path,
    variant: Variant | None = None,
    *,
    overrides: Overrides | None = None,
    host: Machine | None = None,
    force: bool = False,
    plan: bool = False,
) -> UpdateReport:
    """Say what :func:`update` would do. Installs nothing and takes no lock; keeps only the metadata seen.

    Args:
        data, variant, overrides, host, force: As for :func:`update`.
        plan: Also work out what would be fetched.

    Returns:
        What was found.

    Raises:
        LadingError: As :func:`update`.
    """
    wished = overrides or Overrides()
    _need_data(data)
    found = [_find(home, wished, host=host, force=force, plan=plan) for home in _homes(data, variant)]
    return UpdateReport(variants=tuple(found))


def _find(home: Home, wished: Overrides, *, host: Machine | None, force: bool, plan: bool) -> VariantUpdate:
    wish = _wish(home, wished, Silent(), host=host, force=force)
    with opened(wish.source) as repository:
        chosen = _seen_choice(repository, home.data, wish)
        found = _judged(home, chosen, wish, repository, named=wished.version is not None)
        if not plan or found.outcome != "available":
            return found
        wish = replace(wish, version=chosen.release.version, force=wish.force or wish.take_withdrawn)
        report = plan_wish(repository, home.data, wish)
    return found.model_copy(update={"plan": report})


def _seen_choice(repository: Source, data: Path, wish: Wish) -> Chosen:
    try:
        return trusted_choice(repository, data, wish)
    except AccessDenied:  # a data directory that this user may only read can be asked about all the same
        with copied_trust(data) as scratch:
            return trusted_choice(repository, scratch, wish, keeps=False)


def check_for_update(
    data: Path,
    variant: Variant,
    *,
    overrides: Overrides | None = None,
    host: Machine | None = None,
    offline: bool = False,
) -> UpdateCheck:
    """Ask whether there is an update, as a program does when it starts: whatever goes wrong is an answer, not an error.

    Args:
        data: The data directory.
        variant: Which variant.
        overrides, host: As for :func:`update`.
        offline: Ask nobody.

    Returns:
        The answer. Where nothing is installed nobody is asked.
    """
    home = Home(data, variant)
    installed: str | None = None
    try:
        installed = _number(current_version(home))
        if installed is None or offline:
            why = "nothing is installed" if installed is None else "not asked, to stay offline"
            return UpdateCheck(
                variant=variant, checked=False, available=False, installed=installed, newest=None, reason=why
            )
        found = _find(home, overrides or Overrides(), host=host, force=False, plan=False)
    except (LadingError, OSError) as error:
        kind, what = (error.kind, error.what) if isinstance(error, LadingError) else (type(error).__name__, str(error))
        return UpdateCheck(
            variant=variant,
            checked=False,
            available=False,
            installed=installed,
            newest=None,
            reason=what,
            failure=Failure(kind=kind, what=what, at=int(time.time())),
        )
    return UpdateCheck(
        variant=variant,
        checked=True,
        available=found.outcome == "available",
        installed=installed,
        newest=found.newest,
        reason=_reason(found),
        withdrawn=found.withdrawn,
        waiting=found.waiting,
    )


def _reason(found: VariantUpdate) -> str:
    """What there is, in one line."""
    if found.withdrawn is not None:
        return f"{found.installed} was withdrawn by its publisher: {found.withdrawn.reason}"
    later = f"; {found.waiting} is being rolled out, and not offered to this machine yet" if found.waiting else ""
    return f"{found.outcome}{later}"


def _judged(home: Home, chosen: Chosen, wish: Wish, repository: Source, *, named: bool) -> VariantUpdate:
    installed = current_version(home)
    marker = installed.marker if installed else None
    withdrawn = chosen.withdrawn is not None
    return VariantUpdate(
        variant=home.variant,
        outcome=decide(marker, chosen.release, wish.held, named=named, withdrawn=withdrawn),
        installed=_number(installed),
        newest=chosen.release.version,
        channel=wish.channel,
        held=wish.held,
        withdrawn=chosen.withdrawn,
        waiting=chosen.waiting,
        requests=repository.traffic.requests,
        bytes_received=repository.traffic.bytes,
    )


def _release_of(installed: Installed | None) -> Release | None:
    """The release that a version was installed from; none when its record is damaged."""
    if installed is None:
        return None
    try:
        return installed.release()
    except FormatInvalid:
        return None


def _number(version: Installed | None) -> str | None:
    return None if version is None else version.marker.version


def _homes(data: Path, variant: Variant | None) -> tuple[Home, ...]:
    wanted = VARIANTS if variant is None else (variant,)
    homes = tuple(home for home in (Home(data, name) for name in wanted) if _is_there(home))
    if not homes:
        raise _nothing(data, variant)
    return homes


def _is_there(home: Home) -> bool:
    """Installed, or so far that only the pointer is missing: the origin is written just before it."""
    return read_origin(home.origin) is not None or current_version(home) is not None


def _need_data(data: Path) -> None:
    if not data.is_dir():  # a lock would make it
        raise _nothing(data, None)


def _nothing(data: Path, variant: Variant | None) -> NotInstalled:
    return NotInstalled(
        f"Nothing{f' of the {variant} variant' if variant else ''} is installed under {data}.",
        usually="It was never installed, or another data directory holds it.",
        todo="Install it with `lading install`, or name its data directory with --data.",
    )


def _wish(home: Home, wished: Overrides, progress: Progress, *, host: Machine | None, force: bool) -> Wish:
    """What to ask for: as it was installed, unless the caller wants something else."""
    origin = read_origin(home.origin) or _origin_of(current_version(home))
    source = wished.source or (origin.sources if origin else ())
    root = wished.root or (origin.root_bytes if origin else b"")
    if origin is None or not source or not root:
        raise NotInstalled(
            f"It is not known where the {home.variant} variant under {home.data} was installed from.",
            usually="It was installed by a program that brings its own source, or its record was damaged.",
            todo="Name the repository and its root once: `lading update SOURCE --root root.json`.",
        )
    return Wish(
        source=source,
        root=root,
        app=origin.app,
        channel=wished.channel or origin.channel,
        version=wished.version,
        flavor=origin.flavor,
        platform=origin.platform,
        host=host,
        kept=_release_of(current_version(home)),
        force=force,
        take_withdrawn=force,
        installed=versions_in_use(home.data, origin.app),
        held=read_state(home.state).held,
        progress=progress,
    )


def _origin_of(version: Installed | None) -> Origin | None:
    """What a version itself knows of where it came from: all but the repository."""
    if version is None:
        return None
    try:
        channel = version.release().channel
    except FormatInvalid:
        channel = "stable"
    marker = version.marker
    return Origin(app=marker.app, channel=channel, flavor=marker.flavor, platform=marker.platform, sources=(), root="")
