"""The acceptance list is well formed, and its script finds every kind of hole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests import acceptance

LINES = (
    acceptance.Line(id="S0-01", area="server", text="first", open=False),
    acceptance.Line(id="S0-02", area="server", text="second", open=True),
)

PAIN = acceptance.Line(id="P-04", area="publish", text="of our own", open=False)


def test_the_list_has_every_line_once_in_our_own_words() -> None:
    lines = acceptance.read_list((acceptance.TESTS / "acceptance.yaml").read_text("utf-8"))

    assert len({line.id for line in lines}) == len(lines) == 181
    assert len({line.text for line in lines}) == len(lines)
    assert all(line.area and "\n" not in line.text for line in lines)


def test_what_the_first_release_must_show_is_not_open() -> None:
    lines = acceptance.read_list((acceptance.TESTS / "acceptance.yaml").read_text("utf-8"))
    required = {line.id for line in lines if not line.open}

    swap = {f"S0-{number}" for number in (10, 11, 12, 19, 20, 21, 22, 23, 24)}
    split = {f"S1-{number:02}" for number in (1, 2, 3, 4, 5, 6, 7, 18, 24, 26)}
    assert required >= swap | split | {"X-19", "X-37"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("lines: {S0-01: {area: a, text: t}}\nopen: [S0-02]", "open names lines that do not exist: S0-02"),
        ("lines: {S0-1: {area: a, text: t}}\nopen: []", "S0-1: a line has an id"),
        ("lines: {S0-01: {area: a}}\nopen: []", "S0-01: a line has an id"),
    ],
)
def test_a_malformed_list_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        acceptance.read_list(text)


def test_ids_are_read_from_the_beginnings_of_a_checklists_lines() -> None:
    text = "# S9-99 a heading\nS0-01 [req] text that names S0-05\n  S0-07 indented\n\nX-12 [C] text\n"

    assert acceptance.checklist_ids(text) == ["S0-01", "X-12"]


def test_no_hole_when_every_line_has_a_test_or_may_wait() -> None:
    assert acceptance.judge(LINES, {"S0-01": ["t"]}, ["S0-01", "S0-02"]) == []
    assert acceptance.judge(LINES, {"S0-01": ["t"], "S0-02": ["t"]}, None) == []


def test_every_kind_of_hole_is_found() -> None:
    problems = acceptance.judge((*LINES, PAIN), {"P-04": ["t"], "S0-99": ["test_x", "test_y"]}, ["S0-01", "S0-03"])

    assert problems == [
        "S0-01 is proven by no test: first",
        "test_x claims S0-99, which is no line",
        "test_y claims S0-99, which is no line",
        "S0-03 is in the checklist and not in the list",
        "S0-02 is in the list and not in the checklist",
    ]


def test_the_plugin_writes_marks_of_functions_classes_and_deselected_tests(tmp_path: Path) -> None:
    (tmp_path / "test_marked.py").write_text(
        "import pytest\n"
        "@pytest.mark.proves('S0-01', 'S0-02')\n"
        "@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_a(n): pass\n"
        "@pytest.mark.proves('S0-02')\n"
        "class TestB:\n"
        "    @pytest.mark.proves('S0-03')\n"
        "    @pytest.mark.system\n"
        "    def test_b(self): pass\n"
        "def test_unmarked(): pass\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    proves\n    system\n")
    target = tmp_path / "out" / "proofs.json"

    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "not system", "-p", "acceptance_plugin"),
            *("-p", "no:cacheprovider", "--acceptance-json", str(target)),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(acceptance.TESTS)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    assert json.loads(target.read_text()) == {
        "S0-01": ["test_marked.py::test_a[1]", "test_marked.py::test_a[2]"],
        "S0-02": ["test_marked.py::TestB::test_b", "test_marked.py::test_a[1]", "test_marked.py::test_a[2]"],
        "S0-03": ["test_marked.py::TestB::test_b"],
    }
