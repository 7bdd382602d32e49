r"""The header of a patch: how each changed file of a component is made from an older version.

A patch file is the 8 bytes ``LADPAT1\n``, the header's length (4 bytes, little endian), the header as a zstd frame of
canonical JSON, then one blob after another: first the index's, then one for each entry of ``files`` in order.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lading.manifest.base import Component, Name, Record, RelPath, Sha256

Method = Literal["hdiff", "zstd-from", "zstd"]

MAGIC = b"LADPAT1\n"


class PatchBlob(Record):
    """One blob.

    Attributes:
        method: ``hdiff``: an HDiffPatch difference from ``old``; ``zstd-from``: a zstd frame with ``old`` as prefix
            dictionary; ``zstd``: a plain zstd frame.
        size: Bytes of the blob.
        old: Path, in the older tree, of the file that the blob is relative to; none for ``zstd``.
        path: Path of the new file; none for the index's blob.
        raw: Bytes of the new file that the blob makes, when it is one of several parts of it; they follow one another.
        old_start, old_size: The piece of the older file that the blob is relative to, when it is not all of it.
    """

    method: Method
    size: int = Field(ge=0)
    old: RelPath | None = None
    path: RelPath | None = None
    raw: int | None = Field(default=None, gt=0)
    old_start: int | None = Field(default=None, ge=0)
    old_size: int | None = Field(default=None, gt=0)


class PatchHeader(Record):
    """What the patch leads from and to, and its blobs.

    Attributes:
        app, component: Which component.
        from_tree, to_tree: Tree digests before and after.
        from_index, to_index: SHA-256 of the older and the newer index, decompressed (canonical JSON).
        to_index_size: Bytes of the newer index, decompressed: no decoder need make more.
        index: The newer index, relative to the older one.
        files: Changed and new files, in index order, a large one in several parts. Files that both trees have are not
            listed; nor are links, which the new index holds entirely.
    """

    schema_: Literal["lading/patch/1"] = Field(default="lading/patch/1", alias="schema")
    app: Name
    component: Component
    from_tree: Sha256
    to_tree: Sha256
    from_index: Sha256
    to_index: Sha256
    to_index_size: int = Field(gt=0)
    index: PatchBlob
    files: tuple[PatchBlob, ...]
