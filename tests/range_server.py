"""A small threaded HTTP server for a folder, strict about ranges, which can misbehave on purpose."""

from __future__ import annotations

import re
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
    """What the server is about to send; a fault changes it."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    drop_after: int | None = None  # cut the connection after so many body bytes
    stall_after: int | None = None  # fall silent after so many body bytes, until the server ends


Fault = Callable[[Answer], None]


@dataclass
class RangeServer:
    """A running server.

    Attributes:
        url: Its base address.
        folder: What it serves.
        requests: Path and Range header of every request.
        faults: Each changes every answer before it is sent.
    """

    url: str
    folder: Path
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    ending: threading.Event = field(default_factory=threading.Event)

    def asked(self, part: str) -> list[str]:
        """The paths that were asked for and contain a text."""
        return [path for path, _ in self.requests if part in path]

    def answer(self, path: str, header: str | None) -> Answer:
        """The answer to one request, faults included."""
        with self.lock:
            self.requests.append((path, header))
            answer = self._sound(path, header)
            for fault in self.faults:
                fault(answer)
            return answer

    def _sound(self, path: str, header: str | None) -> Answer:
        file = self.folder / path
        if not file.is_file():
            return Answer(path, 404, {}, b"not here")
        data = file.read_bytes()
        headers = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if header is None:
            return Answer(path, 200, headers, data)
        match = _SINGLE_RANGE.match(header)
        if match is None:
            return Answer(path, 501, {}, b"one range at a time")
        start, end = int(match[1]), min(int(match[2]), len(data) - 1)
        if start >= len(data):
            return Answer(path, 416, {"Content-Range": f"bytes */{len(data)}"}, b"")
        headers["Content-Range"] = f"bytes {start}-{end}/{len(data)}"
        return Answer(path, 206, headers, data[start : end + 1])


@contextmanager
def serving(folder: Path) -> Iterator[RangeServer]:
    """Serve a folder on loopback while the block runs."""
    holder: list[RangeServer] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path).lstrip("/")
            answer = holder[0].answer(path, self.headers.get("Range"))
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            short = next((number for number in (answer.drop_after, answer.stall_after) if number is not None), None)
            self.wfile.write(answer.body[:short])
            if answer.stall_after is not None:
                self.wfile.flush()
                holder[0].ending.wait()
            if short is not None:
                self.close_connection = True

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        @override
        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up is part of many tests

    native = Server(("127.0.0.1", 0), Handler)
    holder.append(RangeServer(url=f"http://127.0.0.1:{native.server_port}", folder=folder))
    thread = threading.Thread(target=native.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield holder[0]
    finally:
        holder[0].ending.set()
        native.shutdown()
        thread.join()
        native.server_close()
