"""Read an archive's raw tar stream frame by frame, in order, decoding on several threads with bounded memory.

Each frame must be one complete zstd frame whose raw bytes have the size and digest of the index; frames must fill the
volumes exactly, and no frame may cross a volume's border. At most :data:`AHEAD` frames a thread are held, and no more
than :data:`HELD` raw bytes, unless a single frame has more.

Written apart from the packer on purpose: a verifier that shares its code with what it verifies shares its mistakes.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from backports import zstd

from lading.errors import DigestMismatch, FormatInvalid
from lading.manifest.index import Frame, Index

AHEAD = 2
PIECE = 2**20
HELD = 72 * 2**20  # raw bytes: two of the largest frames, and small ones beside them


def _broken(what: str) -> FormatInvalid:
    return FormatInvalid(
        what,
        usually="The archive was cut off or altered, or belongs to another index.",
        todo="Fetch it again, or pack it again if it is your own.",
    )


def decode(stored: bytes, frame: Frame, number: int, holds: str) -> list[bytes]:
    """Decode one frame and check it.

    Args:
        stored: Its compressed bytes.
        frame: What the index says of it.
        number: Its number, for messages.
        holds: A file that it holds, for messages.

    Returns:
        Its raw bytes in pieces: joining them would need them twice.

    Raises:
        FormatInvalid: It is not one complete zstd frame of the stated size.
        DigestMismatch: It decodes to other bytes.
    """
    decoder = zstd.ZstdDecompressor()
    digest = hashlib.sha256()
    pieces: list[bytes] = []
    size = 0
    feed = stored
    try:
        while not decoder.eof and size <= frame.raw:
            piece = decoder.decompress(feed, max_length=PIECE)
            if not piece and decoder.needs_input:
                break
            feed = b""
            digest.update(piece)
            pieces.append(piece)
            size += len(piece)
    except zstd.ZstdError as error:
        raise _broken(f"frame {number} ({holds}) is no zstd frame: {error}") from error
    if size != frame.raw or not decoder.eof or decoder.unused_data:
        have = f"{size:,}{'' if decoder.eof else ' or more'}"
        raise _broken(f"frame {number} ({holds}) has {have} raw bytes, the index says {frame.raw:,}")
    found = digest.hexdigest()
    if found != frame.sha256:
        raise DigestMismatch(
            f"frame {number} ({holds}) has SHA-256 {found[:16]}…, the index says {frame.sha256[:16]}…",
            usually="Archive and index are of different builds, or one was altered.",
            todo="Fetch both again.",
        )
    return pieces


class StoredFrames:
    """The compressed frames of an archive's volumes, in order.

    Attributes:
        digest: SHA-256 over all bytes read, the whole archive's once everything was read.
        size: Bytes read.
    """

    def __init__(self, volumes: Sequence[Path], index: Index) -> None:
        self._volumes = volumes
        self._index = index
        self.digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        number = 0
        frames = self._index.frames
        for volume in self._volumes:
            left = volume.stat().st_size
            with volume.open("rb", buffering=0) as stream:
                while left > 0:
                    if number == len(frames):
                        raise _broken(f"{volume.name} goes on for {left:,} bytes after the index's last frame")
                    if frames[number].size > left:
                        raise _broken(f"{volume.name} ends inside frame {number}; volumes are cut between frames")
                    stored = _read_exactly(stream.readinto, frames[number].size)
                    if len(stored) != frames[number].size:
                        raise _broken(f"{volume.name} ended inside frame {number} while it was read")
                    self.digest.update(stored)
                    self.size += len(stored)
                    left -= len(stored)
                    number += 1
                    yield stored
        if number < len(frames):
            raise _broken(f"the archive ends after {number} frames, the index has {len(frames)}")


def _read_exactly(readinto: object, count: int) -> bytes:
    buffer = bytearray(count)
    view = memoryview(buffer)
    done = 0
    while done < count:
        got = readinto(view[done:])  # type: ignore[operator]
        if not got:
            break
        done += got
    return bytes(view[:done])


def holder_names(index: Index) -> list[str]:
    """For each frame the first path that it holds, for messages."""
    names = [""] * len(index.frames)
    for entry in index.files:
        if entry.frame < len(names) and not names[entry.frame]:
            names[entry.frame] = entry.path
    for number, name in enumerate(names):
        if not name:
            names[number] = names[number - 1] if number else "nothing"
    if names:
        names[-1] = names[-1] or "the end of the archive"
    return names


def raw_frames(stored: StoredFrames, index: Index, *, threads: int) -> Iterator[bytes]:
    """Decode all frames in order.

    Args:
        stored: The compressed frames.
        index: What they must be.
        threads: Threads that decode.

    Yields:
        The raw bytes of one frame after another, in pieces.

    Raises:
        FormatInvalid, DigestMismatch: See :func:`decode` and :class:`StoredFrames`.
    """
    waiting: deque[tuple[int, Future[list[bytes]]]] = deque()
    names = holder_names(index)
    held = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="decode") as pool:
        try:
            for number, data in enumerate(stored):
                frame = index.frames[number]
                while waiting and (held + frame.raw > HELD or len(waiting) >= AHEAD * threads):
                    size, future = waiting.popleft()
                    held -= size
                    yield from future.result()
                    del future  # or it would keep its frame while the next ones are decoded
                waiting.append((frame.raw, pool.submit(decode, data, frame, number, names[number])))
                held += frame.raw
            while waiting:
                yield from waiting.popleft()[1].result()
        finally:
            pool.shutdown(cancel_futures=True)
