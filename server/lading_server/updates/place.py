"""The data directory, the repository and the machine, as this server knows them. Reads; never blocks the event loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from lading.client import Client
from lading.host.facts import host_facts
from lading.host.record import HostFacts
from lading.store.status import Status
from lading_server.updates import refusals
from lading_server.updates.discretion import discreet
from lading_server.updates.settings import Repository, Settings, embedded, installed, repository
from lading_server.updates.threads import aside

FRESH = 60.0  # seconds for which the machine's facts are good: asking the driver is not free


class Place:
    """Where backends are, and where they come from.

    Args:
        settings: The server's surroundings.
        facts: Looks at the machine; blocks for seconds.
    """

    def __init__(self, settings: Settings, facts: Callable[[], HostFacts] = host_facts) -> None:
        self._settings = settings
        self._facts = facts
        self._seen: tuple[float, HostFacts] | None = None

    @property
    def managed(self) -> bool:
        """Whether it is known where backends are."""
        return self._settings.data is not None

    @property
    def data(self) -> Path:
        """The data directory.

        Raises:
            ProblemError: It is not known.
        """
        if self._settings.data is None:
            raise refusals.not_managed()
        return self._settings.data

    def discreet(self, text: str) -> str:
        """A text as it may be told to whoever asks."""
        return discreet(text, (self._settings.data, "the data directory"))

    async def status(self) -> Status | None:
        """What is installed; none when it is not known where."""
        return await aside(self.local().status, "status") if self.managed else None

    async def repository(self) -> Repository:
        """Where releases come from.

        Raises:
            SettingsInvalid: What the build embeds cannot be read.
        """
        data = self._settings.data
        return await aside(lambda: repository(self._settings.said, embedded(), installed(data)), "repository")

    def local(self) -> Client:
        """A client for what needs no repository.

        Raises:
            ProblemError: It is not known where backends are.
        """
        return Client(self.data, source=(), root=b"", app="")

    async def client(self) -> Client:
        """A client for everything.

        Raises:
            ProblemError: It is not known where backends are, where they come from, or whom to trust.
        """
        data = self.data
        known = await self.repository()
        if not known.sources:
            raise refusals.no_repository("where releases come from (LADING_SOURCE)")
        if not known.root:
            raise refusals.no_repository("whose releases to trust (LADING_ROOT)")
        return Client(data, source=known.sources, root=known.root, app=known.app, channel=known.channel)

    async def machine(self, *, anew: bool = False) -> HostFacts:
        """This machine.

        Args:
            anew: Look again. Otherwise a driver that does not answer is not asked a second time.
        """
        if self._seen is not None and not anew:
            at, known = self._seen
            if known.gpu.reason == "no_answer" or time.monotonic() - at < FRESH:
                return known
        facts = await aside(self._facts, "host")
        self._seen = (time.monotonic(), facts)
        return facts
