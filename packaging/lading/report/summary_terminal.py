"""A build's summary on a terminal of 80 columns: what came out first, then how long it took, then where it is."""

from __future__ import annotations

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lading.report.format import bar, duration, plural, shorten, size
from lading.report.summary import BuildSummary, OwnerSize, top
from lading.report.verification import MARK, STYLE, verdict

OWNERS = 10  # lines of owners; the record has them all
BAR = 16  # columns
NAME = 26


def _heading(console: Console, text: str, aside: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {aside}" if aside else "", "dim")))


def _grid() -> Table:
    return Table.grid(padding=(0, 2))


def _row(grid: Table, *cells: str) -> None:
    """Add a row of plain text: names come from outside and may look like markup."""
    grid.add_row(*map(Text, cells))


def _print(console: Console, grid: Table) -> None:
    console.print(Padding(grid, (0, 0, 0, 2)))


def _steps(console: Console, summary: BuildSummary) -> None:
    _heading(console, "Steps", duration(summary.seconds))
    longest = max((step.seconds for step in summary.steps), default=0.0)
    grid = _grid()
    grid.add_column(no_wrap=True)
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(width=BAR, no_wrap=True, style="cyan")
    grid.add_column(overflow="fold", style="dim")
    for step in summary.steps:
        note = step.note if not step.reused else f"reused{f': {step.note}' if step.note else ''}"
        _row(grid, step.name, duration(step.seconds), bar(step.seconds, longest, BAR), note)
    _print(console, grid)


def _parts(console: Console, summary: BuildSummary) -> None:
    if not summary.parts:
        return
    _heading(console, "Components", f"a first install downloads {size(summary.downloads)}")
    grid = _grid()
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(no_wrap=True)
    for _ in range(3):
        grid.add_column(justify="right", no_wrap=True)
    grid.add_column(style="dim")
    for part in summary.parts:
        asides = [f"budget {size(part.budget)}"] if part.budget is not None else []
        asides += ["reused"] if part.reused else []
        _row(
            grid,
            part.name,
            part.version,
            plural(part.files, "file"),
            size(part.unpacked),
            f"→ {size(part.packed)}",
            ", ".join(asides),
        )
    _print(console, grid)


def _owner_row(owner: OwnerSize, largest: int) -> tuple[str, str, str, str, str]:
    where = owner.component or ""
    return (
        shorten(owner.owner, NAME),
        where,
        size(owner.size),
        plural(owner.files, "file"),
        bar(owner.size, largest, BAR),
    )


def _owners(console: Console, summary: BuildSummary) -> None:
    if not summary.owners:
        return
    total = f"{size(summary.tree_size)} in {plural(summary.tree_files, 'file')}"
    _heading(console, "Tree by owner", total)
    shown = top(summary.owners, OWNERS)
    largest = max(owner.size for owner in shown)
    grid = _grid()
    grid.add_column(no_wrap=True)
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(justify="right", no_wrap=True, style="dim")
    grid.add_column(width=BAR, no_wrap=True, style="cyan")
    for owner in shown:
        _row(grid, *_owner_row(owner, largest))
    _print(console, grid)


def _verifications(console: Console, summary: BuildSummary) -> None:
    if not summary.verifications:
        return
    _heading(console, "Verification")
    for name, report in summary.verifications.items():
        style = "green" if report.passed else "bold red"
        console.print(
            Text.assemble("  ", (name, "bold"), "  ", (verdict(report), style), f"  {duration(report.seconds)}")
        )
        for check in report.checks:
            if check.status != "pass":
                line = Text.assemble((MARK[check.status], STYLE[check.status]), f" {check.name}: {check.reason}")
                console.print(Padding(line, (0, 0, 0, 4)))


def _assets(console: Console, summary: BuildSummary) -> None:
    if not summary.assets:
        return
    _heading(console, "Assets", f"{plural(len(summary.assets), 'file')}, {size(sum(a.size for a in summary.assets))}")
    grid = _grid()
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for asset in summary.assets:
        _row(grid, size(asset.size), asset.name)
    _print(console, grid)


def _pairs(console: Console, heading: str, pairs: list[tuple[str, str]]) -> None:
    if not pairs:
        return
    _heading(console, heading)
    grid = _grid()
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, text in pairs:
        _row(grid, name, text)
    _print(console, grid)


def _short(commit: str) -> str:
    """A commit as people quote it; what is not committed stays visible."""
    number, plus, dirty = commit.partition("+")
    return f"{number[:12]}{plus}{dirty}"


def print_summary(console: Console, summary: BuildSummary) -> None:
    """Draw the summary."""
    console.print()
    name = f"{summary.app} {summary.version}"
    console.print(
        Text.assemble((name, "bold"), f"  {summary.flavor}  {summary.platform}", (f"  {_short(summary.commit)}", "dim"))
    )
    _parts(console, summary)
    _owners(console, summary)
    _assets(console, summary)
    _pairs(console, "Build", list(summary.facts.items()))
    _steps(console, summary)
    _verifications(console, summary)
    _pairs(console, "Where", [(place.what, place.path) for place in summary.places])
    console.print()
    if summary.good:
        reused = sum(step.reused for step in summary.steps)
        aside = f"; {reused} of {plural(len(summary.steps), 'step')} reused" if reused else ""
        console.print(Text.assemble(("✓ built and verified", "bold green"), f" in {duration(summary.seconds)}{aside}"))
        return
    why = summary.problem or "a verification failed"
    console.print(Text.assemble(("✗ not good", "bold red"), f" after {duration(summary.seconds)}: {why}"))
