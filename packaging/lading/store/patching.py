"""Make files out of older ones and a patch.

Invariants:
    * An older file is digested before it is used, however untouched it looks; a damaged one is not used.
    * A made file is written under another name until its digest is right.
    * No more than a few blobs are in memory at once, each within the limits of :mod:`lading.delta.parts`.
    * Nothing that goes wrong here ends an install: it says what cannot be used, and the frames are fetched instead.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lading.cancel import stop_if
from lading.delta.codec import decode, decode_part
from lading.delta.container import PatchFile, open_patch
from lading.delta.parts import OLDER, WHOLE
from lading.digest import sha256_bytes, sha256_file
from lading.errors import DigestMismatch, FormatInvalid
from lading.fetch.indexes import RAW_LIMIT
from lading.manifest.index import Index, IndexEntry
from lading.manifest.patchfile import PatchBlob
from lading.manifest.release import ComponentRecord
from lading.manifest.tree import TreeEntry
from lading.store.plan import Carried, Patched, PatchUse

SMALL = 2**20  # bytes; files up to this are made several at once, while the disk works
THREADS = 8


class Place(Protocol):
    """Where made files go."""

    def place(self, entry: IndexEntry, pieces: Iterator[bytes]) -> str:
        """Write a file, and let it appear when its digest is right. Gives the digest that it has."""


@dataclass(frozen=True, kw_only=True)
class Base:
    """The older version that a patch starts from.

    Attributes:
        name: The version's folder name.
        tree: Its tree.
        entries: What its files must be, by path.
    """

    name: str
    tree: Path
    entries: Mapping[str, TreeEntry]


@dataclass
class Outcome:
    """What went wrong.

    Attributes:
        damaged: Older files that are not as they were installed: version and path.
        undecodable: Digests of files that the patch does not give.
        made: Files that were made.
    """

    damaged: set[tuple[str, str]] = field(default_factory=set)
    undecodable: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)


def read_patch_file(path: Path, use: PatchUse, component: ComponentRecord, old_index: bytes) -> PatchFile:
    """Read the header of a patch whose digest was checked, and hold it against what it should lead from and to.

    Args:
        path: The patch.
        use: What the release says of it.
        component: What it must lead to.
        old_index: The older version's index, decompressed.

    Returns:
        The patch.

    Raises:
        FormatInvalid: It is no patch, or one between other things.
    """
    name = use.record.asset.name
    patch = open_patch(path, origin=name)
    header = patch.header
    found = (header.app, header.component, header.from_tree, header.to_tree)
    wanted = (component.app, component.component, use.record.from_tree, component.tree)
    if found != wanted:
        raise _unfit(name, f"it leads from tree {header.from_tree} to {header.to_tree} of {header.component}")
    if header.from_index != sha256_bytes(old_index):
        raise _unfit(name, f"it starts from the index {header.from_index}, not from {sha256_bytes(old_index)}")
    if header.to_index_size > RAW_LIMIT:
        raise _unfit(name, f"its index has {header.to_index_size} bytes, more than {RAW_LIMIT}")
    return patch


def new_index(patch: PatchFile, old_index: bytes, name: str) -> bytes:
    """Make the newer index.

    Args:
        patch: The patch.
        old_index: The older index, decompressed; exactly the one that the patch starts from.
        name: The newer index's name, for messages.

    Returns:
        The newer index, decompressed; exactly the one that the patch names.

    Raises:
        FormatInvalid, DigestMismatch: The patch does not give it.
    """
    blob, header = patch.header.index, patch.header
    base = None if blob.method == "zstd" else old_index
    size = header.to_index_size
    return decode(blob.method, patch.index_blob(), base, size=size, sha256=header.to_index, name=name)


def carried_files(patch: PatchFile, index: Index, base: Mapping[str, TreeEntry]) -> dict[str, Carried]:
    """What a patch carries, by the new file's digest; without what it cannot give. Pure.

    Args:
        patch: The patch.
        index: The newer index.
        base: The older version's files.
    """
    entries = {entry.path: entry for entry in index.files if entry.type == "file"}
    found: dict[str, Carried] = {}
    for path, numbers in patch.parts().items():
        blobs = [patch.header.files[number] for number in numbers]
        entry = entries.get(path)
        if entry is not None and _adds_up(blobs, entry, base):
            olds = tuple(sorted({blob.old for blob in blobs if blob.old is not None}))
            found[entry.sha256 or ""] = Carried(blobs=numbers, old=olds)
    return found


def _adds_up(blobs: Sequence[PatchBlob], entry: IndexEntry, base: Mapping[str, TreeEntry]) -> bool:
    sizes = [_raw(blob, entry) for blob in blobs]
    if sum(sizes) != entry.size or max(sizes) > WHOLE:
        return False
    for blob in blobs:
        if blob.old is None:
            continue
        old = base.get(blob.old)
        start, size = (blob.old_start or 0), (blob.old_size or (old.size if old else 0))
        if old is None or old.type != "file" or size > OLDER or start + size > old.size:
            return False
    return True


def _raw(blob: PatchBlob, entry: IndexEntry) -> int:
    return entry.size if blob.raw is None else blob.raw


def apply_patch(
    patch: PatchFile,
    items: Sequence[Patched],
    base: Base,
    place: Place,
    advance: Callable[[int], None],
    *,
    cancel: threading.Event | None = None,
) -> Outcome:
    """Make files.

    Args:
        patch: The patch.
        items: What to make of it.
        base: The older version.
        place: Where the files go.
        advance: Gets the bytes of every file that was made.
        cancel: Ends it between two files.

    Returns:
        What was made, and what cannot be.

    Raises:
        Interrupted: It was cancelled.
        AccessDenied, DiskFull: The system refuses to write.
    """
    outcome = Outcome()
    small = [item for item in items if item.entry.size <= SMALL]
    large = [item for item in items if item.entry.size > SMALL]

    def make(item: Patched) -> None:
        stop_if(cancel)
        _make(patch, item, base, place, outcome)
        advance(item.entry.size)

    with ThreadPoolExecutor(THREADS, thread_name_prefix="patch") as workers:
        try:
            list(workers.map(make, small))
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
    for item in large:
        make(item)
    return outcome


def _make(patch: PatchFile, item: Patched, base: Base, place: Place, outcome: Outcome) -> None:
    damaged = {(base.name, path) for path in item.carried.old if not _is_sound(base, path)}
    if damaged:
        outcome.damaged |= damaged
        return
    try:
        found = place.place(item.entry, _pieces(patch, item, base))
    except (FormatInvalid, DigestMismatch):
        outcome.undecodable.add(item.entry.sha256 or "")
        return
    if found == item.entry.sha256:
        outcome.made.add(item.entry.path)
    else:
        outcome.undecodable.add(item.entry.sha256 or "")


def _is_sound(base: Base, path: str) -> bool:
    file, entry = base.tree / path, base.entries[path]
    try:
        if file.is_symlink() or file.stat().st_size != entry.size:
            return False
        return sha256_file(file) == entry.sha256
    except OSError:  # gone or unreadable: the frames are fetched instead
        return False


def _pieces(patch: PatchFile, item: Patched, base: Base) -> Iterator[bytes]:
    for number in item.carried.blobs:
        blob = patch.header.files[number]
        old = None if blob.old is None else _piece(base.tree / blob.old, blob)
        size = _raw(blob, item.entry)
        yield decode_part(blob.method, patch.blob(number), old, size=size, name=item.entry.path)


def _piece(path: Path, blob: PatchBlob) -> bytes:
    with path.open("rb") as stream:
        stream.seek(blob.old_start or 0)
        return stream.read() if blob.old_size is None else stream.read(blob.old_size)


def _unfit(name: str, why: str) -> FormatInvalid:
    return FormatInvalid(
        f"{name} is not the patch that it should be: {why}.",
        usually="The publisher packed the older version twice, in different ways.",
        todo="Nothing: the update goes on without the patch.",
    )
