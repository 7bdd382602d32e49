"""Renames that wait a moment for whoever has the file open.

On Windows a virus scanner opens what was just written for up to some seconds, and the system refuses to rename it
meanwhile. The refusal passes by itself. It does not on POSIX, where an open file is no obstacle: there a refusal is
final, and nothing waits. A program that runs from a folder keeps it for longer than anybody waits: then the refusal
is passed on.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tenacity import Retrying, nap, retry_if_exception_type, stop_after_attempt, wait_exponential

ATTEMPTS = 12  # about eight seconds in all
FIRST_WAIT = 0.05  # seconds; doubled each time
LONGEST_WAIT = 1.0  # seconds
R = TypeVar("R")


def patiently(call: Callable[[], R], *, system: str = os.name, sleep: Callable[[float], None] = nap.sleep) -> R:
    """Do something that another program may be in the way of.

    Args:
        call: Does it; may be called several times.
        system: As ``os.name`` says it.
        sleep: Waits for a number of seconds.

    Returns:
        What the call returns.

    Raises:
        OSError: The last refusal.
    """
    if system != "nt":
        return call()
    return Retrying(
        retry=retry_if_exception_type(PermissionError),  # access denied, sharing violation and lock violation alike
        wait=wait_exponential(multiplier=FIRST_WAIT, max=LONGEST_WAIT),
        stop=stop_after_attempt(ATTEMPTS),
        sleep=sleep,
        reraise=True,
    )(call)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name, which nothing has yet.

    Raises:
        OSError: The system refuses for good.
    """
    patiently(lambda: source.rename(target))


def replace(source: Path, target: Path) -> None:
    """Give a file another name, whatever has it.

    Raises:
        OSError: The system refuses for good.
    """
    patiently(lambda: source.replace(target))
