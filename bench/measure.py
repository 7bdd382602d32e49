"""Run one program and know how long it took and how much memory it needed.

Memory is the peak resident set of the largest single process, as the operating system counted it. On Linux a child
inherits, until it has replaced itself, the peak of the process that starts it, so the driver keeps itself small (about
40 MB) and no figure below that means anything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

BLOCK = 2**20


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A program that ended well.

    Attributes:
        seconds: From its start to its end.
        peak_rss: Bytes of the largest process.
        stdout: What it printed.
    """

    seconds: float
    peak_rss: int
    stdout: str


def run(argv: Sequence[str | Path], *, cwd: Path) -> Measured:
    """Run a program to its end and measure it.

    Args:
        argv: The command.
        cwd: Where to run it.

    Raises:
        RuntimeError: It failed; carries the end of what it said.
    """
    words = [str(word) for word in argv]
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        began = time.perf_counter()
        process = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        code, peak = _wait(process)
        seconds = time.perf_counter() - began
        stdout.seek(0)
        stderr.seek(0)
        printed = stdout.read().decode("utf-8", "replace")
        if code != 0:
            said = stderr.read().decode("utf-8", "replace")
            raise RuntimeError(f"{' '.join(words)} ended with {code}:\n{printed[-2000:]}\n{said[-4000:]}")
    return Measured(seconds=seconds, peak_rss=peak, stdout=printed)


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int]:
    if sys.platform == "win32":  # pragma: no cover (Windows)
        peak = 0
        handle = psutil.Process(process.pid)
        while process.poll() is None:
            try:
                peak = max(peak, handle.memory_info().peak_wset)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.01)
        return process.wait(), peak
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 1 if sys.platform == "darwin" else 1024
    return process.returncode, usage.ru_maxrss * unit


def warm(tree: Path) -> int:
    """Read a whole tree once, so that every side begins with it in the page cache; gives the number of bytes."""
    total = 0
    buffer = bytearray(BLOCK)
    for path in sorted(tree.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                total += count
    return total
