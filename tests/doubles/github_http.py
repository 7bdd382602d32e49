"""A small HTTP/1.1 server for doubles: one function answers, a request's body is read only if it wants it."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from tests.doubles.http_server import QuietHandler, listening

DRAINED = 2**20  # bytes of an unwanted body that are read to keep the connection


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    body: bytes | mmap.mmap
    headers: dict[str, str] = field(default_factory=dict)

    def with_headers(self, more: dict[str, str]) -> Reply:
        return replace(self, headers=more | self.headers)


@dataclass
class Request:
    """A request whose body has not been read."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    stream: BinaryIO
    taken: bool = False
    kept: bytes = b""

    @property
    def length(self) -> int:
        return int(self.headers.get("content-length", "0"))

    def body(self) -> bytes:
        if not self.taken:
            self.kept = self.stream.read(self.length)
            self.taken = True
        return self.kept

    def drain(self) -> None:
        """Read what nobody wants, if it is short; the connection is closed after a longer one."""
        if not self.taken and self.length <= DRAINED:
            self.stream.read(self.length)
            self.taken = True


Answerer = Callable[[Request], Reply | None]


class _Handler(QuietHandler):
    answerer: Answerer

    def _any(self) -> None:
        path, _, query = self.path.partition("?")
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, path, query, headers, self.rfile)  # type: ignore[arg-type]
        reply = type(self).answerer(request)
        if reply is None:
            self.close_connection = True
            return
        if request.length and not request.taken:
            self.close_connection = True
        self.send_response_only(reply.status)
        kind = "application/json; charset=utf-8" if reply.body[:1] in {b"{", b"["} else "text/plain"
        for name, value in ({"Content-Type": kind, "Date": self.date_time_string()} | reply.headers).items():
            self.send_header(name, value)
        if reply.status != 204:
            self.send_header("Content-Length", str(len(reply.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)

    do_GET = do_HEAD = do_POST = do_PATCH = do_DELETE = _any  # noqa: N815 (the standard library's names)


@contextmanager
def served(answerer: Answerer) -> Iterator[str]:
    """Serve on a loopback port of the system's choice.

    Yields:
        The base address.
    """
    with listening(type("Handler", (_Handler,), {"answerer": staticmethod(answerer)})) as url:
        yield url
