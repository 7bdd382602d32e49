"""Which port a server may have, and who holds it when it may not."""

from __future__ import annotations

import socket
import sys

import psutil

from lading.errors import PortTaken


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
