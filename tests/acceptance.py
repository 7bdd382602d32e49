"""Print every line of the acceptance list with the tests that prove it, and fail on a hole.

It collects, it does not run: a listed test passes or fails in ``nox -s tests`` and ``nox -s system``. The judgement
(:func:`judge`) is pure; the rest reads files and asks pytest. ``out/acceptance.json`` gets every id with its tests.

    python tests/acceptance.py [--checklist FILE] [--out FILE]

Fails with exit code 70 on a required line without a test, on a mark that names no line, and, when there is a checklist
that the list was made from, on any difference between the ids of the two.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
CHECKLIST_VARIABLE = "LADING_CHECKLIST"
FAILED = 70
WIDTH = 80

_ID = re.compile(r"(?:S[0-9]|X|P)-[0-9]{2}")
_PAIN = "P-"  # what users of comparable systems suffer from: lines of our own, which no checklist has


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the list: its id, the part of the product that shows it, its text, and whether it may still wait."""

    id: str
    area: str
    text: str
    open: bool


def read_list(text: str) -> tuple[Line, ...]:
    """Parse ``acceptance.yaml``.

    Raises:
        ValueError: An id is malformed, an open id is no line, or a line lacks area or text.
    """
    data: dict[str, Any] = yaml.safe_load(text)
    still_open = set(data["open"])
    if unknown := still_open - set(data["lines"]):
        raise ValueError(f"open names lines that do not exist: {', '.join(sorted(unknown))}")
    lines = []
    for name, fields in data["lines"].items():
        if not _ID.fullmatch(name) or set(fields) != {"area", "text"}:
            raise ValueError(f"{name}: a line has an id such as S1-04, an area and a text; found {fields}")
        lines.append(Line(id=name, area=fields["area"], text=fields["text"], open=name in still_open))
    return tuple(lines)


def checklist_ids(text: str) -> list[str]:
    """The ids that lines of a checklist begin with, in its order."""
    return [match[0] for line in text.splitlines() if (match := _ID.match(line))]


def judge(lines: Sequence[Line], proofs: Mapping[str, Sequence[str]], checklist: Sequence[str] | None) -> list[str]:
    """Find the holes.

    Args:
        lines: The list.
        proofs: Test node ids by the ids that they claim.
        checklist: The ids of the checklist, or none when there is none here.

    Returns:
        One sentence a hole; empty when there is none.
    """
    known = {line.id for line in lines}
    problems = [
        f"{line.id} is proven by no test: {line.text}" for line in lines if not line.open and not proofs.get(line.id)
    ]
    problems += [
        f"{test} claims {name}, which is no line" for name in proofs if name not in known for test in proofs[name]
    ]
    if checklist is not None:
        problems += [f"{name} is in the checklist and not in the list" for name in checklist if name not in known]
        problems += [
            f"{name} is in the list and not in the checklist"
            for name in sorted(known - set(checklist))
            if not name.startswith(_PAIN)
        ]
    return problems


def collect() -> dict[str, list[str]]:
    """Ask pytest which tests claim what.

    Raises:
        RuntimeError: The tests cannot be collected; carries what pytest said.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "proofs.json"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), os.environ.get("PYTHONPATH", "")))}
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "--collect-only", "-q", "--no-header", "-p", "no:cacheprovider"),
                *("-p", "acceptance_plugin", "--acceptance-json", str(target), str(TESTS)),
            ],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in {0, pytest.ExitCode.NO_TESTS_COLLECTED}:
            raise RuntimeError(f"the tests cannot be collected:\n{done.stdout[-4000:]}{done.stderr[-4000:]}")
        proofs: dict[str, list[str]] = json.loads(target.read_text("utf-8"))
        return proofs


def show(console: Console, lines: Sequence[Line], proofs: Mapping[str, Sequence[str]]) -> None:
    """Print every line with its tests, in the order of the list."""
    for line in lines:
        tests = proofs.get(line.id, ())
        state = f"{len(tests)} tests" if tests else "[dim]open[/]" if line.open else "[bold red]no test[/]"
        console.print(
            f"[bold]{line.id}[/] [dim]{line.area}[/] {state}{' [dim](open)[/]' if tests and line.open else ''}"
        )
        console.print(Padding(escape(line.text), (0, 0, 0, 2)))
        for test in tests:
            console.print(f"    [green]{escape(test)}[/]", soft_wrap=True)


def main(arguments: list[str] | None = None) -> int:
    """Collect, print, write, judge; 0 when there is no hole, 70 when there is."""
    parser = argparse.ArgumentParser(description="The acceptance list with the tests that prove each line.")
    named = os.environ.get(CHECKLIST_VARIABLE)
    parser.add_argument("--checklist", type=Path, default=Path(named) if named else None)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "acceptance.json")
    options = parser.parse_args(arguments)
    console = Console(width=WIDTH, highlight=False)
    lines = read_list((TESTS / "acceptance.yaml").read_text("utf-8"))
    try:
        proofs = collect()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return FAILED
    given = options.checklist is not None and options.checklist.is_file()
    checklist = checklist_ids(options.checklist.read_text("utf-8")) if given else None
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({line.id: proofs.get(line.id, []) for line in lines}, indent=2) + "\n", "utf-8")
    show(console, lines, proofs)
    problems = judge(lines, proofs, checklist)
    console.rule()
    for problem in problems:
        console.print(f"[bold red]hole[/] {escape(problem)}")
    proven = sum(bool(proofs.get(line.id)) for line in lines)
    waiting = sum(line.open and not proofs.get(line.id) for line in lines)
    against = "compared with the checklist" if checklist is not None else "no checklist here to compare with"
    console.print(f"{len(lines)} lines, {proven} with tests, {waiting} open, {len(problems)} holes; {against}")
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main())
