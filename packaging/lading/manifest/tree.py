"""What a tree contains: files and links with mode, size and digest, and one digest over all of it.

Invariants:
    * Entries are sorted by path as UTF-8 bytes and unique.
    * A mode is 0644 or 0755: the executable bit is all that a release keeps of a mode.
    * Folders are not entries; they exist because files do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal, Protocol

from pydantic import Field, model_validator

from lading.manifest.base import Mode, Record, RelPath, Sha256


class TreeEntry(Record):
    """One file or symbolic link of a tree.

    Attributes:
        path: Relative to the tree's root.
        type: ``file`` or ``link``.
        mode: 0o644 or 0o755; 0o644 for a link.
        size: Bytes of a file; 0 for a link.
        sha256: Digest of a file's bytes; none for a link.
        target: A link's target as written in the link (relative, inside the tree); none for a file.
    """

    path: RelPath
    type: Literal["file", "link"] = "file"
    mode: Mode = 0o644
    size: int = Field(default=0, ge=0)
    sha256: Sha256 | None = None
    target: str | None = None

    @model_validator(mode="after")
    def _file_or_link(self) -> TreeEntry:
        if (self.type == "file") != (self.sha256 is not None) or (self.type == "link") != (self.target is not None):
            message = f"{self.path}: a file has sha256 and a link has target"
            raise ValueError(message)
        if self.mode not in {0o644, 0o755}:
            message = f"{self.path}: the mode is {self.mode:04o}; allowed are 0644 and 0755"
            raise ValueError(message)
        return self

    def tree_entry(self) -> TreeEntry:
        """The entry alone, without what a list of entries says of it besides."""
        return TreeEntry.model_construct(
            path=self.path, type=self.type, mode=self.mode, size=self.size, sha256=self.sha256, target=self.target
        )


class Described(Protocol):
    """What a tree's digest is made of; an entry of a tree, or of an index."""

    @property
    def path(self) -> str:
        """Relative to the tree's root."""

    @property
    def type(self) -> str:
        """``file`` or ``link``."""

    @property
    def mode(self) -> int:
        """0o644 or 0o755."""

    @property
    def size(self) -> int:
        """Bytes of a file."""

    @property
    def sha256(self) -> str | None:
        """Digest of a file's bytes."""

    @property
    def target(self) -> str | None:
        """A link's target."""


def folders_of(paths: Iterable[str]) -> set[str]:
    """The folders in which a tree's paths lie, without the root, whatever their depth.

    Args:
        paths: Of files and links, with forward slashes.
    """
    found: set[str] = set()
    for path in paths:
        folder = path.rpartition("/")[0]
        while folder and folder not in found:
            found.add(folder)
            folder = folder.rpartition("/")[0]
    return found


def tree_digest(entries: Iterable[Described]) -> str:
    r"""Digest a tree: SHA-256 over one line an entry, in path order.

    A file gives ``f <mode> <size> <sha256> <path>\n``, a link ``l <path>\0<target>\n``
    (docs/reference/format.md, "Tree digest").

    Args:
        entries: The entries, in any order.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for entry in sorted(entries, key=lambda entry: entry.path.encode()):
        if entry.type == "link":
            line = f"l {entry.path}\0{entry.target}\n"
        else:
            line = f"f {entry.mode:04o} {entry.size} {entry.sha256} {entry.path}\n"
        digest.update(line.encode())
    return digest.hexdigest()
