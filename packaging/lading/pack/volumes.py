"""Write an archive's frames into volumes, cut at frame borders.

Nothing of a component is flushed to disk: everybody who takes it up again (a later packing, the publisher, the client)
checks its digests, so that what a power cut took is noticed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from lading.errors import ManifestInvalid
from lading.manifest.index import FRAME_LIMIT
from lading.manifest.names import volume_name
from lading.manifest.release import Asset

LEAST_LIMIT = FRAME_LIMIT + 2**20  # bytes: a full frame that does not compress, and what zstd adds to it
MOST_VOLUMES = 999  # so that a shell's `archive.*` is in order


def check_limit(limit: int) -> None:
    """Refuse a volume limit that some frame may not fit into.

    Args:
        limit: Largest volume in bytes.

    Raises:
        ManifestInvalid: It is too small.
    """
    if limit < LEAST_LIMIT:
        raise ManifestInvalid(
            f"The volume limit is {limit:,} bytes; the least that is allowed is {LEAST_LIMIT:,} bytes "
            f"({LEAST_LIMIT // 2**20} MiB).",
            usually="Volumes are cut between frames, and a frame that does not compress is that large.",
            todo=f"Write '{LEAST_LIMIT // 2**20} MiB' or more; most hosts take 2 GB.",
        )


def cut_volumes(frames: Iterable[int], limit: int) -> list[int]:
    """How an archive is cut: a frame that does not fit into the current volume begins the next. Pure.

    Args:
        frames: Bytes of each frame.
        limit: Largest volume in bytes.

    Returns:
        Bytes of each volume.
    """
    volumes: list[int] = []
    for size in frames:
        if volumes and volumes[-1] + size <= limit:
            volumes[-1] += size
        else:
            volumes.append(size)
    return volumes


class VolumeWriter:
    """Writes frames one after another.

    Args:
        folder: Gets the volumes.
        archive: The archive's file name, from which the volumes' names are made.
        limit: Largest volume in bytes.
    """

    def __init__(self, folder: Path, archive: str, limit: int) -> None:
        self._folder = folder
        self._archive = archive
        self._limit = limit
        self._stream: BinaryIO | None = None
        self._sizes: list[int] = []
        self._digests: list[str] = []
        self._whole = hashlib.sha256()
        self._part = self._whole  # the same bytes as long as there is one volume

    @property
    def size(self) -> int:
        """Bytes so far."""
        return sum(self._sizes)

    def write(self, frame: bytes) -> None:
        """Append a frame; begin a volume when it does not fit into the current one.

        Raises:
            OSError: The folder cannot take it.
        """
        if self._stream is None or self._sizes[-1] + len(frame) > self._limit:
            self._next(len(frame))
        assert self._stream is not None
        self._stream.write(frame)
        self._whole.update(frame)
        if self._part is not self._whole:
            self._part.update(frame)
        self._sizes[-1] += len(frame)

    def _next(self, least: int) -> None:
        if least > self._limit or len(self._sizes) == MOST_VOLUMES:
            message = f"a frame of {least} bytes as volume {len(self._sizes) + 1} of at most {self._limit} bytes"
            raise RuntimeError(message)  # check_limit was not asked
        self.close()
        if self._sizes:
            self._part = hashlib.sha256()
        self._sizes.append(0)
        self._stream = self._path(len(self._sizes)).open("wb")

    def _path(self, number: int) -> Path:
        return self._folder / f"volume.{number:03d}"

    def close(self) -> None:
        """End the current volume."""
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._digests.append(self._part.hexdigest())
            stream.close()

    def finish(self) -> tuple[tuple[Asset, ...], str]:
        """Give the volumes their names, which depend on how many there are.

        Returns:
            The volumes, and the digest of all their bytes.

        Raises:
            OSError: The folder cannot take it.
        """
        self.close()
        count = len(self._sizes)
        assets = []
        for number, (size, digest) in enumerate(zip(self._sizes, self._digests, strict=True), start=1):
            name = volume_name(self._archive, number, count)
            self._path(number).replace(self._folder / name)
            assets.append(Asset(name=name, size=size, sha256=digest))
        return tuple(assets), self._whole.hexdigest()
