"""The files by which we know our own folders. What carries no marker of ours is never deleted, whatever its name."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import Literal

from lading import patience
from lading.atomic import as_host_error, fsync_folder
from lading.manifest.base import Label, Name, Platform, Record, RelPath, Sha256, Version

VERSION_MARKER = ".lading-version"
PARTIAL_MARKER = ".lading-partial"


class VersionMarker(Record):
    """In every complete version, written last.

    Attributes:
        app, version, flavor, platform, label: Which release; ``label`` names its libs.
        tree: Digest of the whole tree.
        entry: The executable, relative to the tree.
    """

    schema_: Literal["lading/version/1"] = "lading/version/1"
    app: Name
    version: Version
    flavor: Name
    platform: Platform
    label: Label | None = None
    tree: Sha256
    entry: RelPath


class PartialMarker(Record):
    """In every folder under ``partial/``.

    Attributes:
        tree: Digest of the tree that is being put together.
        version: The name that the version will have, for those who ask what is unfinished.
    """

    schema_: Literal["lading/partial/1"] = "lading/partial/1"
    tree: Sha256
    version: str | None = None


def is_ours(folder: Path) -> bool:
    """Whether a folder carries one of our markers."""
    return not folder.is_symlink() and any((folder / name).is_file() for name in (VERSION_MARKER, PARTIAL_MARKER))


def is_scrap(folder: Path) -> bool:
    """Whether a folder under ``partial/`` is ours, or holds nothing but the beginning of a marker.

    The second is what a crash leaves between making a folder and marking it, or between deleting the marker and the
    folder: there is nothing in it that anybody could miss.
    """
    if folder.is_symlink() or not folder.is_dir():
        return False
    return is_ours(folder) or all(is_temporary(path.name, PARTIAL_MARKER) for path in folder.iterdir())


def is_temporary(name: str, *of: str) -> bool:
    """Whether a name is that of an atomic write's unfinished file for one of some names."""
    return name.endswith(".tmp") and any(name.startswith(f".{final}.") for final in of)


def remove_temporaries(folder: Path, *of: str) -> None:
    """Delete what a killed process left of atomic writes to some names in a folder."""
    for path in folder.glob(".*.tmp"):  # nothing where there is no such folder
        if is_temporary(path.name, *of):
            path.unlink(missing_ok=True)


def remove_ours(folder: Path) -> None:
    """Delete a folder of ours; the marker goes last, so that an interrupted removal is finished by the next run.

    Raises:
        RuntimeError: The folder carries no marker of ours.
        AccessDenied: The system refuses.
    """
    if not is_scrap(folder):
        message = f"{folder} carries no marker of ours and is not deleted"
        raise RuntimeError(message)
    markers = {folder / VERSION_MARKER, folder / PARTIAL_MARKER}
    try:
        for child in sorted(set(folder.iterdir()) - markers):
            if child.is_dir() and not child.is_symlink():
                shutil.rmtree(child)
            else:
                child.unlink()
        for marker in markers:
            marker.unlink(missing_ok=True)
        folder.rmdir()
    except OSError as error:
        raise as_host_error(error, f"deleting {folder}") from error


def remove_version(folder: Path, partial: Path) -> None:
    """Delete a complete version: out of sight by one rename first, so that no half of it ever looks installed.

    Raises:
        RuntimeError: The folder carries no marker of ours.
        AccessDenied: The system refuses, because a program of that version still runs (Windows); it stays whole.
    """
    if not is_ours(folder):
        message = f"{folder} carries no marker of ours and is not deleted"
        raise RuntimeError(message)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        hidden = partial / f"removed-{secrets.token_hex(4)}"
        patience.rename(folder, hidden)
        fsync_folder(folder.parent)
    except OSError as error:
        raise as_host_error(error, f"deleting {folder}") from error
    remove_ours(hidden)


def remove_dead(partial: Path, *, keep: Path | None = None) -> tuple[str, ...]:
    """Delete what earlier runs left unfinished, except the one install that goes on.

    Args:
        partial: The folder of unfinished things.
        keep: The one to keep.

    Returns:
        The names that were deleted.
    """
    dead = [folder for folder in sorted(partial.glob("*")) if folder != keep and is_scrap(folder)]
    for folder in dead:
        remove_ours(folder)
    return tuple(folder.name for folder in dead)
