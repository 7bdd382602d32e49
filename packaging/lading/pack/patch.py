"""Make the patch that leads from an older packed component to a newer one.

Files that the older tree has under any name are not in it: the client links them. Large files are patched in parts, so
that neither side needs much memory. Every blob is decoded once after it was made, so that a patch that does not work is
never written.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from lading.delta.codec import decode, decode_part, encode
from lading.delta.container import write_patch
from lading.delta.parts import Part, cut
from lading.digest import sha256_bytes
from lading.manifest.base import canonical_json
from lading.manifest.index import Index, IndexEntry
from lading.manifest.patchfile import PatchBlob, PatchHeader
from lading.manifest.release import ComponentRecord
from lading.pack.reader import PackedReader
from lading.progress import Task


@dataclass(frozen=True, kw_only=True)
class Step:
    """One changed or new file and the older file that it is most like."""

    new: IndexEntry
    old: IndexEntry | None


def changed_files(new: Index, old: Index) -> tuple[Step, ...]:
    """Find what a patch must carry. Pure.

    Args:
        new: The newer index.
        old: The older one.

    Returns:
        The files whose bytes the older tree has nowhere, in the new index's order, each once.
    """
    have = {entry.sha256 for entry in old.files if entry.type == "file"}
    by_path = {entry.path: entry for entry in old.files if entry.type == "file"}
    gone = by_path.keys() - {entry.path for entry in new.files}
    renamed = {posixpath.basename(path): by_path[path] for path in sorted(gone)}
    steps: dict[str, Step] = {}
    for entry in new.files:
        if entry.type == "file" and entry.sha256 not in have and entry.sha256 not in steps:
            like = by_path.get(entry.path) or renamed.get(posixpath.basename(entry.path))
            steps[entry.sha256 or ""] = Step(new=entry, old=like)
    return tuple(steps.values())


def _blobs(
    steps: tuple[Step, ...], new: PackedReader, old: PackedReader, task: Task
) -> Iterator[tuple[PatchBlob, bytes]]:
    for step in steps:
        parts = cut(step.new.size, step.old.size if step.old is not None else 0)
        for part in parts:
            yield _blob(step, part, new, old, whole=len(parts) == 1)
            task.advance(part.size)


def _blob(step: Step, part: Part, new: PackedReader, old: PackedReader, *, whole: bool) -> tuple[PatchBlob, bytes]:
    after = new.read(step.new, part.start, part.size)
    before = old.read(step.old, part.old_start, part.old_size) if step.old is not None else None
    method, blob = encode(before, after)
    base = before if method != "zstd" else None
    if decode_part(method, blob, base, size=part.size, name=step.new.path) != after:
        message = f"{method} does not give back bytes {part.start} to {part.start + part.size} of {step.new.path}"
        raise RuntimeError(message)
    record = PatchBlob(method=method, size=len(blob), path=step.new.path, raw=None if whole else part.size)
    if step.old is not None and base is not None:
        piece = {} if part.old_size == step.old.size else {"old_start": part.old_start, "old_size": part.old_size}
        record = record.model_copy(update={"old": step.old.path, **piece})
    return record, blob


def patch_bytes(steps: tuple[Step, ...]) -> int:
    """Bytes of the files that a patch will carry, for the progress bar."""
    return sum(step.new.size for step in steps)


def index_digest(index: Index) -> str:
    """The digest by which a patch names an index: that of its canonical JSON."""
    return sha256_bytes(canonical_json(index))


def make_patch(
    record: ComponentRecord, new: PackedReader, older: ComponentRecord, old: PackedReader, task: Task
) -> bytes | None:
    """Make a patch.

    Args:
        record, new: The newer component.
        older, old: The older one.
        task: Advanced by the bytes of the files.

    Returns:
        The patch file, or none when it would be larger than the archive itself.
    """
    steps = changed_files(new.index, old.index)
    before, after = canonical_json(old.index), canonical_json(new.index)
    method, index_blob = encode(before, after)
    base = before if method != "zstd" else None
    decode(method, index_blob, base, size=len(after), sha256=sha256_bytes(after), name=record.index.name)
    made = list(_blobs(steps, new, old, task))
    header = PatchHeader(
        app=record.app,
        component=record.component,
        from_tree=older.tree,
        to_tree=record.tree,
        from_index=sha256_bytes(before),
        to_index=sha256_bytes(after),
        to_index_size=len(after),
        index=PatchBlob(method=method, size=len(index_blob)),
        files=tuple(blob for blob, _ in made),
    )
    patch = write_patch(header, [index_blob, *(data for _, data in made)])
    return patch if len(patch) < record.size else None
