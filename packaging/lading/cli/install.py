"""``lading install``: a release from a repository, verified and put beside what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import platformdirs
import typer
from rich.console import Console

from lading.cli.shared import JsonOption, VerboseOption, emit, session
from lading.store.install import InstallResult, install, plan_install
from lading.store.plan import PlanReport

DEFAULT_APP = "lading-server"

AppOption = Annotated[str, typer.Option("--app", help="The app's name.")]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="The data directory; the user's own for the app without it.")
]


def data_directory(data: Path | None, app: str) -> Path:
    """The data directory that a command works on."""
    return data or platformdirs.user_data_path(app, appauthor=False)


def _draw_plan(report: PlanReport, console: Console) -> None:
    console.print(f"[bold]{report.version_id}[/]" + (" is installed already" if report.installed else ""))
    if report.installed:
        return
    for name, size in report.fetch_bytes.items():
        console.print(f"  {name}: {size / 1e6:,.2f} MB in {report.requests[name]} requests", highlight=False)
    reused = f"{report.reused_files:,} files, {report.reused_bytes / 1e6:,.1f} MB"
    console.print(f"  taken from installed versions: {reused}", highlight=False)
    console.print(f"  fetched before by an interrupted install: {report.staged_bytes / 1e6:,.2f} MB", highlight=False)
    room = f"{report.disk_needed / 1e6:,.1f} MB needed, {report.disk_free / 1e6:,.1f} MB free"
    console.print(f"  disk: {room}", highlight=False)
    console.print("Nothing was changed.", style="dim")


def _draw(result: InstallResult, console: Console) -> None:
    how = "was there already" if result.already_installed else "installed"
    console.print(f"[bold]{result.version_id}[/] {how} and in use", highlight=False)
    if not result.already_installed:
        fetched = f"{result.bytes_fetched / 1e6:,.2f} MB of archives fetched"
        reused = f"{result.files_reused:,} files ({result.bytes_reused / 1e6:,.1f} MB) taken from installed versions"
        console.print(f"  {fetched}, {reused}, {result.files_written:,} written", highlight=False)
    received = f"{result.bytes_received / 1e6:,.2f} MB received in {result.requests} requests"
    console.print(f"  {received}, {result.seconds:.1f} s", highlight=False)
    console.print(result.entry, highlight=False, markup=False, soft_wrap=True)


def install_command(
    source: Annotated[str, typer.Argument(help="The repository: an http(s) address or a folder.")],
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
    flavor: Annotated[str | None, typer.Option("--flavor", help="cpu, or a toolkit such as cu126.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = 0,
) -> None:
    """Install a release, beside the version in use; fetch only what no installed version has.

    An interrupted install goes on where it stopped. A failure leaves the version in use as it is.

    Example: `lading install https://downloads.example.org/releases --root root.json --flavor cu126`
    """
    talk = session(json=json, verbose=verbose)
    folder = data_directory(data, app)
    if dry_run:
        report = plan_install(
            source, root.read_bytes(), folder, app=app, channel=channel, version=version, flavor=flavor
        )
        emit(talk, report, lambda console: _draw_plan(report, console))
        return
    result = install(
        source,
        root.read_bytes(),
        folder,
        app=app,
        channel=channel,
        version=version,
        flavor=flavor,
        progress=talk.progress,
    )
    emit(talk, result, lambda console: _draw(result, console))


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("install")(install_command)
