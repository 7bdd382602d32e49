"""How a running command talks: bars on a terminal, lines elsewhere, nothing but the result with ``--json``."""

from __future__ import annotations

import io
import json
import logging

import pytest
from rich.console import Console

from lading.cli.drawing import Bars, Lines, left_text
from lading.cli.shared import emit, session
from lading.errors import DiskFull
from lading.manifest.buildinfo import DroppedFile
from lading.progress import Progress, Silent


def console(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(file=stream, force_terminal=terminal, width=80), stream


def work(progress: Progress, total: int | None, *, unit: str = "bytes") -> None:
    with progress.task("packing libs", total, unit=unit) as task:
        task.advance(1_500_000)
        task.advance(500_000)


def test_a_step_says_one_line_at_its_end() -> None:
    screen, said = console()
    work(Lines(screen), 4_000_000)
    assert said.getvalue() == "packing libs: 2 MB of 4 MB (50%), 0.0 s\n"


def test_items_are_counted_with_their_unit() -> None:
    screen, said = console()
    work(Lines(screen), None, unit="files")
    assert said.getvalue() == "packing libs: 2,000,000 files, 0.0 s\n"


def test_a_total_of_zero_gives_no_share() -> None:
    screen, said = console()
    with Lines(screen).task("nothing", 0):
        pass
    assert said.getvalue() == "nothing: 0 MB of 0 MB, 0.0 s\n"


def test_a_long_step_says_now_and_then_how_fast_it_is_and_how_long_it_takes() -> None:
    screen, said = console()
    times = iter([0.0, 10.0, 12.0, 20.0, 20.0])
    with Lines(screen, clock=lambda: next(times)).task("packing libs", 4_000_000_000) as task:
        task.advance(500_000_000)
        task.advance(1)  # too soon for another line
        task.advance(499_999_999)
    assert said.getvalue().splitlines() == [
        "packing libs: 500 MB of 4,000 MB (12%), 50.0 MB/s, 1:10 left",
        "packing libs: 1,000 MB of 4,000 MB (25%), 50.0 MB/s, 1:00 left",
        "packing libs: 1,000 MB of 4,000 MB (25%), 20.0 s",
    ]


@pytest.mark.proves("S0-18")
def test_a_line_without_a_total_says_bytes_and_speed_only() -> None:
    screen, said = console()
    times = iter([0.0, 10.0, 10.0])
    with Lines(screen, clock=lambda: next(times)).task("fetching", None) as task:
        task.advance(20_000_000)
    assert said.getvalue().splitlines()[0] == "fetching: 20 MB, 2.0 MB/s"


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.4, ", 0:00 left"), (61, ", 1:01 left"), (3_725, ", 1:02:05 left")]
)
def test_the_time_left_is_told_as_on_a_clock(seconds: float | None, text: str) -> None:
    assert left_text(seconds) == text


def test_a_step_that_fails_does_not_say_that_it_is_done() -> None:
    screen, said = console()

    def fail() -> None:
        with Lines(screen).task("packing libs", 10):
            message = "No room left."
            raise DiskFull(message)

    with pytest.raises(DiskFull):
        fail()
    assert said.getvalue() == ""


def test_a_note_is_a_line_in_which_brackets_stay() -> None:
    for kind in (Lines, Bars):
        screen, said = console()
        kind(screen).note("reused [bold]libs[/] cu126-v1")
        assert said.getvalue() == "reused [bold]libs[/] cu126-v1\n"


def test_a_bar_shows_bytes_and_ends_full() -> None:
    screen, said = console(terminal=True)
    work(Bars(screen), 2_000_000)
    assert "packing libs" in said.getvalue()
    assert "2.0/2.0 MB" in said.getvalue()


def test_a_bar_of_items_without_a_total_does_not_break() -> None:
    screen, said = console(terminal=True)
    work(Bars(screen), None, unit="steps")
    assert "2000000/?" in said.getvalue()


def test_a_bar_that_fails_is_taken_away() -> None:
    screen, _ = console(terminal=True)
    bars = Bars(screen)

    def fail() -> None:
        with bars.task("packing libs", 10):
            message = "no"
            raise OSError(message)

    with pytest.raises(OSError, match="no"):
        fail()
    with bars.task("next", 1):  # the screen is free again
        pass


def test_nobody_is_told_anything_by_silence(capsys: pytest.CaptureFixture[str]) -> None:
    work(Silent(), 10)
    Silent().note("x")
    assert capsys.readouterr() == ("", "")


def test_the_session_is_silent_with_json_and_speaks_when_asked_to() -> None:
    assert isinstance(session(json=True).progress, Silent)
    assert isinstance(session(json=True, verbose=1).progress, Lines)
    assert isinstance(session(json=False).progress, Lines)


def test_a_result_is_drawn_or_printed_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    record = DroppedFile(path="a/b", size=3, owner="dep", reason="It is not needed.")
    emit(session(json=False), record, lambda screen: screen.print("drawn"))
    assert capsys.readouterr().out == "drawn\n"
    for result in (record, record.model_dump()):
        emit(session(json=True), result, lambda _: None)
        assert json.loads(capsys.readouterr().out) == record.model_dump()


def test_log_records_are_shown_with_v_and_only_once_however_often_a_session_begins(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("lading.fetch")
    session(json=True, verbose=1)
    session(json=True, verbose=1)
    logger.info("https://a.example/x answered 503 [attempt 1]")
    logger.debug("a detail")
    assert capsys.readouterr().err == "info: https://a.example/x answered 503 [attempt 1]\n"
    session(json=True, verbose=2)
    logger.debug("a detail")
    assert capsys.readouterr().err == "debug: a detail\n"
    session(json=True)
    logger.warning("nobody asked")
    assert capsys.readouterr().err == ""
