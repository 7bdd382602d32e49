"""A folder repository served on loopback: HTTP/1.1, keep-alive, single ranges, many threads.

For rehearsals: the build road installs through it, and the benchmarks measure against it. It is no web server for the
world. As a program it prints its address and serves until its standard input is closed::

    python -m lading.publish.loopback FOLDER
"""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from typing_extensions import override

BLOCK = 2**20

_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]*)")


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the number of bytes that a Range header asks for; none when it cannot be given.

    Args:
        header: The header; none or several ranges mean the whole file, as RFC 9110 allows.
        size: Bytes of the file.
    """
    match = _RANGE.fullmatch(header or "")
    if match is None:
        return 0, size
    first = int(match[1])
    last = min(int(match[2]) if match[2] else size - 1, size - 1)
    return (first, last - first + 1) if first <= last else None


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD for the files of one folder."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else the body waits for the acknowledgement of the headers, 40 ms on Linux
    folder: Path

    def do_GET(self) -> None:
        """Send a file, or a range of it."""
        path = self._find()
        if path is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        size = path.stat().st_size
        span = wanted(self.headers.get("Range"), size)
        if span is None:
            self.send_error(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return
        first, count = span
        self.send_response(HTTPStatus.OK if count == size else HTTPStatus.PARTIAL_CONTENT)
        if count != size:
            self.send_header("Content-Range", f"bytes {first}-{first + count - 1}/{size}")
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(count))
        self.end_headers()
        if self.command == "GET":
            self._send(path, first, count)

    do_HEAD = do_GET  # noqa: N815 (the standard library's name)

    def _find(self) -> Path | None:
        path = (self.folder / unquote(urlsplit(self.path).path).lstrip("/")).resolve()
        return path if path.is_file() and path.is_relative_to(self.folder) else None

    def _send(self, path: Path, first: int, count: int) -> None:
        with path.open("rb") as stream:
            stream.seek(first)
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has what it wanted, or is gone
                while count > 0 and (block := stream.read(min(count, BLOCK))):
                    self.wfile.write(block)
                    count -= len(block)

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder from threads of this process while the block runs.

    Args:
        folder: The repository.

    Yields:
        Its address, such as ``http://127.0.0.1:40123``.
    """
    handler = type("FolderHandler", (Handler,), {"folder": folder.resolve()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def main(arguments: list[str]) -> int:
    """Serve until standard input ends."""
    with serving(Path(arguments[0])) as url:
        print(url, flush=True)
        sys.stdin.read()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
