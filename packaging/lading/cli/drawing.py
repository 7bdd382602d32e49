"""What a person sees of a running command: bars on a terminal, plain lines elsewhere.

Not imported where nothing is drawn: with ``--json`` its libraries would take a tenth of the time of a small update.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from types import TracebackType
from typing import Self

import rich.progress
from rich.console import Console

from lading.progress import Progress, Rate, Task, describe

PLAIN_INTERVAL = 5.0  # seconds between two plain progress lines, so that a CI log stays readable


def drawn_progress(log: Console) -> Progress:
    """Bars on a terminal, plain lines elsewhere."""
    return Bars(log) if log.is_terminal else Lines(log)


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
