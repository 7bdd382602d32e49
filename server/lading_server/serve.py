"""Serving: takes the port, runs the application until it is asked to stop, and stops without losing a request.

Prints one line, ``listening on http://host:port``, when it accepts requests. SIGTERM and SIGINT (on Windows also
Ctrl+Break) end it with status 0 after the requests in flight were answered, or after ``STOP_SECONDS``.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import sys
from types import FrameType

import uvicorn
from typing_extensions import override

from lading_server.app import create_app
from lading_server.entry import EXIT_USAGE
from lading_server.options import Options
from lading_server.updates.service import Updates
from lading_server.updates.settings import Settings, SettingsInvalid, take
from lading_server.variant import settle

EXIT_FAILED = 1
EXIT_PORT_TAKEN = 44
STOP_SECONDS = 5  # for requests in flight; a launcher kills after longer than this

_TAKEN = {errno.EADDRINUSE, getattr(errno, "WSAEADDRINUSE", errno.EADDRINUSE)}
if sys.platform == "win32":  # pragma: no cover (Windows)
    _TAKEN.add(errno.EACCES)  # what Windows says for a port that its owner holds exclusively


def bind(host: str, port: int) -> socket.socket:
    """Take a port, without listening on it yet.

    Args:
        host: An address or a name.
        port: The port; 0 for any that is free.

    Raises:
        OSError: The name is unknown, the address is not this machine's, or the port is taken.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    taken = socket.socket(family, kind, protocol)
    try:
        if sys.platform == "win32":  # pragma: no cover (Windows)
            # There, SO_REUSEADDR would let two programs share the port.
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(address)
    except BaseException:
        taken.close()
        raise
    return taken


def url_of(listening: socket.socket) -> str:
    """The address of a socket as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    """Says when it listens: the line is what a launcher waits for; and ends streams before it waits for requests.

    Args:
        config: As for every server of uvicorn.
        updates: Has streams that would not end by themselves.
    """

    def __init__(self, config: uvicorn.Config, updates: Updates) -> None:
        super().__init__(config)
        self._updates = updates

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._updates.leave()
        await super().shutdown(sockets)

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listening in sockets or []:
            print(f"listening on {url_of(listening)}", flush=True)


def _stay(_signal: int, _frame: FrameType | None) -> None:
    # Uvicorn raises the signal once more after it has stopped; there is nothing left to do then, and being asked to
    # stop is no failure.
    return


def _explain(error: OSError, options: Options) -> int:
    where = f"{options.host} port {options.port}"
    if error.errno in _TAKEN:
        print(
            f"error: {where} is already in use\n"
            "Usually another server runs there. Stop it, or choose another port with --port (0 for any).",
            file=sys.stderr,
        )
        return EXIT_PORT_TAKEN
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        print(f"error: {where} is no address of this machine: {error}", file=sys.stderr)
        return EXIT_USAGE
    print(f"error: cannot listen on {where}: {error}", file=sys.stderr)
    return EXIT_FAILED


def _run(options: Options, listening: socket.socket, settings: Settings) -> int:
    app = create_app(settle(os.environ), settings=settings, listens=options.host)
    server = _Server(
        uvicorn.Config(
            app,
            # Named, not "auto": what is imported must not depend on what happens to be installed beside.
            http="h11",
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            log_level=options.log_level,
            access_log=options.log_level == "debug",
            server_header=False,
            timeout_graceful_shutdown=STOP_SECONDS,
        ),
        app.state.updates,
    )
    try:
        server.run(sockets=[listening])
    except SystemExit:  # uvicorn's way to say that the application's start-up failed; it has logged why
        return EXIT_FAILED
    return 0


def serve(options: Options) -> int:
    """Serve until asked to stop.

    Args:
        options: Where to listen and what to log.

    Returns:
        The exit status: 0 stopped as asked, 1 could not start, 2 no such address or a variable that cannot be meant,
        44 the port is taken.
    """
    logging.basicConfig(
        level=options.log_level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for number in {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGBREAK", signal.SIGTERM)}:
        signal.signal(number, _stay)
    try:
        settings = take(os.environ)
    except SettingsInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USAGE
    try:
        listening = bind(options.host, options.port)
    except OSError as error:
        return _explain(error, options)
    try:
        return _run(options, listening, settings)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return _explain(error, options)  # another program began to listen between our bind and our listen
    finally:
        listening.close()
