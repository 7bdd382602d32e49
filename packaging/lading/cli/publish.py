"""``lading publish``: a packed folder to one or several destinations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lading.cli.shared import EventsOption, JsonOption, Session, VerboseOption, emit, session
from lading.cli.sign import KeysOption, PassphraseOption, passphrases
from lading.errors import LadingError, PublishIncomplete
from lading.manifest.base import Record
from lading.publish.outcome import Failure, Outcome, PublishedRelease, PublishResult, failure_of
from lading.publish.packed import Packed, read_packed, release_files
from lading.publish.preview import Planned, PlannedOutcome, preview
from lading.publish.publisher import Ended, Signature, publish_everywhere
from lading.publish.several import open_destinations
from lading.sign.keyring import open_keys

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12  # objects of a preview that are listed one by one


class PublishReport(Record):
    """How a publication ended at each destination."""

    destinations: tuple[Outcome, ...]


class PreviewReport(Record):
    """What a publication would do at each destination."""

    destinations: tuple[PlannedOutcome, ...]


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def _named(release: PublishedRelease) -> str:
    return f"{release.app} {release.version} ({release.flavor}, {release.platform}) in channel {release.channel}"


def _failed(failure: Failure) -> Iterator[str]:
    yield f"  not published ({failure.error}, exit code {failure.exit_code})"
    yield from (f"  {text}" for text in (failure.what, failure.usually, failure.todo) if text)


def _done(result: PublishResult) -> Iterator[str]:
    for release in result.releases:
        yield f"  {_named(release)}"
    new = len(result.uploaded) + len(result.caught_up)
    reused = f", {_mb(result.bytes_reused)} linked or sent before" if result.bytes_reused else ""
    yield f"  {new} new objects, {_mb(result.bytes_uploaded)}: {_mb(result.bytes_sent)} sent{reused}"
    if result.caught_up:
        yield f"  {len(result.caught_up)} of them belong to releases that it had missed"
    yield f"  {len(result.skipped)} objects, {_mb(result.bytes_skipped)} there already"
    yield f"  {len(result.metadata)} signed files" if result.metadata else "  nothing new to sign"


def _planned(planned: Planned) -> Iterator[str]:
    for release in planned.releases:
        yield f"  {_named(release)}"
    begun = f", {_mb(planned.bytes_begun)} of it sent already" if planned.bytes_begun else ""
    yield f"  would put {len(planned.upload)} objects, {_mb(planned.bytes_upload)}{begun}"
    large = sorted(planned.upload, key=lambda item: -item.size)[:SHOWN]
    for item in large:
        source = f", from {item.holder}" if item.holder else ""
        yield f"    {item.size:>13,} {item.path.rpartition('/')[2]}{source}"
    if len(planned.upload) > len(large):
        yield f"    … and {len(planned.upload) - len(large)} smaller ones"
    yield f"  there already: {len(planned.skip)} objects, {_mb(planned.bytes_skip)}"
    yield f"  would write {len(planned.files)} signed files" if planned.files else "  nothing new to sign"
    for file in planned.files:
        size = "signed anew" if file.size is None else f"{file.size:,}"
        yield f"    {size:>13} {file.path}"
    calls = ", ".join(f"{count} {name}" for name, count in planned.calls.items() if count)
    yield f"  calls: {calls or 'none'}"


def _print(lines: Iterator[str], console: Console) -> None:
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _draw(report: PublishReport, console: Console) -> None:
    for outcome in report.destinations:
        console.print(outcome.destination, style="bold", highlight=False, markup=False, soft_wrap=True)
        _print(_done(outcome.result) if outcome.result else _failed_of(outcome.failure), console)
    if any(outcome.result and outcome.result.development for outcome in report.destinations):
        console.print("Signed with development keys: good for this machine and for tests.", style="yellow")


def _draw_preview(report: PreviewReport, console: Console) -> None:
    for outcome in report.destinations:
        console.print(outcome.destination, style="bold", highlight=False, markup=False, soft_wrap=True)
        _print(_planned(outcome.planned) if outcome.planned else _failed_of(outcome.failure), console)
    console.print("Nothing was written or sent, and nobody was kept out.")


def _failed_of(failure: Failure | None) -> Iterator[str]:
    return _failed(failure) if failure is not None else iter(())


def _end(errors: Sequence[LadingError | None]) -> None:
    """The exit code of a run in which some destinations failed; what failed at the only one is told as ever."""
    failed = [error for error in errors if error is not None]
    if failed and len(errors) == 1:
        raise failed[0]
    if failed:
        raise typer.Exit(PublishIncomplete.exit_code)


def _preview(
    talk: Session, names: Sequence[str], contents: Sequence[Packed], project: Path, signed: Path | None
) -> None:
    opened, unopened = open_destinations(names, project)
    found = dict(zip(opened, preview(contents, tuple(opened.values()), signed=signed), strict=True))
    found |= {name: _unopened(ended) for name, ended in unopened.items()}
    ordered = [found[name] for name in dict.fromkeys(names)]
    if len(ordered) > 1 or ordered[0][1] is None:
        report = PreviewReport(destinations=tuple(outcome for outcome, _ in ordered))
        emit(talk, report, lambda console: _draw_preview(report, console))
    _end([error for _, error in ordered])


def _unopened(ended: Ended) -> tuple[PlannedOutcome, LadingError | None]:
    assert ended.error is not None
    return PlannedOutcome(destination=ended.destination, failure=failure_of(ended.error)), ended.error


def publish_command(
    packed: Annotated[Path, typer.Argument(help="The packed folder.")],
    to: Annotated[
        list[str] | None,
        typer.Option("--to", help="A destination of the manifests, or a folder's path; repeat for more."),
    ] = None,
    keys: KeysOption = Path("out/keys"),
    *,
    signed: Annotated[Path | None, typer.Option("--signed", help="Metadata signed before by `lading sign`.")] = None,
    rollout: Annotated[
        int | None, typer.Option("--rollout", min=0, max=100, help="Offer a new release to so many percent.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be sent; send and write nothing.")] = False,
    passphrase_file: PassphraseOption = None,
    project: Annotated[Path, typer.Option("--project", help="The project's folder.")] = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Publish packed releases: objects first, signed metadata last, so that a release is whole or not there.

    Run again after any failure: what is there is not sent twice. What is published is never changed. Of several
    destinations, one that fails stops none of the others; the exit code is 26 then, and the next run finishes it.

    Example: `lading publish out/release --to github --to r2`
    """
    talk = session(json=json, verbose=verbose, events=events)
    names = to or ["local"]
    contents = [read_packed(packed, file) for file in release_files(packed)]
    if dry_run:
        _preview(talk, names, contents, project, signed)
        return
    opened, unopened = open_destinations(names, project)
    provider = None if signed else open_keys(keys, passphrases(passphrase_file))
    signature = Signature(keys=provider, folder=signed)
    ended = publish_everywhere(contents, tuple(opened.values()), signature, progress=talk.progress, rollout=rollout)
    found = {**dict(zip(opened, ended, strict=True)), **unopened}
    ordered = [found[name] for name in dict.fromkeys(names)]
    if len(ordered) > 1 or ordered[0].error is None:
        report = PublishReport(destinations=tuple(one.record() for one in ordered))
        emit(talk, report, lambda console: _draw(report, console))
    _end([one.error for one in ordered])


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("publish")(publish_command)
