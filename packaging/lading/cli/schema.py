"""``lading schema``: the JSON Schemas of all records, and the reference of the manifests' keys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lading.cli.shared import JsonOption, emit, session
from lading.errors import CheckFailed, ManifestInvalid
from lading.manifest.generated import stale_files, write_generated
from lading.manifest.problem import near_miss, one_of
from lading.manifest.schema import SCHEMAS, schema_text


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def schema(
        *,
        name: Annotated[str | None, typer.Argument(help="Print this record's schema, such as toolkit.")] = None,
        write: Annotated[
            bool, typer.Option("--write", help="Write what is stale in manifests/schema/ and docs/reference/.")
        ] = False,
        project: Annotated[Path, typer.Option(metavar="DIR", help="The project's folder.")] = Path(),
        json: JsonOption = False,
    ) -> None:
        """Print a record's JSON Schema, or say (or write) which generated files are stale.

        Example: `lading schema release`
        """
        if name is not None:
            print(_text(name), end="")
            return
        files = write_generated(project) if write else stale_files(project)
        told = [f"{'written' if write else 'stale'}: {file}" for file in files] or ["nothing is stale"]
        result = {"written" if write else "stale": files}
        emit(session(json=json), result, lambda console: console.print("\n".join(told), markup=False, highlight=False))
        raise typer.Exit(CheckFailed.exit_code if files and not write else 0)


def _text(name: str) -> str:
    if name not in SCHEMAS:
        hint = near_miss(name, SCHEMAS)
        raise ManifestInvalid(
            f"There is no record {name!r}; there are: {one_of(SCHEMAS)}.", usually=f"D{hint[1:]}" if hint else ""
        )
    return schema_text(SCHEMAS[name])
