"""``lading``: the program. Only :func:`main` catches errors, prints them and exits."""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import sys
import traceback
from typing import Annotated, Any

import typer

import lading.cli
from lading.cli.events import tell_error
from lading.errors import Interrupted, LadingError

# An update makes some hundred thousand small objects and no cycles to speak of: looking for them every 700 took a tenth
# of its time. Measured: 1 MiB more memory.
GARBAGE_THRESHOLD = 100_000

KEEPER = "--lading-keeper"

_NOT_COMMANDS = {"drawing", "events", "main", "shared"}

# Commands that run often and on users' machines, and the one module each that they need.
MODULE_OF = {
    "channel": "channel",
    "control": "control",
    "doctor": "doctor",
    "install": "install",
    "prune": "prune",
    "rollback": "installed",
    "run": "run",
    "status": "installed",
    "uninstall": "installed",
    "update": "update",
}

# Typer carries its own copy of click and exports only some of its exceptions; their common base is what is caught.
_UsageProblem: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")

app = typer.Typer(
    name="lading",
    help="Freeze, split, sign, publish, install, update, launch and verify CUDA builds of Python servers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (typer's callback signature)
    if wanted:
        from importlib.metadata import version  # noqa: PLC0415 (slow, and only for this option)

        print(f"lading {version('lading')}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Everything that ``nox`` does with a build is one of these commands."""


def command_modules() -> tuple[str, ...]:
    """The names of the modules below ``lading.cli`` that add commands."""
    names = (module.name for module in pkgutil.iter_modules(lading.cli.__path__))
    return tuple(name for name in names if name not in _NOT_COMMANDS)


def _modules_for(words: list[str]) -> tuple[str, ...]:
    """The modules that a command line needs: one, where the command's name tells which, else all.

    Building needs far more code than installing; importing all of it took longer than a small update does.
    """
    module = MODULE_OF.get(words[0]) if words else None
    return command_modules() if module is None else (module,)


def _register_commands(words: list[str]) -> None:
    for name in _modules_for(words):
        importlib.import_module(f"lading.cli.{name}").register(app)


def report(error: LadingError, *, as_json: bool) -> None:
    """Print an error: what happened, what it usually means, what to do."""
    tell_error(error)
    if as_json:
        body = {
            "error": error.kind, "exit_code": error.exit_code,
            "what": error.what, "usually": error.usually, "todo": error.todo,
        }  # fmt: skip
        sys.stdout.write(json.dumps(body, indent=2) + "\n")
        return
    from rich.console import Console  # noqa: PLC0415 (only an error that a person reads)

    console = Console(stderr=True, highlight=False)
    console.print(f"[bold red]error[/] [dim]({error.kind}, exit code {error.exit_code})[/]")
    # Paths and names in messages must stay whole, so that they can be copied: the terminal wraps, we do not.
    console.print(error.what, markup=False, soft_wrap=True)
    if error.usually:
        console.print(error.usually, markup=False, style="dim", soft_wrap=True)
    if error.todo:
        console.print(error.todo, markup=False, style="bold", soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its code; the console script."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == [KEEPER]:  # a frozen launcher starts itself as its servers' keeper
        from lading.launch.kept import keep_if_asked  # noqa: PLC0415 (only then)

        keep_if_asked(words)
    as_json = "--json" in words
    gc.set_threshold(GARBAGE_THRESHOLD)
    try:
        _register_commands(words)
        code = app(args=words, standalone_mode=False)
        if code == Interrupted.exit_code:  # what typer makes of Ctrl-C
            raise KeyboardInterrupt  # noqa: TRY301 (one place tells of it)
    except LadingError as error:
        report(error, as_json=as_json)
        if os.environ.get("LADING_DEBUG"):
            traceback.print_exc()
        code = error.exit_code
    except _UsageProblem as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = Interrupted.exit_code
        report(
            Interrupted("Interrupted.", todo="Run the same command again: it goes on where it stopped."),
            as_json=as_json,
        )
    sys.exit(code or 0)
