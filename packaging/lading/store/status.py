"""Everything that is installed, for a person or a program to read. Takes no lock, asks no network, changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from lading.errors import FormatInvalid
from lading.manifest.base import Record, Variant, read_record
from lading.store.diskuse import disk_use
from lading.store.home import Home, lock_file
from lading.store.installed import VARIANTS, Installed, installed_versions
from lading.store.lock import Holder, read_holder
from lading.store.marker import PARTIAL_MARKER, VERSION_MARKER, PartialMarker, is_ours
from lading.store.origin import read_origin
from lading.store.pointer import read_pointer
from lading.store.preference import Backend, read_preference
from lading.store.repair import glance
from lading.store.state import Failure, read_state
from lading.store.trials import read_trial


class VersionStatus(Record):
    """One installed version.

    Attributes:
        name: Its folder's name.
        app, version, flavor, label, channel: Which release; ``label`` names its libs, the channel it came from is
            unknown when its records are damaged.
        entry: The executable.
        in_use, previous: It is the one in use; the one that ``rollback`` goes back to.
        whole: All files are there with their sizes; none of them was read.
        changed: Files that somebody wrote to since; ``lading verify`` reads them.
        installed_at: When, seconds since 1970.
        bytes_own: What its removal frees.
        bytes_shared: What it shares with other versions.
        aside: Why the launcher does not start it by itself; none when it does.
    """

    name: str
    app: str
    version: str
    flavor: str
    label: str | None
    channel: str | None
    entry: str
    in_use: bool
    previous: bool
    whole: bool
    changed: int
    installed_at: int
    bytes_own: int
    bytes_shared: int
    aside: str | None = None


class Unfinished(Record):
    """Something that a run began and did not end.

    Attributes:
        name: Its folder's name.
        what: An install that a later run goes on with, or a removal that a later run finishes.
        version: The version's name, if it is known.
        bytes: What it takes on the disk so far.
    """

    name: str
    what: Literal["install", "removal"]
    version: str | None
    bytes: int


class VariantStatus(Record):
    """One variant.

    Attributes:
        variant: ``cpu`` or ``cuda``.
        current: The version in use.
        previous: The one that ``rollback`` would go back to.
        versions: All complete versions.
        damaged: Folders of ours whose records cannot be read: they count as not installed.
        unfinished: What a later run goes on with.
        held: The release that a roll back left and that ``update`` does not install again.
        channel, sources: Where ``update`` looks; passwords are left out.
        last_failure: The last change that failed, until one succeeds.
    """

    variant: Variant
    current: str | None
    previous: str | None
    versions: tuple[VersionStatus, ...]
    damaged: tuple[str, ...] = ()
    unfinished: tuple[Unfinished, ...] = ()
    held: str | None = None
    channel: str | None = None
    sources: tuple[str, ...] = ()
    last_failure: Failure | None = None


class Status(Record):
    """Everything installed under a data directory.

    Attributes:
        data: The directory.
        variants: One entry a variant that is there.
        busy: Who changes it just now.
        choice: The backend that the user chose for the launcher.
    """

    data: str
    variants: tuple[VariantStatus, ...]
    busy: Holder | None = None
    choice: Backend = "auto"


def status(data: Path) -> Status:
    """Say what is installed. Reads only; takes no lock and needs no network."""
    homes = [Home(data, variant) for variant in VARIANTS]
    return Status(
        data=str(data),
        variants=tuple(_variant_status(home) for home in homes if home.folder.is_dir()),
        busy=read_holder(lock_file(data)),
        choice=read_preference(data),
    )


def _variant_status(home: Home) -> VariantStatus:
    versions = installed_versions(home)
    pointed = read_pointer(home.current)
    names = frozenset(version.name for version in versions)
    state = read_state(home.state)
    previous = state.previous(pointed, names)
    origin = read_origin(home.origin)
    return VariantStatus(
        variant=home.variant,
        current=pointed if pointed in names else None,
        previous=previous,
        versions=tuple(_version_status(home, version, pointed, previous) for version in versions),
        damaged=tuple(folder.name for folder in _ours(home.versions) if folder.name not in names),
        unfinished=tuple(_unfinished(folder) for folder in _ours(home.partial)),
        held=state.held,
        channel=origin.channel if origin else None,
        sources=tuple(map(without_password, origin.sources)) if origin else (),
        last_failure=state.last_failure,
    )


def _ours(parent: Path) -> list[Path]:
    return [folder for folder in sorted(parent.glob("*")) if is_ours(folder)]


def _version_status(home: Home, version: Installed, current: str | None, previous: str | None) -> VersionStatus:
    marker = version.marker
    looks = [glance(version.tree / entry.path, entry) for entry in version.entries()]
    use = disk_use([version.folder])
    trial = read_trial(home, version)
    return VersionStatus(
        name=version.name,
        app=marker.app,
        version=marker.version,
        flavor=marker.flavor,
        label=marker.label,
        channel=_channel(version),
        entry=str(version.entry),
        in_use=version.name == current,
        previous=version.name == previous,
        whole=bool(looks) and all(how is None for how, _ in looks),
        changed=sum(how is None and not sealed for how, sealed in looks),
        installed_at=int((version.folder / VERSION_MARKER).stat().st_mtime),
        bytes_own=use.own,
        bytes_shared=use.shared,
        aside=trial.reason if trial and trial.outcome == "failed" else None,
    )


def _channel(version: Installed) -> str | None:
    try:
        return version.release().channel
    except FormatInvalid:
        return None


def _unfinished(folder: Path) -> Unfinished:
    name: str | None = None
    removal = (folder / VERSION_MARKER).is_file()
    path = folder / PARTIAL_MARKER
    if not removal:
        try:
            name = read_record(PartialMarker, path.read_bytes(), origin=str(path)).version
        except (OSError, FormatInvalid):
            name = None
    use = disk_use([folder])
    return Unfinished(name=folder.name, what="removal" if removal else "install", version=name, bytes=use.own)


def without_password(source: str) -> str:
    """A source as it may be shown: an address without user and password."""
    parts = urlsplit(source)
    if "@" not in parts.netloc:
        return source
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
