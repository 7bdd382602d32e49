"""``lading prune``: make room at destinations."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lading.cli.channel import AppOption, ProjectOption, ToOption, opened
from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.cli.sign import KeysOption, PassphraseOption, passphrases
from lading.publish.prune import GRACE, KEEP, PrunedDestination, PruneReport, Wanted, preview_prune, prune
from lading.publish.together import Signing
from lading.report.format import duration, plural, size
from lading.sign.keyring import open_keys

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 12  # names that are listed one by one
_UNITS = {"s": 1, "min": 60, "h": 3600, "d": 86_400}


def _seconds(text: str | int) -> int:
    if isinstance(text, int):  # the default
        return text
    match = re.fullmatch(r"(\d+) ?(s|min|h|d)|0", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no time span, such as 24h, 90min or 0")
    return int(match[1]) * _UNITS[match[2]] if match[1] else 0


def _draw_destination(one: PrunedDestination, report: PruneReport, console: Console, *, dry: bool) -> None:
    verb = "would delete" if dry else "deleted"
    console.print(one.destination, style="bold", highlight=False, markup=False, soft_wrap=True)
    console.print(f"  {verb} {plural(len(one.removed), 'object')}, {size(one.bytes_removed)}", highlight=False)
    for name in one.removed[:SHOWN]:
        console.print(f"    {name}", highlight=False, markup=False, soft_wrap=True, style="dim")
    if len(one.removed) > SHOWN:
        console.print(f"    … and {len(one.removed) - SHOWN} more", highlight=False, style="dim")
    if one.waiting:
        later = f"{plural(len(one.waiting), 'object')}, {size(one.bytes_waiting)}"
        console.print(f"  to be deleted by a run after {_span(report.grace)}: {later}", highlight=False)
    console.print(f"  kept: {size(one.bytes_kept)}", highlight=False)
    for name in one.missing:
        console.print(f"  missing: {name}", highlight=False, markup=False, soft_wrap=True, style="yellow")


def _span(seconds: int) -> str:
    whole = next(((unit, per) for unit, per in reversed(_UNITS.items()) if seconds and seconds % per == 0), ("s", 1))
    return f"{seconds // whole[1]} {whole[0]}" if seconds < 100 * 86_400 else duration(seconds)


def _draw_plan(report: PruneReport, console: Console) -> None:
    """What is taken off the channels."""
    for one in report.unlisted:
        own = size(one.size) if one.size else "nothing of its own"
        console.print(f"{one.channel}: {one.version} ({one.flavor}, {one.platform})", highlight=False, markup=False)
        console.print(f"  {one.why}; {own}", highlight=False, markup=False, soft_wrap=True)
    taken = f"{plural(len(report.unlisted), 'release')} taken off" if report.unlisted else "No release is taken off"
    console.print(f"{taken}; {plural(report.kept, 'release')} listed then.", highlight=False)


def _draw(report: PruneReport, console: Console, *, dry: bool) -> None:
    _draw_plan(report, console)
    for one in report.destinations:
        _draw_destination(one, report, console, dry=dry)
    if dry:
        console.print("Nothing was changed.", style="dim")


def prune_command(
    to: ToOption = None,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="Versions to keep of each channel, platform and flavor.")
    ] = KEEP,
    grace: Annotated[
        int,
        typer.Option(
            "--grace",
            metavar="TIME",
            parser=_seconds,
            show_default="24h",
            help="For so long files stay after their release was taken off.",
        ),
    ] = GRACE,
    keys: KeysOption = Path("out/keys"),
    *,
    app: AppOption = None,
    delete_only: Annotated[
        bool, typer.Option("--delete-only", help="Take nothing off, only delete what was before; needs no keys.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    passphrase_file: PassphraseOption = None,
    project: ProjectOption = Path(),
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Make room: take old releases off the channels, and delete the files that no release needs any more.

    The last versions of each channel stay, with everything they need. Files are deleted a grace period after their
    release was taken off, by a later run, because clients may be fetching them: run it from time to time.

    Example: `lading prune --keep 5 --to r2 --dry-run`
    """
    talk = session(json=json, verbose=verbose)
    wanted = Wanted(keep=keep, grace=grace, app=app)
    destinations = opened(to, project)
    if dry_run:
        report = preview_prune(destinations, wanted)
    else:
        signing = None if delete_only else Signing(keys=open_keys(keys, passphrases(passphrase_file)))
        report = prune(destinations, wanted, signing, tell=lambda plan: _tell(plan, talk.progress.note))
    emit(talk, report, lambda console: _draw(report, console, dry=dry_run))


def _tell(plan: PruneReport, note: Callable[[str], None]) -> None:
    """The plan, before anything is done."""
    for one in plan.unlisted:
        note(f"taking {one.version} ({one.flavor}, {one.platform}) off {one.channel}: {one.why}")
    for place in plan.destinations:
        note(f"{place.destination}: deleting {plural(len(place.removed), 'object')}, {size(place.bytes_removed)}")


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("prune")(prune_command)
