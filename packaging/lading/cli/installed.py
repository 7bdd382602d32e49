"""``lading status``, ``rollback`` and ``uninstall``: what is installed, without a network."""

from __future__ import annotations

from typing import Annotated, Literal

import typer
from rich.console import Console

from lading.cli.install import DEFAULT_APP, AppOption, DataOption, data_directory
from lading.cli.shared import JsonOption, emit, session
from lading.store.installed import RollbackResult, Status, UninstallResult, rollback, status, uninstall

VariantOption = Annotated[Literal["cpu", "cuda"], typer.Option("--variant", help="cpu or cuda.")]


def _draw_status(found: Status, console: Console) -> None:
    if not found.variants:
        console.print(f"Nothing is installed under {found.data}.", highlight=False, markup=False, soft_wrap=True)
    for variant in found.variants:
        console.print(f"[bold]{variant.variant}[/]: {variant.current or 'no version in use'}", highlight=False)
        for version in variant.versions:
            marks = [mark for mark, holds in (("in use", version.in_use), ("damaged", not version.whole)) if holds]
            marks += ["previous"] if version.name == variant.previous else []
            console.print(f"  {version.name}  {', '.join(marks)}".rstrip(), highlight=False, markup=False)
        for name in variant.unfinished:
            console.print(f"  {name}  unfinished", highlight=False, markup=False)
        if variant.last_failure:
            text = f"  last failure: {variant.last_failure.kind}: {variant.last_failure.what}"
            console.print(text, highlight=False, markup=False, soft_wrap=True, style="yellow")


def status_command(data: DataOption = None, *, app: AppOption = DEFAULT_APP, json: JsonOption = False) -> None:
    """Say which versions are installed, which one is in use, and what failed last.

    Example: `lading status --json`
    """
    found = status(data_directory(data, app))
    emit(session(json=json), found, lambda console: _draw_status(found, console))


def _draw_rollback(result: RollbackResult, console: Console) -> None:
    console.print(f"[bold]{result.current}[/] is in use again, instead of {result.left or 'none'}", highlight=False)
    console.print(result.entry, highlight=False, markup=False, soft_wrap=True)


def rollback_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    variant: VariantOption = "cuda",
    to: Annotated[str | None, typer.Option("--to", help="A version that `lading status` lists.")] = None,
    json: JsonOption = False,
) -> None:
    """Go back to the version that was in use before; at once, and without a network.

    Example: `lading rollback --variant cuda`
    """
    result = rollback(data_directory(data, app), variant, to=to)
    emit(session(json=json), result, lambda console: _draw_rollback(result, console))


def _draw_uninstall(result: UninstallResult, console: Console) -> None:
    console.print(f"{len(result.removed)} versions of the {result.variant} variant deleted", highlight=False)
    for name in result.left:
        console.print(f"  left, because it is not ours: {name}", highlight=False, markup=False)


def uninstall_command(
    data: DataOption = None,
    *,
    app: AppOption = DEFAULT_APP,
    variant: VariantOption = "cuda",
    json: JsonOption = False,
) -> None:
    """Delete every version of a variant, and what unfinished installs left.

    Example: `lading uninstall --variant cuda`
    """
    result = uninstall(data_directory(data, app), variant)
    emit(session(json=json), result, lambda console: _draw_uninstall(result, console))


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("status")(status_command)
    app.command("rollback")(rollback_command)
    app.command("uninstall")(uninstall_command)
