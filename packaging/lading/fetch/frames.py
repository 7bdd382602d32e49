"""Verified frames: fetched in parallel by single ranges, decoded on the processors, within a bound of memory.

A request's frames are received one after the other, each into a room of its own; a received frame is decoded and
digested by one of a few decoders and handed on only when its bytes are right. Receiving and decoding are apart, so that
many requests are open on a slow line and no decoder waits for one.

Invariants:
    * A frame is handed on only when its raw bytes have the size and SHA-256 that the index gives, and only once.
    * No decoding yields more than the index says, whatever the bytes are.
    * Received frames that are not decoded yet hold at most ``SPOOL`` bytes (or one frame), decoders ``DECODING``.
    * A request that breaks goes on after the last frame that was handed on.
    * After the first failure, or when the caller says stop, no further frame is asked for.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from mmap import mmap
from queue import SimpleQueue
from threading import Condition, Event
from typing import Protocol

import zstandard
from tenacity.nap import sleep_using_event

from lading.errors import DigestMismatch, Interrupted
from lading.fetch.ranges import Place, Range, range_of
from lading.fetch.source import Source, Temporary, retrying
from lading.host.facts import usable_cpus
from lading.manifest.index import FRAME_LIMIT, Frame
from lading.manifest.layout import asset_path
from lading.manifest.release import ComponentRecord

IN_FLIGHT = 16  # requests at once; more bring nothing over 40 ms of round trip
SPOOL = 64 * 2**20  # bytes of received frames
DECODING = 64 * 2**20  # bytes of decoded frames: two of the largest
PIECE = 2**20  # raw bytes digested at once; stays in the processor's cache
POLL = 0.1  # seconds between two looks at whether the caller wants to stop


class Sink(Protocol):
    """Where frames go; called from several threads at once, for each frame once."""

    def put(self, component: ComponentRecord, frame: int, data: memoryview) -> None:
        """Take a frame's raw bytes, which were verified. The view is only good until the call returns."""


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


def fetch_frames(
    source: Source, jobs: Sequence[FrameJob], sink: Sink, advance: Callable[[int], None], *, stop: Event | None = None
) -> None:
    """Fetch frames.

    Args:
        source: Where from.
        jobs: What.
        sink: Where to.
        advance: Gets received bytes, each byte of a frame once however often it is fetched; from several threads.
        stop: Set by whoever wants this to end early.

    Raises:
        DigestMismatch: A frame is wrong even when it is fetched again.
        SourceUnreachable: The source fails for good.
        Interrupted: ``stop`` was set; what was handed on stays.
        Exception: Whatever the sink raises.
    """
    largest = max((job.frames[p.number].raw for job in jobs for r in job.ranges for p in r.frames), default=0)
    if not largest:
        return
    fetching = _Fetching(source=source, sink=sink, advance=advance, decoders=_decoders(largest))
    workers = ThreadPoolExecutor(IN_FLIGHT, thread_name_prefix="fetch")
    try:
        pending = {workers.submit(fetching.fetch, job, part) for job in jobs for part in job.ranges}
        while pending:
            done, pending = wait(pending, timeout=None if stop is None else POLL, return_when=FIRST_EXCEPTION)
            _raise_first(done)
            _go_on(stop)
    except BaseException:
        fetching.stop.set()
        source.interrupt()
        raise
    finally:
        workers.shutdown(wait=True, cancel_futures=True)


def _raise_first(done: set[Future[None]]) -> None:
    for future in done:
        if not future.cancelled() and (error := future.exception()) is not None:
            raise error


def _go_on(stop: Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Interrupted(
            "The download was stopped.",
            usually="What is installed is unchanged; what was verified is kept.",
            todo="Run the same command again: what is verified already is not fetched twice.",
        )


class Decoder:
    """Decodes frames into one buffer that it keeps: new memory for every frame costs more than decoding it.

    Args:
        largest: Raw bytes of the largest frame.
    """

    def __init__(self, largest: int) -> None:
        self._room = memoryview(bytearray(largest))
        self._zstd = zstandard.ZstdDecompressor(max_window_size=FRAME_LIMIT)

    def decode(self, stored: memoryview, frame: Frame, place: Place, origin: str) -> memoryview:
        """Decode one frame and check it.

        Args:
            stored: Its compressed bytes.
            frame: What the index says.
            place: Which frame.
            origin: Where the bytes come from, for the message.

        Returns:
            The raw bytes, until the next call.

        Raises:
            DigestMismatch: The frame is not what the index says.
        """
        done = 0
        try:
            with self._zstd.stream_reader(stored, read_across_frames=False) as reader:
                while done < frame.raw and (size := reader.readinto(self._room[done : frame.raw])):
                    done += size
                more = len(reader.read(1))
        except zstandard.ZstdError as error:
            raise _wrong_frame(place, origin, f"it cannot be decompressed ({error})") from error
        if done != frame.raw or more:
            held = f"more than {done}" if more else str(done)
            raise _wrong_frame(place, origin, f"it holds {held} bytes, the index says {frame.raw}")
        digest = hashlib.sha256()
        for start in range(0, done, PIECE):
            digest.update(self._room[start : min(start + PIECE, done)])
        if digest.hexdigest() != frame.sha256:
            raise _wrong_frame(place, origin, f"its SHA-256 is {digest.hexdigest()}, the index says {frame.sha256}")
        return self._room[:done]


def _decoders(largest: int) -> SimpleQueue[Decoder]:
    """As many decoders as processors can use and memory allows."""
    decoders: SimpleQueue[Decoder] = SimpleQueue()
    for _ in range(max(1, min(usable_cpus(), IN_FLIGHT, DECODING // largest))):
        decoders.put(Decoder(largest))
    return decoders


class _Budget:
    """Bytes that many may take a share of and none may take too much of."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._used = 0
        self._freed = Condition()

    @contextmanager
    def share(self, size: int, stop: Event) -> Iterator[None]:
        """Wait until there is room, and hold it; a share larger than everything gets it alone."""
        with self._freed:
            while self._used and self._used + size > self._total and not stop.is_set():
                self._freed.wait(POLL)
            self._used += size
        try:
            yield
        finally:
            with self._freed:
                self._used -= size
                self._freed.notify_all()


@dataclass(kw_only=True)
class _Fetching:
    """One download: its bounds, and whether it goes on."""

    source: Source
    sink: Sink
    advance: Callable[[int], None]
    decoders: SimpleQueue[Decoder]
    budget: _Budget = field(default_factory=lambda: _Budget(SPOOL))
    stop: Event = field(default_factory=Event)

    def fetch(self, job: FrameJob, part: Range) -> None:
        """Fetch one range, trying again from the first frame that is missing."""
        left = deque(part.frames)
        told = _Told(self.advance)
        with self.budget.share(max(place.size for place in left), self.stop):
            retrying(sleep_using_event(self.stop))(self._attempt, job, left, told)

    def _attempt(self, job: FrameJob, left: deque[Place], told: _Told) -> None:
        wanted = range_of(left)
        volume = job.component.volumes[wanted.volume]
        path = asset_path(job.component, volume.name)
        self._go_on()
        with closing(self.source.stream_range(path, wanted.start, wanted.size, volume.size)) as blocks:
            feed = _Feed(blocks, self.source.describe(path), self._go_on)
            while left:
                place = left[0]
                with mmap(-1, place.size) as room:  # goes back to the system at once, unlike what is allocated
                    stored = memoryview(room)
                    try:
                        feed.take(stored, told.of(place))
                        self._hand_on(job, place, stored, path)
                    finally:
                        stored.release()
                left.popleft()
            feed.finish()

    def _hand_on(self, job: FrameJob, place: Place, stored: memoryview, path: str) -> None:
        decoder = self.decoders.get()
        try:
            self._go_on()
            raw = decoder.decode(stored, job.frames[place.number], place, self.source.describe(path))
            self.sink.put(job.component, place.number, raw)
        except DigestMismatch as error:
            self.source.distrust(path, error.what)
            raise
        finally:
            self.decoders.put(decoder)

    def _go_on(self) -> None:
        _go_on(self.stop)


class _Told:
    """What the progress has heard of a range's frames: bytes that come a second time are not told a second time."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._heard: dict[int, int] = {}

    def of(self, place: Place) -> Callable[[int], None]:
        """Gets how many bytes of a frame have come so far."""

        def received(size: int) -> None:
            before = self._heard.get(place.number, 0)
            if size > before:
                self._heard[place.number] = size
                self._advance(size - before)

        return received


class _Feed:
    """A stream's blocks, in the portions that are asked for."""

    def __init__(self, blocks: Iterator[bytes | memoryview], origin: str, go_on: Callable[[], None]) -> None:
        self._blocks = blocks
        self._origin = origin
        self._go_on = go_on
        self._rest = memoryview(b"")

    def take(self, into: memoryview, received: Callable[[int], None]) -> None:
        """Fill a room exactly."""
        done = 0
        while done < len(into):
            if not self._rest:
                self._go_on()
                block = next(self._blocks, None)
                if block is None:
                    raise Temporary(f"{self._origin} ended {len(into) - done} bytes too early.")
                self._rest = memoryview(block)
            size = min(len(self._rest), len(into) - done)
            into[done : done + size] = self._rest[:size]
            self._rest = self._rest[size:]
            done += size
            received(done)

    def finish(self) -> None:
        """Let the stream say that it is over: only then can its connection be used again."""
        for _ in self._blocks:
            pass


def _wrong_frame(place: Place, origin: str, why: str) -> DigestMismatch:
    return DigestMismatch(
        f"Frame {place.number} of {origin} (bytes {place.start} to {place.start + place.size}) is wrong: {why}.",
        usually="The file was damaged at the source or altered on the way.",
        todo="Run the same command again; if it stays, use another source. What is installed keeps running.",
    )
