"""A verification's report for a terminal (80 columns are enough) and as Markdown. Pure but for the console."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lading.host.record import HostFacts
from lading.report.format import duration, plural, size
from lading.report.markdown import code, escape, table
from lading.verify.record import Check, Status, Verification

MARK: dict[Status, str] = {"pass": "✓", "fail": "✗", "skipped": "-"}
STYLE: dict[Status, str] = {"pass": "green", "fail": "bold red", "skipped": "yellow"}


def verdict(report: Verification) -> str:
    """The report in one line: ``passed: 12 checks, 2 skipped``."""
    counts = {status: len(report.of(status)) for status in MARK}
    if not report.passed:
        return f"FAILED: {plural(counts['fail'], 'check')} of {len(report.checks)}"
    skipped = f", {counts['skipped']} skipped" if counts["skipped"] else ""
    return f"passed: {plural(counts['pass'], 'check')}{skipped}"


def subject_line(report: Verification) -> str:
    """What was verified: the release as far as known, else the place."""
    subject = report.subject
    known = " ".join(part for part in (subject.app, subject.version, subject.flavor, subject.platform) if part)
    return known or subject.where


def gpu_line(host: HostFacts) -> str:
    """The GPUs in words, or why there is none."""
    if not host.gpu.gpus:
        return f"no NVIDIA GPU ({host.gpu.reason or 'unknown'})"
    memory = {gpu.index: f"{size(gpu.memory)}, " if gpu.memory else "" for gpu in host.gpu.gpus}
    names = [f"{gpu.name} ({memory[gpu.index]}compute {gpu.capability or 'unknown'})" for gpu in host.gpu.gpus]
    return f"{', '.join(names)}, driver {host.gpu.driver}"


def _problems(check: Check) -> list[str]:
    listed = check.evidence.get("problems")
    count = check.evidence.get("problem_count")
    if not isinstance(listed, list) or len(listed) < 2:  # noqa: PLR2004 (a single problem is the reason already)
        return []
    lines = [str(line) for line in listed]
    more = count - len(lines) if isinstance(count, int) else 0
    return [*lines, f"… and {more} more"] if more > 0 else lines


def check_table(report: Verification) -> RenderableType:
    """The checks as a table."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column(width=1)
    grid.add_column(no_wrap=True)
    grid.add_column(ratio=1, overflow="fold")
    grid.add_column(justify="right", no_wrap=True, style="dim")
    for check in report.checks:
        mark = Text(MARK[check.status], style=STYLE[check.status])
        style = {"fail": "red", "skipped": "dim"}.get(check.status, "")
        body: list[RenderableType] = [Text(check.reason, style=style)]
        body += [Text(f"• {line}", style="red") for line in _problems(check)]
        grid.add_row(mark, Text(check.name), Group(*body), duration(check.seconds))
    return grid


def print_verification(console: Console, report: Verification) -> None:
    """Draw the report on a terminal."""
    console.print(Text.assemble(("Verification", "bold"), " of ", subject_line(report)))
    if report.subject.where != subject_line(report):
        console.print(Text(report.subject.where, style="dim"))
    host = f"on {report.host.system}, glibc {report.host.glibc or 'none'}, {gpu_line(report.host)}"
    console.print(Text(host, style="dim"))
    console.print(Padding(check_table(report), (1, 0)))
    style = "bold green" if report.passed else "bold red"
    console.print(Text.assemble((verdict(report), style), f"  in {duration(report.seconds)}"))


def verification_markdown(report: Verification) -> str:
    """The report as Markdown."""
    rows = [
        (
            MARK[check.status],
            code(check.name),
            escape("; ".join(_problems(check)) or check.reason),
            duration(check.seconds),
        )
        for check in report.checks
    ]
    head = f"**{verdict(report)}**: {escape(subject_line(report))}, on {escape(gpu_line(report.host))}"
    return f"{head}\n\n{table(('', 'check', 'found', 'time'), rows, right=[3])}\n"
