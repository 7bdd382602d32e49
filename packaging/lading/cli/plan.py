"""``lading plan``: what would be built and published, without doing anything."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.console import Console

from lading.cli.freeze import CpuOption, CudaOption, ToolkitOption, wanted_toolkit
from lading.cli.shared import JsonOption, emit, session
from lading.host import platform_tag
from lading.manifest.base import Platform
from lading.manifest.plan import CPU, Plan, PlannedArchive, PlannedCuda, PlannedDestination, make_plan
from lading.manifest.problem import near_miss
from lading.manifest.project import load_project

WIDTH = 80  # columns; a plan is read in mails and logs too
PLATFORMS: tuple[Platform, ...] = get_args(Platform)


def _field(name: str, text: str, *, indent: int = 2) -> Iterator[str]:
    head = f"{' ' * indent}{name:<13}"
    yield from textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * len(head)) or [head.rstrip()]


def _size(number: int | None) -> str:
    return "no limit" if number is None else f"at most {number / 1e6:,.0f} MB"


def _cuda_lines(cuda: PlannedCuda) -> Iterator[str]:
    yield from _field("toolkit", f"{cuda.toolkit}, CUDA {cuda.cuda}, torch {cuda.torch}, libs label {cuda.label}")
    yield from _field("driver", f"Linux {cuda.driver_linux}, Windows {cuda.driver_windows}, or newer")
    yield from _field("GPUs", f"{' '.join(cuda.archs)}; PTX {cuda.ptx or 'none'} (the build itself will say)")


def _archive_lines(archive: PlannedArchive) -> Iterator[str]:
    unpacked = _size(archive.budget_unpacked)
    yield from _field(archive.component, f"{_size(archive.budget)} packed (release profile), {unpacked} unpacked")


def _destination_lines(destination: PlannedDestination) -> Iterator[str]:
    yield ""
    limit = f"assets up to {destination.asset_limit / 1e6:,.0f} MB"
    yield from textwrap.wrap(f"{destination.name}: {destination.kind} {destination.where}, {limit}", WIDTH)
    for upload in destination.uploads:
        cut = f"  (at most {upload.volumes} volumes)" if (upload.volumes or 0) > 1 else ""
        unknown = "  (number of volumes unknown: no budget)" if _is_archive(upload.files) and not upload.volumes else ""
        yield from textwrap.wrap(
            f"{upload.folder}/{cut}{unknown}", WIDTH, initial_indent="  ", subsequent_indent="    "
        )
        for file in upload.files:
            if not file.endswith(".sha256"):
                yield from textwrap.wrap(file, WIDTH, initial_indent="    ", subsequent_indent="      ")


def _is_archive(files: tuple[str, ...]) -> bool:
    return any(".tar.zst" in file for file in files)


def plan_lines(plan: Plan) -> Iterator[str]:
    """The plan as lines of at most 80 columns."""
    yield f"{plan.app} {plan.version} {plan.flavor} for {plan.platform}"
    yield from _field("executable", plan.executable)
    yield from _field("python", f"{plan.python}, modules {plan.modules}")
    yield from _field("lock", plan.lock or "none for this platform: build with --reuse-env")
    yield from _field("channel", plan.channel)
    if plan.cuda:
        yield from _cuda_lines(plan.cuda)
    for archive in plan.archives:
        yield from _archive_lines(archive)
    if plan.cuda and plan.cuda.exclude:
        yield from ("", "kept out of the tree:")
        for rule in plan.cuda.exclude:
            yield from textwrap.wrap(rule.pattern, WIDTH, initial_indent="  ", subsequent_indent="    ")
            yield from textwrap.wrap(rule.reason, WIDTH, initial_indent="      ", subsequent_indent="      ")
    for destination in plan.destinations:
        yield from _destination_lines(destination)
    yield from ("", "Each asset has a .sha256 beside it. Nothing was built, written or sent.")
    if plan.cuda and plan.cuda.notes:
        yield from ("", *textwrap.wrap(f"Note: {plan.cuda.notes}", WIDTH))


def _draw(plan: Plan, console: Console) -> None:
    for line in plan_lines(plan):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _platform(text: str | None) -> Platform:
    wanted = text or platform_tag()
    for platform in PLATFORMS:
        if platform == wanted:
            return platform
    if text is None:
        return PLATFORMS[0]  # planning is possible on machines that cannot build
    hint = near_miss(wanted, PLATFORMS)
    message = f"{wanted!r} is not one of {', '.join(PLATFORMS)}{f'; {hint}' if hint else ''}"
    raise typer.BadParameter(message, param_hint="--platform")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def plan(
        *,
        toolkit: ToolkitOption = None,
        cuda: CudaOption = False,
        cpu: CpuOption = False,
        destination: Annotated[
            list[str] | None, typer.Option(help="A destination's name; repeat for more. All without it.")
        ] = None,
        platform: Annotated[
            str | None, typer.Option(help=f"{', '.join(PLATFORMS)}; this machine's without it.")
        ] = None,
        project: Annotated[Path, typer.Option(metavar="DIR", help="The project's folder.")] = Path(),
        json: JsonOption = False,
    ) -> None:
        """Say what would be built, under which names, and what each destination would get. Touches nothing.

        Example: `lading plan --toolkit cu128 --destination github`
        """
        loaded = load_project(project)
        wanted = wanted_toolkit(loaded, toolkit, cuda=cuda, cpu=cpu)
        flavor = wanted.name if wanted else CPU
        result = make_plan(loaded, flavor, _platform(platform), destination or ())
        emit(session(json=json), result, lambda console: _draw(result, console))
