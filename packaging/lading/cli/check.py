"""``lading check``: what is wrong with the manifests, with file, line and column."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from lading.cli.shared import JsonOption, emit, session
from lading.manifest.check import check_folder, exit_code
from lading.manifest.problem import Problem

ProjectOption = Annotated[Path, typer.Option("--project", metavar="DIR", help="The project's folder.")]


def _draw(problems: Sequence[Problem], console: Console) -> None:
    for problem in problems:
        style = "bold red" if problem.level == "error" else "cyan"
        first, *rest = problem.text().splitlines()
        console.print(Text.assemble((f"{problem.level}: ", style), first), soft_wrap=True)
        console.print(Text("\n".join(rest), style="dim"), soft_wrap=True) if rest else None
    errors = sum(problem.level == "error" for problem in problems)
    if errors:
        console.print(f"{errors} error{'s' if errors > 1 else ''}.", style="bold red", highlight=False)
    else:
        console.print("The manifests and locks are right.", style="green", highlight=False)


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def check(
        *,
        project: ProjectOption = Path(),
        json: JsonOption = False,
    ) -> None:
        """Check the manifests, and everything they refer to, without changing anything.

        Exit code 10 for a wrong manifest, 11 for a missing lock, 12 for a lock that does not fit.

        Example: `lading check --project ../my-server`
        """
        problems = check_folder(project)
        result = {
            "errors": sum(problem.level == "error" for problem in problems),
            "notes": sum(problem.level == "note" for problem in problems),
            "problems": [problem.model_dump(mode="json") for problem in problems],
        }
        emit(session(json=json), result, lambda console: _draw(problems, console))
        raise typer.Exit(exit_code(problems))
