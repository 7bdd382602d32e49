"""``lading freeze``: a onedir tree and its build information."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.freeze.freeze import FreezeResult, freeze
from lading.host.platform import this_platform
from lading.manifest.project import Project, load_project
from lading.manifest.toolkit import Toolkit

ProjectOption = Annotated[Path, typer.Option("--project", help="The project's folder.")]
ToolkitOption = Annotated[str | None, typer.Option("--toolkit", help="The toolkit; the app's default without it.")]
CpuOption = Annotated[bool, typer.Option("--cpu", help="Build without CUDA.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="The folder for build outputs; out/ of the project.")]
ReuseOption = Annotated[
    bool, typer.Option("--reuse-env", help="Freeze with the Python that runs Lading, for runners without a network.")
]


def wanted_toolkit(project: Project, toolkit: str | None, *, cpu: bool) -> Toolkit | None:
    """The toolkit that the options ask for, or none for a CPU build, as of a project without any toolkit.

    Args:
        project: The project.
        toolkit: The option ``--toolkit``.
        cpu: The option ``--cpu``.

    Raises:
        ManifestInvalid: There is no such toolkit.
        typer.BadParameter: Both options are given.
    """
    if cpu and toolkit is not None:
        message = f"--cpu and --toolkit {toolkit} exclude each other"
        raise typer.BadParameter(message)
    if cpu or (toolkit is None and not project.toolkits):
        return None
    return project.toolkit(toolkit)


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
    cpu: CpuOption = False,
    out: OutOption = None,
    reuse_env: ReuseOption = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Freeze the project's program with PyInstaller, from a clean environment.

    Example: `lading freeze --toolkit cu126`
    """
    talk = session(json=json, verbose=verbose)
    loaded = load_project(project)
    result = freeze(
        loaded,
        wanted_toolkit(loaded, toolkit, cpu=cpu),
        out or loaded.path("out"),
        platform=this_platform(),
        progress=talk.progress,
        reuse_env=reuse_env,
    )
    emit(talk, as_json(result), lambda console: _draw(result, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("freeze")(freeze_command)
