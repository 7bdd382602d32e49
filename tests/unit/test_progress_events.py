"""What a running step tells other programs: never backwards, never too often, and the last word always."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lading.progress import Both, Events, Progress, ProgressEvent, Rate, describe


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def heard(interval: float = 0.0) -> tuple[Events, list[ProgressEvent], Hand]:
    told: list[ProgressEvent] = []
    clock = Hand()
    return Events(told.append, interval=interval, clock=clock), told, clock


def test_a_phase_has_a_first_and_a_last_event_with_amounts_speed_and_time_left() -> None:
    events, told, clock = heard()
    with events.task("fetching", 4_000_000) as task:
        clock.now += 1
        task.advance(1_000_000)
        clock.now += 1
        task.advance(3_000_000)

    assert [(event.kind, event.done) for event in told] == [
        ("begin", 0),
        ("progress", 1_000_000),
        ("progress", 4_000_000),
        ("end", 4_000_000),
    ]
    assert {(event.phase, event.total, event.unit) for event in told} == {("fetching", 4_000_000, "bytes")}
    assert (told[1].speed, told[1].eta) == (1_000_000.0, 3.0)
    assert told[1].message == "fetching: 1 MB of 4 MB (25%)"
    assert told[0].speed is None
    assert told[0].eta is None


@pytest.mark.proves("S0-18")
@pytest.mark.parametrize("total", [None, 0])
def test_an_unknown_total_or_one_of_zero_breaks_nothing(total: int | None) -> None:
    events, told, clock = heard()
    with events.task("fetching", total) as task:
        clock.now += 1
        task.advance(5)
    events.finish()

    assert [event.eta for event in told] == [None, None if total is None else 0.0, None, None]
    assert told[1].done == (5 if total is None else 0), "never more than the total"
    assert told[-1].share == 1.0


@pytest.mark.proves("S0-18")
@given(
    phases=st.lists(
        st.tuples(
            st.sampled_from(["checking installed", "linking", "fetching", "something else"]),
            st.none() | st.integers(0, 1_000),
            st.lists(st.integers(-5, 400), max_size=8),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_nothing_ever_goes_backwards_over_any_phases(
    phases: list[tuple[str, int | None, list[int], bool]],
) -> None:
    events, told, clock = heard()
    for label, total, steps, breaks in phases:
        with suppress(ZeroDivisionError), events.task(label, total) as task:
            for step in steps:
                clock.now += 0.5
                task.advance(step)
            assert 1 // (not breaks)
    events.finish()

    shares = [event.share for event in told]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert all(share < 1.0 for share in shares[:-1]), "all done is said once, at the very end"
    for before, after in pairwise(told):
        if after.kind in {"progress", "end"}:
            assert after.done >= before.done
            assert after.total is None or after.done <= after.total


def test_a_failure_is_the_last_event_and_the_share_stays_where_it_was() -> None:
    events, told, clock = heard()

    def fail() -> None:
        with events.task("fetching", 10) as task:
            clock.now += 1
            task.advance(5)
            raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        fail()
    events.finish(error="SourceUnreachable")

    assert [event.kind for event in told] == ["begin", "progress", "end", "error"]
    assert told[-1].share == told[-2].share < 0.6
    assert (told[-2].done, told[-1].message) == (5, "SourceUnreachable")


def test_events_are_no_more_frequent_than_the_interval_but_the_end_is_never_left_out() -> None:
    events, told, clock = heard(interval=0.125)
    with events.task("fetching", 1_000) as task:
        for _ in range(1_000):
            clock.now += 2**-10
            task.advance(1)

    assert [event.kind for event in told] == ["begin", *["progress"] * 7, "end"]
    assert told[-1].done == 1_000


def test_many_threads_are_counted_exactly_and_told_one_at_a_time() -> None:
    speaking = threading.Lock()
    overlapping: list[bool] = []
    done: list[int] = []

    def tell(event: ProgressEvent) -> None:
        overlapping.append(not speaking.acquire(blocking=False))
        done.append(event.done)
        speaking.release()

    events = Events(tell, interval=0.0)
    with events.task("fetching", 8_000) as task, ThreadPoolExecutor(8) as workers:
        for _ in range(8_000):
            workers.submit(task.advance, 1)

    assert not any(overlapping)
    assert done == sorted(done)
    assert done[-1] == 8_000


def test_what_the_listener_raises_ends_the_step() -> None:
    def refuse(event: ProgressEvent) -> None:
        if event.kind == "progress":
            raise InterruptedError("the window was closed")

    with pytest.raises(InterruptedError, match="closed"), Events(refuse, interval=0.0).task("fetching", 3) as task:
        task.advance(1)


def test_a_note_is_told_in_its_place() -> None:
    events, told, _ = heard()
    with events.task("fetching", 1):
        events.note("2 installed files are damaged and are not used")

    assert [event.kind for event in told] == ["begin", "note", "end"]
    assert told[1].message == "2 installed files are damaged and are not used"


def test_several_can_listen() -> None:
    first, told_first, clock = heard()
    second, told_second, _ = heard()
    both: Progress = Both(first, second)
    with both.task("linking", 2, unit="files") as task:
        clock.now += 1
        task.advance(2)
    both.note("done")

    assert [event.kind for event in told_first] == ["begin", "progress", "end", "note"]
    assert [event.message for event in told_second][-2:] == ["linking: 2 files of 2 (100%)", "done"]


def test_an_event_is_frozen_and_refuses_what_it_does_not_know() -> None:
    event = ProgressEvent(kind="note", message="x")

    with pytest.raises(ValidationError):
        event.done = 5  # type: ignore[misc]
    with pytest.raises(ValidationError):
        ProgressEvent(kind="note", colour="red")  # type: ignore[call-arg]


def test_the_speed_forgets_and_does_not_jump() -> None:
    rate = Rate(0.0)
    assert (rate.speed, rate.left(0, 10)) == (None, None)
    for second in range(1, 31):
        rate.seen(second * 100, float(second))
    assert rate.speed == pytest.approx(100)
    assert rate.left(3_000, 4_000) == pytest.approx(10)
    rate.seen(3_000, 31.0)  # nothing came for a second
    assert rate.speed == pytest.approx(79.4, abs=0.1)
    for second in range(32, 80):
        rate.seen(3_000 + (second - 31) * 10, float(second))
    assert rate.speed == pytest.approx(10, rel=0.01)


def test_a_clock_that_stands_still_gives_no_speed() -> None:
    rate = Rate(5.0)
    rate.seen(1_000, 5.0)
    assert (rate.speed, rate.left(0, 10)) == (None, None)
    rate.seen(1_000, 6.0)
    assert rate.speed == pytest.approx(1_000)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: describe("fetching", 120_000_000, 1_940_000_000, "bytes"), "fetching: 120 MB of 1,940 MB (6%)"),
        (lambda: describe("fetching", 5_000_000, None, "bytes"), "fetching: 5 MB"),
        (lambda: describe("linking", 0, 0, "files"), "linking: 0 files of 0"),
    ],
)
def test_how_far_a_step_is_is_told_with_what_is_known(call: Callable[[], str], text: str) -> None:
    assert call() == text
