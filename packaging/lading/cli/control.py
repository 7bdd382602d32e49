"""``lading control``: a running launcher, asked from another terminal or program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lading.cli.shared import DEFAULT_APP, AppOption, DataOption, JsonOption, data_directory, emit, session
from lading.errors import LauncherAbsent
from lading.launch.remote import Remote
from lading.store.preference import Preference, write_preference

if TYPE_CHECKING:
    from rich.console import Console

    from lading.launch.status import LauncherStatus

control = typer.Typer(help="Ask a running launcher: status, restart, choose, stop.", no_args_is_help=True)


@control.command("status")
def status_command(data: DataOption = None, *, app: AppOption = DEFAULT_APP, json: JsonOption = False) -> None:
    """Say what runs, where, and why another backend does not.

    Exit code 27 when no launcher runs.

    Example: `lading control status --json`
    """
    found = Remote(data_directory(data, app)).status()
    emit(session(json=json), found, lambda console: _draw(found, console))


@control.command("restart")
def restart_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what was set aside.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until the server is ready.")] = True,
    json: JsonOption = False,
) -> None:
    """Restart the server on its port, with the backend that is to be chosen now.

    Fails as `lading run` does when no server gets ready; the launcher stays for a minute then, to be asked again.

    Example: `lading control restart --retry`
    """
    found = Remote(data_directory(data, app)).restart(wait=wait, retry=retry)
    emit(session(json=json), found, lambda console: _draw(found, console))


@control.command("choose")
def choose_command(
    backend: Annotated[Literal["auto", "cpu", "cuda"], typer.Argument(help="auto: CUDA where it runs.")],
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    restart: Annotated[bool, typer.Option("--restart", help="And restart the server with it.")] = False,
    json: JsonOption = False,
) -> None:
    """Choose the backend for the next start and all later ones; works also while no launcher runs.

    Example: `lading control choose cpu --restart`
    """
    talk, folder = session(json=json), data_directory(data, app)
    try:
        launcher = Remote(folder)
        found = launcher.choose(backend)
    except LauncherAbsent:
        if restart:
            raise
        write_preference(folder, backend)
        emit(
            talk, Preference(backend=backend), lambda console: console.print(f"{backend} is chosen for the next start")
        )
        return
    if restart:
        found = launcher.restart()
    emit(talk, found, lambda console: _draw(found, console))


@control.command("stop")
def stop_command(data: DataOption = None, *, app: AppOption = DEFAULT_APP, json: JsonOption = False) -> None:
    """End the server, and then the launcher.

    Example: `lading control stop`
    """
    found = Remote(data_directory(data, app)).stop()
    emit(session(json=json), found, lambda console: console.print("stopping"))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(control, name="control")


def _draw(status: LauncherStatus, console: Console) -> None:
    what = f": {status.backend} {status.installed} at {status.url}" if status.backend else ""
    console.print(f"[bold]{status.phase}[/]{what}", highlight=False)
    chosen = f", but {status.forced} decides" if status.forced else ""
    console.print(f"  chosen: {status.choice}{chosen}", highlight=False)
    lines = [
        status.reason,
        status.health.reason if status.health else None,
        f"{status.set_aside.name} is set aside: {status.set_aside.reason}" if status.set_aside else None,
        *((status.error.what, status.error.usually, status.error.todo) if status.error else ()),
        f"log: {status.log}" if status.log else None,
        *status.notes,
    ]
    for line in dict.fromkeys(filter(None, lines)):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
