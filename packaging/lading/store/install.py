"""Install a release from a source: verified, planned, staged, then made current by one pointer.

The steps, each of which may be the last one that a crash lets happen:

    1. The lock, before anything is looked at: a second caller is told at once that it is busy.
    2. The signed metadata, the channel, the release (``fetch.trust``).
    3. The indexes, from an installed version or the staging folder if they are there.
    4. May it be written at all (``safety``)? What is to be done (``plan``)? Is there room?
    5. Files of installed versions are looked at, then linked; frames are fetched, verified and written (``staging``).
    6. Sealed, flushed, renamed into ``versions/``; the origin; the pointer; the history; the staging folder goes.
    7. Versions that need not be kept go (``collect``).

Until the pointer changes, the machine has the version that it had; afterwards the new one, whole.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from lading.atomic import as_host_error
from lading.cancel import stop_if
from lading.errors import Interrupted, LadingError
from lading.fetch.address import open_source
from lading.fetch.mirrors import MirrorReport, failed_mirrors
from lading.fetch.source import Source
from lading.fetch.tally import Tally
from lading.fetch.trust import Trust
from lading.host.choice import Resolution
from lading.host.platform import this_platform
from lading.host.record import HostFacts
from lading.manifest.base import Component, Platform, Record
from lading.manifest.index import Index
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.progress import Progress, Silent
from lading.store.build import Builder
from lading.store.choice import choose_release
from lading.store.collect import KEEP, collect
from lading.store.home import Home, lock_file, trust_folder, version_id
from lading.store.indexes import Seeker
from lading.store.installed import Installed, index_file, installed_versions, record_failure, remove_leftovers
from lading.store.journal import JOURNAL, journaled_frames
from lading.store.lock import hold, hold_patiently
from lading.store.marker import VersionMarker, remove_dead, remove_ours
from lading.store.origin import Origin, source_texts, write_origin
from lading.store.pathlimit import check_path_lengths
from lading.store.plan import InstalledFiles
from lading.store.planned import PlanReport, Way, report_plan
from lading.store.pointer import read_pointer, write_pointer
from lading.store.repair import Damage, examine
from lading.store.safety import check_release
from lading.store.staging import TREE
from lading.store.state import read_state, write_state
from lading.store.survey import Survey
from lading.store.unfinished import begin, resumable, take_over


class InstallResult(Record):
    """What an install did.

    Attributes:
        path: The version's folder.
        tree: The runnable tree in it.
        entry: The executable.
        version_id: The folder's name.
        app, version, flavor, label: Which release; ``label`` names its libs.
        previous: The version that was in use before.
        already_installed: The version was there; nothing was fetched but metadata.
        bytes_fetched: Archive bytes that were fetched and verified in this run.
        bytes_received: Everything that came over the source, metadata, indexes and repeated attempts included.
        requests: All requests, metadata included.
        bytes_resumed: Archive bytes that an earlier, interrupted run had verified already.
        bytes_reused, files_reused: Taken from installed versions.
        files_written: Put together from frames.
        files_patched: Made from older files by patches.
        ways: How each component was come by, and why.
        received: What came over the source, by kind: metadata, indexes, patches, frames.
        damage: What was wrong with the version that was there; a sound copy took its place.
        removed: Versions that need not be kept any more and were deleted.
        left: Versions that should have gone, but could not, because a program runs from them.
        bytes_freed: What the disk got back by that.
        mirrors: The mirrors that failed in something, with what they did.
        seconds: From call to return.
    """

    path: str
    tree: str
    entry: str
    version_id: str
    app: str
    version: str
    flavor: str
    label: str | None
    previous: str | None
    already_installed: bool
    bytes_fetched: int = 0
    bytes_received: int = 0
    requests: int = 0
    bytes_resumed: int = 0
    bytes_reused: int = 0
    files_reused: int = 0
    files_written: int = 0
    files_patched: int = 0
    ways: tuple[Way, ...] = ()
    received: dict[str, int] = Field(default_factory=dict)
    damage: tuple[Damage, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    bytes_freed: int = 0
    mirrors: tuple[MirrorReport, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the caller asked for; the fields are those of :func:`install`."""

    source: Source | str | Sequence[str]
    root: bytes
    app: str
    channel: str
    version: str | None
    flavor: str | None
    platform: Platform
    host: HostFacts | None = None
    force: bool = False
    keep: int = KEEP
    repair: bool = False
    limit: float | None = None
    progress: Progress
    cancel: threading.Event | None = None


def install(
    source: Source | str | Sequence[str],
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    version: str | None = None,
    flavor: str | None = None,
    platform: Platform | None = None,
    host: HostFacts | None = None,
    force: bool = False,
    keep: int = KEEP,
    repair: bool = False,
    limit: float | None = None,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
) -> InstallResult:
    """Install a release and make it current.

    Args:
        source: The repository: a source, an address, a folder, or several of the latter two in order of preference.
        root: The bytes of a trusted TUF root.
        data: The data directory.
        app: The app's name.
        channel: The channel.
        version: A version; the channel's newest when none.
        flavor: ``cpu`` or a toolkit's name; none to take the one that fits the machine, or the only one.
        platform: Another platform than this machine's.
        host: This machine, by which a flavor is chosen and one that cannot run is refused; nothing is checked without.
        force: Install what was named, or the only one, although it cannot run here.
        keep: How many versions to keep, the one in use and the one before included, which always stay.
        repair: Digest every file of what is installed, not only those that somebody wrote to.
        limit: Bytes per second over the network, for all mirrors together; for a source that is opened here.
        progress: Hears of bytes.
        cancel: Ends it half-way when it is set; what is verified is kept for the next run.

    Returns:
        What was done.

    Raises:
        SignatureInvalid, MetadataExpired, DigestMismatch, FormatInvalid: The repository is not to be trusted.
        SourceUnreachable: It does not answer.
        Busy: Another process or thread changes this data directory.
        DiskFull, AccessDenied: This machine cannot.
        ConfigError: The channel has no such release.
        HostUnfit: It cannot run on this machine; nothing but metadata was fetched.
        Interrupted: It was cancelled.
    """
    wish = Wish(
        source=source,
        root=root,
        app=app,
        channel=channel,
        version=version,
        flavor=flavor,
        platform=platform or this_platform(),
        host=host,
        force=force,
        keep=keep,
        repair=repair,
        limit=limit,
        progress=progress or Silent(),
        cancel=cancel,
    )
    began = time.monotonic()
    with hold(lock_file(data), "installing"), opened(source, limit=limit) as repository:
        release = trusted_release(repository, data, wish)
        return install_release(repository, release, data, wish, began=began)


def install_release(source: Source, release: Release, data: Path, wish: Wish, *, began: float) -> InstallResult:
    """Install a verified release and make it current; the caller holds the lock.

    Args:
        source: The open repository.
        release: Which.
        data: The data directory.
        wish: What the caller asked for.
        began: When, by the monotonic clock.

    Returns:
        What was done.

    Raises:
        LadingError: As :func:`install`; remembered for ``lading status``, unless it was cancelled.
    """
    home = Home(data, release.variant)
    try:
        result = _install_release(source, release, home, wish)
    except Interrupted:
        raise
    except LadingError as error:
        record_failure(home, error)
        raise
    except OSError as error:
        translated = as_host_error(error, f"changing {home.folder}")
        if isinstance(translated, LadingError):
            record_failure(home, translated)
        raise translated from error
    collected = collect(home, keep=wish.keep, progress=wish.progress)
    return result.model_copy(
        update={
            "removed": collected.removed,
            "left": collected.left,
            "bytes_freed": collected.bytes_freed,
            "bytes_received": source.traffic.bytes,
            "received": result.received or Tally(source.traffic).bytes(),
            "requests": source.traffic.requests,
            "mirrors": failed_mirrors(source),
            "seconds": round(time.monotonic() - began, 3),
        }
    )


def plan_install(
    source: Source | str | Sequence[str],
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    version: str | None = None,
    flavor: str | None = None,
    platform: Platform | None = None,
    host: HostFacts | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PlanReport:
    """Say what :func:`install` would do, and change nothing: not even the metadata seen is kept.

    Args:
        source, root, data, app, channel, version, flavor, platform, host, force: As for :func:`install`.
        progress: Hears why a flavor was chosen.

    Raises:
        LadingError: As :func:`install`, without those about writing.
    """
    wish = Wish(
        source=source,
        root=root,
        app=app,
        channel=channel,
        version=version,
        flavor=flavor,
        platform=platform or this_platform(),
        host=host,
        force=force,
        progress=progress or Silent(),
    )
    with opened(source) as repository, copied_trust(data) as scratch:
        release = trusted_release(repository, scratch, wish)
        return _report(repository, release, Home(data, release.variant), scratch)


@contextmanager
def copied_trust(data: Path) -> Iterator[Path]:
    """A scratch data directory with a copy of the metadata seen, for those who must change nothing."""
    with tempfile.TemporaryDirectory(prefix="lading-plan-") as scratch:
        if trust_folder(data).is_dir():
            shutil.copytree(trust_folder(data), trust_folder(Path(scratch)), symlinks=True)
        yield Path(scratch)


def _report(source: Source, release: Release, home: Home, scratch: Path) -> PlanReport:
    installed = installed_versions(home)
    free = _free(home.data)
    found = _found(release, installed)
    if found.whole is not None:
        return PlanReport(version_id=version_id(release), installed=True, disk_free=free)
    staging = resumable(home, release) or home.staging(release)
    seeker = Seeker(
        source=source,
        release=release,
        installed=installed,
        staging=staging,
        into=scratch,
        begin=lambda: None,
        progress=Silent(),
        tally=Tally(source.traffic),
    )
    known = seeker.acquire()
    indexes = {name: item.index for name, item in known.items()}
    check_release(release, indexes)
    survey = Survey(
        release,
        known,
        _files_of(installed, release, indexes),
        versions=home.versions,
        staged_tree=staging / "version" / TREE,
        staged=lambda: journaled_frames(staging / JOURNAL, release),
        can_link=True,
        damaged=found.damaged_files,
        thorough=False,
        progress=Silent(),
    )
    acquired = {name: item.acquired for name, item in known.items()}
    return report_plan(
        survey.settled(),
        acquired,
        version_id=version_id(release),
        metadata=seeker.tally.bytes()["metadata"],
        free=free,
    )


@contextmanager
def opened(source: Source | str | Sequence[str], *, limit: float | None = None) -> Iterator[Source]:
    """Open what a person wrote as a source; an object is the caller's own, to close or to use again."""
    if not isinstance(source, str | Sequence):
        yield source
        return
    with closing(open_source(source, limit=limit)) as repository:
        yield repository


def trusted_release(source: Source, data: Path, wish: Wish) -> Release:
    """Find out which release is wished for, and get its verified manifest; keeps the metadata seen.

    Raises:
        LadingError: As :func:`install`.
    """
    folder = trust_folder(data)
    with hold_patiently(folder / "lock"):
        trust = Trust(source, wish.root, folder)
        release, choice = choose_release(
            trust.channel(wish.app, wish.channel),
            lambda entry: trust.release(entry, wish.app),
            platform=wish.platform,
            flavor=wish.flavor,
            version=wish.version,
            host=wish.host,
            force=wish.force,
        )
    if choice is not None:
        _tell(choice, wish.progress)
    return release


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


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is there of a release.

    Attributes:
        whole: A version of it with nothing wrong.
        damaged: What is wrong with the others, by folder's name; nothing for one whose own records are damaged.
    """

    whole: Installed | None
    damaged: Mapping[str, tuple[Damage, ...]]

    @property
    def damaged_files(self) -> frozenset[tuple[str, str]]:
        """Version and path of every damaged file."""
        return frozenset((name, damage.path) for name, found in self.damaged.items() for damage in found)


def _found(release: Release, installed: Sequence[Installed], wish: Wish | None = None) -> _Found:
    damaged: dict[str, tuple[Damage, ...]] = {}
    for version in installed:
        if not _is_release(version, release):
            continue
        entries = version.entries()
        wrong = (
            examine(version.tree, entries, thorough=wish.repair, progress=wish.progress, cancel=wish.cancel)
            if wish
            else examine(version.tree, entries)
        )
        if entries and not wrong:
            return _Found(whole=version, damaged=damaged)
        damaged[version.name] = wrong
    return _Found(whole=None, damaged=damaged)


def _install_release(source: Source, release: Release, home: Home, wish: Wish) -> InstallResult:
    previous = read_pointer(home.current)
    remove_leftovers(home)
    take_over(home, release)
    remove_dead(home.partial, keep=home.staging(release))
    stop_if(wish.cancel)
    found = _found(release, installed_versions(home), wish)
    if found.whole is None:
        return _build(source, release, home, wish, found)
    _activate(home, release, found.whole.name, wish, found)
    _remove_staging(home, release)
    return _result(release, found.whole.folder, previous, already_installed=True)


def _build(source: Source, release: Release, home: Home, wish: Wish, found: _Found) -> InstallResult:
    previous = read_pointer(home.current)
    installed = installed_versions(home)
    staging = home.staging(release)
    seeker = Seeker(
        source=source,
        release=release,
        installed=installed,
        staging=staging,
        into=staging,
        begin=lambda: begin(staging, release),
        progress=wish.progress,
        tally=Tally(source.traffic),
        cancel=wish.cancel,
    )
    known = seeker.acquire()
    indexes = {name: item.index for name, item in known.items()}
    entries = check_release(release, indexes)
    check_path_lengths([staging / "version" / TREE, home.versions / f"{version_id(release)}.2" / TREE], entries)
    builder = Builder(
        seeker,
        home,
        known=known,
        installed=_files_of(installed, release, indexes),
        damaged=found.damaged_files,
        thorough=wish.repair,
    )
    with closing(builder.staging):
        builder.staging.keep_indexes({index_file(name): item.data for name, item in known.items()})
        plan = builder.run(_free(home.data))
        stop_if(wish.cancel)
        builder.staging.seal(_marker(release), entries)
        final = _free_name(home.versions / version_id(release))
        builder.staging.publish(final)
    _activate(home, release, final.name, wish, found)
    _remove_staging(home, release)
    return _result(
        release,
        final,
        previous,
        damage=next((wrong for name, wrong in found.damaged.items() if name == previous), ()),
        bytes_fetched=builder.fetched,
        bytes_resumed=builder.resumed,
        bytes_reused=plan.reused_bytes,
        files_reused=len(plan.reuse),
        files_written=builder.written,
        files_patched=builder.patched,
    ).model_copy(update={"ways": builder.ways, "received": seeker.tally.bytes()})


def _free(folder: Path) -> int:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _files_of(
    installed: Sequence[Installed], release: Release, indexes: Mapping[Component, Index]
) -> tuple[InstalledFiles, ...]:
    """What versions can give; one of the very release can even when its own records are damaged."""

    def entries(version: Installed) -> tuple[TreeEntry, ...]:
        if _is_release(version, release):
            return tuple(entry.tree_entry() for index in indexes.values() for entry in index.files)
        return version.entries()

    return tuple(InstalledFiles(name=version.name, entries=entries(version)) for version in installed)


def _is_release(version: Installed, release: Release) -> bool:
    marker = version.marker
    return (marker.app, marker.version, marker.tree) == (release.app, release.version, release.tree)


def _marker(release: Release) -> VersionMarker:
    libs = release.component("libs")
    return VersionMarker(
        app=release.app,
        version=release.version,
        flavor=release.flavor,
        platform=release.platform,
        label=libs.version if libs else None,
        tree=release.tree,
        entry=release.entry,
    )


def _free_name(folder: Path) -> Path:
    """The version's own name, or with a number when a damaged copy has it: a visible version is never changed."""
    number, name = 1, folder
    while name.exists():
        number += 1
        name = folder.with_name(f"{folder.name}.{number}")
    return name


def _activate(home: Home, release: Release, name: str, wish: Wish, found: _Found) -> None:
    """Make a version the one in use; the origin goes first, so that an update knows where to look whatever happens."""
    previous = read_pointer(home.current)
    write_origin(
        home.origin,
        Origin(
            app=release.app,
            channel=wish.channel,
            flavor=release.flavor,
            platform=release.platform,
            sources=source_texts(wish.source),
            root=wish.root.decode("utf-8"),
        ),
    )
    if previous != name:
        write_pointer(home.current, name)
    state = read_state(home.state)
    if previous is not None and previous not in state.history:
        state = state.activated(previous)
    for damaged in found.damaged:
        if damaged in state.history:
            state = state.repaired(damaged, name)
    write_state(home.state, state.activated(name))


def _remove_staging(home: Home, release: Release) -> None:
    staging = home.staging(release)
    if staging.exists():
        remove_ours(staging)


def _result(
    release: Release,
    folder: Path,
    previous: str | None,
    *,
    already_installed: bool = False,
    damage: tuple[Damage, ...] = (),
    **numbers: int,
) -> InstallResult:
    libs = release.component("libs")
    return InstallResult(
        path=str(folder),
        tree=str(folder / TREE),
        entry=str(folder / TREE / release.entry),
        version_id=folder.name,
        app=release.app,
        version=release.version,
        flavor=release.flavor,
        label=libs.version if libs else None,
        previous=previous,
        already_installed=already_installed,
        damage=damage,
        **numbers,
    )
