"""Speaks to a running launcher, from another process of the same user."""

from __future__ import annotations

import json
from pathlib import Path

import urllib3

from lading import errors
from lading.errors import FormatInvalid, LadingError, LauncherAbsent
from lading.launch.address import absent, read_address
from lading.launch.status import LauncherStatus
from lading.manifest.base import read_record
from lading.store.preference import Backend

ANSWER_SECONDS = 10.0  # for everything that is answered at once


class Remote:
    """A running launcher.

    Args:
        data: Its data directory.

    Raises:
        LauncherAbsent: None runs there.
        AccessDenied: It belongs to another user.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._address = read_address(data)

    def status(self) -> LauncherStatus:
        """How it is.

        Raises:
            LauncherAbsent: It does not answer.
        """
        return self._ask("GET", "/status", None, timeout=ANSWER_SECONDS)

    def restart(self, *, wait: bool = True, retry: bool = False) -> LauncherStatus:
        """Restart its server.

        Args:
            wait: Until the server is ready.
            retry: Also a version that was set aside.

        Raises:
            LauncherAbsent: It does not answer.
            LadingError: The server did not get ready.
        """
        order: dict[str, object] = {"wait": wait, "retry": retry}
        return self._ask("POST", "/restart", order, timeout=None if wait else ANSWER_SECONDS)

    def choose(self, backend: Backend) -> LauncherStatus:
        """Keep a choice for the next start.

        Raises:
            LauncherAbsent: It does not answer.
            ConfigError: It was told what to run.
        """
        return self._ask("POST", "/choice", {"backend": backend}, timeout=ANSWER_SECONDS)

    def stop(self) -> LauncherStatus:
        """End its server, and then the launcher; answers at once.

        Raises:
            LauncherAbsent: It does not answer.
        """
        return self._ask("POST", "/stop", None, timeout=ANSWER_SECONDS)

    def _ask(self, method: str, path: str, body: dict[str, object] | None, *, timeout: float | None) -> LauncherStatus:
        headers = {"Authorization": f"Bearer {self._address.token}"}
        patience = urllib3.Timeout(connect=ANSWER_SECONDS, read=timeout)
        try:
            with urllib3.PoolManager() as pool:  # which knows no proxy: loopback is not for the user's
                answer = pool.request(
                    method, f"{self._address.url}{path}", json=body, headers=headers, timeout=patience, retries=False
                )
        except urllib3.exceptions.HTTPError as error:
            raise absent(self._data) from error
        if answer.status in {200, 202}:
            return read_record(LauncherStatus, answer.data, origin="the launcher's answer")
        raise _refused(answer.status, answer.data)


def _refused(status: int, data: bytes) -> LadingError:
    """The error that a launcher told of."""
    try:
        problem = json.loads(data)
        kind = getattr(errors, str(problem.get("code")), None)
        texts = {name: str(problem.get(name, "")) for name in ("detail", "usually", "todo")}
    except (ValueError, AttributeError):
        raise FormatInvalid(
            f"The launcher answers with HTTP {status} and something that is no problem record.",
            usually="Another program uses the address that a launcher had.",
            todo="Start the launcher again.",
        ) from None
    wanted = kind if isinstance(kind, type) and issubclass(kind, LadingError) else LauncherAbsent
    return wanted(texts["detail"], usually=texts["usually"], todo=texts["todo"])
