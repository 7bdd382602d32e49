"""``lading freeze``: a onedir tree and its build information."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import EventsOption, JsonOption, VerboseOption, emit, session
from lading.freeze.freeze import FreezeResult, freeze
from lading.host.platform import this_platform
from lading.manifest.project import Project, load_project
from lading.manifest.toolkit import Toolkit

ProjectOption = Annotated[Path, typer.Option("--project", help="The project's folder.")]
ToolkitOption = Annotated[str | None, typer.Option("--toolkit", help="With CUDA, by this toolkit.")]
CudaOption = Annotated[bool, typer.Option("--cuda", help="With CUDA, by the app's default toolkit.")]
CpuOption = Annotated[bool, typer.Option("--cpu", help="Without CUDA, which is the default.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder for build outputs; out/ of the project.")]
ReuseOption = Annotated[
    bool, typer.Option("--reuse-env", help="Freeze with the Python that runs Lading, for runners without a network.")
]


def wanted_toolkit(project: Project, toolkit: str | None, *, cuda: bool, cpu: bool) -> Toolkit | None:
    """The toolkit that the options ask for, or none for a CPU build, which is the default.

    Args:
        project: The project.
        toolkit: The option ``--toolkit``.
        cuda: The option ``--cuda``.
        cpu: The option ``--cpu``.

    Raises:
        ManifestInvalid: There is no such toolkit.
        typer.BadParameter: ``--cpu`` and another of them are given.
    """
    if cpu and (cuda or toolkit is not None):
        message = f"--cpu and {f'--toolkit {toolkit}' if toolkit else '--cuda'} exclude each other"
        raise typer.BadParameter(message)
    return project.toolkit(toolkit) if cuda or toolkit is not None else None


def as_json(result: FreezeResult) -> dict[str, object]:
    """A freeze's result for ``--json``."""
    return {
        "tree": str(result.tree),
        "buildinfo": str(result.info_file),
        "entry": result.info.entry,
        "files": len(result.info.files),
        "bytes": sum(entry.size for entry in result.info.files),
        "reused": result.reused,
        "environment_reused": result.environment_reused,
    }


def _draw(result: FreezeResult, console: Console) -> None:
    size = sum(entry.size for entry in result.info.files) / 1e6
    how = {"tree": "reused, nothing changed", "modules": "changed modules compiled in", None: "new"}[result.reused]
    facts = f"{result.info.version}  {len(result.info.files):,} files, {size:,.0f} MB  ({how})"
    console.print(f"[bold]{result.info.entry}[/] {facts}")
    console.print(str(result.tree), highlight=False, soft_wrap=True)


def freeze_command(
    project: ProjectOption = Path(),
    toolkit: ToolkitOption = None,
    *,
    cuda: CudaOption = False,
    cpu: CpuOption = False,
    out: OutOption = None,
    reuse_env: ReuseOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Freeze the project's program with PyInstaller, from a clean environment.

    Example: `lading freeze --toolkit cu126`
    """
    talk = session(json=json, verbose=verbose, events=events)
    loaded = load_project(project)
    result = freeze(
        loaded,
        wanted_toolkit(loaded, toolkit, cuda=cuda, cpu=cpu),
        out or loaded.path("out"),
        platform=this_platform(),
        progress=talk.progress,
        reuse_env=reuse_env,
    )
    emit(talk, as_json(result), lambda console: _draw(result, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("freeze")(freeze_command)
