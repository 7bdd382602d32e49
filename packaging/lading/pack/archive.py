"""Write one component's archive: independent zstd frames, streamed, compressed in parallel, in bounded memory.

One thread reads files in archive order and digests them; a pool compresses frames; the first thread writes them in
order. The bytes written do not depend on the number of threads.

Invariants:
    * The frames that are being read, compressed, or wait to be written need no more than ``memory`` bytes together
      (:func:`frame_cost`): a frame is read only when there is room for it. So memory does not depend on the input.
    * Every frame gets a compressor of its own, so that its bytes cannot depend on what a thread compressed before.
    * Everything is written into a staging folder; the caller moves it into place when all is well.
"""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from lading.atomic import as_host_error
from lading.manifest.index import FRAME_LIMIT, Frame, Index, IndexEntry
from lading.manifest.release import Asset
from lading.pack.layout import END, Layout
from lading.pack.members import frame_size, raw_frames
from lading.pack.memory import give_back_large_blocks
from lading.pack.profiles import Profile, compress_frame
from lading.pack.volumes import VolumeWriter
from lading.progress import Task

_TABLES = 40 * 2**20  # bytes of zstd's tables at the release profile's level for a full frame, measured


def frame_cost(raw: int) -> int:
    """Bytes of memory that a frame needs while it is compressed: raw, compressed at worst, and zstd's tables.

    Args:
        raw: Raw bytes of the frame.
    """
    return 2 * raw + min(_TABLES, 10 * raw)


# Two full frames at a time, whatever the number of processors: with what the process needs besides, that stays below
# 300 MB. Smaller frames run on all processors.
MEMORY = 2 * frame_cost(FRAME_LIMIT)


@dataclass(frozen=True, kw_only=True)
class Written:
    """An archive in its staging folder.

    Attributes:
        index: Its index.
        volumes: Its volumes in order.
        size: Bytes of all volumes.
        sha256: Digest of all volumes' bytes together.
    """

    index: Index
    volumes: tuple[Asset, ...]
    size: int
    sha256: str


def _make_frame(raw: bytearray, profile: Profile) -> tuple[Frame, bytes]:
    compressed = compress_frame(raw, profile)
    return Frame(sha256=hashlib.sha256(raw).hexdigest(), raw=len(raw), size=len(compressed)), compressed


class _Compressor:
    """Compresses frames on a pool and writes them in the order in which they came, within a bound of memory."""

    def __init__(self, pool: ThreadPoolExecutor, writer: VolumeWriter, profile: Profile, memory: int) -> None:
        self.frames: list[Frame] = []
        self._pool = pool
        self._writer = writer
        self._profile = profile
        self._memory = memory
        self._used = 0
        self._waiting: deque[tuple[int, Future[tuple[Frame, bytes]]]] = deque()

    def make_room(self, size: int) -> None:
        """Write older frames until there is room for one of so many raw bytes."""
        while self._waiting and self._used + frame_cost(size) > self._memory:
            self._write_next()

    def put(self, raw: bytearray) -> None:
        """Take a frame."""
        cost = frame_cost(len(raw))
        self._waiting.append((cost, self._pool.submit(_make_frame, raw, self._profile)))
        self._used += cost

    def finish(self) -> None:
        """Write what is left."""
        while self._waiting:
            self._write_next()

    def _write_next(self) -> None:
        cost, future = self._waiting.popleft()
        frame, compressed = future.result()
        self.frames.append(frame)
        self._writer.write(compressed)
        self._used -= cost


def write_archive(
    root: Path,
    layout: Layout,
    staging: Path,
    *,
    archive: str,
    profile: Profile,
    limit: int,
    threads: int,
    task: Task,
    memory: int = MEMORY,
) -> Written:
    """Write a component's archive.

    Args:
        root: The tree.
        layout: Members and frames.
        staging: An existing empty folder that gets the volumes.
        archive: The archive's file name, from which the volumes' names are made.
        profile: How hard to compress.
        limit: Largest volume in bytes; must hold the largest frame (:func:`lading.pack.volumes.check_limit`).
        threads: Threads that compress.
        task: Advanced by the bytes of the files.
        memory: Bytes for the frames that are being compressed.

    Returns:
        The index and the volumes.

    Raises:
        FileChanged: A file is not what the scan saw.
        TreeInvalid: A file cannot be read any more.
        DiskFull, AccessDenied: The staging folder cannot take it.
    """
    give_back_large_blocks()
    writer = VolumeWriter(staging, archive, limit)
    try:
        with ExitStack() as stack:
            stack.callback(writer.close)
            pool = stack.enter_context(ThreadPoolExecutor(threads, thread_name_prefix="compress"))
            stack.callback(pool.shutdown, cancel_futures=True)
            compressor = _Compressor(pool, writer, profile, memory)
            frames = stack.enter_context(closing(raw_frames(root, layout, task)))
            for size in (*map(frame_size, layout.frames), len(END)):
                compressor.make_room(size)
                compressor.put(next(frames))
            compressor.finish()
            volumes, digest = writer.finish()
    except OSError as error:
        error.filename = error.filename or str(staging)  # a failed write does not say on which disk
        raise as_host_error(error, f"writing {archive}") from error
    files = tuple(
        IndexEntry(**member.entry.tree_entry().model_dump(), frame=frame, offset=offset)
        for member, (frame, offset) in zip(layout.members, layout.places, strict=True)
    )
    return Written(
        index=Index(files=files, frames=tuple(compressor.frames)), volumes=volumes, size=writer.size, sha256=digest
    )
