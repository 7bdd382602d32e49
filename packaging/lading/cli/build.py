"""``lading build``: the whole road on one machine, and its summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lading.cli.freeze import (
    CpuOption,
    CudaOption,
    OutOption,
    ProjectOption,
    ReuseOption,
    ToolkitOption,
    wanted_toolkit,
)
from lading.cli.pack import parse_volume_limit
from lading.cli.shared import EventsOption, JsonOption, VerboseOption, emit, session
from lading.errors import CheckFailed
from lading.launch.foreground import stay, stopped_by_signals
from lading.launch.server import RunningServer
from lading.manifest.project import load_project
from lading.pack.profiles import Profile
from lading.report.summary_markdown import append_to_job_page
from lading.report.summary_terminal import print_summary
from lading.road.road import RoadOptions, walk_road


def _stay(server: RunningServer) -> None:
    typer.echo(f"Running at {server.url}; Ctrl-C stops it.", err=True)
    stay(server)


def build_command(
    project: ProjectOption = Path(),
    toolkit: ToolkitOption = None,
    *,
    cuda: CudaOption = False,
    cpu: CpuOption = False,
    profile: Annotated[Profile, typer.Option(help="fast: quick; release: small.")] = "release",
    out: OutOption = None,
    volume_limit: Annotated[str | None, typer.Option(help="Largest asset, such as '500 MB'.")] = None,
    previous: Annotated[list[Path] | None, typer.Option(help="Folder with earlier releases, for patches.")] = None,
    reuse_env: ReuseOption = False,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Fail where nothing could run on a GPU.")] = False,
    serve: Annotated[bool, typer.Option("--serve", help="Keep the verified server running until Ctrl-C.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Walk the whole road: freeze, pack, sign, publish to a folder, install from it over HTTP, start, verify.

    Everything is made under out/. A second run does only what changed.

    Example: `lading build --cuda --profile fast`
    """
    talk = session(json=json, verbose=verbose, events=events)
    loaded = load_project(project)
    options = RoadOptions(
        profile=profile,
        volume_limit=parse_volume_limit(volume_limit),
        previous=tuple(previous or ()),
        reuse_env=reuse_env,
        require_gpu=require_gpu,
        stay=_stay if serve else None,
    )
    wanted = wanted_toolkit(loaded, toolkit, cuda=cuda, cpu=cpu)
    with stopped_by_signals():
        summary, problem = walk_road(loaded, wanted, out or loaded.path("out"), options, talk.progress)
    append_to_job_page(summary)
    emit(talk, summary, lambda console: print_summary(console, summary))
    if problem is not None and not talk.json:
        raise problem
    if problem is not None:
        raise typer.Exit(problem.exit_code)  # the summary says what happened; one document is enough
    if not summary.good:
        raise typer.Exit(CheckFailed.exit_code)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build")(build_command)
