"""``lading update``: what is installed, brought up to date from where it came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lading.cancel import cancelled_by_signals
from lading.cli.install import KeepOption, LimitOption, RepairOption, draw_install, draw_plan
from lading.cli.shared import (
    DEFAULT_APP,
    AppOption,
    DataOption,
    EventsOption,
    JsonOption,
    VerboseOption,
    data_directory,
    emit,
    session,
)
from lading.host.facts import host_facts
from lading.store.collect import KEEP
from lading.store.update import Overrides, UpdateReport, VariantUpdate, find_updates, update

if TYPE_CHECKING:
    from rich.console import Console

AVAILABLE = 3  # exit code of --check when there is something to install


def _withdrawn(found: VariantUpdate) -> str:
    """What is to be known of the version that was in use, or of one that is not offered yet."""
    if found.withdrawn is not None:
        return f"  {found.installed} was withdrawn by its publisher: {found.withdrawn.reason}"
    if found.waiting is not None:
        return (
            f"  {found.waiting} is being rolled out, and not offered to this machine yet; "
            f"`lading update --version {found.waiting}` installs it now"
        )
    return ""


def _sentence(found: VariantUpdate) -> str:
    match found.outcome:
        case "available":
            return f"{found.newest} can be installed (in use: {found.installed or 'none'})"
        case "up to date":
            return f"{found.newest} is up to date"
        case "updated":
            return f"updated from {found.installed or 'none'} to {found.newest}"
        case "held back":
            return (
                f"{found.newest} is not installed again, because you rolled back from {found.held}; something newer "
                f"will be. `lading update --version {found.newest}` installs it now"
            )
        case "older":
            return (
                f"the channel {found.channel} has {found.newest}, which is older than {found.installed} in use. "
                f"`lading update --version {found.newest}` goes back on purpose"
            )


def _draw(report: UpdateReport, console: Console) -> None:
    for found in report.variants:
        console.print(f"[bold]{found.variant}[/]: {_sentence(found)}", highlight=False)
        if more := _withdrawn(found):
            console.print(more, highlight=False, markup=False)
        if found.plan is not None:
            draw_plan(found.plan, console)
        if found.result is not None and (found.outcome == "updated" or found.result.removed or found.result.left):
            draw_install(found.result, console)


def update_command(
    source: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SOURCE]...", help="Another repository than it was installed from; then its mirrors."),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option("--root", help="Another root metadata than it was installed with.", exists=True, dir_okay=False),
    ] = None,
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    variant: Annotated[
        Literal["cpu", "cuda"] | None, typer.Option("--variant", help="Only this variant; all installed without it.")
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Exactly this version, even an older one or one rolled back from.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Change to this channel, and stay there from then on.")
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Install even what cannot run on this machine; and a withdrawn version that is named."
        ),
    ] = False,
    keep: KeepOption = KEEP,
    repair: RepairOption = False,
    limit_rate: LimitOption = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether there is something: exit code 3 when there is.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Bring what is installed up to date, from where it was installed; nothing need be said again.

    It never goes back by itself, and after a roll back it waits for something newer than what was left. A damaged
    version is put in order. A failure, and Ctrl-C, leave the version in use as it is.

    Example: `lading update`, or in a script `lading update --check --json`
    """
    talk = session(json=json, verbose=verbose, events=events)
    folder = data_directory(data, app)
    wished = Overrides(
        source=source or None,
        root=root.read_bytes() if root else None,
        channel=channel,
        version=version,
    )
    if check or dry_run:
        report = find_updates(folder, variant, overrides=wished, host=host_facts, force=force, plan=dry_run)
    else:
        with cancelled_by_signals() as cancel:
            report = update(
                folder,
                variant,
                overrides=wished,
                host=host_facts,
                force=force,
                keep=keep,
                repair=repair,
                limit=limit_rate,
                progress=talk.progress,
                cancel=cancel,
            )
    emit(talk, report, lambda console: _draw(report, console))
    if check and report.available:
        raise typer.Exit(AVAILABLE)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("update")(update_command)
