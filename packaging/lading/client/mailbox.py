"""What waits between an install and whoever follows it: bounded, and never out of date.

An install must not wait for a slow listener, and a listener that was away for a minute has no use for six hundred old
figures. So of the ``progress`` events only the latest waits; and when even the others are too many, the oldest go.

Rules:
    * The last word is always delivered, and is the last.
    * At most :data:`LIMIT` events wait.
    * What is delivered is in the order in which it happened.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

from lading.client.finished import Finished
from lading.manifest.base import Record
from lading.progress import ProgressEvent

LIMIT = 64  # events: more phases and notes than an install has
R = TypeVar("R", bound=Record)


class Mailbox(Generic[R]):
    """Holds what was not taken yet; used from one event loop."""

    def __init__(self) -> None:
        self._waiting: deque[ProgressEvent] = deque(maxlen=LIMIT)
        self._last: Finished[R] | None = None
        self._something = asyncio.Event()

    def put(self, event: ProgressEvent) -> None:
        """Let an event wait; it takes the place of a ``progress`` event that waits as the newest."""
        if event.kind == "progress" and self._waiting and self._waiting[-1].kind == "progress":
            self._waiting.pop()
        self._waiting.append(event)
        self._something.set()

    def end(self, last: Finished[R]) -> None:
        """Let the last word wait."""
        self._last = last
        self._something.set()

    async def take(self) -> ProgressEvent | Finished[R]:
        """The next thing, when there is one."""
        while True:
            if self._waiting:
                return self._waiting.popleft()
            if self._last is not None:
                return self._last
            self._something.clear()
            await self._something.wait()
