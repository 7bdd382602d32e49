"""What a caller wants to have, and which verified release that is.

Knows nothing of what is installed.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeAlias

from lading.fetch.address import open_source
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.host.assess import assess
from lading.host.choice import Resolution
from lading.host.record import HostFacts
from lading.manifest.base import Platform
from lading.manifest.channel import Channel, Withdrawal
from lading.manifest.release import Release
from lading.progress import Progress
from lading.store.choice import candidate_of, choose_release
from lading.store.collect import KEEP
from lading.store.home import trust_folder
from lading.store.installation import installation, known_installation
from lading.store.lock import hold_patiently
from lading.store.rollout import Asked, needs_draw, waiting, withdrawal_of_installed

Machine: TypeAlias = HostFacts | Callable[[], HostFacts]
"""What a machine is, or how to look at it, which is done while the metadata comes: drivers take up to seconds."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the caller asked for; the fields are those of :func:`install`.

    Attributes:
        kept: The release in use, when that is to be brought up to date: if even that cannot run on this machine,
            somebody forced it here, and newer ones are taken as well.
        take_withdrawn: Take the version that is named although its publisher withdrew it.
        installed: The versions that are in use, by flavor.
        held: The newest version that a roll back left.
        going_back: The version in use was withdrawn, and an older one takes its place.
    """

    source: Source | str | Sequence[str]
    root: bytes
    app: str
    channel: str
    version: str | None
    flavor: str | None
    platform: Platform
    host: Machine | None = None
    kept: Release | None = None
    force: bool = False
    take_withdrawn: bool = False
    installed: Mapping[str, str] = field(default_factory=dict)
    held: str | None = None
    going_back: bool = False
    keep: int = KEEP
    repair: bool = False
    limit: float | None = None
    progress: Progress
    cancel: threading.Event | None = None


@contextmanager
def opened(source: Source | str | Sequence[str], *, limit: float | None = None) -> Iterator[Source]:
    """Open what a person wrote as a source; an object is the caller's own, to close or to use again."""
    if not isinstance(source, str | Sequence):
        yield source
        return
    with closing(open_source(source, limit=limit)) as repository:
        yield repository


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What a channel has for this machine.

    Attributes:
        release: What was chosen; its manifest is verified.
        withdrawn: That the version in use was withdrawn, and why.
        waiting: A newer version that is being rolled out, and not offered to this machine yet.
    """

    release: Release
    withdrawn: Withdrawal | None = None
    waiting: str | None = None


def trusted_choice(source: Source, data: Path, wish: Wish, *, keeps: bool = True) -> Chosen:
    """Find out which release is wished for, and get its verified manifest; keeps the metadata seen.

    Args:
        source: The open repository.
        data: The data directory, or a scratch copy of what is needed of it.
        wish: What the caller asked for.
        keeps: It is the data directory itself: an id for staged rollouts may be made there.

    Raises:
        LadingError: As :func:`install`.
    """
    folder = trust_folder(data)
    with hold_patiently(folder / "lock"), ThreadPoolExecutor(1, thread_name_prefix="host") as looking:
        machine = looking.submit(_machine, wish.host)
        trust = Trust(source, wish.root, folder, stop=wish.cancel)
        channel = trust.channel(wish.app, wish.channel)
        asked = _asked(channel, data, wish, keeps=keeps)
        release, choice = choose_release(
            channel,
            lambda entry: trust.release(entry, wish.app),
            asked,
            host=machine.result(),
            force=wish.force or not _may_run(wish.kept, machine.result()),
        )
    if choice is not None:
        _tell(choice, wish.progress)
    _warn(channel, release, wish.progress)
    asked = replace(asked, flavor=release.flavor)
    return Chosen(
        release=release,
        withdrawn=withdrawal_of_installed(channel, asked),
        waiting=None if wish.version else waiting(channel, asked, release.version),
    )


def _machine(host: Machine | None) -> HostFacts | None:
    return host() if callable(host) else host


def _may_run(release: Release | None, host: HostFacts | None) -> bool:
    return release is None or host is None or assess(host, candidate_of(release)).verdict != "no"


def _asked(channel: Channel, data: Path, wish: Wish, *, keeps: bool) -> Asked:
    asked = Asked(
        platform=wish.platform,
        flavor=wish.flavor,
        version=wish.version,
        take_withdrawn=wish.take_withdrawn,
        installed=wish.installed,
        held=wish.held,
    )
    if not needs_draw(channel, asked):
        return asked
    return replace(asked, machine=installation(data) if keeps else known_installation(data))


def _warn(channel: Channel, release: Release, progress: Progress) -> None:
    """Say of a version that is taken all the same that it was withdrawn."""
    entry = channel.entry(release.version, release.platform, release.flavor)
    if entry is not None and entry.withdrawn is not None:
        progress.note(f"{release.version} was withdrawn by its publisher: {entry.withdrawn.reason}")
        progress.note("`lading update` goes to a version that was not.")


def _tell(choice: Resolution, progress: Progress) -> None:
    """Say why this flavor, and what is to be known about it."""
    told = [f"{choice.chosen}: {choice.why.text}", *choice.notes]
    told += [remedy.text for remedy in choice.remedies if not choice.forced]
    if choice.visible is not None:
        told.append(f"Run it with CUDA_VISIBLE_DEVICES={choice.visible}: it cannot use the other GPUs.")
    if choice.needs_kernel_test:
        told.append("Check it after the installation: `lading verify --require-gpu`.")
    for line in told:
        progress.note(line)


@contextmanager
def copied_trust(data: Path) -> Iterator[Path]:
    """A scratch data directory with a copy of the metadata seen, for those who must change nothing."""
    with tempfile.TemporaryDirectory(prefix="lading-plan-") as scratch:
        if trust_folder(data).is_dir():
            shutil.copytree(trust_folder(data), trust_folder(Path(scratch)), symlinks=True)
        yield Path(scratch)
