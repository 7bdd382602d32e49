"""Run the frozen server as its users will: in its own folder, with a clean environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from lading.errors import FrozenBroken
from lading.process import Finished, run, scrubbed_environment

VERSION_TIMEOUT = 90.0  # seconds: a first start under a virus scanner takes as long (ollama's bound on Windows)
SELFTEST_TIMEOUT = 600.0  # seconds: every CUDA library is loaded from a cold disk


def _run(tree: Path, entry: str, *words: str, timeout: float) -> Finished:
    argv: list[str | Path] = [tree / entry, *words]
    try:
        return run(argv, cwd=tree, environment=scrubbed_environment(), timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise FrozenBroken(
            f"{entry} {' '.join(words)} did not end within {timeout:.0f} s.",
            usually="The program waits for something at start: a download, a lock, a terminal.",
            todo="Run it by hand in the tree and see where it hangs.",
        ) from error
    except OSError as error:
        raise FrozenBroken(
            f"{entry} cannot be started: {error.strerror}",
            usually="The tree was built for another system, or lies on a disk that is mounted noexec.",
            todo="Build on the platform that the release is for, in a folder that allows programs.",
        ) from error


def _broken(what: str, finished: Finished | None) -> FrozenBroken:
    """The error, with the end of what the program printed when that is all there is."""
    tail = "\n  ".join((finished.stderr or finished.stdout).strip().splitlines()[-15:]) if finished else ""
    return FrozenBroken(
        f"{what}\n  {tail}" if tail else what,
        usually="A module or a library that is imported by name only did not get into the tree.",
        todo="Add it to hidden_imports in manifests/app.yaml, or remove the exclusion that dropped it.",
    )


def try_version(tree: Path, entry: str, *, name: str, version: str, timeout: float = VERSION_TIMEOUT) -> None:
    """Ask the frozen program for its version.

    Args:
        tree: The tree.
        entry: Its executable.
        name: The program's name.
        version: The version that it must say.
        timeout: Seconds that it may take.

    Raises:
        FrozenBroken: It fails, or says something else than ``<name> <version>``.
    """
    finished = _run(tree, entry, "--version", timeout=timeout)
    said, expected = finished.stdout.strip(), f"{name} {version}"
    if finished.returncode != 0:
        raise _broken(f"{entry} --version ended with status {finished.returncode}.", finished)
    if said != expected:
        raise _broken(f"{entry} --version says {said!r}; expected is {expected!r}.", finished)


def _report(printed: str) -> dict[str, Any] | None:
    try:
        report = json.loads(printed)
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def try_selftest(tree: Path, entry: str, *, timeout: float = SELFTEST_TIMEOUT) -> dict[str, Any]:
    """Let the frozen program test itself.

    Args:
        tree: The tree.
        entry: Its executable.
        timeout: Seconds that it may take.

    Returns:
        Its report.

    Raises:
        FrozenBroken: It fails, or a check of its does; names the checks.
    """
    finished = _run(tree, entry, "--selftest", "--json", timeout=timeout)
    report = _report(finished.stdout)
    if report is None:
        raise _broken(f"{entry} --selftest ended with status {finished.returncode} and no report.", finished)
    failed = [check for check in report.get("checks", []) if check.get("status") == "fail"]
    if failed or finished.returncode != 0 or not report.get("passed"):
        lines = "".join(f"\n  {check.get('name')}: {check.get('reason')}" for check in failed)
        raise _broken(f"{entry} --selftest found {len(failed)} failure(s):{lines}", None if failed else finished)
    return report
