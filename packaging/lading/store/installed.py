"""What is installed, as it lies on disk. Reads; changes nothing but what killed processes left.

A version is *complete* when its marker is readable: the marker is written last and the folder appears by one rename.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from backports.zstd import ZstdError

from lading.errors import FormatInvalid, LadingError, NotInstalled
from lading.fetch.indexes import proves, read_index
from lading.manifest.base import Component, Variant, read_record
from lading.manifest.index import Index
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import TreeEntry
from lading.store.home import Home
from lading.store.lock import hold, holder_file
from lading.store.marker import VERSION_MARKER, VersionMarker, remove_temporaries
from lading.store.pointer import read_pointer
from lading.store.repair import Damage, examine, glance
from lading.store.staging import RELEASE_FILE, TREE
from lading.store.state import read_state, write_state

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
            return tuple(entry for index in self.indexes().values() for entry in index.files)
        except (FormatInvalid, ZstdError):
            return ()

    def looks_whole(self) -> bool:
        """Whether every file and link is there with its size or target; nothing is read."""
        entries = self.entries()
        return bool(entries) and all(glance(self.tree / entry.path, entry)[0] is None for entry in entries)

    def damage(self, *, thorough: bool = False) -> tuple[Damage, ...] | None:
        """What is wrong with it (:func:`lading.store.repair.examine`); none when its own records are damaged."""
        entries = self.entries()
        return examine(self.tree, entries, thorough=thorough) if entries else None


def kept_index(folders: Iterable[Path], component: ComponentRecord) -> bytes | None:
    """A component's compressed index from the first of some folders that has exactly the one a release means."""
    for folder in folders:
        try:
            data = (folder / index_file(component.component)).read_bytes()
        except FileNotFoundError:
            continue
        if proves(data, component):
            return data
    return None


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


def named_version(home: Home, name: str) -> Installed:
    """The version with a folder's name, or of a release's number when only one has it.

    Raises:
        NotInstalled: There is none, or there are several; says what there is.
    """
    versions = installed_versions(home)
    number = name.removeprefix("v")
    exact = [version for version in versions if version.name == name]
    found = exact or [version for version in versions if version.marker.version == number]
    if len(found) != 1:
        raise NotInstalled(
            f"{'Several versions' if found else 'No version'} of the {home.variant} variant "
            f"{'are' if found else 'is'} called {name}.",
            usually=f"Installed are: {', '.join(version.name for version in versions) or 'none'}.",
            todo="`lading status` lists what is there; `lading install --version` fetches another one.",
        )
    return found[0]


def current_version(home: Home) -> Installed | None:
    """The version in use, or none when there is none or the pointer leads nowhere."""
    name = read_pointer(home.current)
    return next((version for version in installed_versions(home) if version.name == name), None)


def versions_in_use(data: Path, app: str) -> dict[str, str]:
    """The versions of an app that are in use, by flavor: at most one a variant."""
    markers = [found.marker for variant in VARIANTS if (found := current_version(Home(data, variant))) is not None]
    return {marker.flavor: marker.version for marker in markers if marker.app == app}


def remove_leftovers(home: Home) -> None:
    """Delete what killed processes left of atomic writes in a variant's folder; the caller holds the lock."""
    remove_temporaries(home.folder, home.current.name, home.state.name, home.origin.name)
    remove_temporaries(home.data, holder_file(home.lock).name)


def record_failure(home: Home, error: LadingError) -> None:
    """Remember a failure for ``lading status``; when even that fails, the error says so."""
    try:
        write_state(home.state, read_state(home.state).failed(error.kind, error.what))
    except LadingError as second:
        error.add_note(f"It could not be noted in {home.state} either: {second.what}")


@contextmanager
def hold_installed(home: Home, doing: str) -> Iterator[None]:
    """Hold the data directory's lock to change what is installed of a variant.

    Raises:
        NotInstalled: There is nothing of it.
        Busy, AccessDenied, DiskFull: As :func:`lading.store.lock.hold`; decided before anything is looked at.
    """
    if not home.data.is_dir():  # a lock would make it
        _need(home)
    with hold(home.lock, doing):
        _need(home)
        yield


def _need(home: Home) -> None:
    if not home.folder.is_dir():
        raise NotInstalled(
            f"Nothing of the {home.variant} variant is installed under {home.data}.",
            usually="It was never installed, or another data directory holds it.",
            todo="`lading status --data …` shows what a data directory holds.",
        )
