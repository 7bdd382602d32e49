"""Start a server, wait until it proves that it is the one and well, stop it.

``with running(tree, entry) as server`` is the whole interface. What can go wrong has one answer each:

    * it exits: :class:`ServerUnhealthy` with its exit code and last lines, at once;
    * it hangs, or stays not ready: killed at the deadline, :class:`ServerUnhealthy` with its last answer and lines;
    * somebody else answers on its port: :class:`PortTaken`, naming him; he is left alone;
    * it answers with another identity than it was given: :class:`ServerUnhealthy`.

Does not: choose a version, restart anything, or fall back.
"""

from __future__ import annotations

import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from lading.errors import PortTaken, ServerUnhealthy
from lading.launch.child import end, server_environment, start
from lading.launch.health import Health, NoHealth, ask, judge
from lading.launch.kept import Process
from lading.launch.log import as_quote, tail
from lading.launch.port import free_port, is_free, owner_of, taken
from lading.launch.signatures import advice_for

LOOPBACK = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104 (compared with, not bound to): no address to connect to
DEADLINE = 180.0  # seconds until healthy: a cold 5 GB tree on a slow disk needs more than a minute
PATIENCE = 10.0  # seconds to end in order before the group is killed
FIRST_POLL, LAST_POLL = 0.02, 0.25  # seconds between two looks, growing


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server that proved to be healthy.

    Attributes:
        url: Its base URL.
        pid: Its process.
        health: What it answered when it became ready.
        log: Where it prints.
        seconds: From the start to ready.
        process: The process, for waiting on it.
    """

    url: str
    pid: int
    health: Health
    log: Path
    seconds: float
    process: subprocess.Popen[bytes]

    def ask(self) -> Health:
        """How it is now.

        Raises:
            NoHealth: It does not answer.
        """
        return ask(self.url)


def _unhealthy(what: str, log: Path, status: int | None = None) -> ServerUnhealthy:
    advice = advice_for(tail(log), status)
    return ServerUnhealthy(
        f"{what}\n{as_quote(log)}",
        usually=advice.usually
        if advice
        else "The build does not fit this machine (driver, libraries, memory), or the installation is damaged.",
        todo=advice.todo
        if advice
        else "Read the log; `lading verify` on the installation tells whether its files are whole.",
    )


def _exit_text(status: int) -> str:
    return f"was killed by signal {-status}" if status < 0 else f"ended with exit code {status}"


def ended(status: int, log: Path) -> ServerUnhealthy:
    """The error for a healthy server that ended although nobody asked it to."""
    return _unhealthy(f"The server {_exit_text(status)} while it was running.", log, status)


def unwell(what: str, log: Path) -> ServerUnhealthy:
    """The error for a server that was healthy, still runs, and is not well any more."""
    return _unhealthy(what, log)


def url_of(host: str, port: int) -> str:
    """The address under which a server that listens there is asked from this machine."""
    address = EVERYWHERE.get(host, host)
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def _is_ours(port: int, pid: int) -> bool:
    """Whether the port belongs to the process or a descendant of it."""
    owner = owner_of(port)
    if owner is None:
        return False
    try:
        return pid == owner.pid or pid in {parent.pid for parent in owner.parents()}
    except psutil.Error:
        return False


def _stranger(port: int, process: Process, health: Health, log: Path) -> PortTaken | ServerUnhealthy:
    if _is_ours(port, process.pid):
        return _unhealthy(
            f"The server on port {port} answers as instance {health.instance_id!r}, not as the one it was started as.",
            log,
        )
    return taken(port, "answers for")


def wait_until_healthy(process: Process, url: str, port: int, *, instance: str, deadline: float, log: Path) -> Health:
    """Wait for a started server's own ``/health``.

    Args:
        process: The server.
        url: Its base URL.
        port: Its port.
        instance: The identity that it must show.
        deadline: Seconds that it may take.
        log: Where it prints.

    Returns:
        Its first answer that says it is ready.

    Raises:
        ServerUnhealthy: It ended, is not well, shows another identity, or took too long. It may still run.
        PortTaken: Somebody else answers.
    """
    until = time.monotonic() + deadline
    pause = FIRST_POLL
    last = "nothing"
    while True:
        if (status := process.poll()) is not None:
            if status == PortTaken.exit_code and owner_of(port) is not None:
                raise taken(port)  # somebody was faster; the server says so by its exit code
            raise _unhealthy(f"The server {_exit_text(status)} before it was ready.", log, status)
        left = until - time.monotonic()
        if left <= 0:
            raise _unhealthy(f"The server was not ready after {deadline:g} s; its last answer was {last}.", log)
        health: Health | None = None
        try:
            health = ask(url, timeout=max(0.1, min(left, 5.0)))
            last = f"status {health.status!r}"
        except NoHealth as error:
            last = str(error)
        match judge(health, instance):
            case "ready" if health is not None:
                return health
            case "stranger" if health is not None:
                raise _stranger(port, process, health, log)
            case "unhealthy":
                raise _unhealthy(f"The server reports that it is not well: {last}.", log)
            case _:
                pass
        time.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(pause * 1.5, LAST_POLL)


@contextmanager
def running(
    tree: Path,
    entry: str,
    *,
    host: str = LOOPBACK,
    port: int | None = None,
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    deadline: float = DEADLINE,
    patience: float = PATIENCE,
) -> Iterator[RunningServer]:
    """Run a server for the time of a block.

    Args:
        tree: The folder with its executable.
        entry: The executable, relative to the tree.
        host: Where it listens.
        port: Its port; any free one when none or 0.
        arguments: Further arguments.
        environment: Secrets and settings.
        log: Where it prints; a temporary file when none.
        deadline: Seconds until it must be healthy.
        patience: Seconds that it may take to end in order.

    Yields:
        The healthy server. When the block ends, however it ends, the server and all its children have ended.

    Raises:
        PortTaken: Somebody else has the port.
        ServerUnhealthy: It ended, hung, or is not well; nothing of it is left running.
    """
    if port and not is_free(host, port):
        raise taken(port)
    chosen = port or free_port(host)
    url = url_of(host, chosen)
    instance = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="lading-run-", ignore_cleanup_errors=True) as scratch:
        sink = log or Path(scratch) / "server.log"
        began = time.monotonic()
        process = start(
            tree.absolute(),
            entry,
            ["--host", host, "--port", str(chosen), *arguments],
            environment=server_environment(instance, environment),
            log=sink,
        )
        try:
            health = wait_until_healthy(process, url, chosen, instance=instance, deadline=deadline, log=sink)
            seconds = time.monotonic() - began
            yield RunningServer(url=url, pid=process.pid, health=health, log=sink, seconds=seconds, process=process)
        finally:
            end(process, patience=patience)
