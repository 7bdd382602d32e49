"""Received bytes by what they were for, so that everything is counted and every byte once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from lading.fetch.source import Traffic

Kind = Literal["indexes", "patches", "frames"]


class Tally:
    """Counts one run's bytes; what belongs to no other kind is metadata.

    Args:
        traffic: What the source counts.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._kinds: Counter[Kind] = Counter()

    @contextmanager
    def of(self, kind: Kind) -> Iterator[None]:
        """Count what is received while the block runs, repeated attempts included."""
        before = self._traffic.bytes
        try:
            yield
        finally:
            self._kinds[kind] += self._traffic.bytes - before

    def bytes(self) -> dict[str, int]:
        """Received bytes by kind: metadata, indexes, patches, frames."""
        indexes, patches, frames = (self._kinds[kind] for kind in ("indexes", "patches", "frames"))
        rest = self._traffic.bytes - indexes - patches - frames
        return {"metadata": rest, "indexes": indexes, "patches": patches, "frames": frames}
