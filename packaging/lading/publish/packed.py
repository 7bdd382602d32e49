"""What a packed folder holds for one release: everything that must be at a destination before the release may be seen.

Invariants:
    * A component's objects come in a fixed order, its record last: a destination that has the record has the component.
    * Nothing is read here but the records and the checksum files; archives are digested while they are copied.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FormatInvalid
from lading.manifest.base import Component, canonical_json, read_record
from lading.manifest.layout import asset_path, release_target
from lading.manifest.names import checksum_name, component_name, release_name
from lading.manifest.release import Asset, ComponentRecord, Release


@dataclass(frozen=True, kw_only=True)
class PackedObject:
    """One object to publish.

    Attributes:
        path: Where it belongs in the repository.
        size, sha256: What its bytes must be.
        component: The component that it belongs to.
        source: Its file in the packed folder; it need not exist when a destination has the object already. None of an
            object of an earlier release, whose packed folder is gone.
        data: Its bytes, for the small ones that follow from the release itself.
    """

    path: str
    size: int
    sha256: str
    component: Component
    source: Path | None = None
    data: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A release and what belongs to it.

    Attributes:
        release: The release.
        data: The release manifest's bytes.
        target: Its TUF target path.
        objects: Everything else, in the order in which it is published.
    """

    release: Release
    data: bytes
    target: str
    objects: tuple[PackedObject, ...]


def read_packed(folder: Path, release_file: Path) -> Packed:
    """Read a packed folder's release.

    Args:
        folder: The packed folder.
        release_file: The release manifest, in the folder or elsewhere.

    Returns:
        The release and its objects.

    Raises:
        FormatInvalid: The manifest or a component record is missing or not what it should be.
        DigestMismatch: A checksum file contradicts the release manifest.
    """
    data = _read(release_file)
    release = read_record(Release, data, origin=str(release_file))
    if data != canonical_json(release):
        raise _incomplete(f"{release_file} is not in canonical form")
    name = release_name(release.app, release.version, release.flavor, release.platform)
    objects = release_objects(release, folder)
    _check_beside(folder, objects)
    return Packed(release=release, data=data, target=release_target(release, name), objects=objects)


def release_objects(release: Release, folder: Path | None = None) -> tuple[PackedObject, ...]:
    """Everything that must be at a destination before a release may be seen, in the order in which it is published.

    Args:
        release: The release.
        folder: Where its files lie, if they are at hand.
    """
    objects: list[PackedObject] = []
    for component in release.components:
        patches = [patch.asset for patch in release.patches if patch.component == component.component]
        for asset in (*component.volumes, component.index, *patches):
            objects += _with_checksum(folder, component, asset)
        objects += _record_objects(component)
    return tuple(objects)


def release_files(folder: Path) -> tuple[Path, ...]:
    """The release manifests of a packed folder.

    Raises:
        FormatInvalid: There is none.
    """
    found = tuple(sorted(folder.glob("*.release.json")))
    if not found:
        raise _incomplete(f"there is no *.release.json in {folder}")
    return found


def _check_beside(folder: Path, objects: Iterable[PackedObject]) -> None:
    """Compare the small files that follow from the release with those that were packed, as far as they are there."""
    for item in objects:
        beside = folder / item.path.rpartition("/")[2]
        if item.data is None or not beside.exists() or (found := beside.read_bytes()) == item.data:
            continue
        if not beside.name.endswith(checksum_name("")):
            raise _incomplete(f"{beside} is not the component that the release manifest describes")
        wanted = item.data.decode().split(" ")[0]
        raise DigestMismatch(
            f"{beside} says {found.decode(errors='replace').split(' ')[0]!r}, the release says {wanted}.",
            usually="The folder holds parts of two packings.",
            todo="Pack again into an empty folder.",
        )


def _with_checksum(folder: Path | None, component: ComponentRecord, asset: Asset) -> list[PackedObject]:
    path = asset_path(component, asset.name)
    return [
        PackedObject(
            path=path,
            size=asset.size,
            sha256=asset.sha256,
            component=component.component,
            source=None if folder is None else folder / asset.name,
        ),
        _small(component, checksum_name(path), asset.checksum_line),
    ]


def _record_objects(component: ComponentRecord) -> list[PackedObject]:
    name = component_name(component.volumes[0].name.removesuffix(".001"))
    data = canonical_json(component)
    path = asset_path(component, name)
    line = Asset(name=name, size=len(data), sha256=sha256_bytes(data)).checksum_line
    return [_small(component, checksum_name(path), line), _small(component, path, data)]


def _small(component: ComponentRecord, path: str, data: bytes) -> PackedObject:
    return PackedObject(path=path, size=len(data), sha256=sha256_bytes(data), component=component.component, data=data)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise _incomplete(f"there is no {path}") from error


def _incomplete(what: str) -> FormatInvalid:
    return FormatInvalid(
        f"This is not a whole packed release: {what}.",
        usually="Packing was interrupted, or the folder holds parts of two packings.",
        todo="Pack again, then publish.",
    )
