"""``lading sign``: sign packed releases into a copy of a repository's metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.publish.packed import release_files
from lading.publish.signing import sign_packed
from lading.sign.keys import development_keys
from lading.sign.repository import SignedUpdate

KeysOption = Annotated[Path, typer.Option("--keys", help="A folder with development keys; they are made on first use.")]


def _draw(repository: Path, updates: list[SignedUpdate], console: Console) -> None:
    files = [path for update in updates for path, _ in update.files]
    for path in files:
        console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    said = f"{len(files)} files signed into {repository}" if files else f"Nothing new to sign in {repository}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    console.print("Signed with development keys: good for this machine and for tests.", style="yellow")


def sign_command(
    packed: Annotated[Path, typer.Argument(help="The packed folder.")],
    repo: Annotated[Path, typer.Option("--repo", help="A folder with the repository's metadata and targets.")],
    keys: KeysOption = Path("out/keys"),
    *,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Sign packed releases into a copy of a repository's metadata, for publishing from a machine without keys.

    `lading publish` signs by itself where the keys are at hand.

    Example: `lading sign out/release --repo out/signed`, then
    `lading publish out/release --to local --signed out/signed`
    """
    talk = session(json=json, verbose=verbose)
    provider = development_keys(keys)
    updates = [sign_packed(packed, file, repo, provider) for file in release_files(packed)]
    result = {
        "repository": str(repo),
        "files": [path for update in updates for path, _ in update.files],
        "versions": dict(updates[-1].versions),
        "development": provider.development,
    }
    emit(talk, result, lambda console: _draw(repo, updates, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sign")(sign_command)
