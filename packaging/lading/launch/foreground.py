"""Stay with a running server until it is stopped, or ends by itself."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from lading.launch.server import RunningServer, ended

LOOK = 0.5  # seconds between two looks; on Windows a wait without an end would not notice Ctrl-C


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Let SIGTERM (and SIGBREAK on Windows) stop what Ctrl-C stops, for the time of a block; main thread only."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM]
    if sys.platform == "win32":  # pragma: no cover (Windows)
        numbers.append(signal.SIGBREAK)
    before = {number: signal.signal(number, _interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stay(server: RunningServer) -> None:
    """Wait until somebody asks to stop.

    Args:
        server: A running server; it is stopped by the block that started it.

    Raises:
        ServerUnhealthy: It ended by itself; with its exit code and last lines.
    """
    try:
        while True:
            try:
                status = server.process.wait(LOOK)
            except subprocess.TimeoutExpired:
                continue
            raise ended(status, server.log)
    except KeyboardInterrupt:
        return
