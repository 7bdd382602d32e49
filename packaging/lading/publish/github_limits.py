"""How long GitHub wants us to wait. Pure: statuses and headers in, seconds out.

Rules, in this order, for an answer of 403 or 429:
    1. ``Retry-After`` says it.
    2. ``x-ratelimit-remaining: 0``: until ``x-ratelimit-reset``, both by the server's own clock.
    3. A secondary limit that says neither: a minute, doubled each time.
Any other 403 is a refusal, and waiting does not help.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from typing_extensions import override

FORBIDDEN, TOO_MANY = 403, 429
SECONDARY = 60.0  # seconds to wait at the least when a secondary limit does not say how long
MARGIN = 1.0  # seconds: the reset is given in whole seconds


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What the primary rate limit leaves.

    Attributes:
        limit: Requests an hour.
        remaining: Requests that are left of them.
        reset: When they are renewed, seconds since 1970.
    """

    limit: int
    remaining: int
    reset: int

    @override
    def __str__(self) -> str:
        return (
            f"{self.remaining} of {self.limit} requests left until {datetime.fromtimestamp(self.reset, UTC):%H:%M} UTC"
        )


def budget_of(headers: Mapping[str, str]) -> Budget | None:
    """What an answer's headers say of the budget."""
    limit, remaining, reset = (
        headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")
    )  # fmt: skip
    if not (limit.isdecimal() and remaining.isdecimal() and reset.isdecimal()):
        return None
    return Budget(limit=int(limit), remaining=int(remaining), reset=int(reset))


def server_time(headers: Mapping[str, str]) -> float | None:
    """When the server says that it answered, seconds since 1970."""
    try:
        return parsedate_to_datetime(headers.get("date", "")).timestamp()
    except (ValueError, TypeError):
        return None


def pause_of(status: int, headers: Mapping[str, str], message: str, times: int) -> float | None:
    """How long to wait before the same request is sent again.

    Args:
        status: The answer's.
        headers: The answer's, their names in lower case or in any.
        message: What the answer says.
        times: How often we have waited already.

    Returns:
        Seconds; none when the answer does not speak of a limit.
    """
    if status not in {FORBIDDEN, TOO_MANY}:
        return None
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    budget, now = budget_of(headers), server_time(headers)
    if budget is not None and budget.remaining == 0 and now is not None:
        return max(0.0, budget.reset - now) + MARGIN
    if status == TOO_MANY or "rate limit" in message.lower() or "abuse detection" in message.lower():
        return SECONDARY * 2.0**times
    return None
