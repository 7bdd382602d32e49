"""Stopping a long step half-way: an event that is looked at between the pieces, and the signals that set it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from tenacity import nap

from lading.errors import Interrupted


def stop_if(cancel: threading.Event | None) -> None:
    """End here when it was asked for.

    Raises:
        Interrupted: The event is set.
    """
    if cancel is not None and cancel.is_set():
        raise Interrupted(
            "Stopped, as it was asked for.",
            usually="What is installed is unchanged; what was verified is kept.",
            todo="Run the same command again: it goes on where it stopped.",
        )


def sleeping_until(cancel: threading.Event | None) -> Callable[[float], None]:
    """A way to wait that ends as soon as the event is set.

    Args:
        cancel: The event; an ordinary sleep when none.

    Returns:
        Waits for a number of seconds; raises :class:`~lading.errors.Interrupted` when the event was set meanwhile.
    """
    if cancel is None:
        return nap.sleep

    def sleep(seconds: float) -> None:
        cancel.wait(seconds)
        stop_if(cancel)

    return sleep


@contextmanager
def cancelled_by_signals() -> Iterator[threading.Event]:
    """Let the first Ctrl-C (or SIGTERM) ask for a clean end; the second one ends at once.

    A signal that is ignored stays ignored. Outside of the main thread, where Python takes no signals, nothing sets the
    event.

    Yields:
        The event.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def ask(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 (the system's signature)
        if event.is_set():
            raise KeyboardInterrupt
        event.set()

    heeded = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, ask) for number in heeded}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
