"""Print the rows in 80 columns, and write them as JSON and Markdown."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import psutil
from bench.rows.base import Result
from rich.console import Console
from rich.table import Table

WIDTH = 80


def machine() -> dict[str, Any]:
    """The facts without which the seconds mean nothing."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.system().lower(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "lading": version("lading"),
        "backports.zstd": version("backports.zstd"),
    }


def goal(result: Result) -> str:
    """The goal as a person writes it."""
    parts = []
    if result.goal is not None:
        parts.append(f"≥ {result.goal:.2f}x".replace(".00", ""))
    if result.limit is not None:
        parts.append(f"≤ {result.limit:,.0f} {result.unit}".removesuffix(" requests"))
    return ", ".join(parts)


def value(amount: float | None, unit: str) -> str:
    """A value with its unit, in three or more digits; what is counted has no part of one."""
    if amount is None:
        return ""
    if unit == "requests":
        return f"{amount:,.0f}"
    digits = 0 if amount >= 100 else 1 if amount >= 1 or unit != "%" else 3  # noqa: PLR2004 (three digits)
    return f"{amount:,.{digits}f} {unit}"


def cells(result: Result) -> tuple[str, ...]:
    """The texts of one line."""
    ratio = "" if result.ratio is None else f"{result.ratio:.2f}x" if result.ratio < 1_000 else f"{result.ratio:,.0f}x"  # noqa: PLR2004 (more digits tell nothing)
    verdict = "yes" if result.reached else "NO"
    return (result.what, value(result.peer, result.unit), value(result.ours, result.unit), ratio, goal(result), verdict)


HEADINGS = ("what", "reference way", "lading", "ratio", "goal", "met")


def show(console: Console, results: Sequence[Result], skipped: Sequence[tuple[str, str]]) -> None:
    """Print the table."""
    table = Table(*HEADINGS, box=None, pad_edge=False, width=WIDTH)
    for column in table.columns[1:4]:
        column.justify = "right"
    for result in results:
        style = "green" if result.reached else "bold red"
        *texts, verdict = cells(result)
        table.add_row(*texts, f"[{style}]{verdict}[/]")
    console.print(table)
    for name, why in skipped:
        console.print(f"{name}: not measured, {why}", style="dim")


def as_json(results: Sequence[Result], skipped: Sequence[tuple[str, str]]) -> str:
    """The results for machines."""
    rows = [{**asdict(result), "ratio": result.ratio, "reached": result.reached} for result in results]
    body = {"schema": "lading/bench/1", "machine": machine(), "rows": rows, "skipped": dict(skipped)}
    return json.dumps(body, indent=2) + "\n"


def as_markdown(results: Sequence[Result], skipped: Sequence[tuple[str, str]]) -> str:
    """The results for a job summary or a page."""
    facts = machine()
    size = f"{facts['cores']} cores, {facts['memory_gb']} GB"
    kind = f"{facts['system']} {facts['processor']}, Python {facts['python']}"
    lines = [f"Both sides in one run on one machine ({size}, {kind}), with the tree in the page cache.", ""]
    lines += ["| " + " | ".join(HEADINGS) + " |", "|---|--:|--:|--:|---|---|"]
    lines += ["| " + " | ".join(cells(result)) + " |" for result in results]
    lines += [f"\n{name}: not measured, {why}." for name, why in skipped]
    return "\n".join(lines) + "\n"
