"""What every command shares: ``--json``, ``-v``, ``--events``, progress, and one way to print a result."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typing_extensions import override

from lading.cli.events import EventStream, open_events
from lading.manifest.base import Record, canonical_json
from lading.progress import Both, Events, Progress, Silent

if TYPE_CHECKING:
    from rich.console import Console

EVENTS_VARIABLE = "LADING_EVENTS"

DEFAULT_APP = "lading-server"

AppOption = Annotated[str, typer.Option("--app", help="The app's name.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data directory; the user's own for the app without it.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
VerboseOption = Annotated[
    int, typer.Option("--verbose", "-v", count=True, help="Say more; twice for every command run.")
]
EventsOption = Annotated[
    str | None,
    typer.Option("--events", metavar="TO", help="Progress as JSON lines to stderr, fd:NUMBER or a file."),
]


def data_directory(data: Path | None, app: str) -> Path:
    """The data directory that a command works on."""
    if data is not None:
        return data
    import platformdirs  # noqa: PLC0415 (not needed where the folder is named)

    return platformdirs.user_data_path(app, appauthor=False)


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


def show_log(console: Console | None, verbose: int) -> None:
    """Show what the logger ``lading`` gets: with ``-v`` each attempt that failed and why, with ``-vv`` everything.

    Without ``-v`` they go nowhere: what matters to everybody is in the result or in the error.

    Args:
        console: Where they go; none when nothing is shown.
        verbose: How often ``-v`` was given.
    """
    logger = logging.getLogger("lading")
    for handler in [known for known in logger.handlers if isinstance(known, _LogLines | logging.NullHandler)]:
        logger.removeHandler(handler)
    level = {0: logging.NOTSET, 1: logging.INFO}.get(verbose, logging.DEBUG)
    logger.setLevel(level)
    logger.addHandler(_LogLines(console, level) if verbose and console else logging.NullHandler())


@dataclass(frozen=True, kw_only=True)
class Session:
    """How this run of the command line talks.

    Attributes:
        json: Results go to standard output as JSON.
        verbose: 0, 1 or 2.
        progress: How long steps report.
        events: Where events go, when they are wanted.
    """

    json: bool
    verbose: int
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
    wanted = events or os.environ.get(EVENTS_VARIABLE)
    stream = open_events(wanted) if wanted else None
    quiet = (json and not verbose) or (stream is not None and stream.is_stderr)
    log = _console(stderr=True) if verbose or not quiet else None
    show_log(log, verbose)
    progress: Progress = Silent()
    if not quiet and log is not None:
        from lading.cli.drawing import drawn_progress  # noqa: PLC0415 (see there)

        progress = drawn_progress(log)
    if stream is not None:
        progress = Both(progress, Events(stream.tell))
    return Session(json=json, verbose=verbose, progress=progress, events=stream)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console  # noqa: PLC0415 (see cli.drawing)

    return Console(stderr=stderr)


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
        render(_console(stderr=False))
        return
    if isinstance(result, Record):
        sys.stdout.write(canonical_json(result).decode())
    else:
        sys.stdout.write(json.dumps(result, indent=indent, sort_keys=True, default=str) + "\n")
