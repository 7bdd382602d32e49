"""Ask something that may hang, and go on without it.

A program stuck in a hung driver may not even be killed: the system lets it die only when the driver answers. So a child
is killed, given a moment, and then left behind; the caller never waits longer than it said.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from lading.process import Finished, group_options, kill_group

LAST_WORDS = 1.0  # seconds that a killed child gets to end

T = TypeVar("T")

_left_behind: list[subprocess.Popen[bytes]] = []  # kept, so that they are reaped by a later call if they ever end


def ask_program(argv: Sequence[str | Path], timeout: float) -> Finished | None:
    """Run a program and wait no longer than that.

    Args:
        argv: The command.
        timeout: Seconds until it is killed, with its children.

    Returns:
        How it ended; none when it did not answer in time.

    Raises:
        OSError: It cannot be started.
    """
    _left_behind[:] = [process for process in _left_behind if process.poll() is None]
    words = tuple(str(word) for word in argv)
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **group_options(),  # type: ignore[call-overload]
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _leave(process)
        return None
    except BaseException:
        _leave(process)
        raise
    return Finished(
        argv=words,
        returncode=process.returncode,
        stdout=stdout.decode("utf-8", "replace"),
        stderr=stderr.decode("utf-8", "replace"),
    )


def _leave(process: subprocess.Popen[bytes]) -> None:
    kill_group(process)
    try:
        process.communicate(timeout=LAST_WORDS)
    except subprocess.TimeoutExpired:
        _left_behind.append(process)
        if sys.platform != "win32":  # there, threads that cannot be ended still read from them
            for pipe in (process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@dataclass
class _Box(Generic[T]):
    value: list[T] = field(default_factory=list)
    error: list[BaseException] = field(default_factory=list)


def ask_in_thread(question: Callable[[], T], timeout: float) -> T | None:
    """Ask in a thread that does not keep the program alive, for programs that have no interpreter to start.

    Args:
        question: What to ask. It goes on in its thread when it takes too long: a thread cannot be ended.
        timeout: Seconds.

    Returns:
        The answer; none when there was none in time.
    """
    box: _Box[T] = _Box()

    def work() -> None:
        try:
            box.value.append(question())
        except BaseException as error:  # noqa: BLE001 (handed to the caller)
            box.error.append(error)

    thread = threading.Thread(target=work, name="lading-nvml", daemon=True)
    thread.start()
    thread.join(timeout)
    if box.error:
        raise box.error[0]
    return box.value[0] if box.value else None
