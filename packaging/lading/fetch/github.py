"""A repository on GitHub: assets from its releases, metadata from its branch, all without its API.

The API gives an anonymous machine 60 requests an hour, shared by everybody behind one address; downloads of releases
and of raw files do not count there. What lies where is decided in :mod:`lading.manifest.github_layout`; HTTP, redirects
to signed addresses included, is left to :class:`lading.fetch.http.HttpSource`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from lading.fetch.http import HttpSource
from lading.fetch.source import Stream, Traffic, Waits
from lading.fetch.throttle import Throttle
from lading.manifest.github_layout import GitHubRepository, asset_place


class GitHubSource:
    """Reads a public repository on GitHub; may be used by several threads at once.

    Args:
        repository: Which one.
        throttle: Holds a bandwidth limit.
        waits: How long a server may take.
        clock: Tells seconds.
    """

    def __init__(
        self,
        repository: GitHubRepository,
        *,
        throttle: Throttle | None = None,
        waits: Waits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._assets = HttpSource(repository.assets, throttle=throttle, waits=waits, clock=clock)
        self._metadata = HttpSource(repository.metadata, throttle=throttle, waits=waits, clock=clock)
        self.traffic = Traffic()
        for part in (self._assets, self._metadata):
            part.traffic.also = self.traffic

    def describe(self, path: str) -> str:
        """The file's URL; the repository's page for the empty path."""
        if not path:
            return self._repository.page
        part, place = self._find(path)
        return part.describe(place)

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there."""
        part, place = self._find(path)
        return part.stream(place)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start`` of a file of ``total`` bytes."""
        part, place = self._find(path)
        return part.stream_range(place, start, size, total)

    def distrust(self, path: str, why: str) -> None:
        """Nothing: there is one place to read from."""

    def interrupt(self) -> None:
        """Let the threads that wait for bytes fail now."""
        self._assets.interrupt()
        self._metadata.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._assets.close()
        self._metadata.close()

    def _find(self, path: str) -> tuple[HttpSource, str]:
        place = asset_place(path)
        return (self._metadata, path) if place is None else (self._assets, f"{place.tag}/{place.name}")
