"""Verified frames: fetched in parallel by single ranges, decoded as they come, within their bounds.

A frame's bytes are handed on in pieces while it arrives, so that no frame is ever in memory as a whole; they count only
once the frame is committed. Whoever takes them must be able to take them again.

Invariants:
    * A frame is committed only when its raw bytes have the size and SHA-256 that the index gives.
    * No decoding yields more than the index says, whatever the bytes are.
    * What the decoders hold together stays below ``MEMORY``; no more than ``IN_FLIGHT`` requests are open.
    * A request that breaks goes on after the last frame that was committed.
    * After the first failure no further frame is committed.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import Protocol

from backports.zstd import ZstdDecompressor, ZstdError
from tenacity.nap import sleep_using_event

from lading.errors import DigestMismatch, Interrupted
from lading.fetch.ranges import Place, Range, range_of
from lading.fetch.source import Source, Temporary, retrying
from lading.manifest.index import Frame
from lading.manifest.layout import asset_path
from lading.manifest.release import ComponentRecord

IN_FLIGHT = 8  # requests at once; more bring nothing over 40 ms of round trip
MEMORY = 64 * 2**20  # bytes: a decoder keeps as much of a frame as its matches may reach back, at most all of it
INPUT = 256 * 2**10  # compressed bytes decoded at once
PIECE = 2**20  # raw bytes handed on at once; stays in the processor's cache, half the time of whole frames


class Sink(Protocol):
    """Where frames go; called from several threads at once, for each frame from one."""

    def write(self, component: ComponentRecord, frame: int, offset: int, data: bytes) -> None:
        """Take a piece of a frame's raw bytes; not verified yet, and perhaps to come again."""

    def commit(self, component: ComponentRecord, frame: int) -> None:
        """All pieces of a frame were right."""


@dataclass(frozen=True, kw_only=True)
class FrameJob:
    """What to fetch of one archive.

    Attributes:
        component: The archive.
        frames: Its frame table.
        ranges: The requests.
    """

    component: ComponentRecord
    frames: Sequence[Frame]
    ranges: Sequence[Range]


def fetch_frames(source: Source, jobs: Sequence[FrameJob], sink: Sink, advance: Callable[[int], None]) -> None:
    """Fetch frames.

    Args:
        source: Where from.
        jobs: What.
        sink: Where to.
        advance: Gets the compressed size of every frame that is committed, from several threads.

    Raises:
        DigestMismatch: A frame is wrong even when it is fetched again.
        SourceUnreachable: The source fails for good.
        Exception: Whatever the sink raises.
    """
    stop = Event()
    workers = ThreadPoolExecutor(_in_flight(jobs), thread_name_prefix="fetch")
    try:
        futures = [
            workers.submit(_fetch_range, source, job, part, sink=sink, advance=advance, stop=stop)
            for job in jobs
            for part in job.ranges
        ]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        _raise_first(done)
    finally:
        stop.set()
        workers.shutdown(wait=True, cancel_futures=True)


def _in_flight(jobs: Sequence[FrameJob]) -> int:
    """As many requests at once as their decoders fit into memory."""
    sizes = (job.frames[place.number].raw for job in jobs for part in job.ranges for place in part.frames)
    return max(1, min(IN_FLIGHT, MEMORY // max(sizes, default=1)))


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error


def _fetch_range(
    source: Source, job: FrameJob, part: Range, *, sink: Sink, advance: Callable[[int], None], stop: Event
) -> None:
    left = deque(part.frames)
    volume = job.component.volumes[part.volume]
    path = asset_path(job.component, volume.name)
    origin = source.describe(path)

    def attempt() -> None:
        wanted = range_of(left)
        with closing(source.stream_range(path, wanted.start, wanted.size, volume.size)) as blocks:
            feed = _Feed(blocks, origin, stop)
            while left:
                number = left[0].number

                def write(offset: int, data: bytes, number: int = number) -> None:
                    sink.write(job.component, number, offset, data)

                decode_frame(feed.take, job.frames[number], left[0], origin, write)
                sink.commit(job.component, number)
                advance(left.popleft().size)
            feed.finish()

    retrying(sleep_using_event(stop))(attempt)


class _Feed:
    """A stream's blocks, in the portions that are asked for."""

    def __init__(self, blocks: Iterator[bytes], origin: str, stop: Event) -> None:
        self._blocks = blocks
        self._origin = origin
        self._stop = stop
        self._buffer = bytearray()

    def take(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < size:
            if self._stop.is_set():
                raise Interrupted("The download was stopped because another part of it failed.")
            block = next(self._blocks, None)
            if block is None:
                raise Temporary(f"{self._origin} ended {size - len(self._buffer)} bytes too early.")
            self._buffer += block
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    def finish(self) -> None:
        """Let the stream say that it is over: only then can its connection be used again."""
        for _ in self._blocks:
            pass


def decode_frame(
    take: Callable[[int], bytes], frame: Frame, place: Place, origin: str, write: Callable[[int, bytes], None]
) -> None:
    """Decode one frame, handing its raw bytes on as they come, and check it.

    Args:
        take: Gives exactly so many of the next compressed bytes.
        frame: What the index says.
        place: Which frame.
        origin: Where the bytes come from, for the message.
        write: Gets offset and bytes of each piece.

    Raises:
        DigestMismatch: The frame is not what the index says.
    """
    decoder = ZstdDecompressor()
    digest = hashlib.sha256()
    left, done = place.size, 0
    while left:
        data = take(min(left, INPUT))
        left -= len(data)
        for piece in _decoded(decoder, data, place, origin):
            if done + len(piece) > frame.raw:
                raise _wrong_frame(place, origin, f"it holds more than the {frame.raw} bytes that the index says")
            digest.update(piece)
            write(done, piece)
            done += len(piece)
    if done != frame.raw or not decoder.eof:
        raise _wrong_frame(place, origin, f"it holds {done} bytes, the index says {frame.raw}")
    if digest.hexdigest() != frame.sha256:
        raise _wrong_frame(place, origin, f"its SHA-256 is {digest.hexdigest()}, the index says {frame.sha256}")


def _decoded(decoder: ZstdDecompressor, data: bytes, place: Place, origin: str) -> Iterator[bytes]:
    if decoder.eof:
        raise _wrong_frame(place, origin, "bytes follow its end")
    try:
        yield decoder.decompress(data, max_length=PIECE)
        while not decoder.needs_input and not decoder.eof:
            yield decoder.decompress(b"", max_length=PIECE)
    except ZstdError as error:
        raise _wrong_frame(place, origin, f"it cannot be decompressed ({error})") from error


def _wrong_frame(place: Place, origin: str, why: str) -> DigestMismatch:
    return DigestMismatch(
        f"Frame {place.number} of {origin} (bytes {place.start} to {place.start + place.size}) is wrong: {why}.",
        usually="The file was damaged at the source or altered on the way.",
        todo="Run the same command again; if it stays, use another source. What is installed keeps running.",
    )
