"""``lading sign``: sign packed releases into a copy of a repository's metadata."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.publish.packed import release_files
from lading.publish.signing import sign_packed
from lading.sign.keyring import open_keys
from lading.sign.repository import SignedUpdate
from lading.sign.secret import Passphrases

KeysOption = Annotated[
    Path,
    typer.Option("--keys", envvar="LADING_KEYS", help="A folder of keys; without any, development keys are made."),
]
PassphraseOption = Annotated[
    Path | None, typer.Option("--passphrase-file", metavar="FILE", help="Opens the keys; else LADING_KEY_PASSPHRASE.")
]


def passphrases(file: Path | None) -> Passphrases:
    """Where passphrases come from on the command line; a person is asked only at a terminal."""
    return Passphrases(file=file, ask=_ask if sys.stdin.isatty() else None)


def _ask(text: str) -> str:
    return str(typer.prompt(text, hide_input=True, err=True))


def _draw(repository: Path, updates: list[SignedUpdate], console: Console, *, development: bool) -> None:
    files = [path for update in updates for path, _ in update.files]
    for path in files:
        console.print(f"  {path}", highlight=False, markup=False, soft_wrap=True)
    said = f"{len(files)} files signed into {repository}" if files else f"Nothing new to sign in {repository}"
    console.print(said, highlight=False, markup=False, soft_wrap=True)
    if development:
        console.print("Signed with development keys: good for this machine and for tests.", style="yellow")


def sign_command(
    packed: Annotated[Path, typer.Argument(help="The packed folder.")],
    repo: Annotated[Path, typer.Option("--repo", help="A folder with the repository's metadata and targets.")],
    keys: KeysOption = Path("out/keys"),
    *,
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Sign packed releases into a copy of a repository's metadata, for publishing from a machine without keys.

    `lading publish` signs by itself where the keys are at hand.

    Example: `lading sign out/release --repo out/signed`, then
    `lading publish out/release --to local --signed out/signed`
    """
    talk = session(json=json, verbose=verbose)
    provider = open_keys(keys, passphrases(passphrase_file))
    updates = [sign_packed(packed, file, repo, provider) for file in release_files(packed)]
    result = {
        "repository": str(repo),
        "files": [path for update in updates for path, _ in update.files],
        "versions": dict(updates[-1].versions),
        "development": provider.development,
    }
    emit(talk, result, lambda console: _draw(repo, updates, console, development=provider.development))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sign")(sign_command)
