"""A small threaded HTTP server for a folder, strict about ranges, which can misbehave on purpose.

Left alone it does what RFC 9110 says: single ranges, strong ETags, ``If-Range``. It answers 501 to several ranges in
one request, as a host of releases does, and the block that runs it fails when a client ever asked for that.
"""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

_SINGLE_RANGE = re.compile(r"^bytes=(\d+)-(\d+)$")


@dataclass
class Answer:
    """What the server is about to send; a fault changes it.

    Attributes:
        path: What was asked for.
        status, headers, body: The answer. ``Content-Length`` is added where there is none.
        drop_after: Close the connection after so many body bytes.
        stall_after: Fall silent after so many body bytes, until the server ends.
        reset_after: Reset the connection after so many body bytes.
        silent: Never answer at all.
        raw: Sent instead of an answer in HTTP; then the connection is closed.
        version: What it claims to speak.
        chunked: Send the body in chunks, without saying how long it is.
        pause: Seconds until the first byte of the body.
    """

    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    drop_after: int | None = None
    stall_after: int | None = None
    reset_after: int | None = None
    silent: bool = False
    raw: bytes | None = None
    version: str = "HTTP/1.1"
    chunked: bool = False
    pause: float = 0.0


Fault = Callable[[Answer], None]


@dataclass
class RangeServer:
    """A running server.

    Attributes:
        url: Its base address.
        folder: What it serves.
        requests: Path and Range header of every request.
        headers: All headers of every request, their names in lower case.
        faults: Each changes every answer before it is sent.
        connections: How many were opened.
    """

    url: str
    folder: Path
    connections: int = 0
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ending: threading.Event = field(default_factory=threading.Event)

    def asked(self, part: str) -> list[str]:
        """The paths that were asked for and contain a text."""
        return [path for path, _ in self.requests if part in path]

    def answer(self, path: str, headers: dict[str, str]) -> Answer:
        """The answer to one request, faults included."""
        with self.lock:
            self.requests.append((path, headers.get("range")))
            self.headers.append(headers)
            answer = self._sound(path, headers)
            for fault in self.faults:
                fault(answer)
            return answer

    def _sound(self, path: str, asked: dict[str, str]) -> Answer:
        file = self.folder / path
        if not file.is_file():
            return Answer(path, 404, {}, b"not here")
        data = file.read_bytes()
        etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", "ETag": etag}
        header = asked.get("range")
        if header is None or asked.get("if-range", etag) != etag:
            return Answer(path, 200, headers, data)
        match = _SINGLE_RANGE.match(header)
        if match is None:
            return Answer(path, 501, {}, b"one range at a time")
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        if start >= len(data):
            return Answer(path, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return Answer(path, 206, headers, data[start : end + 1])


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    running: RangeServer

    @override
    def setup(self) -> None:
        super().setup()
        with self.running.lock:
            self.running.connections += 1

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path).lstrip("/")
        answer = self.running.answer(path, {name.lower(): value for name, value in self.headers.items()})
        if answer.silent:
            self._wait()
        elif answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
        else:
            self._send_head(answer)
            if self.command != "HEAD":
                self._send_body(answer)

    do_HEAD = do_GET  # noqa: N815 (the standard library's name)

    def _send_head(self, answer: Answer) -> None:
        self.protocol_version = answer.version
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if answer.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.version == "HTTP/1.0":
            self.close_connection = True  # and no length: the end of the connection is the end of the body
        elif "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    def _send_body(self, answer: Answer) -> None:
        if answer.pause:
            self.wfile.flush()
            self.running.ending.wait(answer.pause)
        limits = (answer.drop_after, answer.stall_after, answer.reset_after)
        short = next((limit for limit in limits if limit is not None), None)
        body = answer.body[:short]
        self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if answer.chunked else body)
        if short is None:
            return
        self.close_connection = True
        self.wfile.flush()
        if answer.stall_after is not None:
            self._wait()
        if answer.reset_after is not None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _wait(self) -> None:
        self.close_connection = True
        self.running.ending.wait()

    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    @override
    def handle_error(self, request: object, client_address: object) -> None:
        pass  # a client that hangs up is part of many tests


@contextmanager
def serving(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[RangeServer]:
    """Serve a folder on loopback while the block runs.

    Args:
        folder: What to serve.
        tls: Speak HTTPS with this certificate.
    """
    handler = type("Handler", (_Handler,), {})
    native = _Server(("127.0.0.1", 0), handler)
    scheme = "http"
    if tls is not None:
        scheme = "https"
        native.socket = tls.wrap_socket(native.socket, server_side=True, do_handshake_on_connect=False)
    running = RangeServer(url=f"{scheme}://127.0.0.1:{native.server_port}", folder=folder)
    handler.running = running  # type: ignore[attr-defined]
    thread = threading.Thread(target=native.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield running
    finally:
        running.ending.set()
        native.shutdown()
        thread.join()
        native.server_close()
    assert not [header for _, header in running.requests if header and "," in header], "several ranges in one request"
