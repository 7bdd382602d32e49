"""The one thread in which the engine works, so that the event loop never waits for it, and a bound on who waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Result = TypeVar("Result")

# Each waiting request holds its body (at most 32 MiB); more than this and the client had better come back later.
WAITING_LIMIT = 8


class LaneFullError(Exception):
    """Too many requests are waiting for the engine."""


class Lane:
    """Runs blocking work, one piece at a time, in the order in which it came.

    Args:
        limit: How much work may be waiting or running.
    """

    def __init__(self, limit: int = WAITING_LIMIT) -> None:
        self._limit = limit
        self._taken = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Run a piece of work and wait for it without blocking the event loop.

        Raises:
            LaneFullError: Too much is waiting already; nothing was begun.
        """
        if self._taken >= self._limit:
            raise LaneFullError
        self._taken += 1
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        # Counted until the work itself ends: a caller that gave up does not make room, its work still runs.
        future.add_done_callback(self._release)
        return await asyncio.shield(future)

    def _release(self, _future: asyncio.Future[Result]) -> None:
        self._taken -= 1

    def close(self) -> None:
        """Take no more work; what waits is dropped, what runs is left to end."""
        self._thread.shutdown(wait=False, cancel_futures=True)
