"""Run a frozen program's own ``--selftest`` and watch which libraries it loads meanwhile.

The program is started in its tree with a scrubbed environment and is killed at the deadline with its children.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from lading.launch.child import server_environment
from lading.launch.selftest import SelftestReport, parse_report
from lading.process import Finished, run
from lading.verify.loaded import libraries_below

VERSION_TIMEOUT = 60.0  # seconds; the first start of a program that a virus scanner looks at takes long
SELFTEST_TIMEOUT = 600.0  # seconds; kernels are compiled and every CUDA library is loaded from a cold disk
SAMPLE = 0.1  # seconds between two looks at the loaded libraries


@dataclass(frozen=True, kw_only=True)
class SelftestRun:
    """How a self-test ended.

    Attributes:
        report: What it printed, when it is a report.
        problem: Why there is no report, with what was printed last; empty when there is one.
        returncode: The exit status; none when it was killed.
        seconds: How long it took.
    """

    report: SelftestReport | None = None
    problem: str = ""
    returncode: int | None = None
    seconds: float = 0.0


@dataclass(kw_only=True)
class Watcher:
    """Looks at the libraries of all child processes of this one, from a thread, for the time of a block."""

    below: Callable[[], set[str]]
    seen: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="library watcher", daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(SAMPLE):
            self.seen |= self.below()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def call(
    tree: Path, entry: str, arguments: Sequence[str], *, environment: Mapping[str, str], timeout: float
) -> Finished:
    """Run the program in its tree.

    Raises:
        OSError: It cannot be started.
        subprocess.TimeoutExpired: It was killed.
    """
    clean = server_environment("verification", environment)
    return run([(tree / entry).absolute(), *arguments], cwd=tree.absolute(), environment=clean, timeout=timeout)


def last_lines(done: Finished, count: int = 5) -> str:
    """The last lines that a program printed, errors first."""
    text = (done.stderr.strip() or done.stdout.strip() or "it printed nothing").splitlines()
    return " | ".join(text[-count:])[-600:]


def run_selftest(
    tree: Path,
    entry: str,
    *,
    require_gpu: bool,
    environment: Mapping[str, str],
    timeout: float = SELFTEST_TIMEOUT,
) -> tuple[SelftestRun, set[str]]:
    """Run ``--selftest --json``.

    Args:
        tree: The tree.
        entry: The executable.
        require_gpu: Ask it to fail without a GPU.
        environment: Further variables.
        timeout: Seconds until it is killed.

    Returns:
        How it ended, and the paths of all libraries that were seen in its processes.
    """
    arguments = ["--selftest", "--json", *(["--require-gpu"] if require_gpu else [])]
    began = time.monotonic()
    with Watcher(below=lambda: libraries_below(tree / entry)) as watcher:
        try:
            done = call(tree, entry, arguments, environment=environment, timeout=timeout)
        except subprocess.TimeoutExpired:
            problem = f"it did not end within {timeout:g} s and was killed"
            return SelftestRun(problem=problem, seconds=time.monotonic() - began), watcher.seen
        except OSError as error:
            return SelftestRun(problem=f"it cannot be started: {error.strerror or error}"), watcher.seen
    found = parse_report(done.stdout)
    seconds = time.monotonic() - began
    if isinstance(found, str):
        problem = f"{found} (exit code {done.returncode}; {last_lines(done)})"
        return SelftestRun(problem=problem, returncode=done.returncode, seconds=seconds), watcher.seen
    return SelftestRun(report=found, returncode=done.returncode, seconds=seconds), watcher.seen
