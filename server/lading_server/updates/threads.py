"""Blocking work beside the event loop, in a thread that never holds up the end of the program.

A thread of a pool is waited for when the interpreter ends; one that asks a repository which does not answer would keep
a stopped server alive for minutes. What such a thread does must bear being killed: asking changes nothing, and an
install is made so that it can be killed at any instant.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def aside(work: Callable[[], T], name: str) -> asyncio.Future[T]:
    """Run something in a thread of its own.

    Args:
        work: What; when the future is cancelled it goes on, and nobody hears what came of it.
        name: The thread's name.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # it is a T where there is no error

    def run() -> None:
        result: T | None = None
        failed: BaseException | None = None
        try:
            result = work()
        except BaseException as error:  # noqa: BLE001 (handed on to whoever waits)
            failed = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failed)

    threading.Thread(target=run, name=name, daemon=True).start()
    return future
