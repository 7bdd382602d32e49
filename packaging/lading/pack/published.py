"""What is there already: a published name keeps its content for ever, and what is packed is not packed again.

Nothing is written here but a lost checksum file in the caller's own folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from lading.digest import sha256_bytes, sha256_file
from lading.errors import FormatInvalid, LabelTaken, listed
from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.index import Index
from lading.manifest.names import component_name
from lading.manifest.release import Asset, ComponentRecord
from lading.manifest.tree import tree_digest
from lading.pack.assets import keep_checksum, read_index
from lading.pack.planned import ComponentPlan, Packed
from lading.pack.profiles import Profile
from lading.pack.volumes import cut_volumes


def find_component(folders: Iterable[Path], archive: str) -> tuple[ComponentRecord, Path] | None:
    """Look for a packed or published component of that name.

    Args:
        folders: Folders with assets; searched with their subfolders.
        archive: The archive's file name.

    Returns:
        Its record and the folder with its assets, or none.
    """
    name = component_name(archive)
    for folder in folders:
        for path in sorted(folder.rglob(name)) if folder.is_dir() else ():
            return read_record(ComponentRecord, path.read_bytes(), origin=str(path)), path.parent
    return None


def is_whole(record: ComponentRecord, folder: Path) -> bool:
    """Whether all assets of a component are there with the right bytes."""
    return all(
        (folder / asset.name).is_file()
        and (folder / asset.name).stat().st_size == asset.size
        and sha256_file(folder / asset.name) == asset.sha256
        for asset in (record.index, *record.volumes)
    )


def _next_label(plan: ComponentPlan, folders: Iterable[Path]) -> str:
    """The first label of the series that nobody has used."""
    series, _, number = plan.version.rpartition("-v")
    before, _, after = (re.escape(part) for part in plan.archive.removesuffix(".tar.zst").partition(plan.version))
    pattern = re.compile(rf"{before}{re.escape(series)}-v([0-9]+){after}\.")
    used = {int(number)}
    for folder in folders:
        for path in folder.rglob("*") if folder.is_dir() else ():
            if match := pattern.match(path.name):
                used.add(int(match[1]))
    return f"{series}-v{max(used) + 1}"


def differing(new: Sequence[OwnedEntry], old: Index) -> list[str]:
    """The paths that differ between a component and an index, each with how."""
    theirs = {entry.path: entry.tree_entry() for entry in old.files}
    ours = {entry.path: entry.tree_entry() for entry in new}
    lines = [f"+ {path} (new)" for path in ours.keys() - theirs.keys()]
    lines += [f"- {path} (gone)" for path in theirs.keys() - ours.keys()]
    lines += [
        f"~ {path} ({theirs[path].size:,} -> {ours[path].size:,} bytes)"
        for path in ours.keys() & theirs.keys()
        if ours[path] != theirs[path]
    ]
    return sorted(lines, key=lambda line: line[2:])


def refuse_other_content(plan: ComponentPlan, published: Sequence[Path]) -> tuple[ComponentRecord, Path] | None:
    """Look whether the plan's name is published; if so, its content must be the same.

    Args:
        plan: What is to be packed.
        published: Folders with published assets.

    Returns:
        The published component, or none.

    Raises:
        LabelTaken: Published with other content; lists the files that differ and the label to use instead.
    """
    found = find_component(published, plan.archive)
    if found is None:
        return None
    record, folder = found
    if record.tree == tree_digest(plan.entries):
        return found
    free = _next_label(plan, published) if plan.component == "libs" else ""
    raise LabelTaken(
        f"{plan.component} {plan.version} is already published with other content (tree {record.tree[:12]}…, "
        f"this build {tree_digest(plan.entries)[:12]}…); {_differences(plan, record, folder)}",
        usually="A lock, the toolkit manifest or the app changed without a new label or version.",
        todo=f"Set `label: {free}` in manifests/toolkits/{plan.flavor}.yaml."
        if free
        else "Raise the app's version, or undo the change.",
    )


def _differences(plan: ComponentPlan, record: ComponentRecord, folder: Path) -> str:
    try:
        lines = differing(plan.entries, read_index(folder, record.index))
    except FormatInvalid:
        return f"which files differ cannot be told, since {folder} lacks the index {record.index.name}."
    return f"{len(lines)} file(s) differ:{listed(lines)}"


def refuse_other_bytes(plan: ComponentPlan, record: ComponentRecord, published: Sequence[Path]) -> None:
    """The same files under a published name must be the same archive too, when it had to be made again."""
    found = find_component(published, plan.archive)
    if found is None or (found[0].sha256, found[0].volumes) == (record.sha256, record.volumes):
        return
    theirs = found[0]
    raise LabelTaken(
        f"{plan.component} {plan.version} is already published with the same files in another archive: "
        f"profile {theirs.profile}, {theirs.size:,} bytes, SHA-256 {theirs.sha256[:12]}…; "
        f"this build: profile {record.profile}, {record.size:,} bytes, SHA-256 {record.sha256[:12]}….",
        usually=f"{found[1]} lacks the published archive, so it was packed again, with other settings.",
        todo=f"Put the published archive there, or pack with --profile {theirs.profile} and its volume limit.",
    )


def find_reusable(
    plan: ComponentPlan, folder: Path, *, profile: Profile, limit: int, published: Sequence[Path]
) -> Packed | None:
    """Look for the component, published or packed before into the same folder.

    What was published stays as it is, whatever its profile and volumes. What was only packed is packed again when
    these are to be others.

    Args:
        plan: What is to be packed.
        folder: Where it would be packed.
        profile: The profile that it would be packed with.
        limit: The largest volume, in bytes.
        published: Folders with published assets.

    Returns:
        The component with all its assets, or none.

    Raises:
        LabelTaken: Published with other content.
    """
    found = refuse_other_content(plan, published)
    if found is not None and is_whole(*found):
        return Packed(record=found[0], folder=found[1], reused=True)
    record = _packed_before(folder, plan.archive)
    if record is None or not is_whole(record, folder):
        return None
    wanted = (tree_digest(plan.entries), plan.torch, profile)
    if (record.tree, record.torch, record.profile) != wanted or (found is not None and found[0] != record):
        return None
    frames = read_index(folder, record.index).frames
    if [volume.size for volume in record.volumes] != cut_volumes((frame.size for frame in frames), limit):
        return None
    for asset in (record.index, *record.volumes, _record_asset(plan.archive, record)):
        keep_checksum(folder, asset)
    return Packed(record=record, folder=folder, reused=True)


def _packed_before(folder: Path, archive: str) -> ComponentRecord | None:
    """The record of an earlier packing; none when there is none, or none that can be read."""
    path = folder / component_name(archive)
    try:
        data = path.read_bytes()
        record = read_record(ComponentRecord, data, origin=str(path))
    except (FileNotFoundError, FormatInvalid):
        return None
    return record if data == canonical_json(record) else None


def _record_asset(archive: str, record: ComponentRecord) -> Asset:
    data = canonical_json(record)
    return Asset(name=component_name(archive), size=len(data), sha256=sha256_bytes(data))
