from __future__ import annotations

import pytest

from lading.report.format import bar, duration, plural, share, shorten, size, speed
from lading.report.markdown import code, escape, table


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (68_412_000, "68.4 MB"), (999_949, "999.9 kB"),
        (999_950, "1.0 MB"), (999_999_999, "1.00 GB"), (1_874_000_000, "1.87 GB"), (5_350_000_000, "5.35 GB"),
        (12_345_000_000_000, "12,345.00 GB"),
    ],
)  # fmt: skip
def test_sizes_are_decimal(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 ms"), (0.004, "4 ms"), (0.05, "0.1 s"), (12.34, "12.3 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"),
     (125, "2 min 05 s"), (3599.6, "1 h 00 min"), (3725, "1 h 02 min")],
)  # fmt: skip
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_small_things() -> None:
    assert share(1, 3) == "33 %"
    assert share(1, 1000) == "<1 %"
    assert share(0, 10) == "0 %"
    assert share(1, 0) == ""
    assert speed(412_000_000, 1) == "412.0 MB/s"
    assert speed(1, 0) == ""
    assert plural(1, "file") == "1 file"
    assert plural(2489, "file") == "2,489 files"
    assert shorten("a" * 10, 5) == "aa…aa"
    assert shorten("short", 5) == "short"


@pytest.mark.parametrize(("part", "whole"), [(0, 10), (3, 10), (10, 10), (99, 10), (1, 0), (-1, 10), (1, 3)])
def test_a_bar_is_always_as_wide_as_asked(part: float, whole: float) -> None:
    assert len(bar(part, whole, 16)) == 16


def test_foreign_text_cannot_break_a_table() -> None:
    hostile = "a|b\n`c` <img src=x> [d](e)"
    assert escape(hostile) == r"a\|b \`c\` \<img src=x\> \[d\](e)"
    row = table(("x", "y"), [(escape(hostile), code(hostile))], right=[1]).splitlines()
    assert row[1] == "| --- | ---: |"
    assert len(row) == 3
    assert code("a`b") == "`` a`b ``"
