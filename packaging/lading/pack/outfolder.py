"""The folder that gets the assets: one packer at a time, and what a killed packer left there is removed.

The lock belongs to the operating system, which lets go of it when its holder dies; so whoever holds it knows that
nobody is using the temporary files that lie there. Only names that this room makes itself are removed.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lading.atomic import as_host_error
from lading.errors import Busy, ManifestInvalid
from lading.manifest.base import Component
from lading.manifest.names import checksum_name
from lading.manifest.release import Release

LOCK = ".lading-pack.lock"
STAGING_SUFFIX = ".partial"
_STAGING = re.compile(r"^\.(?:core|libs)\.[a-z0-9_]{8}\.partial$")
_TEMPORARY = re.compile(r"^\.[A-Za-z0-9][A-Za-z0-9._+-]*\.(?:json|sha256|patch|zst)\.[a-z0-9_]{8}\.tmp$")


def staging_prefix(component: Component) -> str:
    """How the name of a component's staging folder begins; eight random characters follow."""
    return f".{component}."


def _remove_leftovers(folder: Path) -> None:
    for path in folder.iterdir():
        if _STAGING.match(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif _TEMPORARY.match(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Make the folder if need be, and keep other packers out of it while the block runs.

    Args:
        folder: The folder.

    Raises:
        Busy: Another packer works there; told at once.
        ManifestInvalid: It is a file, or lies below one.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    native = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        native.acquire()
    except Timeout as error:
        raise Busy(
            f"{folder} is being written by another process.",
            usually="Another packing into the same folder is running.",
            todo="Wait for it to end, or pack into another folder with --out.",
        ) from error
    except (FileExistsError, NotADirectoryError) as error:
        raise ManifestInvalid(
            f"The assets cannot lie in {folder}: {error.strerror}.",
            usually="A file has that name, or the name of a folder above it.",
            todo="Name another folder with --out.",
        ) from error
    except OSError as error:
        raise as_host_error(error, f"writing into {folder}") from error
    try:
        try:
            _remove_leftovers(folder)
        except OSError as error:
            raise as_host_error(error, f"removing what an earlier packing left in {folder}") from error
        yield
    finally:
        native.release()


def retract_releases(folder: Path, index_name: str) -> None:
    """Remove the release manifests that name a component which is about to be replaced: they would only look whole.

    Args:
        folder: The folder.
        index_name: Name of the component's index, which no other component has.
    """
    for path in folder.glob("*.release.json"):
        if index_name in _index_names(path):
            path.unlink()
            (folder / checksum_name(path.name)).unlink(missing_ok=True)


def _index_names(path: Path) -> set[str]:
    try:
        release = Release.model_validate_json(path.read_bytes())
    except ValueError:  # not a release of this format: nobody will take it for whole
        return set()
    return {component.index.name for component in release.components}
