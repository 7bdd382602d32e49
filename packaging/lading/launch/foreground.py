"""Stay with a running server until it is stopped, or ends by itself."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType
from typing import NoReturn

from lading.errors import AccessDenied, DiskFailing, DiskFull
from lading.launch.address import only_launcher, remove_address, write_address
from lading.launch.control import Control
from lading.launch.launcher import Launcher, error_of
from lading.launch.machine import Trouble
from lading.launch.server import RunningServer, ended
from lading.launch.settings import Settings
from lading.launch.status import LauncherError, LauncherStatus

LOOK = 0.5  # seconds between two looks; on Windows a wait without an end would not notice Ctrl-C
LINGER = 60.0  # seconds that a launcher stays after a restart that somebody asked for has failed, to be asked again


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


def launch(
    settings: Settings,
    *,
    ready: Callable[[LauncherStatus], None],
    say: Callable[[str], None],
    retry: bool = False,
    linger: float = LINGER,
) -> None:
    """Be the launcher of a data directory until somebody asks to stop, by Ctrl-C or over the control interface.

    Args:
        settings: What the launcher was told.
        ready: Called each time a server is ready: after a start, a restart and a fallback alike, on every system.
        say: Told what happens, a line each time.
        retry: Try also a version that was set aside.
        linger: Seconds to stay after a restart that somebody asked for has failed.

    Raises:
        Busy: Another launcher runs there.
        LadingError: No server could be started, or the last one died too often.
    """
    news: queue.SimpleQueue[LauncherStatus | None] = queue.SimpleQueue()
    with ExitStack() as stack:
        stack.enter_context(_quiet_interrupt())
        if (note := stack.enter_context(only_launcher(settings.data))) is not None:
            say(note)
        launcher = Launcher(settings, listener=news.put)
        stack.callback(launcher.close)
        control = Control(launcher, lambda: news.put(None))
        stack.callback(control.close)
        launcher.environment.update(control.environment)
        _tell_address(settings, control, say, stack)
        if retry:
            launcher.restart(wait=False, retry=True)
        else:
            launcher.start(wait=False)
        _follow(news, control, _Told(ready=ready, say=say), linger)


def _tell_address(settings: Settings, control: Control, say: Callable[[str], None], stack: ExitStack) -> None:
    try:
        write_address(settings.data, control.address)
    except (AccessDenied, DiskFull, DiskFailing) as error:
        say(f"`lading control` will not find this launcher: {error.what}")
    else:
        stack.callback(remove_address, settings.data, control.address)


@contextmanager
def _quiet_interrupt() -> Iterator[None]:
    """End the block at Ctrl-C as if it had come to its end, after everything in it was put in order."""
    try:
        yield
    except KeyboardInterrupt:
        return


class _Told:
    """What was told already, so that each thing is told once."""

    def __init__(self, *, ready: Callable[[LauncherStatus], None], say: Callable[[str], None]) -> None:
        self._ready, self._say = ready, say
        self._phase, self._starts, self._aside = "", 0, ""
        self._notes: set[str] = set()

    def __call__(self, status: LauncherStatus) -> bool:
        """Tell what is new.

        Returns:
            Whether a server has become ready.
        """
        aside = status.set_aside.name if status.set_aside else ""
        if aside and aside != self._aside:
            assert status.set_aside is not None
            self._say(f"{aside} is set aside: {status.set_aside.reason}")
        for note in set(status.notes) - self._notes:
            self._say(note)
        if status.phase in {"probing", "starting"} and (status.phase, status.starts) != (self._phase, self._starts):
            doing = "trying" if status.phase == "probing" else "starting"
            self._say(f"{doing} {status.backend} {status.installed}")
        became_ready = status.phase == "ready" and self._phase != "ready"
        self._aside, self._notes = aside, self._notes | set(status.notes)
        self._phase, self._starts = status.phase, status.starts
        if became_ready:
            self._ready(status)
        return became_ready


def _follow(news: queue.SimpleQueue[LauncherStatus | None], control: Control, told: _Told, linger: float) -> None:
    """Tell what happens until the end."""
    answered = 0  # restarts asked for, when a server was last ready
    leave = float("inf")
    while True:
        try:
            status = news.get(timeout=LOOK)
        except queue.Empty:
            if time.monotonic() <= leave:
                continue
            status = control.launcher.status()
        if status is None:
            return
        if told(status):
            answered = control.restarts
        if status.phase != "failed":
            leave = float("inf")
        elif control.restarts == answered or time.monotonic() > leave:
            raise error_of(_trouble(status.error))
        elif leave == float("inf"):
            leave = time.monotonic() + linger


def _trouble(error: LauncherError | None) -> Trouble:
    assert error is not None, "who fails says why"
    return Trouble(what=error.what, kind=error.code, usually=error.usually, todo=error.todo)
