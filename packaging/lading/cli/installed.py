"""``lading status``, ``rollback`` and ``uninstall``: what is installed, without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lading.cli.shared import DEFAULT_APP, AppOption, DataOption, JsonOption, data_directory, emit, session
from lading.launch.probe import ProbedStatus, probe
from lading.report.format import plural, size
from lading.store.home import Home
from lading.store.installed import installed_versions
from lading.store.removal import RemovalResult, UninstallResult, uninstall, uninstall_everything
from lading.store.rollback import RollbackResult, rollback
from lading.store.status import Status, VariantStatus, VersionStatus, status

if TYPE_CHECKING:
    from rich.console import Console

VariantOption = Annotated[Literal["cpu", "cuda"], typer.Option("--variant", help="cpu or cuda.")]
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def _age(seconds: float) -> str:
    """A time span, short: ``3 d``."""
    size, unit = next((pair for pair in _UNITS if seconds >= pair[0]), _UNITS[-1])
    return f"{max(0, seconds) // size:.0f} {unit}"


def _draw_version(version: VersionStatus, console: Console, now: float) -> None:
    marks = {
        "in use": version.in_use,
        "previous": version.previous,
        "damaged": not version.whole,
        f"{plural(version.changed, 'file')} written to": version.changed > 0,
    }
    said = ", ".join(mark for mark, holds in marks.items() if holds)
    console.print(f"  {version.name}  {said}".rstrip(), highlight=False, markup=False)
    if version.aside is not None:
        text = f"    set aside by the launcher: {version.aside} `lading run --retry` tries it again."
        console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow")
    takes = f"{size(version.bytes_own)} of its own, {size(version.bytes_shared)} shared"
    channel = f", from {version.channel}" if version.channel else ""
    age = _age(now - version.installed_at)
    console.print(f"    {takes}, installed {age} ago{channel}", highlight=False, markup=False, style="dim")


def _draw_variant(variant: VariantStatus, console: Console, now: float) -> None:
    console.print(f"[bold]{variant.variant}[/]: {variant.current or 'no version in use'}", highlight=False)
    for version in variant.versions:
        _draw_version(version, console, now)
    for name in variant.damaged:
        console.print(f"  {name}  damaged, counts as not installed", highlight=False, markup=False)
    for part in variant.unfinished:
        what = "goes on with the next install" if part.what == "install" else "is deleted by the next run"
        console.print(
            f"  {part.version or part.name}  unfinished: {size(part.bytes)} so far, {what}",
            highlight=False,
            markup=False,
        )
    if variant.held:
        text = f"  {variant.held} was left by a roll back: `lading update` waits for something newer"
        console.print(text, highlight=False, markup=False)
    for source in variant.sources:
        text = f"  updates from {source} (channel {variant.channel})"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
    if variant.last_failure:
        failure = variant.last_failure
        when = f" {_age(now - failure.at)} ago" if failure.at else ""
        text = f"  last failure{when}: {failure.kind}: {failure.what}"
        console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow")


def _draw_status(found: Status, console: Console) -> None:
    now = time.time()
    if found.busy is not None:
        console.print(f"Being changed by {found.busy.describe(now)}.", style="yellow", highlight=False)
    if found.choice != "auto":
        console.print(f"Chosen: {found.choice}", highlight=False)
    if not found.variants:
        console.print(f"Nothing is installed under {found.data}.", highlight=False, markup=False, soft_wrap=True)
    for variant in found.variants:
        _draw_variant(variant, console, now)


def _probed(found: Status, folder: Path) -> ProbedStatus:
    versions = [version for variant in found.variants for version in installed_versions(Home(folder, variant.variant))]
    probes = {version.name: probe(version) for version in versions}
    return ProbedStatus(**dict(found), probes=probes)


def _draw_probed(found: ProbedStatus, console: Console) -> None:
    _draw_status(found, console)
    for name, said in found.probes.items():
        text = f"{name} says it is {said.version}" if said.version else f"{name} says nothing"
        text += f", in {said.seconds:.2f} s" + (f": {said.why}" if said.why else "")
        console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow" if said.why else None)


def status_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    probes: Annotated[
        bool, typer.Option("--probe", help="Also ask every installed program for its version, by starting it.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Say which versions are installed, which one is in use, what they take, and what failed last.

    It reads no file: `lading verify` does. What a version shares with others is on the disk once.

    Example: `lading status --probe`
    """
    folder = data_directory(data, app)
    found = status(folder)
    talk = session(json=json)
    if not probes:
        emit(talk, found, lambda console: _draw_status(found, console))
        return
    asked = _probed(found, folder)
    emit(talk, asked, lambda console: _draw_probed(asked, console))


def _draw_rollback(result: RollbackResult, console: Console) -> None:
    console.print(f"[bold]{result.current}[/] is in use again, instead of {result.left or 'none'}", highlight=False)
    if result.held:
        console.print(f"  `lading update` waits for something newer than {result.held}", highlight=False)
    console.print(result.entry, highlight=False, markup=False, soft_wrap=True)


def rollback_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    variant: VariantOption = "cuda",
    to: Annotated[str | None, typer.Option("--to", help="A version that `lading status` lists, or its number.")] = None,
    json: JsonOption = False,
) -> None:
    """Go back to the version that was in use before; at once, and without a network.

    What was left is not installed again by `lading update` until there is something newer.

    Example: `lading rollback --variant cuda`
    """
    result = rollback(data_directory(data, app), variant, to=to)
    emit(session(json=json), result, lambda console: _draw_rollback(result, console))


def _draw_uninstall(result: UninstallResult, console: Console) -> None:
    many = "1 version" if len(result.removed) == 1 else f"{len(result.removed)} versions"
    console.print(f"{many} of the {result.variant} variant deleted, {size(result.bytes_freed)} freed", highlight=False)
    for name in result.left:
        console.print(f"  left, because it is not ours: {name}", highlight=False, markup=False)


def _draw_removal(result: RemovalResult, console: Console) -> None:
    for variant in result.variants:
        _draw_uninstall(variant, console)
    if result.metadata:
        console.print("The repository's metadata deleted", highlight=False)
    for name in result.left:
        console.print(f"left, because it is not ours: {name}", highlight=False, markup=False)


def uninstall_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    variant: VariantOption = "cuda",
    version: Annotated[
        str | None, typer.Option("--version", help="Only this version: a name or number of `lading status`.")
    ] = None,
    all_data: Annotated[
        bool, typer.Option("--all-data", help="Everything: all variants, and the repository's metadata.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Delete a variant with all its versions, records and unfinished installs; or one version; or everything.

    What is not ours stays and is listed. The repository's metadata stays as well, unless --all-data is given: by it a
    repository that was set back is noticed.

    Example: `lading uninstall --variant cuda`
    """
    folder = data_directory(data, app)
    if all_data and version:
        raise typer.BadParameter("give --version or --all-data, not both")
    if all_data:
        everything = uninstall_everything(folder)
        emit(session(json=json), everything, lambda console: _draw_removal(everything, console))
        return
    result = uninstall(folder, variant, version=version)
    emit(session(json=json), result, lambda console: _draw_uninstall(result, console))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status_command)
    app.command("rollback")(rollback_command)
    app.command("uninstall")(uninstall_command)
