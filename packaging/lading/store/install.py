"""Install a release from a source: verified, planned, staged, then made current by one pointer.

The steps, each of which may be the last one that a crash lets happen:

    1. The signed metadata, the channel, the release (``fetch.trust``).
    2. The lock: a second caller is told at once that it is busy.
    3. The indexes, from an installed version or the staging folder if they are there.
    4. May it be written at all (``safety``)? What is to be done (``plan``)? Is there room?
    5. Files of installed versions are digested, then linked; frames are fetched, verified and written (``staging``).
    6. Sealed, flushed, renamed into ``versions/``; the pointer; the history; the staging folder goes.

Until the pointer changes, the machine has the version that it had; afterwards the new one, whole.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lading.errors import LadingError
from lading.fetch.address import open_source
from lading.fetch.indexes import fetch_index, read_index
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.host.platform import this_platform
from lading.manifest.base import Component, Platform, Record
from lading.manifest.index import Index
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.store.build import Builder
from lading.store.choice import choose_entry, variant_of
from lading.store.home import Home, trust_folder, version_id
from lading.store.installed import (
    Installed,
    index_file,
    installed_versions,
    kept_index,
    record_failure,
    remove_leftovers,
)
from lading.store.journal import journaled_frames
from lading.store.lock import hold, hold_patiently
from lading.store.marker import VersionMarker, remove_dead, remove_ours
from lading.store.plan import InstalledFiles, PlanReport, make_plan
from lading.store.pointer import read_pointer, write_pointer
from lading.store.safety import check_release
from lading.store.staging import JOURNAL, TREE
from lading.store.state import read_state, write_state


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
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Wish:
    """What the caller asked for."""

    app: str
    channel: str
    version: str | None
    flavor: str | None
    platform: Platform


def install(
    source: Source | str,
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    version: str | None = None,
    flavor: str | None = None,
    platform: Platform | None = None,
    progress: Progress | None = None,
) -> InstallResult:
    """Install a release and make it current.

    Args:
        source: The repository: a source, an address, or a folder.
        root: The bytes of a trusted TUF root.
        data: The data directory.
        app: The app's name.
        channel: The channel.
        version: A version; the channel's newest when none.
        flavor: ``cpu`` or a toolkit's name; none when the channel has only one.
        platform: Another platform than this machine's.
        progress: Hears of bytes.

    Returns:
        What was done.

    Raises:
        SignatureInvalid, MetadataExpired, DigestMismatch, FormatInvalid: The repository is not to be trusted.
        SourceUnreachable: It does not answer.
        Busy: Another process changes this variant.
        DiskFull, AccessDenied: This machine cannot.
        ConfigError: The channel has no such release.
    """
    began = time.monotonic()
    wish = _Wish(app=app, channel=channel, version=version, flavor=flavor, platform=platform or this_platform())
    talk = progress or Silent()
    with ExitStack() as stack:
        opened = stack.enter_context(_opened(source))
        if flavor is not None:
            stack.enter_context(hold(Home(data, variant_of(flavor)).lock))
        release = _trusted_release(opened, root, data, wish)
        home = Home(data, release.variant)
        if flavor is None:
            stack.enter_context(hold(home.lock))
        try:
            result = _install_release(opened, release, home, talk)
        except LadingError as error:
            record_failure(home, error)
            raise
        traffic = {"bytes_received": opened.traffic.bytes, "requests": opened.traffic.requests}
        return result.model_copy(update={**traffic, "seconds": round(time.monotonic() - began, 3)})


def plan_install(
    source: Source | str,
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    version: str | None = None,
    flavor: str | None = None,
    platform: Platform | None = None,
) -> PlanReport:
    """Say what :func:`install` would do, and change nothing: not even the metadata seen is kept.

    Raises:
        LadingError: As :func:`install`, without those about writing.
    """
    wish = _Wish(app=app, channel=channel, version=version, flavor=flavor, platform=platform or this_platform())
    with _opened(source) as opened, tempfile.TemporaryDirectory(prefix="lading-plan-") as scratch:
        seen = trust_folder(data)
        copy = trust_folder(Path(scratch))
        if seen.is_dir():
            shutil.copytree(seen, copy, symlinks=True)
        release = _trusted_release(opened, root, Path(scratch), wish)
        return _report(opened, release, Home(data, release.variant))


def _report(source: Source, release: Release, home: Home) -> PlanReport:
    installed = installed_versions(home)
    free = _free(home.data)
    if _whole_version(release, installed) is not None:
        return PlanReport(version_id=version_id(release), installed=True, disk_free=free)
    indexes = _parsed(release, _indexes(source, release, home, installed))
    check_release(release, indexes)
    staged = journaled_frames(home.staging(release) / JOURNAL, release)
    plan = make_plan(release, indexes, _files_of(installed), staged=staged)
    return PlanReport(
        version_id=version_id(release),
        installed=False,
        fetch_bytes={part.component.component: part.fetch_bytes for part in plan.components},
        requests={part.component.component: len(part.ranges) for part in plan.components},
        staged_bytes=plan.staged_bytes,
        reused_files=len(plan.reuse),
        reused_bytes=plan.reused_bytes,
        written_files=sum(len(part.files) for part in plan.components),
        disk_needed=plan.disk,
        disk_free=free,
    )


@contextmanager
def _opened(source: Source | str) -> Iterator[Source]:
    if not isinstance(source, str):
        yield source  # the caller's own, to close or to use again
        return
    with closing(open_source(source)) as opened:
        yield opened


def _trusted_release(source: Source, root: bytes, data: Path, wish: _Wish) -> Release:
    folder = trust_folder(data)
    with hold_patiently(folder / "lock"):
        trust = Trust(source, root, folder)
        entry = choose_entry(
            trust.channel(wish.app, wish.channel), platform=wish.platform, flavor=wish.flavor, version=wish.version
        )
        return trust.release(entry, wish.app)


def _install_release(source: Source, release: Release, home: Home, progress: Progress) -> InstallResult:
    previous = read_pointer(home.current)
    remove_leftovers(home)
    remove_dead(home.partial, keep=home.staging(release))
    installed = installed_versions(home)
    there = _whole_version(release, installed)
    if there is None:
        return _build(source, release, home, progress)
    _activate(home, there.name, previous)
    _remove_staging(home, release)
    return _result(release, there.folder, previous, already_installed=True)


def _build(source: Source, release: Release, home: Home, progress: Progress) -> InstallResult:
    previous = read_pointer(home.current)
    installed = installed_versions(home)
    raw = _indexes(source, release, home, installed)
    indexes = _parsed(release, raw)
    entries = check_release(release, indexes)
    builder = Builder(source, release, home, indexes=indexes, installed=_files_of(installed), progress=progress)
    with closing(builder.staging):
        builder.staging.keep_indexes({index_file(name): data for name, data in raw.items()})
        plan = builder.run(_free(home.data))
        builder.staging.seal(_marker(release), entries)
        final = _free_name(home.versions / version_id(release))
        builder.staging.publish(final)
    _activate(home, final.name, previous)
    _remove_staging(home, release)
    return _result(
        release,
        final,
        previous,
        bytes_fetched=builder.fetched,
        bytes_resumed=builder.resumed,
        bytes_reused=plan.reused_bytes,
        files_reused=len(plan.reuse),
        files_written=sum(len(part.files) for part in plan.components),
    )


def _free(folder: Path) -> int:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _files_of(installed: tuple[Installed, ...]) -> tuple[InstalledFiles, ...]:
    return tuple(InstalledFiles(name=version.name, entries=version.entries()) for version in installed)


def _whole_version(release: Release, installed: tuple[Installed, ...]) -> Installed | None:
    same = (version for version in installed if _is_release(version, release))
    return next((version for version in same if version.looks_whole()), None)


def _is_release(version: Installed, release: Release) -> bool:
    marker = version.marker
    return (marker.app, marker.version, marker.tree) == (release.app, release.version, release.tree)


def _indexes(source: Source, release: Release, home: Home, installed: tuple[Installed, ...]) -> dict[Component, bytes]:
    """The compressed indexes: kept ones where their digest is the release's, fetched ones otherwise."""
    folders = [home.staging(release), *(version.folder for version in installed)]
    return {part.component: kept_index(folders, part) or fetch_index(source, part) for part in release.components}


def _parsed(release: Release, raw: Mapping[Component, bytes]) -> dict[Component, Index]:
    return {part.component: read_index(raw[part.component], part) for part in release.components}


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


def _activate(home: Home, name: str, previous: str | None) -> None:
    if previous != name:
        write_pointer(home.current, name)
    state = read_state(home.state)
    if previous is not None and previous not in state.history:
        state = state.activated(previous)
    write_state(home.state, state.activated(name))


def _remove_staging(home: Home, release: Release) -> None:
    staging = home.staging(release)
    if staging.exists():
        remove_ours(staging)


def _result(
    release: Release, folder: Path, previous: str | None, *, already_installed: bool = False, **numbers: int
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
        **numbers,
    )
