"""Make the tree of a change inside the program's own modules from the older tree, in seconds.

The new tree shares its files with the older one by hard links; what changed is compiled and written as new files. The
older tree is never written to.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lading.atomic import write_atomic
from lading.digest import sha256_file
from lading.errors import FreezeFailed
from lading.freeze.pyinstaller import BUILDER, build_variables
from lading.freeze.sources import SourceModule
from lading.manifest.buildinfo import OwnedEntry
from lading.pack.scan import PAYLOAD
from lading.process import run, scrubbed_environment

COMPILE_TIMEOUT = 600.0  # seconds, for all of a program's own modules


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)


def share_tree(older: Path, tree: Path) -> None:
    """Copy a tree by hard links, where the file system has them."""
    shutil.copytree(older, tree, symlinks=True, copy_function=_link)


def tree_path(module: SourceModule) -> str:
    """Where a module lies in a tree with loose modules."""
    stem = module.name.replace(".", "/")
    return f"{PAYLOAD}/{stem}/__init__.pyc" if module.path.endswith("/__init__.py") else f"{PAYLOAD}/{stem}.pyc"


def compile_into(
    tree: Path, root: Path, changed: Sequence[SourceModule], python: Path, work: Path, *, epoch: int
) -> None:
    """Compile modules into a tree.

    Args:
        tree: The tree.
        root: The project.
        changed: Its changed modules; one that nothing imports is not in the tree and stays out.
        python: The build environment's interpreter.
        work: A folder for this alone; emptied first.
        epoch: ``SOURCE_DATE_EPOCH``, seconds.

    Raises:
        FreezeFailed: One of them has a syntax error.
    """
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    task = work / "task.json"
    modules = [[module.name, str(root / module.path)] for module in changed]
    task.write_text(json.dumps({"modules": modules, "work": str(work)}), encoding="utf-8")
    try:
        finished = run(
            [python, BUILDER, "compile", task],
            cwd=work,
            environment=scrubbed_environment(build_variables(epoch, "loose")),
            timeout=COMPILE_TIMEOUT,
        )
    except subprocess.TimeoutExpired as error:
        raise FreezeFailed(
            f"The changed modules were not compiled within {COMPILE_TIMEOUT:.0f} s.",
            usually="The machine ran out of memory and swaps.",
            todo="Run the same command again.",
        ) from error
    if finished.returncode != 0:
        tail = "\n  ".join(finished.stderr.strip().splitlines()[-8:])
        raise FreezeFailed(
            f"The changed modules cannot be compiled:\n  {tail}",
            usually="There is a syntax error in one of them.",
            todo="Correct it and run the same command again.",
        )
    for module, made in zip(changed, json.loads(finished.stdout), strict=True):
        target = tree / tree_path(module)
        if target.exists():
            write_atomic(target, Path(made).read_bytes(), durable=False)


def read_again(files: Iterable[OwnedEntry], tree: Path, changed: Iterable[SourceModule]) -> tuple[OwnedEntry, ...]:
    """The entries of a tree in which some modules changed: only those are read."""
    again = {tree_path(module) for module in changed}
    return tuple(_read(entry, tree / entry.path) if entry.path in again else entry for entry in files)


def _read(entry: OwnedEntry, path: Path) -> OwnedEntry:
    return entry.model_copy(update={"size": path.stat().st_size, "sha256": sha256_file(path)})
