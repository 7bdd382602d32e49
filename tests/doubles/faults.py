"""A reverse proxy between a publisher and its object store, which counts, and breaks what a test tells it to break.

It speaks HTTP on both sides, so a fault can be told by request: the third part of this object, every read. Faults are
decided by the request alone, never by time, so a test that fails once fails always.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, NoReturn
from urllib.parse import parse_qs, unquote, urlsplit

from tests.doubles.http_server import QuietHandler, listening
from typing_extensions import override

BLOCK = 2**16
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "expect"}

Kind = Literal["cut", "reset", "drop", "short", "silent", "answer", "slow"]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What goes wrong.

    Attributes:
        kind: ``cut``: after so many bytes of the body both connections end, in good order (a request without so long
            a body is lost); ``reset``: the same, with a
            reset; ``drop``: the store does it all, but the answer never comes; ``short``: only the half of
            the answer's body comes; ``silent``: nothing is sent on and
            nothing answered until the test is over; ``answer``: the store is not asked; ``slow``: the answer comes
            later.
        after: Bytes of the body that still get through.
        status, code, headers: Of an ``answer``.
        seconds: Of ``slow``.
        then: Called where a ``cut``, ``reset`` or ``drop`` happens, before the connection ends.
    """

    kind: Kind
    after: int = 0
    status: int = 503
    code: str = "SlowDown"
    headers: tuple[tuple[str, str], ...] = ()
    seconds: float = 0.0
    then: Callable[[], object] | None = None


@dataclass(kw_only=True)
class Asked:
    """One request.

    Attributes:
        method: Such as PUT.
        bucket, key: What for.
        query: Its parameters; those without a value have an empty one.
        headers: Names in lower case.
        body: Bytes of its body that came.
        status: What the store answered; none while it has not.
        delivered: The answer was passed on whole.
    """

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: int = 0
    status: int | None = None
    delivered: bool = False

    @property
    def operation(self) -> str:
        """What it is called in the protocol."""
        names = {
            "PUT": "UploadPart" if "partNumber" in self.query else "PutObject",
            "POST": "CreateMultipartUpload" if "uploads" in self.query else "CompleteMultipartUpload",
            "GET": "GetObject" if self.key else "ListObjects",
            "HEAD": "HeadObject",
            "DELETE": "AbortMultipartUpload" if "uploadId" in self.query else "DeleteObject",
        }
        if self.method == "GET" and "uploads" in self.query:
            return "ListMultipartUploads"
        if self.method == "GET" and "uploadId" in self.query:
            return "ListParts"
        return names[self.method]

    @property
    def stored(self) -> bool:
        """Whether the store took it."""
        return self.status is not None and self.status < 300


Rule = Callable[[Asked], Fault | None]
Check = Callable[[Asked, bytes], Fault | None]


@dataclass
class Gateway:
    """A running proxy.

    Attributes:
        url: Its address.
        upstream: The store's host and port.
        seen: Every request, in order of arrival.
        rules: Each may break a request, before its body is read.
        checks: Each may refuse a request, with its whole body.
        patience: Seconds that the store may take for one request.
    """

    url: str
    upstream: str
    seen: list[Asked] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    patience: float = 120.0
    lock: threading.Lock = field(default_factory=threading.Lock)
    running: int = 0
    idle: threading.Condition = field(default_factory=threading.Condition)
    ending: threading.Event = field(default_factory=threading.Event)

    def asked(self, *operations: str, key: str = "") -> list[Asked]:
        """The requests of some kinds for keys that contain a text."""
        return [one for one in list(self.seen) if one.operation in operations and key in one.key]

    def stored(self) -> Counter[tuple[str, str]]:
        """How often the store took each object and each part of one, by key and number (0 for a whole object)."""
        writes = self.asked("PutObject", "UploadPart")
        return Counter((one.key, one.query.get("partNumber", "0")) for one in writes if one.stored)

    def sent(self) -> Counter[str]:
        """Bytes of bodies that were sent for each key."""
        found: Counter[str] = Counter()
        for one in self.asked("PutObject", "UploadPart"):
            found[one.key] += one.body
        return found

    def settle(self) -> None:
        """Wait until no request is under way."""
        with self.idle:
            assert self.idle.wait_for(lambda: self.running == 0, self.patience)

    def once(self, fault: Fault, operation: str, key: str = "", *, skip: int = 0, times: int = 1) -> None:
        """Break some requests of a kind: the first ones after ``skip``."""
        count = 0

        def rule(asked: Asked) -> Fault | None:
            nonlocal count
            if asked.operation != operation or key not in asked.key:
                return None
            count += 1
            return fault if skip < count <= skip + times else None

        self.rules.append(rule)


class _Broken(Exception):
    """The connection is to end here."""


class _Handler(QuietHandler):
    gateway: Gateway

    def _handle(self) -> None:
        gateway = self.gateway
        asked = self._asked()
        with gateway.idle:
            gateway.running += 1
        try:
            with gateway.lock:
                gateway.seen.append(asked)
                fault = next((found for rule in gateway.rules if (found := rule(asked)) is not None), None)
            self._serve(asked, fault)
        except _Broken:
            self.close_connection = True
        finally:
            with gateway.idle:
                gateway.running -= 1
                gateway.idle.notify_all()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _handle  # noqa: N815 (the standard library's names)

    @override
    def handle_expect_100(self) -> bool:
        self.send_response_only(100)
        self.end_headers()
        return True

    def _asked(self) -> Asked:
        parts = urlsplit(self.path)
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Asked(method=self.command, bucket=bucket, key=key, query=query, headers=headers)

    def _serve(self, asked: Asked, fault: Fault | None) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if fault is not None and fault.kind in {"answer", "silent"}:
            self._drain(asked, length)
            if fault.kind == "silent":
                self.gateway.ending.wait()
                raise _Broken
            self._refuse(asked, fault)
            return
        if self.gateway.checks:
            body = self._read(asked, length)
            with self.gateway.lock:
                fault = next((x for check in self.gateway.checks if (x := check(asked, body)) is not None), fault)
            if fault is not None and fault.kind == "answer":
                self._refuse(asked, fault)
                return
            blocks = iter((body,))
        else:
            blocks = self._blocks(asked, length)
        self._relay(asked, blocks, fault)

    def _relay(self, asked: Asked, blocks: Iterator[bytes], fault: Fault | None) -> None:
        length = int(asked.headers.get("content-length", 0))
        if fault is not None and fault.kind in {"cut", "reset"} and length <= fault.after:
            for _ in blocks:
                pass
            self._end(fault)  # all of it would get through, and the store would do it: the request is lost instead
        connection = http.client.HTTPConnection(self.gateway.upstream, timeout=self.gateway.patience)
        try:
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                if name.lower() not in _HOP_BY_HOP:
                    connection.putheader(name, value)
            connection.endheaders()
            self._forward(connection, blocks, fault)
            answer = connection.getresponse()
            body = b"" if self.command == "HEAD" else answer.read()
            asked.status = answer.status
            self._answer(asked, answer, body, fault)
        finally:
            connection.close()

    def _forward(self, connection: http.client.HTTPConnection, blocks: Iterator[bytes], fault: Fault | None) -> None:
        left = fault.after if fault is not None and fault.kind in {"cut", "reset"} else None
        for block in blocks:
            connection.send(block if left is None else block[:left])
            if left is not None:
                left -= len(block)
                if left <= 0:
                    break
        if left is not None:
            connection.close()
            self._end(fault)

    def _answer(self, asked: Asked, answer: http.client.HTTPResponse, body: bytes, fault: Fault | None) -> None:
        if fault is not None and fault.kind == "drop":
            self._end(fault)
        if fault is not None and fault.kind == "slow":
            self.gateway.ending.wait(fault.seconds)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in {*_HOP_BY_HOP, "content-length"}:
                self.send_header(name, value)
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", size or "0")
        self.end_headers()
        if fault is not None and fault.kind == "short":
            self._write(body[: len(body) // 2])
            self._end(fault)
        self._write(body)
        asked.delivered = True

    def _refuse(self, asked: Asked, fault: Fault) -> None:
        asked.status = fault.status
        body = f"<Error><Code>{fault.code}</Code><Message>told to</Message></Error>".encode()
        self.send_response_only(fault.status)
        for name, value in fault.headers:
            self.send_header(name, value)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self._write(b"" if self.command == "HEAD" else body)

    def _write(self, body: bytes) -> None:
        try:
            self.wfile.write(body)
            self.wfile.flush()
        except OSError as error:  # the publisher was killed
            raise _Broken from error

    def _blocks(self, asked: Asked, length: int) -> Iterator[bytes]:
        while length > 0:
            try:
                block = self.rfile.read1(min(length, BLOCK))
            except OSError as error:
                raise _Broken from error
            if not block:
                raise _Broken
            length -= len(block)
            asked.body += len(block)
            yield block

    def _read(self, asked: Asked, length: int) -> bytes:
        return b"".join(self._blocks(asked, length))

    def _drain(self, asked: Asked, length: int) -> None:
        for _ in self._blocks(asked, length):
            pass

    def _end(self, fault: Fault | None) -> NoReturn:
        if fault is not None and fault.then is not None:
            fault.then()
        if fault is not None and fault.kind == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        with suppress(OSError):
            if fault is None or fault.kind != "reset":
                self.connection.shutdown(socket.SHUT_RDWR)
            self.connection.close()
        raise _Broken


@contextmanager
def gateway(upstream: str, *, patience: float = 120.0) -> Iterator[Gateway]:
    """Run a proxy in threads of this process while the block runs.

    Args:
        upstream: The store's address.
        patience: Seconds that it may take for one request.
    """
    handler = type("GatewayHandler", (_Handler,), {})
    with listening(handler) as url:
        running = Gateway(url=url, upstream=urlsplit(upstream).netloc, patience=patience)
        handler.gateway = running  # type: ignore[attr-defined]
        try:
            yield running
        finally:
            running.ending.set()
