"""The benchmark: every row measures Lading and the peer in one run on one machine. ``nox -s bench`` calls it.

    python -m bench.run --tree out/tree/lading-server-cuda --buildinfo out/tree/buildinfo.json [--row pack-fast]

Prints a table, writes ``out/bench.json`` and ``out/bench.md``. The tree is read once before each packing, so both sides
find it in the page cache. Temporary output lies under ``out/bench`` and is removed at the end; it needs up to 18 GB.
A goal that is missed does not fail the run unless ``--strict`` says so.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.changed import fetch_wheels
from bench.report import WIDTH, as_json, as_markdown, show
from bench.rows.base import ROOT, CannotMeasure, Context, Result, Row, unable
from bench.rows.install import Install
from bench.rows.packing import PackFast, PackRelease, Repack
from bench.rows.startup import VersionTime
from bench.rows.update import Check, CodeUpdate, DependencyUpdate, LibraryUpdate
from bench.rows.upload import Upload, is_possible
from rich.console import Console

# The order matters for the disk: installing uses up the peer's archives and comes after the rows that weigh them.
ROWS: tuple[Row, ...] = (
    VersionTime(),
    PackFast(),
    PackRelease(),
    Repack(),
    Check(),
    CodeUpdate(),
    DependencyUpdate(),
    LibraryUpdate(),
    Upload(),
    Install(),
)
FAILED = 70


def measure(rows: Sequence[Row], context: Context, log: Console) -> tuple[list[Result], list[tuple[str, str]]]:
    """Measure the rows; gives the results, and the rows that could not be measured with the reason."""
    results: list[Result] = []
    skipped: list[tuple[str, str]] = []
    for row in rows:
        if why := unable(row, context):
            skipped.append((row.name, why))
            continue
        log.print(f"measuring {row.name}", style="dim")
        try:
            results += row.measure(context)
        except CannotMeasure as error:
            skipped.append((row.name, str(error)))
    return results, skipped


def wheels_for(rows: Sequence[Row], work: Path, log: Console) -> Path | None:
    """Fetch what the rows need of other versions; without a network those rows are left out."""
    if not any("wheels" in row.needs for row in rows):
        return None
    try:
        return fetch_wheels(work / "wheels")
    except RuntimeError as error:
        log.print(f"other versions cannot be fetched: {error}", style="dim", markup=False)
        return None


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, write; 0, or 70 with ``--strict`` when a goal is missed or a row could not be measured."""
    parser = argparse.ArgumentParser(description="Lading against the reference way, on a real tree.")
    parser.add_argument("--tree", type=Path, required=True, help="a frozen CUDA tree")
    parser.add_argument("--buildinfo", type=Path, required=True, help="its buildinfo.json")
    parser.add_argument("--store", type=Path, help="a signed folder store with that build, for the install row")
    parser.add_argument("--freeze-python", type=Path, help="an interpreter with PyInstaller, for the version row")
    parser.add_argument("--wheels", type=Path, help="other versions of what the update rows change, unpacked")
    parser.add_argument("--row", action="append", choices=[row.name for row in ROWS], help="only this row; repeatable")
    parser.add_argument("--out", type=Path, default=ROOT / "out", help="where bench.json and bench.md go")
    parser.add_argument("--strict", action="store_true", help="fail when a goal is missed")
    options = parser.parse_args(arguments)
    work = options.out / "bench"
    log = Console(stderr=True)
    context = Context(
        tree=options.tree.resolve(),
        buildinfo=options.buildinfo.resolve(),
        work=work.resolve(),
        store=options.store and options.store.resolve(),
        freeze_python=options.freeze_python and options.freeze_python.absolute(),
        object_store=is_possible(),
    )
    chosen = [row for row in ROWS if not options.row or row.name in options.row]
    work.mkdir(parents=True, exist_ok=True)
    try:
        context.wheels = options.wheels or wheels_for(chosen, work, log)
        results, skipped = measure(chosen, context, log)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    (options.out / "bench.json").write_text(as_json(results, skipped), "utf-8")
    (options.out / "bench.md").write_text(as_markdown(results, skipped), "utf-8")
    show(Console(width=WIDTH), results, skipped)
    missed = skipped or not all(result.reached for result in results)
    return FAILED if options.strict and missed else 0


if __name__ == "__main__":
    sys.exit(main())
