"""``lading install``: a release from a repository, verified and put beside what is there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lading.cancel import cancelled_by_signals
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
from lading.fetch.mirrors import MirrorReport
from lading.fetch.throttle import parse_rate
from lading.host.facts import host_facts
from lading.report.format import duration, plural, size
from lading.store.collect import KEEP
from lading.store.install import install
from lading.store.planned import PlanReport, Way
from lading.store.preview import plan_install
from lading.store.result import InstallResult

if TYPE_CHECKING:
    from rich.console import Console


def _rate(text: str | float) -> float:
    try:
        return parse_rate(str(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


SourcesArgument = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="The repository: an http(s) address or a folder; then its mirrors."),
]
KeepOption = Annotated[
    int,
    typer.Option(
        "--keep", min=KEEP, help="Versions to keep: the one in use and the one before always, then the latest used."
    ),
]
LimitOption = Annotated[
    float | None,
    typer.Option(
        "--limit-rate", metavar="RATE", parser=_rate, help="Bytes per second over the network, such as 500K or 5M."
    ),
]
RepairOption = Annotated[
    bool, typer.Option("--repair", help="Read every installed file, not only those that somebody wrote to.")
]


def draw_plan(report: PlanReport, console: Console) -> None:
    """Say what an install would do."""
    console.print(f"[bold]{report.version_id}[/]" + (" is installed already" if report.installed else ""))
    if report.installed:
        return
    draw_ways(report.ways, console)
    reused = f"{plural(report.reused_files, 'file')}, {size(report.reused_bytes)}"
    console.print(f"  taken from installed versions: {reused}", highlight=False)
    made = f"{plural(report.patched_files, 'file')} by patch, {plural(report.written_files, 'file')} from frames"
    console.print(f"  made anew: {made}", highlight=False)
    if report.staged_bytes:
        console.print(f"  fetched before by an interrupted install: {size(report.staged_bytes)}", highlight=False)
    kinds = ", ".join(f"{kind} {size(count)}" for kind, count in report.expected.items())
    console.print(f"  to receive: {size(sum(report.expected.values()))} ({kinds})", highlight=False)
    console.print(f"  disk: {size(report.disk_needed)} needed, {size(report.disk_free)} free", highlight=False)
    console.print("Nothing was changed.", style="dim")


def draw_ways(ways: Sequence[Way], console: Console) -> None:
    """Say how each component is come by, and why."""
    for way in ways:
        many = f"{plural(way.requests, 'request')}" if way.requests else "no request"
        console.print(f"  {way.component} {way.version}: {size(way.bytes)}, {many}", highlight=False, markup=False)
        other = f" (instead of {size(way.instead)})" if way.instead is not None and way.how == "patch" else ""
        console.print(f"    {way.why}{other}", style="dim", highlight=False, markup=False)


def draw_install(result: InstallResult, console: Console) -> None:
    """Say what an install did."""
    how = "was there already" if result.already_installed else "installed"
    console.print(f"[bold]{result.version_id}[/] {how} and in use", highlight=False)
    if result.damage:
        named = ", ".join(f"{damage.path} ({damage.how})" for damage in result.damage[:3])
        more = f" and {len(result.damage) - 3} more" if len(result.damage) > 3 else ""  # noqa: PLR2004 (as many as are named)
        console.print(f"  damaged files replaced: {named}{more}", highlight=False, markup=False)
    if not result.already_installed:
        resumed = f" ({size(result.bytes_resumed)} before)" if result.bytes_resumed else ""
        console.print(f"  {size(result.bytes_fetched)} of archives fetched{resumed}", highlight=False)
        made = f"{plural(result.files_patched, 'file')} patched, {plural(result.files_written, 'file')} written"
        reused = f"{plural(result.files_reused, 'file')} ({size(result.bytes_reused)}) reused"
        console.print(f"  {made}, {reused}", highlight=False)
    received = f"{size(result.bytes_received)} received in {plural(result.requests, 'request')}"
    console.print(f"  {received}, {duration(result.seconds)}", highlight=False)
    draw_mirrors(result.mirrors, console)
    if result.removed:
        freed = f"{size(result.bytes_freed)} freed"
        console.print(f"  deleted: {', '.join(result.removed)}; {freed}", highlight=False, markup=False)
    if result.left:
        console.print(f"  to be deleted later: {', '.join(result.left)}", highlight=False, markup=False)
    console.print(result.entry, highlight=False, markup=False, soft_wrap=True)


def draw_mirrors(mirrors: Sequence[MirrorReport], console: Console) -> None:
    """Say which mirrors failed, and how they began to."""
    for mirror in mirrors:
        times = plural(mirror.failed, "failure")
        console.print(f"  mirror {mirror.where}: {times}", highlight=False, markup=False, soft_wrap=True)
        if mirror.failures:
            console.print(f"    {mirror.failures[0].why}", style="dim", highlight=False, markup=False, soft_wrap=True)


def install_command(
    source: SourcesArgument,
    root: Annotated[
        Path, typer.Option("--root", help="The root metadata that you trust.", exists=True, dir_okay=False)
    ],
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    version: Annotated[
        str | None, typer.Option("--version", help="A version; the channel's newest without it.")
    ] = None,
    channel: Annotated[str, typer.Option("--channel", help="The channel.")] = "stable",
    flavor: Annotated[
        str | None,
        typer.Option(
            "--flavor", envvar="LADING_FLAVOR", help="cpu, or a toolkit such as cu126; what fits here without it."
        ),
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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
    events: EventsOption = None,
) -> None:
    """Install a release, beside the version in use; fetch only what no installed version has.

    An interrupted install goes on where it stopped: Ctrl-C ends it cleanly, with exit code 130. A failure leaves the
    version in use as it is. A damaged version is put in order by fetching just what is wrong.

    Without a flavor, the build is taken that fits this machine's driver and GPUs; what cannot run here is refused
    before anything large is fetched, and what would help is told. `lading doctor` says more.

    Example: `lading install https://downloads.example.org/releases --root root.json`
    """
    talk = session(json=json, verbose=verbose, events=events)
    folder = data_directory(data, app)
    if dry_run:
        report = plan_install(
            source,
            root.read_bytes(),
            folder,
            app=app,
            channel=channel,
            version=version,
            flavor=flavor,
            host=host_facts,
            force=force,
            progress=talk.progress,
        )
        emit(talk, report, lambda console: draw_plan(report, console))
        return
    with cancelled_by_signals() as cancel:
        result = install(
            source,
            root.read_bytes(),
            folder,
            app=app,
            channel=channel,
            version=version,
            flavor=flavor,
            host=host_facts,
            force=force,
            keep=keep,
            repair=repair,
            limit=limit_rate,
            progress=talk.progress,
            cancel=cancel,
        )
    emit(talk, result, lambda console: draw_install(result, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install")(install_command)
