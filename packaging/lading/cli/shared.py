"""What every command shares: ``--json``, ``-v``, ``--events``, progress, and one way to print a result."""

from __future__ import annotations

import json
import logging
import os
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
from typing_extensions import override

from lading.cli.events import EventStream, open_events
from lading.manifest.base import Record, canonical_json
from lading.progress import Both, Events, Progress, Rate, Silent, Task, describe

PLAIN_INTERVAL = 5.0  # seconds between two plain progress lines, so that a CI log stays readable
EVENTS_VARIABLE = "LADING_EVENTS"

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for every command run.")
]
EventsOption = Annotated[
    str | None,
    typer.Option("--events", metavar="TO", help="Progress as JSON lines to stderr, fd:NUMBER or a file."),
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
    clock: Callable[[], float]
    done: int = 0
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.began = self.spoke = self.clock()
        self.rate = Rate(self.began)

    def advance(self, amount: int) -> None:
        with self.lock:
            self.done += amount
            now = self.clock()
            if now - self.spoke < PLAIN_INTERVAL:
                return
            self.spoke = now
            self.rate.seen(self.done, now)
            self._say(f"{speed_text(self.rate.speed, self.unit)}{left_text(self.rate.left(self.done, self.total))}")

    def _say(self, end: str) -> None:
        said = describe(self.label, self.done, self.total, self.unit)
        self.console.print(f"{said}{end}", highlight=False, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._say(f", {self.clock() - self.began:.1f} s")


def speed_text(speed: float | None, unit: str) -> str:
    """A speed behind what it is the speed of; empty when nothing can be said."""
    if speed is None:
        return ""
    return f", {speed / 1e6:,.1f} MB/s" if unit == "bytes" else f", {speed:,.0f} {unit}/s"


def left_text(seconds: float | None) -> str:
    """The time left behind a speed; empty when nothing can be said."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f", {hours}:{minutes:02}:{rest:02} left" if hours else f", {minutes}:{rest:02} left"


class Lines:
    """Plain lines where there is no terminal: what is done, how fast, and the time left."""

    def __init__(self, console: Console, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a step that says a line now and then, and one at its end."""
        return _PlainTask(label=label, total=total, unit=unit, console=self._console, clock=self._clock)

    def note(self, text: str) -> None:
        """A line."""
        self._console.print(text, highlight=False, markup=False)


class _LogLines(logging.Handler):
    """Shows what the rooms log, above the bars, on one line each."""

    def __init__(self, console: Console, level: int) -> None:
        super().__init__(level)
        self._console = console

    @override
    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            self._console.print(text, style="dim", highlight=False, markup=False, soft_wrap=True)
        except Exception:  # noqa: BLE001 (logging's own contract: a record that cannot be shown ends nothing)
            self.handleError(record)


def show_log(console: Console, verbose: int) -> None:
    """Show what the logger ``lading`` gets: with ``-v`` each attempt that failed and why, with ``-vv`` everything.

    Without ``-v`` they go nowhere: what matters to everybody is in the result or in the error.

    Args:
        console: Where they go.
        verbose: How often ``-v`` was given.
    """
    logger = logging.getLogger("lading")
    for handler in [known for known in logger.handlers if isinstance(known, _LogLines | logging.NullHandler)]:
        logger.removeHandler(handler)
    level = {0: logging.NOTSET, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logger.setLevel(level)
    logger.addHandler(_LogLines(console, level) if verbose else logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this run of the command line talks.

    Attributes:
        json: Results go to standard output as JSON.
        verbose: 0, 1 or 2.
        console: Where results for a person go (standard output).
        log: Where progress and notes go (standard error).
        progress: How long steps report.
        events: Where events go, when they are wanted.
    """

    json: bool
    verbose: int
    console: Console
    log: Console
    progress: Progress
    events: EventStream | None = None


def session(*, json: bool, verbose: int = 0, events: str | None = None) -> Session:
    """Decide how to talk: bars on a terminal, plain lines elsewhere, nothing but the result with ``--json``.

    Args:
        json: The option ``--json``.
        verbose: How often ``-v`` was given.
        events: The option ``--events``; without it the variable ``LADING_EVENTS`` of the environment.

    Raises:
        ConfigError: Events cannot be written where they are wanted.
    """
    log = Console(stderr=True)
    show_log(log, verbose)
    wanted = events or os.environ.get(EVENTS_VARIABLE)
    stream = open_events(wanted) if wanted else None
    quiet = (json and not verbose) or (stream is not None and stream.is_stderr)
    progress: Progress = Silent() if quiet else Bars(log) if log.is_terminal else Lines(log)
    if stream is not None:
        progress = Both(progress, Events(stream.tell))
    return Session(json=json, verbose=verbose, console=Console(), log=log, progress=progress, events=stream)


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
    if talk.events is not None:
        talk.events.result(result)
    if not talk.json:
        render(talk.console)
        return
    if isinstance(result, Record):
        sys.stdout.write(canonical_json(result).decode())
    else:
        sys.stdout.write(json.dumps(result, indent=indent, sort_keys=True, default=str) + "\n")
