"""``lading publish``: a packed folder to a destination."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lading.cli.shared import EventsOption, JsonOption, VerboseOption, emit, session
from lading.cli.sign import KeysOption, PassphraseOption, passphrases
from lading.manifest.base import Record
from lading.publish.folder import open_destination
from lading.publish.packed import release_files
from lading.publish.publisher import PublishResult, publish
from lading.sign.keyring import open_keys


class PublishReport(Record):
    """The results of all releases of a packed folder."""

    releases: tuple[PublishResult, ...]


def _draw(report: PublishReport, console: Console) -> None:
    for result in report.releases:
        name = f"{result.app} {result.version} ({result.flavor}, {result.platform})"
        console.print(f"[bold]{name}[/] in channel {result.channel} of {result.destination}", soft_wrap=True)
        sent = f"{len(result.uploaded)} objects, {result.bytes_uploaded / 1e6:,.1f} MB sent"
        there = f"{len(result.skipped)} objects, {result.bytes_skipped / 1e6:,.1f} MB there already"
        signed = f"{len(result.metadata)} signed files" if result.metadata else "nothing new to sign"
        console.print(f"  {sent}; {there}; {signed}", highlight=False)
    if any(result.development for result in report.releases):
        console.print("Signed with development keys: good for this machine and for tests.", style="yellow")


def publish_command(
    packed: Annotated[Path, typer.Argument(help="The packed folder.")],
    to: Annotated[str, typer.Option("--to", help="A destination of the manifests, or a folder's path.")] = "local",
    keys: KeysOption = Path("out/keys"),
    *,
    signed: Annotated[Path | None, typer.Option("--signed", help="Metadata signed before by `lading sign`.")] = None,
    passphrase_file: PassphraseOption = None,
    project: Annotated[Path, typer.Option("--project", help="The project's folder.")] = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Publish packed releases: objects first, signed metadata last, so that a release is whole or not there.

    Run again after any failure: what is there is not sent twice. What is published is never changed.

    Example: `lading publish out/release --to local`
    """
    talk = session(json=json, verbose=verbose, events=events)
    destination = open_destination(to, project)
    provider = None if signed else open_keys(keys, passphrases(passphrase_file))
    results = [
        publish(packed, file, destination, provider, signed=signed, progress=talk.progress)
        for file in release_files(packed)
    ]
    emit(
        talk,
        PublishReport(releases=tuple(results)),
        lambda console: _draw(PublishReport(releases=tuple(results)), console),
    )


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish")(publish_command)
