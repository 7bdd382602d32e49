"""Find out what a path is that somebody wants verified. Looks, and changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.errors import NotInstalled
from lading.manifest.base import read_record
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.layout import TARGETS
from lading.pack.scan import PAYLOAD, find_entry

RECORD = "*.release.json"
BUILDINFO = "buildinfo.json"


@dataclass(frozen=True, kw_only=True)
class PackedTarget:
    """Assets of one release.

    Attributes:
        folder: Where they lie.
        record: The release's record.
    """

    folder: Path
    record: Path


@dataclass(frozen=True, kw_only=True)
class TreeTarget:
    """A tree that was frozen or unpacked.

    Attributes:
        tree: Its folder.
        entry: The executable, relative to it.
        buildinfo: Its build record, when there is one beside it.
    """

    tree: Path
    entry: str
    buildinfo: BuildInfo | None


def find_packed(path: Path) -> tuple[PackedTarget, ...]:
    """The releases that a path holds: a record itself, a folder with records, or a published repository.

    Args:
        path: A file or folder.

    Returns:
        One target a record, by name; empty when there are none.
    """
    if path.is_file():
        return (PackedTarget(folder=path.parent, record=path),) if path.match(RECORD) else ()
    records = sorted(path.glob(RECORD)) or sorted((path / TARGETS).rglob(RECORD))
    return tuple(PackedTarget(folder=path, record=record) for record in records)


def find_tree(path: Path, *, entry: str | None = None, buildinfo: Path | None = None) -> TreeTarget:
    """The onedir tree that a path is or holds.

    Args:
        path: The tree, or the folder that has the tree and its build record.
        entry: The executable; the only one beside the payload folder when none.
        buildinfo: The build record; the one beside or in the folder when none.

    Raises:
        NotInstalled: There is nothing that could be verified.
        TreeInvalid: It is not a onedir tree.
        FormatInvalid: The build record is damaged.
    """
    if not path.is_dir():
        raise NotInstalled(
            f"{path} is {'no folder and no release record' if path.exists() else 'not there'}.",
            usually="The path is wrong, or the step that makes it has not run.",
            todo="Give a folder with packed assets, a tree, a data directory, or --url of a running server.",
        )
    trees = [path] if (path / PAYLOAD).is_dir() else [child.parent for child in sorted(path.glob(f"*/{PAYLOAD}"))]
    tree = trees[0] if len(trees) == 1 else path
    places = [buildinfo] if buildinfo is not None else [tree.parent / BUILDINFO, path / BUILDINFO]
    record = next((place for place in places if place.is_file()), None)
    known = read_record(BuildInfo, record.read_bytes(), origin=str(record)) if record is not None else None
    if known is not None and buildinfo is None and not (tree / known.entry).is_file():
        known = None  # it lies beside the tree by chance and is of another one
    return TreeTarget(tree=tree, entry=entry or (known.entry if known else find_entry(tree)), buildinfo=known)
