"""Trying a request again when its failure may pass: how long to wait, when to give up, and what was done already.

A request whose answer got lost may have been carried out all the same. Whoever can find that out passes ``settled``: it
is asked before every repetition, so that nothing is sent twice that arrived the first time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from tenacity import RetryCallState, Retrying, nap, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from lading.errors import LadingError

LOG = logging.getLogger("lading.publish")
LOG.addHandler(logging.NullHandler())  # a library is silent until somebody wants to hear

R = TypeVar("R")


class Passing(Exception):
    """One attempt failed in a way that may pass.

    Attributes:
        final: What is raised when nobody wants to wait any longer.
        retry_after: Seconds that the host asked us to wait, if it did.
    """

    def __init__(self, final: LadingError, *, retry_after: float | None = None) -> None:
        super().__init__(final.what)
        self.final = final
        self.retry_after = retry_after


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How hard to try.

    Attributes:
        attempts: How often in all.
        first: Seconds before the second attempt at the most; doubled each time, drawn at random below.
        longest: Seconds of one wait at the most; a host that asks for more is taken at its word that it has no time.
        sleep: Waits for a number of seconds.
    """

    attempts: int = 8
    first: float = 0.5
    longest: float = 120.0
    sleep: Callable[[float], None] = nap.sleep

    def wait(self, state: RetryCallState) -> float:
        """Seconds until the next attempt."""
        drawn = wait_random_exponential(multiplier=self.first, max=self.longest)(state)
        return max(drawn, _asked(state) or 0.0)

    def spent(self, state: RetryCallState) -> bool:
        """Whether to give up."""
        return stop_after_attempt(self.attempts)(state) or (_asked(state) or 0.0) > self.longest


def persist(call: Callable[[], R], patience: Patience, settled: Callable[[], R | None] | None = None) -> R:
    """Do something until it succeeds, fails for good, or took too many attempts.

    Args:
        call: One attempt.
        patience: How hard to try.
        settled: What an earlier attempt has achieved although it failed; none when nothing.

    Returns:
        What the call, or ``settled``, returned.

    Raises:
        LadingError: The failure, or what the last passing failure comes to.
    """
    tried = False

    def once() -> R:
        nonlocal tried
        if tried and settled is not None and (found := settled()) is not None:
            return found
        tried = True
        return call()

    try:
        return Retrying(
            retry=retry_if_exception_type(Passing),
            wait=patience.wait,
            stop=patience.spent,
            sleep=patience.sleep,
            before_sleep=_log,
            reraise=True,
        )(once)
    except Passing as error:
        raise error.final from error


def _asked(state: RetryCallState) -> float | None:
    error = state.outcome.exception() if state.outcome else None
    return error.retry_after if isinstance(error, Passing) else None


def _log(state: RetryCallState) -> None:
    error = state.outcome.exception() if state.outcome else None
    pause = state.next_action.sleep if state.next_action else 0.0
    LOG.info("attempt %d: %s Waiting %.1f s.", state.attempt_number, error, pause)
