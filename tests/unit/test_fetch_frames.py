"""Frames: checked before they are handed on, fetched again when they are wrong, told once, stopped on request."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Event

import pytest
from backports.zstd import CompressionParameter, ZstdCompressor, compress

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, Interrupted, SourceUnreachable
from lading.fetch.frames import PIECE, SPOOL, Decoder, FrameJob, fetch_frames
from lading.fetch.ranges import Place, coalesce, frame_places
from lading.fetch.source import Stream, Temporary, Traffic
from lading.manifest.index import Frame
from lading.manifest.release import Asset, ComponentRecord


def frame_of(raw: bytes) -> tuple[Frame, bytes]:
    data = compress(raw)
    return Frame(sha256=sha256_bytes(raw), raw=len(raw), size=len(data)), data


def place_of(data: bytes, start: int = 0) -> Place:
    return Place(number=3, volume=0, start=start, size=len(data))


@pytest.mark.parametrize("size", [1, 1000, PIECE, 3 * PIECE + 7])
def test_a_sound_frame_gives_its_bytes(size: int) -> None:
    raw = random.Random(size).randbytes(size)
    told, data = frame_of(raw)
    assert bytes(Decoder(size).decode(memoryview(data), told, place_of(data), "here")) == raw


@pytest.mark.parametrize(
    ("data", "why"),
    [
        pytest.param(compress(b"b" * 1000), "SHA-256", id="other bytes"),
        pytest.param(compress(b"a" * 999), "999 bytes", id="too short"),
        pytest.param(compress(b"a" * 10_000_000), "more than 1000 bytes", id="bomb"),
        pytest.param(b"<html>", "cannot be decompressed", id="not zstd"),
        pytest.param(compress(b"a" * 1000)[:-4], "bytes", id="cut off"),
        pytest.param(b"", "0 bytes", id="empty"),
    ],
)
def test_a_wrong_frame_names_itself_and_the_decoder_goes_on(data: bytes, why: str) -> None:
    told, good = frame_of(b"a" * 1000)
    decoder = Decoder(2000)
    with pytest.raises(DigestMismatch, match=rf"Frame 3 of here \(bytes 5 to .*{why}"):
        decoder.decode(memoryview(data), told, place_of(data, start=5), "here")
    assert bytes(decoder.decode(memoryview(good), told, place_of(good), "here")) == b"a" * 1000


def test_a_frame_that_asks_for_a_huge_window_is_refused() -> None:
    packer = ZstdCompressor(options={CompressionParameter.window_log: 30})
    data = packer.compress(b"a" * 1000, mode=ZstdCompressor.FLUSH_BLOCK) + packer.flush()  # no size in the header
    with pytest.raises(DigestMismatch, match="cannot be decompressed"):
        Decoder(1000).decode(memoryview(data), frame_of(b"a" * 1000)[0], place_of(data), "here")


@dataclass
class Archive:
    """An archive of random frames, and a source that gives it, failing as told."""

    raws: Sequence[bytes]
    failures: list[Exception] = field(default_factory=list)
    break_after: int | None = None
    wrong: int = 0
    gate: Event | None = None
    block: int = 1000
    asked: list[tuple[int, int]] = field(default_factory=list)
    distrusted: list[str] = field(default_factory=list)
    interrupted: bool = False

    def __post_init__(self) -> None:
        made = [frame_of(raw) for raw in self.raws]
        self.frames = tuple(frame for frame, _ in made)
        self.data = b"".join(data for _, data in made)
        self.traffic = Traffic()
        self.lock = threading.Lock()

    def job(self, limit: int = 10_000) -> FrameJob:
        volume = Asset(name="a.tar.zst", size=len(self.data), sha256="0" * 64)
        component = ComponentRecord(
            app="a", component="core", version="1.0.0", flavor="cpu", platform="linux-x86_64", profile="fast",
            tree="0" * 64, files=1, unpacked=1, size=volume.size, sha256="0" * 64, index=volume, volumes=(volume,),
        )  # fmt: skip
        places = frame_places(self.frames, [volume], archive="a")
        ranges = coalesce(places, range(len(self.frames)), limit=limit)
        return FrameJob(component=component, frames=self.frames, ranges=ranges)

    def describe(self, path: str) -> str:
        return path

    def distrust(self, path: str, why: str) -> None:
        assert path
        self.distrusted.append(why)

    def stream(self, path: str) -> Stream | None:
        raise AssertionError(path)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        assert path
        assert total == len(self.data)
        with self.lock:
            self.asked.append((start, size))
            if self.failures:
                raise self.failures.pop(0)
            data = self.data[start : start + size]
            if self.wrong:
                self.wrong -= 1
                data = bytes(len(data))
            end, self.break_after = self.break_after, None
        return self._blocks(data, end)

    def _blocks(self, data: bytes, end: int | None) -> Stream:
        for start in range(0, len(data), self.block):
            if self.gate is not None:
                self.gate.wait(30)
            if end is not None and start >= end:
                raise Temporary("it broke")
            yield data[start : start + self.block]

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        raise AssertionError("a source that was given is not closed")


@dataclass
class Collector:
    """A sink that keeps what comes."""

    raws: dict[int, bytes] = field(default_factory=dict)
    twice: int = 0
    fails: Exception | None = None

    def put(self, component: ComponentRecord, frame: int, data: memoryview) -> None:
        assert component.component == "core"
        if self.fails is not None:
            raise self.fails
        self.twice += frame in self.raws
        self.raws[frame] = bytes(data)


@pytest.fixture
def raws() -> list[bytes]:
    draw = random.Random(7)
    return [draw.randbytes(draw.randrange(1, 5000)) for _ in range(60)]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.0)


def fetched(archive: Archive) -> tuple[Collector, list[int]]:
    sink, told = Collector(), [0]
    lock = threading.Lock()

    def advance(size: int) -> None:
        assert size > 0
        with lock:
            told.append(told[-1] + size)

    fetch_frames(archive, [archive.job()], sink, advance)
    return sink, told


def test_all_frames_come_once_and_every_byte_is_told_once(raws: list[bytes]) -> None:
    sink, told = fetched(archive := Archive(raws))
    assert sink.raws == dict(enumerate(raws))
    assert not sink.twice
    assert told[-1] == len(archive.data)


def test_nothing_wanted_asks_for_nothing(raws: list[bytes]) -> None:
    archive = Archive(raws)
    empty = FrameJob(component=archive.job().component, frames=archive.frames, ranges=())
    fetch_frames(archive, [empty], Collector(), lambda _: None)
    assert not archive.asked


def test_a_request_that_breaks_goes_on_after_the_last_good_frame(raws: list[bytes]) -> None:
    sink, told = fetched(archive := Archive(raws, break_after=5000))
    assert sink.raws == dict(enumerate(raws))
    assert not sink.twice
    assert told[-1] == len(archive.data)
    sizes = [size for _, size in archive.asked]
    assert len(archive.data) < sum(sizes) < len(archive.data) + 10_000, "only the rest of the broken range is asked for"


def test_a_wrong_frame_is_distrusted_and_fetched_again(raws: list[bytes]) -> None:
    sink, told = fetched(archive := Archive(raws, wrong=1))
    assert sink.raws == dict(enumerate(raws))
    assert told[-1] == len(archive.data)
    assert len(archive.distrusted) == 1
    assert "cannot be decompressed" in archive.distrusted[0]


def test_a_frame_that_stays_wrong_is_an_error_and_is_not_handed_on(raws: list[bytes]) -> None:
    archive, sink = Archive(raws[:1], wrong=99), Collector()
    with pytest.raises(DigestMismatch):
        fetch_frames(archive, [archive.job()], sink, lambda _: None)
    assert not sink.raws


def test_a_failure_for_good_ends_everything(raws: list[bytes]) -> None:
    archive, sink = Archive(raws, failures=[SourceUnreachable("gone")]), Collector()
    with pytest.raises(SourceUnreachable, match="gone"):
        fetch_frames(archive, [archive.job()], sink, lambda _: None)


def test_what_the_sink_raises_comes_through_unchanged(raws: list[bytes]) -> None:
    archive = Archive(raws)
    with pytest.raises(MemoryError, match="full"):
        fetch_frames(archive, [archive.job()], Collector(fails=MemoryError("full")), lambda _: None)


def test_whoever_stops_it_is_heard_while_it_waits_for_bytes(raws: list[bytes]) -> None:
    archive = Archive(raws, gate=Event())
    stop = Event()
    problems: list[BaseException] = []

    def run() -> None:
        try:
            fetch_frames(archive, [archive.job()], Collector(), lambda _: None, stop=stop)
        except BaseException as error:  # noqa: BLE001 (looked at below)
            problems.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    stop.set()
    assert archive.gate is not None
    archive.gate.set()
    thread.join(30)
    assert not thread.is_alive()
    assert [type(problem) for problem in problems] == [Interrupted]
    assert archive.interrupted, "a request that waits for a silent server ends as well"


def test_a_frame_larger_than_the_whole_budget_still_gets_its_room() -> None:
    assert SPOOL >= 2**25, "the largest frame that there can be fits"
    archive = Archive([random.Random(1).randbytes(200_000)], block=7000)
    sink, _ = fetched(archive)
    assert sink.raws[0] == archive.raws[0]
