"""How the benchmark writes its figures."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench import report
from bench.rows.base import Result
from bench.rows.install import flush
from rich.console import Console


@pytest.mark.parametrize(
    ("amount", "unit", "text"),
    [
        (None, "s", ""),
        (1_139_000.4, "kB", "1,139,000 kB"),
        (9.512, "kB", "9.5 kB"),
        (2.0, "requests", "2"),
        (0.0123, "%", "0.012 %"),
        (12.34, "%", "12.3 %"),
        (3.14159, "s", "3.1 s"),
    ],
)
def test_a_value_has_three_digits_and_what_is_counted_has_no_parts(amount: float | None, unit: str, text: str) -> None:
    assert report.value(amount, unit) == text


def test_goals_are_written_with_their_units_and_counts_without() -> None:
    bytes_row = Result(row="r", what="code update", unit="kB", peer=1_139_000, ours=9.5, limit=32)
    requests = Result(row="r", what="check", unit="requests", ours=2, limit=2)
    factor = Result(row="r", what="library", unit="kB", peer=90, ours=10, goal=3)

    assert [report.goal(result) for result in (bytes_row, requests, factor)] == ["≤ 32 kB", "≤ 2", "≥ 3x"]
    assert [result.reached for result in (bytes_row, requests, factor)] == [True, True, True]
    assert report.cells(bytes_row)[3] == "119,895x"
    assert report.cells(factor)[3] == "9.00x"


def test_a_line_without_a_goal_is_told_and_fails_nothing() -> None:
    line = Result(row="install", what="… both on the disk", unit="s", peer=80.0, ours=20.0)

    assert line.reached
    assert report.cells(line)[4] == ""


def test_update_rows_fit_into_80_columns() -> None:
    results = [
        Result(row="u", what="… disk for the version", unit="%", ours=0.0123, limit=1),
        Result(row="u", what="… requests without a patch", unit="requests", ours=12),
        Result(row="u", what="… against the archives", unit="kB", peer=3_042_000, ours=9_999.5),
        Result(row="u", what="dependency update", unit="kB", peer=1_139_000, ours=289.5, limit=600),
    ]
    console = Console(width=report.WIDTH, file=None)
    with console.capture() as captured:
        report.show(console, results, [])

    printed = captured.get()
    assert max(map(len, printed.splitlines())) <= report.WIDTH
    assert "0.012 %" in printed


def test_flushing_changes_nothing_and_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_bytes(b"x" * 1_000)
    (tmp_path / "link").symlink_to("nowhere")

    assert flush(tmp_path) > 0
    assert (tmp_path / "a" / "b").read_bytes() == b"x" * 1_000
