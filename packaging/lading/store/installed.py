"""What is installed, as it lies on disk; and what can be said and done about it without a network.

A version is *complete* when its marker is readable: the marker is written last and the folder appears by one rename.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from backports.zstd import ZstdError

from lading.digest import sha256_bytes
from lading.errors import FormatInvalid, LadingError, NotInstalled
from lading.fetch.indexes import read_index
from lading.manifest.base import Component, Record, Variant, read_record
from lading.manifest.index import Index
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry
from lading.store.home import Home
from lading.store.lock import HOLDER, hold
from lading.store.marker import VERSION_MARKER, VersionMarker, is_ours, remove_dead, remove_temporaries, remove_version
from lading.store.pointer import read_pointer, write_pointer
from lading.store.staging import RELEASE_FILE, TREE
from lading.store.state import Failure, read_state, write_state

VARIANTS: tuple[Variant, ...] = ("cpu", "cuda")


def index_file(component: Component) -> str:
    """A kept index's name in a version's folder: ``core.index.zst``."""
    return f"{component}.index.zst"


@dataclass(frozen=True, kw_only=True)
class Installed:
    """A complete version on disk.

    Attributes:
        folder: Its folder.
        marker: Which release it is.
    """

    folder: Path
    marker: VersionMarker

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def tree(self) -> Path:
        """The runnable tree."""
        return self.folder / TREE

    @property
    def entry(self) -> Path:
        """The executable."""
        return self.tree / self.marker.entry

    def release(self) -> Release:
        """The release manifest that it was installed from.

        Raises:
            FormatInvalid: It is missing or damaged.
        """
        path = self.folder / RELEASE_FILE
        try:
            return read_record(Release, path.read_bytes(), origin=str(path))
        except FileNotFoundError as error:
            raise _damaged(path) from error

    def indexes(self) -> dict[Component, Index]:
        """The indexes of its components.

        Raises:
            FormatInvalid: One is missing or damaged.
        """
        found: dict[Component, Index] = {}
        for component in self.release().components:
            data = kept_index([self.folder], component)
            if data is None:
                raise _damaged(self.folder / index_file(component.component))
            found[component.component] = read_index(data, component)
        return found

    def entries(self) -> tuple[TreeEntry, ...]:
        """What its tree must contain; nothing when its records are damaged, because then nothing is known of it."""
        try:
            return tuple(entry.tree_entry() for index in self.indexes().values() for entry in index.files)
        except (FormatInvalid, ZstdError):
            return ()

    def looks_whole(self) -> bool:
        """Whether every file and link is there with its size or target; digests are for ``lading verify``."""
        entries = self.entries()
        return bool(entries) and all(_is_there(self.tree, entry) for entry in entries)


def kept_index(folders: Iterable[Path], component: ComponentRecord) -> bytes | None:
    """A component's compressed index from the first of some folders that has exactly the one a release means."""
    for folder in folders:
        try:
            data = (folder / index_file(component.component)).read_bytes()
        except FileNotFoundError:
            continue
        if sha256_bytes(data) == component.index.sha256:
            return data
    return None


def _is_there(tree: Path, entry: TreeEntry) -> bool:
    path = tree / entry.path
    try:
        if entry.type == "link":
            return str(path.readlink()) == entry.target
        return not path.is_symlink() and path.is_file() and path.stat().st_size == entry.size
    except OSError:
        return False


def _damaged(path: Path) -> FormatInvalid:
    return FormatInvalid(
        f"{path} is missing or is not the file that was installed.",
        usually="Somebody or a cleaning program changed the installed version.",
        todo="Run `lading install` again: it fetches what is wrong.",
    )


def installed_versions(home: Home) -> tuple[Installed, ...]:
    """The complete versions of a variant, the one in use first, then by name from the last."""
    found: list[Installed] = []
    for folder in sorted(home.versions.glob("*"), reverse=True):
        path = folder / VERSION_MARKER
        if folder.is_symlink() or not path.is_file():
            continue
        try:
            found.append(
                Installed(folder=folder, marker=read_record(VersionMarker, path.read_bytes(), origin=str(path)))
            )
        except FormatInvalid:
            continue  # not a complete version; its folder stays, because its marker says that it is ours
    current = read_pointer(home.current)
    return tuple(sorted(found, key=lambda version: version.name != current))


def current_version(home: Home) -> Installed | None:
    """The version in use, or none when there is none or the pointer leads nowhere."""
    name = read_pointer(home.current)
    return next((version for version in installed_versions(home) if version.name == name), None)


class VersionStatus(Record):
    """One installed version: its folder's name, the release, and whether all its files are there."""

    name: str
    app: str
    version: str
    flavor: str
    label: str | None
    entry: str
    in_use: bool
    whole: bool


class VariantStatus(Record):
    """One variant.

    Attributes:
        variant: ``cpu`` or ``cuda``.
        current: The version in use.
        previous: The one that ``rollback`` would go back to.
        versions: All complete versions.
        unfinished: Names of installs that a later run can go on with.
        last_failure: The last change that failed, until one succeeds.
    """

    variant: Variant
    current: str | None
    previous: str | None
    versions: tuple[VersionStatus, ...]
    unfinished: tuple[str, ...]
    last_failure: Failure | None


class Status(Record):
    """Everything installed under a data directory."""

    data: str
    variants: tuple[VariantStatus, ...]


def status(data: Path) -> Status:
    """Say what is installed. Reads only; takes no lock and needs no network."""
    homes = [Home(data, variant) for variant in VARIANTS]
    return Status(data=str(data), variants=tuple(_variant_status(home) for home in homes if home.folder.is_dir()))


def _variant_status(home: Home) -> VariantStatus:
    versions = installed_versions(home)
    pointed = read_pointer(home.current)
    names = frozenset(version.name for version in versions)
    state = read_state(home.state)
    return VariantStatus(
        variant=home.variant,
        current=pointed if pointed in names else None,
        previous=state.previous(pointed, names),
        versions=tuple(
            VersionStatus(
                name=version.name,
                app=version.marker.app,
                version=version.marker.version,
                flavor=version.marker.flavor,
                label=version.marker.label,
                entry=str(version.entry),
                in_use=version.name == pointed,
                whole=version.looks_whole(),
            )
            for version in versions
        ),
        unfinished=tuple(folder.name for folder in sorted(home.partial.glob("*")) if is_ours(folder)),
        last_failure=state.last_failure,
    )


class RollbackResult(Record):
    """A roll back: from which version to which, and the executable now in use."""

    variant: Variant
    left: str | None
    current: str
    entry: str


def rollback(data: Path, variant: Variant, *, to: str | None = None) -> RollbackResult:
    """Go back to the version that was in use before; one pointer, no network.

    Args:
        data: The data directory.
        variant: Which variant.
        to: A version's folder name, instead of the one before.

    Returns:
        What is in use now.

    Raises:
        NotInstalled: There is no such version, or it is not whole.
        Busy: Another process changes this variant.
    """
    home = Home(data, variant)
    _needed_folder(home)
    with hold(home.lock):
        versions = {version.name: version for version in installed_versions(home)}
        left = read_pointer(home.current)
        state = read_state(home.state)
        name = to or state.previous(left, frozenset(versions))
        if name is None or name not in versions or not versions[name].looks_whole():
            raise NotInstalled(
                f"There is no whole version {name or 'before the current one'} of the {variant} variant to go back to.",
                usually=f"Installed are: {', '.join(sorted(versions)) or 'none'}.",
                todo="`lading status` lists what is there; `lading install --version` fetches an earlier one.",
            )
        write_pointer(home.current, name)
        write_state(home.state, state.rolled_back(name))
    return RollbackResult(variant=variant, left=left, current=name, entry=str(versions[name].entry))


class UninstallResult(Record):
    """A removal: what was deleted, and what is left because it is not ours."""

    variant: Variant
    removed: tuple[str, ...]
    left: tuple[str, ...]


def uninstall(data: Path, variant: Variant) -> UninstallResult:
    """Delete everything of a variant; the pointer first, so that nothing half deleted is ever in use.

    Args:
        data: The data directory.
        variant: Which variant.

    Returns:
        What was deleted. Folders without our marker stay and are listed.

    Raises:
        NotInstalled: There is nothing of this variant.
        Busy: Another process changes this variant.
        AccessDenied: The system refuses, because a program of it still runs (Windows).
    """
    home = Home(data, variant)
    _needed_folder(home)
    with hold(home.lock):
        home.current.unlink(missing_ok=True)
        versions = [folder for folder in sorted(home.versions.glob("*")) if is_ours(folder)]
        for folder in versions:
            remove_version(folder, home.partial)
        remove_dead(home.partial)
        home.state.unlink(missing_ok=True)
        remove_leftovers(home)
        for folder in (home.versions, home.partial):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        left = tuple(sorted(_strangers(home)))
        if not left:
            with suppress(PermissionError):  # Windows deletes it when it is let go
                home.lock.unlink(missing_ok=True)  # a process that waits notices that its lock file is gone
    _remove_if_empty(home.folder, home.folder.parent)
    return UninstallResult(variant=variant, removed=tuple(folder.name for folder in versions), left=left)


def remove_leftovers(home: Home) -> None:
    """Delete what killed processes left of atomic writes in a variant's folder; the caller holds the lock."""
    remove_temporaries(home.folder, home.current.name, home.state.name, HOLDER)


def _strangers(home: Home) -> set[str]:
    ours = {home.lock.name, HOLDER}
    return {str(path.relative_to(home.folder)) for path in home.folder.iterdir() if path.name not in ours}


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _needed_folder(home: Home) -> None:
    if not home.folder.is_dir():
        raise NotInstalled(
            f"Nothing of the {home.variant} variant is installed under {home.data}.",
            usually="It was never installed, or another data directory holds it.",
            todo="`lading status --data …` shows what a data directory holds.",
        )


def record_failure(home: Home, error: LadingError) -> None:
    """Remember a failure for ``lading status``; when even that fails, the error says so."""
    try:
        write_state(home.state, read_state(home.state).failed(error.kind, error.what))
    except LadingError as second:
        error.add_note(f"It could not be noted in {home.state} either: {second.what}")
