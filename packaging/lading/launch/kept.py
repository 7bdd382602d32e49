"""A server under its keeper, as the launcher sees it: start, pid, exit status, end.

``Kept`` has the part of ``subprocess.Popen`` that the rest of this room uses, so that whoever waits for a server's
health need not know which of the two it is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lading.errors import ServerUnhealthy
from lading.launch import keeper
from lading.launch.job import CREATE_SUSPENDED, Job

LOG_LIMIT = 10 * 2**20  # bytes of one log file
LOG_KEEP = 4  # earlier ones that stay
STARTED_WITHIN = 60.0  # seconds until the system has started the server's process; a virus scanner may look first
UNKILLABLE = 10.0  # seconds after which a process that even a kill does not end is left behind
KEEPER_DIED = -9
LEFT_BEHIND = -9  # what a process counts as that even a kill did not end


class Process(Protocol):
    """What is asked of a started server, kept or not."""

    @property
    def pid(self) -> int:
        """The server's own process."""

    def poll(self) -> int | None:
        """Its exit status; none while it runs."""


@dataclass(frozen=True, kw_only=True)
class Sink:
    """Where a program's output goes.

    Attributes:
        log: The file.
        errors: A file for standard error by itself.
        limit: Bytes at which the log is put aside.
        keep: How many earlier logs stay.
    """

    log: Path
    errors: Path | None = None
    limit: int = LOG_LIMIT
    keep: int = LOG_KEEP


def keeper_command(order: str, *, frozen: bool | None = None) -> list[str]:
    """How a keeper is started: by the interpreter, or by a frozen program that starts itself.

    Args:
        order: What it is to keep.
        frozen: Whether this program is frozen; found out when none.
    """
    alone = bool(getattr(sys, "frozen", False)) if frozen is None else frozen
    if alone:
        return [sys.executable, keeper.FLAG, order]
    return [sys.executable, "-I", "-S", str(Path(keeper.__file__)), order]


def keep_if_asked(words: Sequence[str]) -> None:
    """Become a keeper and exit, if a frozen launcher started this program as one; for the first line of its entry.

    Args:
        words: The words after the program's name.

    Raises:
        SystemExit: It was one.
    """
    if words[:1] == [keeper.FLAG]:
        sys.exit(keeper.main(words[1]))


class Kept:
    """A program under a keeper; ends when this process does.

    Args:
        tree: The folder that it is started in.
        entry: The executable, relative to it.
        arguments: Its arguments.
        environment: Its whole environment.
        sink: Where its output goes.
        grace: Seconds to end in order when this process is gone.

    Raises:
        ServerUnhealthy: The system cannot run it.
    """

    def __init__(
        self,
        tree: Path,
        entry: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        sink: Sink,
        grace: float = keeper.GRACE,
    ) -> None:
        program = tree / entry
        order = {
            "command": [str(program), *arguments],
            "log": str(sink.log.absolute()),
            "errors": str(sink.errors.absolute()) if sink.errors else None,
            "limit": sink.limit,
            "keep": sink.keep,
            "grace": grace,
        }
        self.lost: str | None = None
        self._pid = 0
        self._status: int | None = None  # none to the end for what could not be killed
        self._problem: str | None = None
        self._started, self._over = threading.Event(), threading.Event()
        self._job = Job()
        try:
            self._keeper: subprocess.Popen[bytes] = subprocess.Popen(
                keeper_command(json.dumps(order)),
                cwd=tree,
                env=dict(environment),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                **_apart(),  # type: ignore[call-overload]
            )
        except OSError as error:
            raise cannot_start(program, error.strerror or str(error)) from error
        self._job.take(self._keeper)
        self._reader = threading.Thread(target=self._listen, name="lading-kept", daemon=True)
        self._reader.start()
        if not self._started.wait(STARTED_WITHIN):
            self.end(0)
        if (why := self._not_started()) is not None:
            raise cannot_start(program, why)

    def _not_started(self) -> str | None:
        if self._pid:
            return None
        return self._problem or f"the system did not start it in {STARTED_WITHIN:g} s"

    @property
    def pid(self) -> int:
        """The server's own process."""
        return self._pid

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; none while anything of it runs."""
        if not self._over.is_set():
            return None
        return LEFT_BEHIND if self._status is None else self._status

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until nothing of it runs.

        Args:
            timeout: Seconds; for ever when none.

        Returns:
            As :meth:`poll`.
        """
        self._over.wait(timeout)
        return self.poll()

    def end(self, patience: float) -> int | None:
        """End it and everything that it started; done twice does no harm.

        Args:
            patience: Seconds that it may take to end in order.

        Returns:
            Its exit status; none when it cannot even be killed, because a driver holds it.
        """
        with suppress(OSError, ValueError):
            assert self._keeper.stdin is not None
            self._keeper.stdin.write(f"end {patience}\n".encode())
            self._keeper.stdin.flush()
        if not self._over.wait(patience + keeper.KILL_SECONDS + UNKILLABLE):
            self._status = None
            self._over.set()  # nobody is to wait for it any longer
        self._job.close()
        return self._status

    def _listen(self) -> None:
        """Take the keeper's reports until it ends."""
        assert self._keeper.stdout is not None
        assert self._keeper.stdin is not None
        with self._keeper.stdout as reports:
            for line in reports:
                self._heed(line.decode("utf-8", "replace").rstrip("\n"))
        if self._status is None:
            self._orphaned()
            self._problem = self._problem or "its keeper ended at once"
        self._keeper.wait()
        with suppress(OSError):
            self._keeper.stdin.close()
        self._job.close()
        self._over.set()
        self._started.set()

    def _heed(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        if word == "pid":
            self._pid = int(rest)
            self._started.set()
        elif word == "exit":
            self._status = int(rest)
        elif word == "lost":
            self.lost = rest
        elif word == "error":
            self._problem = rest.partition(" ")[2]

    def _orphaned(self) -> None:
        """The keeper ended without a word: somebody killed it, and the server has nobody any more."""
        self._status = KEEPER_DIED
        if self._pid and sys.platform != "win32":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._pid, signal.SIGKILL)


def cannot_start(program: Path, why: str) -> ServerUnhealthy:
    """The error for a program that the system does not start."""
    return ServerUnhealthy(
        f"{program} cannot be started: {why}",
        usually="The installation is incomplete, or was made for another system.",
        todo="Run `lading verify` on it, and install again if it fails.",
    )


def _apart() -> dict[str, object]:
    if sys.platform == "win32":  # pragma: no cover (Windows)
        # A console of its own, without a window, which keeper and server share: CTRL_BREAK reaches the one from the
        # other, and Ctrl-C in the launcher's console reaches neither.
        return {"creationflags": CREATE_SUSPENDED | subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}
