"""``lading run``: the installed server in the foreground."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lading.cli.install import DEFAULT_APP, AppOption, DataOption, data_directory
from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.errors import NotInstalled
from lading.launch.foreground import stay, stopped_by_signals
from lading.launch.server import DEADLINE, LOOPBACK, RunningServer, running
from lading.manifest.base import Variant
from lading.store.home import Home
from lading.store.installed import VARIANTS, Installed, current_version


def _installed(data: Path, variant: Variant | None) -> Installed:
    """The version in use: the CUDA one before the CPU one, unless a variant is named."""
    wanted = (variant,) if variant is not None else tuple(reversed(VARIANTS))
    for name in wanted:
        if (found := current_version(Home(data, name))) is not None:
            return found
    raise NotInstalled(
        f"No {' or '.join(wanted)} version is installed under {data}.",
        usually="Nothing was installed there yet, or another data directory holds it.",
        todo="Install one with `lading install`, or name its data directory with --data.",
    )


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def run(
        *,
        data: DataOption = None,
        app_name: AppOption = DEFAULT_APP,
        port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Its port; 0 for any free one.")] = 0,
        host: Annotated[str, typer.Option("--host", help="The address that it listens on.")] = LOOPBACK,
        variant: Annotated[Variant | None, typer.Option("--variant", help="Run this variant, and no other.")] = None,
        log: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Where it prints.")] = None,
        deadline: Annotated[
            float, typer.Option("--deadline", min=1, help="Seconds until it must be healthy.")
        ] = DEADLINE,
        json: JsonOption = False,
        verbose: VerboseOption = 0,
    ) -> None:
        """Run the installed server until Ctrl-C.

        It is ready when its own `/health` answers, which is when this says so; with --json as one line.
        Exit code 43 when the server does not get healthy or ends by itself, 44 when the port is taken.

        Example: `lading run --data ~/.local/share/my-server --port 8765`
        """
        talk = session(json=json, verbose=verbose)
        folder = data_directory(data, app_name)
        version = _installed(folder, variant)
        sink = log or folder / "logs" / f"{version.marker.app}.log"
        talk.progress.note(f"starting {version.marker.app} {version.name}, log: {sink}")
        with (
            stopped_by_signals(),
            running(version.tree, version.marker.entry, host=host, port=port, log=sink, deadline=deadline) as server,
        ):
            emit(
                talk,
                _facts(version, server),
                lambda console: console.print(_line(server), highlight=False),
                indent=None,
            )
            sys.stdout.flush()
            stay(server)


def _facts(version: Installed, server: RunningServer) -> dict[str, object]:
    return {
        "url": server.url,
        "pid": server.pid,
        "installed": version.name,
        "ready_seconds": round(server.seconds, 3),
        "log": str(server.log),
        "health": server.health.model_dump(mode="json"),
    }


def _line(server: RunningServer) -> str:
    health = server.health
    gpu = f"on {health.gpu_type}" if health.gpu_available else "without a GPU"
    state = f" ({health.status}: {health.reason or 'no reason given'})" if health.status != "ok" else ""
    return (
        f"[bold green]ready[/] at {server.url} after {server.seconds:.1f} s: "
        f"{health.version}, {health.backend_variant} {gpu}{state}. Ctrl-C stops it."
    )
