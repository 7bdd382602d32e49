"""Earlier releases: found in the given folders, compared with, and patched from.

A patch is optional everywhere: where an earlier archive is not at hand there is none, and a note says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from packaging.version import Version

from lading.delta.container import read_patch
from lading.digest import sha256_bytes
from lading.errors import LadingError
from lading.manifest.base import read_record
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.names import core_archive_name, libs_archive_name, patch_name, release_name
from lading.manifest.release import Asset, ComponentRecord, PatchRecord, Release
from lading.pack.assets import keep_checksum, write_asset
from lading.pack.patch import changed_files, index_digest, make_patch, patch_bytes
from lading.pack.planned import ComponentPlan, Packed
from lading.pack.published import find_component
from lading.pack.reader import PackedReader
from lading.progress import Progress


def earlier_releases(folders: Sequence[Path], like: BuildInfo, flavor: str) -> tuple[Release, ...]:
    """Find earlier releases of the same app, platform and flavor.

    Args:
        folders: Folders with packed or published releases; searched with their subfolders.
        like: The build that they are earlier than.
        flavor: ``cpu``, or the toolkit's name.

    Returns:
        The releases, newest first.

    Raises:
        FormatInvalid: A release manifest there is damaged, or of a format that is not known.
    """
    found: dict[str, Release] = {}
    for folder in folders:
        pattern = f"*{release_name(like.app, '*', flavor, like.platform)}"
        for path in sorted(folder.rglob(pattern)) if folder.is_dir() else ():
            release = read_record(Release, path.read_bytes(), origin=str(path))
            if (release.app, release.flavor, release.platform) == (like.app, flavor, like.platform):
                found.setdefault(release.version, release)
    older = [release for release in found.values() if Version(release.version) < Version(like.version)]
    return tuple(sorted(older, key=lambda release: Version(release.version), reverse=True))


def older_component(
    releases: Sequence[Release], plan: ComponentPlan, folders: Sequence[Path]
) -> tuple[Path, ComponentRecord] | None:
    """Find the newest earlier component of the same kind whose assets are at hand.

    Args:
        releases: Earlier releases, newest first.
        plan: What is to be packed now.
        folders: Folders with assets.

    Returns:
        The folder with its assets and its record, or none.
    """
    for release in releases:
        record = release.component(plan.component)
        if record is not None and (at := _folder_of(record, folders)) is not None:
            return at, record
    return None


def _archive_of(record: ComponentRecord) -> str:
    if record.component == "libs":
        return libs_archive_name(record.app, record.version, record.platform)
    return core_archive_name(record.app, record.version, record.flavor, record.platform)


def _folder_of(record: ComponentRecord, folders: Sequence[Path]) -> Path | None:
    """Where the assets of an earlier component are at hand; none where one is missing."""
    for folder in folders:
        found = find_component([folder], _archive_of(record))
        if found is not None and found[0] == record and _at_hand(record, found[1]):
            return found[1]
    return None


def _at_hand(record: ComponentRecord, folder: Path) -> bool:
    assets = (record.index, *record.volumes)
    return all(
        (folder / asset.name).is_file() and (folder / asset.name).stat().st_size == asset.size for asset in assets
    )


def _one_patch(
    packed: Packed, older: ComponentRecord, at: Path, folder: Path, progress: Progress
) -> PatchRecord | None:
    name = patch_name(_archive_of(packed.record), older.version)
    new, old = PackedReader(packed.folder, packed.record), PackedReader(at, older)
    asset = _existing_patch(folder / name, new, old)
    if asset is None:
        with progress.task(f"patch from {older.version}", patch_bytes(changed_files(new.index, old.index))) as task:
            patch = make_patch(packed.record, new, older, old, task)
        if patch is None:
            progress.note(f"no patch from {older.component} {older.version}: it would not be smaller than the archive")
            return None
        asset = write_asset(folder, name, patch)
    return PatchRecord(component=older.component, from_version=older.version, from_tree=older.tree, asset=asset)


def _existing_patch(path: Path, new: PackedReader, old: PackedReader) -> Asset | None:
    """A patch that an earlier packing made between the same two indexes."""
    if not path.is_file():
        return None
    data = path.read_bytes()
    try:
        header, _ = read_patch(data, origin=path.name)
    except LadingError:
        return None  # made anew
    # The indexes say more than the trees: packed with another profile, the same tree has other frames.
    if (header.from_index, header.to_index) != (index_digest(old.index), index_digest(new.index)):
        return None
    asset = Asset(name=path.name, size=len(data), sha256=sha256_bytes(data))
    keep_checksum(path.parent, asset)
    return asset


def patches_from(
    releases: Sequence[Release],
    components: Sequence[Packed],
    folder: Path,
    *,
    places: Sequence[Path],
    progress: Progress,
) -> tuple[PatchRecord, ...]:
    """Make direct patches from earlier releases; none where the content is the same.

    Args:
        releases: The releases to start from.
        components: What they lead to.
        folder: Gets the patches; one that is there already is kept when it is right.
        places: Folders with the earlier releases' assets.
        progress: Where to report.

    Returns:
        The patches.

    Raises:
        FormatInvalid, DigestMismatch: An earlier archive is damaged.
        DiskFull, AccessDenied: The folder cannot take them.
    """
    patches: dict[str, PatchRecord] = {}
    for release in releases:
        for packed in components:
            older = release.component(packed.record.component)
            if older is None or older.tree == packed.record.tree or older.tree in patches:
                continue
            at = _folder_of(older, places)
            if at is None:
                progress.note(f"no patch from {older.component} {older.version}: its archive is not at hand")
            elif patch := _one_patch(packed, older, at, folder, progress):
                patches[older.tree] = patch
    return tuple(patches.values())
