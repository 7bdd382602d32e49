"""What time it is: metadata expires, so time comes in like any other input."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

Clock = Callable[[], datetime]


def system_clock() -> datetime:
    """Now, in UTC, in whole seconds: TUF writes no fractions."""
    return datetime.now(UTC).replace(microsecond=0)
