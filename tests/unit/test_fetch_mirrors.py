"""Several mirrors: which is asked, what a failure costs, who is blamed, what is told when none is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from typing_extensions import override

from lading.errors import ConfigError, DigestMismatch, LengthExceeded, SourceUnreachable
from lading.fetch.mirrors import LONGEST_PENALTY, PENALTY, PROGRESS, WRONG, MirrorSource
from lading.fetch.source import AllWrong, NotNow, Stream, Temporary, Traffic, fetch_small, retrying
from lading.fetch.trust import Mirrored, places_of

FILE = "assets/core/0.1.0/demo.tar.zst"
DATA = bytes(range(256)) * 4


@dataclass
class Mirror:
    """A source in memory that fails as it is told to.

    Attributes:
        name: What it calls itself.
        files: What it has.
        failing: Raised instead of an answer, one a request, until it is empty.
        breaks_after: Raised after so many bytes of each stream.
        block: Bytes a block.
    """

    name: str
    files: dict[str, bytes] = field(default_factory=lambda: {FILE: DATA})
    failing: list[Exception] = field(default_factory=list)
    breaks_after: int | None = None
    block: int = 100
    asked: list[tuple[str, int]] = field(default_factory=list)
    traffic: Traffic = field(default_factory=Traffic)
    closed: bool = False
    interrupted: bool = False

    def describe(self, path: str) -> str:
        return f"{self.name}:{path}"

    def stream(self, path: str) -> Stream | None:
        self._ask(path, 0)
        return self._blocks(path, self.files[path]) if path in self.files else None

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:  # noqa: ARG002 (the protocol's)
        self._ask(path, start)
        if path not in self.files:
            raise SourceUnreachable(f"{self.describe(path)} cannot be used: it answered 404.")
        yield from self._blocks(path, self.files[path][start : start + size])

    def _ask(self, path: str, start: int) -> None:
        self.traffic.request()
        self.asked.append((path, start))
        if self.failing:
            raise self.failing.pop(0)

    def _blocks(self, path: str, data: bytes) -> Stream:
        for start in range(0, len(data), self.block):
            if self.breaks_after is not None and start >= self.breaks_after:
                raise Temporary(f"{self.describe(path)} broke off.")
            block = data[start : start + self.block]
            self.traffic.received(len(block))
            yield block

    def distrust(self, path: str, why: str) -> None:
        raise AssertionError(f"a single source is not told: {path}, {why}")

    def interrupt(self) -> None:
        self.interrupted = True

    def close(self) -> None:
        self.closed = True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    return slept


def whole(source: MirrorSource, path: str = FILE) -> bytes | None:
    stream = source.stream(path)
    return None if stream is None else b"".join(stream)


def ranged(source: MirrorSource, start: int = 0, size: int = len(DATA), path: str = FILE) -> bytes:
    return b"".join(source.stream_range(path, start, size, len(DATA)))


READS: list[Callable[[MirrorSource], bytes | None]] = [whole, ranged]
reads = pytest.mark.parametrize("read", READS, ids=["whole", "range"])


def passing(mirror: str, *, retry_after: float | None = None) -> Temporary:
    return Temporary(f"{mirror} answered 503.", retry_after=retry_after)


@reads
def test_the_first_sound_mirror_is_the_only_one_that_is_asked(read: Callable[[MirrorSource], bytes | None]) -> None:
    first, second = Mirror("a"), Mirror("b")
    source = MirrorSource([first, second])
    assert read(source) == DATA
    assert (len(first.asked), len(second.asked)) == (1, 0)
    assert (source.traffic.requests, source.traffic.bytes) == (1, len(DATA))


@reads
@pytest.mark.parametrize("error", [passing("a"), SourceUnreachable("a web page")], ids=["passing", "unusable"])
def test_a_mirror_that_fails_is_passed_over_at_once_and_stays_behind(
    read: Callable[[MirrorSource], bytes | None], error: Exception, naps: list[float]
) -> None:
    first, second = Mirror("a", failing=[error]), Mirror("b")
    source = MirrorSource([first, second])
    assert read(source) == DATA
    assert read(source) == DATA
    assert (len(first.asked), len(second.asked)) == (1, 2)
    assert naps == []
    report = source.report()
    assert [(one.where, one.failed) for one in report] == [("a:", 1), ("b:", 0)]
    assert report[0].failures[0].path == FILE
    assert report[0].failures[0].why in str(error)


def test_the_next_mirror_goes_on_at_the_byte_where_the_last_one_broke_off() -> None:
    first, second = Mirror("a", breaks_after=300), Mirror("b")
    source = MirrorSource([first, second])
    assert ranged(source, 20, 1000) == DATA[20:1020]
    assert first.asked == [(FILE, 20)]
    assert second.asked == [(FILE, 320)]
    assert source.traffic.bytes == 1000, "no byte comes twice"


def test_a_whole_file_goes_on_at_the_next_mirror_too() -> None:
    source = MirrorSource([Mirror("a", breaks_after=300), Mirror("b", block=70)])
    assert whole(source) == DATA


def test_a_mirror_that_breaks_off_again_and_again_may_go_on_as_long_as_it_brings_something() -> None:
    data = bytes(5 * PROGRESS)
    mirror = Mirror("a", files={FILE: data}, breaks_after=PROGRESS, block=PROGRESS // 4)
    source = MirrorSource([mirror])
    assert b"".join(source.stream_range(FILE, 0, len(data), len(data))) == data
    assert [start for _, start in mirror.asked] == [number * PROGRESS for number in range(5)]


def test_when_all_fail_in_a_round_the_error_names_each_with_its_reason() -> None:
    source = MirrorSource([Mirror("a", failing=[passing("a")]), Mirror("b", files={}), Mirror("c", breaks_after=0)])
    with pytest.raises(Temporary) as caught:
        ranged(source)
    assert f"No mirror gives {FILE}" in caught.value.what
    for said in ("a answered 503", "b:assets/core/0.1.0/demo.tar.zst cannot be used: it answered 404", "c:assets"):
        assert said in caught.value.what


def test_nothing_is_tried_again_when_no_failure_can_pass(naps: list[float]) -> None:
    first, second = Mirror("a", files={}), Mirror("b", failing=[SourceUnreachable("b: a web page")] * 9)
    source = MirrorSource([first, second])
    with pytest.raises(SourceUnreachable, match=r"(?s)a:assets.*404.*b: a web page"):
        retrying()(ranged, source)
    assert (len(first.asked), len(second.asked), naps) == (1, 1, [])


def test_there_is_one_wait_a_round_and_not_one_a_mirror(naps: list[float]) -> None:
    first, second = (Mirror(name, failing=[passing(name), passing(name)]) for name in "ab")
    assert retrying()(ranged, MirrorSource([first, second])) == DATA
    assert (len(first.asked), len(second.asked), len(naps)) == (3, 2, 2)


@pytest.mark.parametrize(("asked", "waited"), [((9.0, 4.0), 4.0), ((30.0, None), None)])
def test_the_wait_is_what_the_most_willing_server_asks(asked: tuple[float | None, ...], waited: float | None) -> None:
    mirrors = [Mirror("m", failing=[passing("m", retry_after=seconds)]) for seconds in asked]
    with pytest.raises(Temporary) as caught:
        ranged(MirrorSource(mirrors))
    assert caught.value.retry_after == waited


def test_a_failure_that_passes_is_forgiven_after_a_while_and_later_each_time(clock: Clock) -> None:
    first, second = Mirror("a"), Mirror("b")
    source = MirrorSource([first, second], clock=clock)
    for penalty in (PENALTY, 2 * PENALTY, 4 * PENALTY):
        first.failing, first.asked = [passing("a")], []
        ranged(source)
        clock.now += penalty - 0.1
        ranged(source)
        assert len(first.asked) == 1, "still passed over"
        clock.now += 0.1
        ranged(source)
        assert len(first.asked) == 2, "asked again"


def test_requests_that_fail_side_by_side_are_one_failure(clock: Clock) -> None:
    first = Mirror("a", failing=[passing("a") for _ in range(2)])
    source = MirrorSource([first, Mirror("b")], clock=clock)
    streams = [source.stream_range(FILE, 0, 10, len(DATA)) for _ in range(2)]
    mirrors = source.mirrors
    for _ in streams:
        with pytest.raises(NotNow):
            list(mirrors[0].stream_range(FILE, 0, 10, len(DATA)))
    clock.now += PENALTY
    ranged(source)
    assert len(first.asked) == 3, "the second failure did not double the time"


def test_a_mirror_without_a_file_is_passed_over_for_long(clock: Clock) -> None:
    first, second = Mirror("a", files={}), Mirror("b")
    source = MirrorSource([first, second], clock=clock)
    assert whole(source) == DATA
    clock.now += LONGEST_PENALTY - 1
    assert whole(source) == DATA
    assert len(first.asked) == 1
    assert "a:assets/core/0.1.0/demo.tar.zst is not there" in source.report()[0].failures[0].why


def test_a_mirror_without_one_file_is_still_the_first_for_the_others() -> None:
    first, second = Mirror("a", files={"assets/core/1/other": b"x"}), Mirror("b")
    source = MirrorSource([first, second])
    assert ranged(source) == DATA
    assert whole(source, "assets/core/1/other") == b"x"
    assert len(second.asked) == 1


def test_a_file_that_no_mirror_has_is_none_but_not_while_one_of_them_is_silent() -> None:
    assert whole(MirrorSource([Mirror("a", files={}), Mirror("b", files={})])) is None
    with pytest.raises(Temporary):
        whole(MirrorSource([Mirror("a", files={}), Mirror("b", failing=[passing("b")])]))


def test_no_next_root_is_an_answer_and_asks_nobody_else() -> None:
    first, second = Mirror("a", files={}), Mirror("b", files={"metadata/2.root.json": b"{}"})
    source = MirrorSource([first, second])
    assert source.stream("metadata/2.root.json") is None
    assert (len(second.asked), source.report()[0].failed) == (0, 0)


def test_an_empty_file_is_there() -> None:
    assert whole(MirrorSource([Mirror("a", files={FILE: b""})])) == b""
    assert fetch_small(MirrorSource([Mirror("a", files={FILE: b""})]).mirrors[0], FILE, 10) == b""


# --- wrong bytes ------------------------------------------------------------------------------------------------------


def checked(source: MirrorSource, path: str = FILE) -> bytes:
    """Fetch as whoever knows the digest does."""

    def once() -> bytes:
        data = b"".join(source.stream_range(path, 0, len(DATA), len(DATA)))
        if data != DATA:
            error = DigestMismatch(f"{source.describe(path)} is wrong.")
            source.distrust(path, error.what)
            raise error
        return data

    return retrying()(once)


def test_a_mirror_with_wrong_bytes_is_named_and_another_is_asked_at_once(naps: list[float]) -> None:
    first, second = Mirror("a", files={FILE: bytes(len(DATA))}), Mirror("b")
    source = MirrorSource([first, second])
    assert checked(source) == DATA
    assert (len(first.asked), len(second.asked)) == (1, 1)
    assert source.report()[0].failures[0].why == f"a:{FILE} is wrong."
    assert sum(naps) == 0


@pytest.mark.parametrize("bad", [1, 2, 3, 4])
def test_one_sound_mirror_is_enough_however_many_lie(bad: int, naps: list[float]) -> None:
    liars = [Mirror(f"liar{number}", files={FILE: bytes(len(DATA))}) for number in range(bad)]
    assert checked(MirrorSource([*liars, Mirror("sound")])) == DATA


@pytest.mark.parametrize("count", [1, 2, 4])
def test_wrong_bytes_everywhere_end_it_and_name_every_mirror(count: int, naps: list[float]) -> None:
    mirrors = [Mirror(f"m{number}", files={FILE: bytes(len(DATA))}) for number in range(count)]
    with pytest.raises(DigestMismatch) as caught:
        checked(MirrorSource(mirrors))
    assert caught.value.kind == "DigestMismatch"
    assert all(f"m{number}:{FILE} is wrong." in caught.value.what for number in range(count))
    assert sum(len(mirror.asked) for mirror in mirrors) == max(WRONG, count)
    assert naps == [0.0] * max(WRONG, count)


def test_bytes_of_two_mirrors_in_one_stream_blame_nobody_and_the_next_attempt_shows_who_it_was() -> None:
    half = Mirror("half", breaks_after=300)
    liar = Mirror("liar", files={FILE: bytes(len(DATA))})
    source = MirrorSource([half, liar, Mirror("sound")])
    assert checked(source) == DATA
    blamed = {one.where: [failure.why for failure in one.failures] for one in source.report()}
    assert blamed == {
        "half:": [f"half:{FILE} broke off."],
        "liar:": [f"liar:{FILE} is wrong."],
        "sound:": [],
    }


def test_what_was_wrong_in_one_effort_does_not_count_in_the_next() -> None:
    """Each thread's efforts stand alone: damage on the way, now and then, is not a mirror that lies."""
    mirror = Mirror("a")
    source = MirrorSource([mirror])
    for _ in range(2 * WRONG):
        mirror.files[FILE] = bytes(len(DATA))
        ranged(source)
        source.distrust(FILE, "wrong")
        mirror.files[FILE] = DATA
        assert ranged(source) == DATA


def test_a_complaint_from_another_thread_reaches_the_mirror_that_gave_the_file_last() -> None:
    source = MirrorSource([Mirror("a"), Mirror("b")])
    ranged(source)
    complaint = threading.Thread(target=source.distrust, args=(FILE, "wrong"))
    complaint.start()
    complaint.join()
    ranged(source)
    assert [one.failed for one in source.report()] == [1, 0]
    assert source.describe(FILE) == f"b:{FILE}"


def test_a_small_file_that_is_too_long_is_asked_from_the_next_mirror() -> None:
    first, second = Mirror("a", files={FILE: bytes(500)}), Mirror("b", files={FILE: b"short"})
    source = MirrorSource([first, second])
    assert fetch_small(source, FILE, 100) == b"short"
    with pytest.raises(LengthExceeded, match=r"(?s)Every mirror.*a:.* longer than the 3 bytes.*b:"):
        fetch_small(MirrorSource([first, second]), FILE, 3)


def test_what_the_user_configured_wrongly_is_not_a_mirrors_failure() -> None:
    second = Mirror("b")
    with pytest.raises(ConfigError):
        ranged(MirrorSource([Mirror("a", failing=[ConfigError("no such proxy")]), second]))
    assert second.asked == []


# --- one by one, for metadata -----------------------------------------------------------------------------------------


def test_one_by_one_the_sound_ones_come_first() -> None:
    source = MirrorSource([Mirror("a", failing=[passing("a")]), Mirror("b")])
    assert isinstance(source, Mirrored)
    ranged(source)
    assert [place.describe("x") for place in places_of(source)] == ["b:x", "a:x"]


def test_of_several_each_fails_at_once_a_single_one_may_be_waited_for(naps: list[float]) -> None:
    several = MirrorSource([Mirror("a", failing=[passing("a", retry_after=3)]), Mirror("b")])
    with pytest.raises(NotNow, match="a answered 503") as caught:
        fetch_small(several.mirrors[0], FILE, len(DATA))
    assert (caught.value.retry_after, caught.value.kind, naps) == (3, "SourceUnreachable", [])
    alone = MirrorSource([Mirror("a", failing=[passing("a", retry_after=3)])])
    assert fetch_small(alone.mirrors[0], FILE, len(DATA)) == DATA
    assert naps == [3]


def test_a_mirror_that_holds_assets_alone_is_told_of_and_not_passed_over() -> None:
    first = Mirror("a")
    source = MirrorSource([first, Mirror("b")])
    assert source.mirrors[0].stream("metadata/timestamp.json") is None
    assert source.mirrors[0].stream("metadata/2.root.json") is None
    assert [failure.why for failure in source.report()[0].failures] == ["a:metadata/timestamp.json is not there."]
    assert ranged(source) == DATA
    assert source.describe(FILE) == f"a:{FILE}"


def test_a_distrusted_one_is_passed_over_for_the_assets_too() -> None:
    source = MirrorSource([Mirror("a"), Mirror("b")])
    source.mirrors[0].distrust("metadata/timestamp.json", "a: expired")
    ranged(source)
    assert source.describe(FILE) == f"b:{FILE}"


# --- the rest ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-14")
def test_every_failed_attempt_is_logged_with_address_and_reason(lines: list[str], naps: list[float]) -> None:
    source = MirrorSource(
        [Mirror("a", failing=[passing("a")]), Mirror("b", failing=[passing("b"), passing("b again")])]
    )
    retrying()(ranged, source)
    assert lines[:2] == ["a answered 503.", "b answered 503."]
    assert lines[2].startswith("attempt 1 of 5 failed, next in 0.")


def test_an_interrupted_read_fails_instead_of_turning_to_the_next_mirror() -> None:
    second = Mirror("b")

    class Waiting(Mirror):
        @override
        def _blocks(self, path: str, data: bytes) -> Stream:
            yield data[:10]
            source.interrupt()
            raise Temporary(f"{path} broke off.")

    first = Waiting("a")
    source = MirrorSource([first, second])
    with pytest.raises(Temporary, match=r"broke off\."):
        whole(source)
    assert (second.asked, first.interrupted, second.interrupted) == ([], True, True)


def test_closing_closes_all_and_no_mirror_at_all_is_misuse() -> None:
    mirrors = [Mirror("a"), Mirror("b")]
    MirrorSource(mirrors).close()
    assert all(mirror.closed for mirror in mirrors)
    with pytest.raises(TypeError):
        MirrorSource([])


def test_many_threads_share_mirrors_and_every_byte_is_right() -> None:
    mirrors = [Mirror("a", breaks_after=200), Mirror("b", failing=[passing("b")] * 5), Mirror("c")]
    source = MirrorSource(mirrors)
    results: list[bytes] = []

    def read() -> None:
        results.extend(retrying(lambda _: None)(ranged, source) for _ in range(20))

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160
    assert set(results) == {DATA}
    assert source.traffic.requests == sum(mirror.traffic.requests for mirror in mirrors)


def test_the_end_of_all_mirrors_is_an_error_of_its_own_kind() -> None:
    assert issubclass(AllWrong, DigestMismatch)
    assert AllWrong.exit_code == DigestMismatch.exit_code
