"""A bandwidth limit that all threads and mirrors share: a token bucket that can be in debt.

Whoever received bytes pays for them by waiting; the waits of several threads are handed out one after the other, so
that together they never exceed the rate for longer than the burst. No waiting in here is longer than one block takes at
that rate times the number of threads, which is why blocks are to be small when the rate is (:meth:`Throttle.block`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from threading import Lock

BURST = 0.25  # seconds' worth of bytes that may come at once
SMALLEST = 4096  # bytes of a block at the least
_SHARE = 16  # blocks a second, so that many threads advance evenly
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}
_RATE = re.compile(r"^(?P<number>\d+(\.\d+)?)(?P<unit>[KMG]?)(B|iB)?(/s)?$", re.IGNORECASE)


def parse_rate(text: str) -> float:
    """Read a rate as curl and wget take it: ``500K``, ``5M``, ``1.5M``, a plain number of bytes.

    Args:
        text: What somebody wrote; K, M and G are powers of 1024.

    Returns:
        Bytes per second, above 0.

    Raises:
        ValueError: It is not a rate.
    """
    match = _RATE.match(text.strip())
    rate = float(match["number"]) * _UNITS[match["unit"].upper()] if match else 0.0
    if rate <= 0:
        raise ValueError(f"{text!r} is not a rate above 0: write bytes per second such as 500K or 5M.")
    return rate


class Throttle:
    """Holds a rate by letting those wait who receive; may be used by several threads at once.

    Args:
        rate: Bytes per second.
        clock: Tells seconds.
        sleep: Waits for a number of seconds.
    """

    def __init__(
        self, rate: float, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        if rate <= 0:
            raise TypeError(f"a rate is above 0 bytes per second, not {rate}")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._lock = Lock()
        self._paid_until = clock() - BURST

    def block(self, largest: int) -> int:
        """How many bytes to receive at once.

        Args:
            largest: The most that the receiver takes.
        """
        return min(largest, max(SMALLEST, int(self._rate / _SHARE)))

    def pay(self, amount: int) -> None:
        """Wait for as long as the bytes just received were too early."""
        with self._lock:
            now = self._clock()
            self._paid_until = max(self._paid_until, now - BURST) + amount / self._rate
            wait = self._paid_until - now
        if wait > 0:
            self._sleep(wait)
