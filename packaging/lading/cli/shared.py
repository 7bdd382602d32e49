"""What every command shares: ``--json``, ``-v``, progress, and one way to print a result."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Annotated, Self

import rich.progress
import typer
from rich.console import Console

from lading.manifest.base import Record, canonical_json
from lading.progress import Progress, Silent, Task

PLAIN_INTERVAL = 5.0  # seconds between two plain progress lines, so that a CI log stays readable

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for every command run.")
]


class _BarTask:
    def __init__(self, bars: rich.progress.Progress, number: rich.progress.TaskID) -> None:
        self._bars = bars
        self._number = number

    def advance(self, amount: int) -> None:
        self._bars.advance(self._number, amount)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()
        if kind is not None:
            self._bars.remove_task(self._number)


class Bars:
    """Progress bars on a terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a bar; by bytes with speed and time left, else by items."""
        columns: list[rich.progress.ProgressColumn] = [
            rich.progress.TextColumn("{task.description:<22.22}"),
            rich.progress.BarColumn(bar_width=None),
        ]
        if unit == "bytes":
            columns += [rich.progress.DownloadColumn(), rich.progress.TransferSpeedColumn()]
        else:
            columns += [rich.progress.MofNCompleteColumn()]
        columns.append(rich.progress.TimeRemainingColumn(compact=True, elapsed_when_finished=True))
        bars = rich.progress.Progress(*columns, console=self._console)
        return _BarTask(bars, bars.add_task(label, total=total))

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._console.print(text, style="dim", highlight=False, markup=False)


@dataclass(kw_only=True)
class _PlainTask:
    label: str
    total: int | None
    unit: str
    console: Console
    done: int = 0
    began: float = field(default_factory=time.monotonic)
    spoke: float = field(default_factory=time.monotonic)
    lock: Lock = field(default_factory=Lock)

    def advance(self, amount: int) -> None:
        with self.lock:
            self.done += amount
            now = time.monotonic()
            if now - self.spoke < PLAIN_INTERVAL:
                return
            self.spoke = now
        self._say("")

    def _say(self, end: str) -> None:
        amount = f"{self.done / 1e6:,.0f} MB" if self.unit == "bytes" else f"{self.done:,} {self.unit}"
        share = f" ({self.done / self.total:.0%})" if self.total else ""
        self.console.print(f"{self.label}: {amount}{share}{end}", highlight=False, markup=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._say(f", {time.monotonic() - self.began:.1f} s")


class Lines:
    """Plain lines where there is no terminal."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a step that says a line now and then, and one at its end."""
        return _PlainTask(label=label, total=total, unit=unit, console=self._console)

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, highlight=False, markup=False)


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this run of the command line talks.

    Attributes:
        json: Results go to standard output as JSON.
        verbose: 0, 1 or 2.
        console: Where results for a person go (standard output).
        log: Where progress and notes go (standard error).
        progress: How long steps report.
    """

    json: bool
    verbose: int
    console: Console
    log: Console
    progress: Progress


def session(*, json: bool, verbose: int = 0) -> Session:
    """Decide how to talk: bars on a terminal, plain lines elsewhere, nothing but the result with ``--json``."""
    log = Console(stderr=True)
    progress: Progress = Silent() if json and not verbose else Bars(log) if log.is_terminal else Lines(log)
    return Session(json=json, verbose=verbose, console=Console(), log=log, progress=progress)


def emit(
    talk: Session, result: Record | Mapping[str, object], render: Callable[[Console], None], *, indent: int | None = 2
) -> None:
    """Print a result: as JSON, or drawn for a person.

    Args:
        talk: How to talk.
        result: What to print as JSON; a record is always one line.
        render: Draws it for a person.
        indent: Of the JSON; none for one line, which a reader of a running program's output can wait for.
    """
    if not talk.json:
        render(talk.console)
        return
    if isinstance(result, Record):
        sys.stdout.write(canonical_json(result).decode())
    else:
        sys.stdout.write(json.dumps(result, indent=indent, sort_keys=True, default=str) + "\n")
