"""The index beside an archive: which file lies in which frame, and what every frame must be.

A frame's place in the archive is the sum of the sizes before it; a volume's, the sum of the volumes before it. Neither
is written down: a stored offset would make one changed frame change every line after it, and the index would no
longer be small as a patch, and it would tie the index to one destination's volume size.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lading.manifest.base import Record, Sha256
from lading.manifest.tree import TreeEntry

# Raw bytes of a frame at most. CUDA libraries repeat a kernel once an architecture, megabytes apart: frames of 4 MiB
# make libs 13 % larger than frames of 32 MiB, and those are still small enough to be decoded on every core in bounded
# memory (docs/measurements/frames.md).
FRAME_LIMIT = 32 * 2**20

# zstd's level for a published index: a few hundred kilobytes that every client without the older index fetches.
INDEX_LEVEL = 19


class IndexEntry(TreeEntry):
    """One file or link of the archive: an entry of the tree, and its place.

    Attributes:
        frame: The number of the frame that holds the first byte of the file's data (of a link's header).
        offset: Where in that frame's raw bytes the data begins. The data goes on at the start of the next frames.
    """

    frame: int = Field(ge=0)
    offset: int = Field(ge=0)


class Frame(Record):
    """One independent zstd frame of the archive.

    Attributes:
        sha256: Digest of the raw (decompressed) bytes.
        raw: Raw bytes, at most :data:`FRAME_LIMIT`.
        size: Compressed bytes in the archive.
    """

    sha256: Sha256
    raw: int = Field(gt=0, le=FRAME_LIMIT)
    size: int = Field(gt=0)


class Index(Record):
    """All files and frames of one archive, in archive order."""

    schema_: Literal["lading/index/1"] = Field(default="lading/index/1", alias="schema")
    files: tuple[IndexEntry, ...]
    frames: tuple[Frame, ...]
