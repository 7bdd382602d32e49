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

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from lading.atomic import as_host_error
from lading.cancel import stop_if
from lading.errors import Interrupted, LadingError
from lading.fetch.mirrors import failed_mirrors
from lading.fetch.source import Source
from lading.fetch.tally import Tally
from lading.host.platform import this_platform
from lading.manifest.base import Platform
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.store.build import Builder
from lading.store.collect import KEEP, collect
from lading.store.home import Home, lock_file, version_id
from lading.store.indexes import Seeker
from lading.store.installed import (
    index_file,
    installed_versions,
    record_failure,
    remove_leftovers,
    versions_in_use,
)
from lading.store.lock import hold
from lading.store.marker import VersionMarker, remove_dead, remove_ours
from lading.store.origin import Origin, source_texts, write_origin
from lading.store.pathlimit import check_path_lengths
from lading.store.pointer import read_pointer, write_pointer
from lading.store.present import Found, files_of, find_present, free_room
from lading.store.repair import Damage
from lading.store.result import InstallResult
from lading.store.safety import check_release
from lading.store.staging import TREE
from lading.store.state import read_state, write_state
from lading.store.trials import lift
from lading.store.unfinished import begin, take_over
from lading.store.wish import Machine, Wish, opened, trusted_choice


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
    host: Machine | None = None,
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
        host: This machine, or how to look at it, by which a flavor is chosen and one that cannot run is refused;
            nothing is checked without.
        force: Install what was named, or the only one, although it cannot run here; and a version that was named
            although its publisher withdrew it.
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
        NotOffered: It was withdrawn, or is not rolled out to this machine yet.
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
        take_withdrawn=force,
        keep=keep,
        repair=repair,
        limit=limit,
        progress=progress or Silent(),
        cancel=cancel,
    )
    began = time.monotonic()
    with hold(lock_file(data), "installing"), opened(source, limit=limit) as repository:
        wish = replace(wish, installed=versions_in_use(data, app))
        chosen = trusted_choice(repository, data, wish)
        wish = replace(wish, going_back=chosen.withdrawn is not None and version is None)
        return install_release(repository, chosen.release, data, wish, began=began)


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


def _install_release(source: Source, release: Release, home: Home, wish: Wish) -> InstallResult:
    previous = read_pointer(home.current)
    remove_leftovers(home)
    take_over(home, release)
    remove_dead(home.partial, keep=home.staging(release))
    stop_if(wish.cancel)
    found = find_present(release, installed_versions(home), wish)
    if found.whole is None:
        return _build(source, release, home, wish, found)
    _activate(home, release, found.whole.name, wish, found)
    _remove_staging(home, release)
    return _result(release, found.whole.folder, previous, already_installed=True)


def _build(source: Source, release: Release, home: Home, wish: Wish, found: Found) -> InstallResult:
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
        installed=files_of(installed, release, indexes),
        damaged=found.damaged_files,
        thorough=wish.repair,
    )
    with closing(builder.staging):
        builder.staging.keep_indexes({index_file(name): item.data for name, item in known.items()})
        plan = builder.run(free_room(home.data))
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


def _activate(home: Home, release: Release, name: str, wish: Wish, found: Found) -> None:
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
    withdrawn = wish.going_back and previous != name
    write_state(home.state, state.withdrawn(name, left=previous) if withdrawn else state.activated(name))
    lift(home, name)  # whoever installs or repairs a version wants it tried


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
