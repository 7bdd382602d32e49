"""Ranges, retries and frame checks: the parts of fetching that need no network."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenacity import RetryCallState

from lading.errors import DigestMismatch, FormatInvalid, LengthExceeded, SourceUnreachable
from lading.fetch.ranges import coalesce, frame_places
from lading.fetch.source import ATTEMPTS, Stream, Temporary, Traffic, fetch_small, retrying
from lading.manifest.index import Frame
from lading.manifest.release import Asset


def frame(size: int, raw: int = 10) -> Frame:
    return Frame(sha256="0" * 64, raw=raw, size=size)


def volumes(*sizes: int) -> list[Asset]:
    return [Asset(name=f"v{number}", size=size, sha256="0" * 64) for number, size in enumerate(sizes)]


def test_frames_lie_one_after_another_and_go_on_in_the_next_volume() -> None:
    places = frame_places([frame(5), frame(7), frame(3)], volumes(12, 3), archive="a")
    assert [(place.volume, place.start, place.size) for place in places] == [(0, 0, 5), (0, 5, 7), (1, 0, 3)]


@pytest.mark.parametrize(
    "sizes",
    [(10, 5), (12,), (12, 4), (12, 2), (12, 3, 1), (15, 1)],
    ids=["crosses", "too few", "too long", "too short", "one more", "empty rest"],
)
def test_an_index_that_does_not_fit_its_volumes_is_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(FormatInvalid, match="does not fit"):
        frame_places([frame(5), frame(7), frame(3)], volumes(*sizes), archive="a")


def test_no_frames_are_refused() -> None:
    with pytest.raises(FormatInvalid):
        frame_places([], volumes(1), archive="a")


@given(
    st.lists(st.tuples(st.integers(1, 50), st.booleans(), st.booleans()), min_size=1, max_size=60), st.integers(1, 120)
)
def test_ranges_hold_exactly_the_wanted_frames_and_join_all_neighbours(
    frames: list[tuple[int, bool, bool]], limit: int
) -> None:
    sizes: list[int] = [0]
    for size, cut, _ in frames:
        if cut and sizes[-1]:
            sizes.append(0)
        sizes[-1] += size
    places = frame_places([frame(size) for size, _, _ in frames], volumes(*sizes), archive="a")
    wanted = [number for number, (_, _, want) in enumerate(frames) if want]
    ranges = coalesce(places, wanted, limit=limit)
    assert [place.number for part in ranges for place in part.frames] == wanted
    for part in ranges:
        assert part.size == sum(place.size for place in part.frames)
        assert part.size <= limit or len(part.frames) == 1
        assert part.start + part.size <= sizes[part.volume]
        assert {place.volume for place in part.frames} == {part.volume}
    for left, right in pairwise(ranges):
        if left.volume == right.volume and left.start + left.size == right.start:
            assert left.size + right.frames[0].size > limit


class Flaky:
    """A source that fails a number of times, then answers."""

    def __init__(self, failures: list[Exception], data: bytes = b"data") -> None:
        self.failures = failures
        self.data = data
        self.traffic = Traffic()

    def describe(self, path: str) -> str:
        return f"flaky:{path}"

    def stream(self, path: str) -> Stream | None:
        self.traffic.request()
        if self.failures:
            raise self.failures.pop(0)
        return (block for block in [self.data]) if path != "absent" else None

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        raise NotImplementedError

    def distrust(self, path: str, why: str) -> None:
        pass

    def interrupt(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


def small(source: Flaky, path: str = "file", limit: int = 100) -> bytes | None:
    return fetch_small(source, path, limit)


def test_what_may_pass_is_tried_again_with_growing_waits(naps: list[float]) -> None:
    source = Flaky([Temporary("no") for _ in range(ATTEMPTS - 1)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.uniform", lambda _low, high: high)
        assert fetch_small(source, "file", 100) == b"data"
    assert naps == sorted(naps)
    assert naps[0] <= 0.5
    assert len(naps) == ATTEMPTS - 1


def test_after_the_last_attempt_the_reason_is_told(naps: list[float]) -> None:
    source = Flaky([Temporary(f"no {number}") for number in range(20)])
    with pytest.raises(SourceUnreachable, match=f"no {ATTEMPTS - 1}") as caught:
        small(source)
    assert caught.value.kind == "SourceUnreachable"
    assert source.traffic.requests == ATTEMPTS


def test_the_server_is_waited_for_as_long_as_it_asks(naps: list[float]) -> None:
    assert small(Flaky([Temporary("busy", retry_after=7)])) == b"data"
    assert naps == [7]


def test_a_server_that_asks_for_an_hour_counts_as_unreachable(naps: list[float]) -> None:
    source = Flaky([Temporary("busy", retry_after=3600)])
    with pytest.raises(SourceUnreachable):
        small(source)
    assert naps == []


def test_what_will_not_pass_is_not_tried_again(naps: list[float]) -> None:
    source = Flaky([SourceUnreachable("a web page")])
    with pytest.raises(SourceUnreachable, match="a web page"):
        small(source)
    assert source.traffic.requests == 1
    assert naps == []


def test_wrong_bytes_are_fetched_again_but_not_for_ever(naps: list[float]) -> None:
    calls: list[int] = []

    def wrong() -> None:
        calls.append(1)
        raise DigestMismatch("still wrong")

    with pytest.raises(DigestMismatch):
        retrying()(wrong)
    assert len(calls) == ATTEMPTS
    assert sum(naps) == 0, "nobody is overloaded: there is nothing to wait for"


def test_not_one_byte_more_than_allowed_is_taken() -> None:
    with pytest.raises(LengthExceeded, match="longer than the 3 bytes"):
        small(Flaky([]), limit=3)
    assert small(Flaky([]), limit=4) == b"data"
    assert small(Flaky([]), "absent") is None


def test_an_unstarted_call_asks_for_no_wait() -> None:
    retry = retrying()
    state = RetryCallState(retry_object=retry, fn=None, args=(), kwargs={})
    assert retry.wait(state) >= 0
