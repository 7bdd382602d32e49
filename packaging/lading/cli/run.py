"""``lading run``: the installed server in the foreground, under the launcher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lading.cli.shared import (
    DEFAULT_APP,
    AppOption,
    DataOption,
    JsonOption,
    Session,
    VerboseOption,
    data_directory,
    emit,
    session,
)
from lading.launch.foreground import launch, stopped_by_signals
from lading.launch.server import DEADLINE, LOOPBACK
from lading.launch.settings import Settings, Times
from lading.launch.status import LauncherStatus
from lading.manifest.base import Variant


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
        cpu_build: Annotated[
            Path | None,
            typer.Option("--cpu-build", metavar="TREE", help="A CPU build that is not installed: folder or program."),
        ] = None,
        retry: Annotated[bool, typer.Option("--retry", help="Try again what was set aside.")] = False,
        log: Annotated[Path | None, typer.Option("--log", metavar="FILE", help="Where it prints.")] = None,
        deadline: Annotated[
            float, typer.Option("--deadline", min=1, help="Seconds until it must be healthy.")
        ] = DEADLINE,
        json: JsonOption = False,
        verbose: VerboseOption = 0,
    ) -> None:
        """Run the installed server until Ctrl-C: CUDA where it runs, else the CPU build, with the reason.

        It is ready when its own `/health` answers, which is when this says so; with --json as one line, and again after
        each restart. A CUDA build that fails is set aside and the CPU build takes its place on the same port. While it
        runs, `lading control` restarts it, chooses the backend, and stops it.

        Exit code 43 when no server gets healthy or the last one dies too often, 44 when the port is taken, 21 when a
        launcher runs there already.

        Example: `lading run --data ~/.local/share/my-server --port 8765`
        """
        talk = session(json=json, verbose=verbose)
        settings = Settings(
            data=data_directory(data, app_name),
            app=app_name,
            host=host,
            port=port,
            only=variant,
            cpu_build=cpu_build,
            log=log,
            times=Times(healthy=deadline),
        )
        with stopped_by_signals():
            launch(settings, ready=lambda status: _tell(talk, status), say=talk.progress.note, retry=retry)


def _tell(talk: Session, status: LauncherStatus) -> None:
    emit(
        talk,
        status.model_dump(mode="json", exclude_none=True, by_alias=True),
        lambda console: console.print(_line(status), highlight=False),
        indent=None,
    )
    sys.stdout.flush()


def _line(status: LauncherStatus) -> str:
    health = status.health
    assert health is not None, "who is ready has answered"
    gpu = f"on {health.gpu_type}" if health.gpu_available else "without a GPU"
    state = f" ({health.status}: {health.reason or 'no reason given'})" if health.status != "ok" else ""
    instead = f"\n{status.reason}" if status.reason else ""
    return (
        f"[bold green]ready[/] at {status.url} after {status.ready_seconds:.1f} s: "
        f"{health.version}, {health.backend_variant} {gpu}{state}. Ctrl-C stops it.{instead}"
    )
