"""The control interface: a small HTTP server on loopback, for the server's page and for other shells.

The protocol is docs/reference/control.md. Every request is checked in this order, and the first check that fails
answers: the ``Host`` is this interface's own (else a page elsewhere could reach it under a name that it made up), there
is no ``Origin`` (pages have no business here), the token is right, the path and the method are known, the body is small
and is what that path takes.

The token is in no answer and no log; nothing is logged at all but what the launcher does.
"""

from __future__ import annotations

import hmac
import json
import os
import secrets
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from typing_extensions import override

from lading.errors import LadingError
from lading.launch.address import Address
from lading.launch.launcher import Launcher
from lading.launch.status import LauncherStatus
from lading.manifest.base import canonical_json
from lading.store.preference import Backend

LOOPBACK: Final = "127.0.0.1"
LARGEST_BODY = 4096  # bytes
REQUEST_SECONDS = 10.0  # for a request to arrive; who is slower is hung up on
END_POLL = 0.05  # seconds between two looks whether it is closed
URL_VARIABLE = "LADING_CONTROL_URL"
TOKEN_VARIABLE = "LADING_CONTROL_TOKEN"  # noqa: S105 (a variable's name)


class RestartOrder(BaseModel):
    """The body of ``POST /restart``.

    Attributes:
        wait: Answer when the server is ready or has failed, and not at once.
        retry: Start also a version that was set aside.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    wait: bool = False
    retry: bool = False


class ChoiceOrder(BaseModel):
    """The body of ``POST /choice``.

    Attributes:
        backend: What is chosen.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    backend: Backend


class NoOrder(BaseModel):
    """The body of a request that takes none."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Refusal(Exception):
    """A request that is not done.

    Args:
        status: The HTTP status.
        code: Why, for programs.
        detail: Why, in words.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail, self.headers = status, code, detail, dict(headers or {})


class Control:
    """The interface of one launcher; answers until it is closed.

    Args:
        launcher: The launcher.
        stop: Called when somebody asks for the launcher's end.

    Attributes:
        address: Where it is.
        restarts: How many restarts were asked for.
    """

    def __init__(self, launcher: Launcher, stop: Callable[[], None]) -> None:
        self.launcher = launcher
        self.stop = stop
        self.restarts = 0
        self._server = _Server((LOOPBACK, 0), _Handler)
        self._server.control = self
        port = self._server.server_address[1]
        self.hosts = frozenset({f"{LOOPBACK}:{port}", f"localhost:{port}"})
        self.address = Address(url=f"http://{LOOPBACK}:{port}", token=secrets.token_urlsafe(32), pid=os.getpid())
        serve = self._server.serve_forever
        self._thread = threading.Thread(target=serve, args=(END_POLL,), name="lading-control", daemon=True)
        self._thread.start()

    @property
    def environment(self) -> dict[str, str]:
        """What a server is told of it."""
        return {URL_VARIABLE: self.address.url, TOKEN_VARIABLE: self.address.token}

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    # --- the requests -------------------------------------------------------------------------------------------------

    def status(self, _order: NoOrder) -> tuple[int, LauncherStatus]:
        """``GET /status``."""
        return 200, self.launcher.status()

    def restart(self, order: RestartOrder) -> tuple[int, LauncherStatus]:
        """``POST /restart``.

        Raises:
            LadingError: It was waited for, and the server did not get ready.
        """
        self.restarts += 1
        return 200 if order.wait else 202, self.launcher.restart(wait=order.wait, retry=order.retry)

    def choose(self, order: ChoiceOrder) -> tuple[int, LauncherStatus]:
        """``POST /choice``.

        Raises:
            ConfigError: The launcher was told what to run.
        """
        return 200, self.launcher.choose(order.backend)

    def end(self, _order: NoOrder) -> tuple[int, LauncherStatus]:
        """``POST /stop``."""
        told = self.launcher.stop(wait=False)
        self.stop()
        return 202, told


class _Server(ThreadingHTTPServer):
    control: Control
    daemon_threads = True

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that hangs up half-way is its own affair, and what it sent is nobody's to read in a log.
        return


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "lading", ""
    timeout: ClassVar[float | None] = REQUEST_SECONDS
    error_content_type = "application/problem+json"
    error_message_format = (
        '{"type": "about:blank", "status": %(code)d, "title": "%(message)s", "detail": "%(message)s"}'
    )
    _routes: ClassVar[Mapping[str, tuple[str, type[BaseModel], str]]] = {
        "/status": ("GET", NoOrder, "status"),
        "/restart": ("POST", RestartOrder, "restart"),
        "/choice": ("POST", ChoiceOrder, "choose"),
        "/stop": ("POST", NoOrder, "end"),
    }

    def _answer(self) -> None:
        try:
            self._check_sender()
            status, body = self._done()
            self._send(status, canonical_json(body), "application/json")
        except Refusal as refusal:
            self.close_connection = True  # what is left of the request is not read
            problem = {"status": refusal.status, "code": refusal.code, "detail": refusal.detail}
            self._problem(problem, refusal.headers)
        except LadingError as error:
            status = 409 if error.kind == "ConfigError" else 503
            self._problem(
                {
                    "status": status, "code": error.kind, "detail": error.what, "exit_code": error.exit_code,
                    "usually": error.usually, "todo": error.todo,
                },
                {},
            )  # fmt: skip

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = _answer  # noqa: N815 (HTTP's)

    @property
    def _control(self) -> Control:
        assert isinstance(self.server, _Server)
        return self.server.control

    def _check_sender(self) -> None:
        control = self._control
        if self.headers.get("Host", "").lower() not in control.hosts:
            raise Refusal(403, "wrong_host", "the Host is not that of this interface")
        if "Origin" in self.headers:
            raise Refusal(403, "origin", "web pages may not use this interface")
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        right = hmac.compare_digest(token.strip().encode("utf-8", "surrogateescape"), control.address.token.encode())
        if scheme.lower() != "bearer" or not right:
            raise Refusal(401, "token", "the token is missing or wrong", {"WWW-Authenticate": "Bearer"})

    def _done(self) -> tuple[int, LauncherStatus]:
        route = self._routes.get(self.path.partition("?")[0])
        if route is None:
            raise Refusal(404, "unknown_path", f"there is nothing here; there is {', '.join(self._routes)}")
        method, kind, name = route
        if self.command != method:
            raise Refusal(405, "wrong_method", f"this takes {method}", {"Allow": method})
        order = self._order(kind)
        done: Callable[[BaseModel], tuple[int, LauncherStatus]] = getattr(self._control, name)
        return done(order)

    def _order(self, kind: type[BaseModel]) -> BaseModel:
        body = self._body()
        try:
            return kind.model_validate_json(body or b"{}")
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            detail = f"{where}: {first['msg']}" if where else first["msg"]
            raise Refusal(400, "malformed", f"the body is not what this takes: {detail}") from error

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise Refusal(411, "length", "a body needs a Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit():
            raise Refusal(400, "malformed", "Content-Length is not a number")
        length = int(text[:20])
        if length > LARGEST_BODY:
            raise Refusal(413, "too_large", f"a body has at most {LARGEST_BODY} bytes")
        if length and self.headers.get_content_type() != "application/json":
            raise Refusal(415, "not_json", "a body is application/json")
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(400, "malformed", "the body is shorter than its Content-Length")
        return body

    def _problem(self, problem: dict[str, object], headers: Mapping[str, str]) -> None:
        status = problem["status"]
        assert isinstance(status, int)
        title = self.responses.get(status, ("",))[0]
        body = {"type": "about:blank", "title": title, **problem}
        data = json.dumps(body, sort_keys=True).encode() + b"\n"
        self._send(status, data, "application/problem+json", headers)

    def _send(self, status: int, body: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response_only(status)
        wanted = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        if self.close_connection:
            wanted["Connection"] = "close"
        for name, value in {**wanted, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        return
