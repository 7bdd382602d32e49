"""Which port a server may have, and who holds it when it may not."""

from __future__ import annotations

import socket
import sys
import threading
import time

import psutil

from lading.errors import PortTaken

FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5  # seconds between two attempts; doubled each time


def is_free(host: str, port: int) -> bool:
    """Whether a server could listen there now, found by doing so for an instant."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        if sys.platform != "win32":
            # As servers do: a port in TIME_WAIT is free. On Windows this option would let two servers share a port.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_until_free(host: str, port: int, *, patience: float, cancel: threading.Event | None = None) -> bool:
    """Wait until a server could listen there: tried again and again, with growing pauses.

    Args:
        host: The address.
        port: The port.
        patience: Seconds after which it is given up; it is tried once at least.
        cancel: Ends the waiting.

    Returns:
        Whether it is free.
    """
    stop = cancel or threading.Event()
    until = time.monotonic() + patience
    pause = FIRST_PAUSE
    while not is_free(host, port):
        left = until - time.monotonic()
        if left <= 0 or stop.wait(min(pause, left)):
            return False
        pause = min(pause * 2, LONGEST_PAUSE)
    return True


def free_port(host: str) -> int:
    """A port that nobody listens on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def owner_of(port: int) -> psutil.Process | None:
    """The process that listens on a port, when the system lets us know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.laddr or not connection.pid:
                continue
            if connection.laddr.port == port:
                return psutil.Process(connection.pid)
    except (psutil.Error, OSError):
        return None  # not permitted to look: the port is taken all the same, by somebody without a name
    return None


def describe(process: psutil.Process | None) -> str:
    """A process for a person: its name and number."""
    if process is None:
        return "a process that this user may not see"
    try:
        return f"{process.name()} (process {process.pid})"
    except psutil.Error:
        return f"process {process.pid}"


def taken(port: int, how: str = "is taken by") -> PortTaken:
    """The error for a port that somebody else holds; nobody is ever killed for it."""
    return PortTaken(
        f"Port {port} {how} {describe(owner_of(port))}.",
        usually="Another copy of the server still runs, or another program uses this port.",
        todo="Stop that program, or choose another port with --port (0 for any free one).",
    )
