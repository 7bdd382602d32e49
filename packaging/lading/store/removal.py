"""Deleting what is installed: one version, a variant, or everything. What is not ours stays and is listed.

The pointer goes first, so that nothing half deleted is ever in use; every version then goes out of sight by one rename.
An interrupted removal is finished by the next run.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from lading.atomic import as_host_error
from lading.errors import Busy, ConfigError, NotInstalled
from lading.manifest.base import Record, Variant
from lading.store.collect import remove_measured
from lading.store.diskuse import disk_use
from lading.store.home import (
    Home,
    choice_file,
    control_file,
    launch_folder,
    launcher_lock,
    lock_file,
    trust_folder,
)
from lading.store.installed import VARIANTS, hold_installed, named_version, remove_leftovers
from lading.store.lock import hold, holder_file, read_holder
from lading.store.marker import is_ours, remove_dead
from lading.store.pointer import read_pointer
from lading.store.running import running_from
from lading.store.state import read_state, write_state
from lading.store.trials import lift, remove_trials

_TRUSTED = "root.json"  # by this file a folder is known to hold our metadata


class UninstallResult(Record):
    """A removal.

    Attributes:
        variant: Which variant.
        removed: The folders' names of the versions.
        left: What is left because it is not ours.
        bytes_freed: What the disk got back; files that other versions share are still there.
    """

    variant: Variant
    removed: tuple[str, ...]
    left: tuple[str, ...]
    bytes_freed: int = 0


class RemovalResult(Record):
    """A removal of everything.

    Attributes:
        variants: One entry a variant that was there.
        metadata: The repository's metadata was deleted.
        left: What is left in the data directory because it is not ours.
    """

    variants: tuple[UninstallResult, ...]
    metadata: bool
    left: tuple[str, ...]


def uninstall(data: Path, variant: Variant, *, version: str | None = None) -> UninstallResult:
    """Delete a variant, or one version of it.

    Args:
        data: The data directory.
        variant: Which variant.
        version: Only this version: a folder's name or a release number. The one in use cannot go alone.

    Returns:
        What was deleted. Folders without our marker stay and are listed.

    Raises:
        NotInstalled: There is nothing of this variant, or no such version.
        Busy: Another process changes this data directory, or a program of it runs.
        ConfigError: The version is in use.
        AccessDenied: The system refuses, because a file is open (Windows).
    """
    home = Home(data, variant)
    with hold_installed(home, "uninstalling"):
        remove_leftovers(home)
        result = _remove_variant(home) if version is None else _remove_version(home, version)
    _remove_if_empty(home.folder, home.folder.parent)
    return result


def uninstall_everything(data: Path) -> RemovalResult:
    """Delete all variants, where they came from, and the repository's metadata.

    Without the metadata, a repository that was set back is not noticed by the next install.

    Raises:
        NotInstalled: There is nothing of ours.
        Busy, AccessDenied: As :func:`uninstall`; nothing or only a part is gone then.
    """
    homes = [home for home in (Home(data, variant) for variant in VARIANTS) if home.folder.is_dir()]
    trust = trust_folder(data)
    ours = (trust / _TRUSTED).is_file()
    if not homes and not ours:
        raise NotInstalled(
            f"Nothing is installed under {data}.",
            usually="It was never installed, or another data directory holds it.",
            todo="`lading status --data …` shows what a data directory holds.",
        )
    lock = lock_file(data)
    with hold(lock, "uninstalling everything"):
        results = []
        for home in homes:
            remove_leftovers(home)
            results.append(_remove_variant(home))
            _remove_if_empty(home.folder, home.folder.parent)
        try:
            if ours:
                shutil.rmtree(trust)
        except OSError as error:
            raise as_host_error(error, f"deleting {trust}") from error
        _remove_launcher_files(data)
    left = tuple(sorted(path.name for path in data.iterdir() if path != lock))
    if not left:
        lock.unlink(missing_ok=True)  # whoever opened it meanwhile finds that its name is gone and tries again
        _remove_if_empty(data)
    return RemovalResult(variants=tuple(results), metadata=ours, left=left)


def _remove_launcher_files(data: Path) -> None:
    """Delete what a launcher kept; one that runs, from a build that lies elsewhere, needs it yet."""
    lock = launcher_lock(data)
    if read_holder(lock) is not None:
        return
    try:
        for path in (choice_file(data), control_file(data), holder_file(lock), lock):
            path.unlink(missing_ok=True)
        _remove_if_empty(launch_folder(data))
    except OSError as error:
        raise as_host_error(error, f"deleting {launch_folder(data)}") from error


def _remove_variant(home: Home) -> UninstallResult:
    versions = [folder for folder in sorted(home.versions.glob("*")) if is_ours(folder)]
    _refuse_running(versions)
    unfinished = [folder for folder in home.partial.glob("*") if is_ours(folder)]
    freed = disk_use([*versions, *unfinished]).own
    try:
        home.current.unlink(missing_ok=True)
        for folder in versions:
            remove_measured(folder, home.partial)
        remove_dead(home.partial)
        home.origin.unlink(missing_ok=True)
        home.state.unlink(missing_ok=True)
        remove_trials(home)
        for folder in (home.versions, home.partial):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise as_host_error(error, f"deleting {home.folder}") from error
    left = tuple(sorted(path.name for path in home.folder.iterdir()))
    names = tuple(folder.name for folder in versions)
    return UninstallResult(variant=home.variant, removed=names, left=left, bytes_freed=freed)


def _remove_version(home: Home, name: str) -> UninstallResult:
    version = named_version(home, name)
    if version.name == read_pointer(home.current):
        raise ConfigError(
            f"{version.name} is in use and cannot be deleted alone.",
            usually="Without it nothing of this variant could start.",
            todo="Use another version first (`lading rollback`, `lading install --version`), or uninstall the variant.",
        )
    _refuse_running([version.folder])
    remove_dead(home.partial)
    freed = remove_measured(version.folder, home.partial)
    write_state(home.state, read_state(home.state).forgetting(version.name))
    lift(home, version.name)
    return UninstallResult(variant=home.variant, removed=(version.name,), left=(), bytes_freed=freed)


def _refuse_running(folders: Sequence[Path]) -> None:
    if found := running_from(folders):
        first = found[0]
        raise Busy(
            f"{first.folder.name} is running: process {first.pid} ({first.name}).",
            usually="The server was not stopped yet; it would break while it runs.",
            todo="Stop it, then run the same command again.",
        )


def _remove_if_empty(*folders: Path) -> None:
    for folder in folders:
        if folder.is_dir() and not _any(folder.iterdir()):
            folder.rmdir()


def _any(paths: Iterable[Path]) -> bool:
    return next(iter(paths), None) is not None
