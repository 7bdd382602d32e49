"""The server's side of the launcher's control interface, against a launcher that follows its description."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from typing_extensions import override

from lading_server.app import create_app
from lading_server.engine.numpy_engine import NumpyEngine
from lading_server.updates.control import LARGEST_ANSWER, Control, NoAnswer, Refused
from lading_server.updates.settings import Settings

TOKEN = "a-very-secret-token"
STATUS = {
    "phase": "ready", "choice": "auto", "reason": "/opt/x/lading-server-cuda hangs", "pid": 7, "more": {"a": [1]},
    "set_aside": {"name": "0.1.0+cu126-v1-3f9a0c12", "reason": "/opt/x/y.log says so", "at": 1},
}  # fmt: skip


@dataclass
class Launcher:
    """What was asked of it, and what it answers."""

    url: str = ""
    asked: list[tuple[str, str, str, dict[str, str]]] = field(default_factory=list)
    answers: dict[str, tuple[int, bytes]] = field(default_factory=dict)

    @property
    def control(self) -> Control:
        return Control(self.url, SecretStr(TOKEN))


@contextmanager
def launching() -> Iterator[Launcher]:
    launcher = Launcher()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
            headers = {name.lower(): value for name, value in self.headers.items()}
            launcher.asked.append((self.command, self.path, body, headers))
            usual = (202 if self.path == "/restart" else 200, json.dumps(STATUS).encode())
            if headers.get("authorization") != f"Bearer {TOKEN}":
                usual = (401, b'{"code": "wrong-token", "detail": "The token is wrong."}')
            status, data = launcher.answers.get(self.path, usual)
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    native = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    native.daemon_threads = True
    launcher.url = f"http://127.0.0.1:{native.server_port}"
    thread = threading.Thread(target=native.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield launcher
    finally:
        native.shutdown()
        thread.join()
        native.server_close()


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    with launching() as running:
        yield running


def ask(control: Control | None, method: str, path: str, body: Any = None) -> httpx.Response:
    async def run() -> httpx.Response:
        app = create_app("cpu", lambda: NumpyEngine("simulated"), settings=Settings(control=control))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as to,
        ):
            return await to.request(method, f"/backend/{path}", json=body)

    return asyncio.run(run())


def test_each_request_is_as_it_is_described(launcher: Launcher) -> None:
    control = launcher.control
    assert control.status().phase == "ready"
    assert control.restart().choice == "auto"
    assert control.choose("cuda").reason == STATUS["reason"]

    assert [(method, path, body) for method, path, body, _ in launcher.asked] == [
        ("GET", "/status", ""), ("POST", "/restart", '{"retry":false}'), ("POST", "/choice", '{"backend":"cuda"}'),
    ]  # fmt: skip
    for method, _, _, headers in launcher.asked:
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert "origin" not in headers
        assert headers["host"] == launcher.url.removeprefix("http://")
        assert (headers.get("content-type") == "application/json") is (method == "POST")


def test_the_requests_do_not_go_through_a_proxy(launcher: Launcher, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert launcher.control.status().phase == "ready"


def test_a_refusal_tells_why_and_never_the_token(launcher: Launcher) -> None:
    with pytest.raises(Refused) as caught:
        Control(launcher.url, SecretStr("wrong")).restart()
    assert (caught.value.code, caught.value.detail) == ("wrong-token", "The token is wrong.")
    assert TOKEN not in repr(caught.value) + repr(launcher.control) + repr(vars(launcher.control))


@pytest.mark.parametrize(
    ("status", "data"),
    [(200, b"<html>"), (200, b"[]"), (200, b'{"choice": "gpu"}'), (500, b"oops"), (302, b""),
     (200, b'{"phase": "' + b"x" * LARGEST_ANSWER + b'"}')],
    ids=["html", "list", "unknown choice", "broken", "moved", "endless"],
)  # fmt: skip
def test_what_is_no_launcher_is_not_believed(launcher: Launcher, status: int, data: bytes) -> None:
    launcher.answers["/status"] = (status, data)
    with pytest.raises(NoAnswer, match="something else than its protocol"):
        launcher.control.status()


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://[::1"])
def test_a_launcher_that_is_gone_is_told_without_its_address(url: str) -> None:
    with pytest.raises(NoAnswer, match=r"^the launcher does not answer \(\w+\)$"):
        Control(url, SecretStr(TOKEN)).status()


# --- the endpoints ----------------------------------------------------------------------------------------------------


def test_restart_and_choice_reach_the_launcher(launcher: Launcher) -> None:
    done = ask(launcher.control, "POST", "restart")
    assert (done.status_code, done.json()["phase"]) == (202, "ready")
    chosen = ask(launcher.control, "POST", "choice", {"backend": "cuda"})
    assert chosen.json() == {
        "present": True, "phase": "ready", "choice": "auto", "forced": None, "reason": "…/lading-server-cuda hangs",
        "set_aside": "0.1.0+cu126-v1-3f9a0c12", "set_aside_reason": "…/y.log says so",
    }  # fmt: skip
    assert ask(launcher.control, "POST", "restart", {"retry": True}).status_code == 202
    assert launcher.asked.pop()[2] == '{"retry":true}'
    shown = ask(launcher.control, "GET", "launcher")
    assert shown.json() == chosen.json()
    assert [path for _, path, _, _ in launcher.asked] == ["/restart", "/choice", "/status"]


def test_what_the_launcher_refuses_is_a_problem_with_its_words(launcher: Launcher) -> None:
    refusal = {"code": "not-installed", "detail": "There is no CUDA build in /home/anna/data."}
    launcher.answers["/choice"] = (409, json.dumps(refusal).encode())
    answer = ask(launcher.control, "POST", "choice", {"backend": "cuda"})
    assert (answer.status_code, answer.json()["code"]) == (409, "launcher-refused")
    assert answer.json()["detail"] == "There is no CUDA build in …/data."


@pytest.mark.parametrize(("method", "path"), [("POST", "restart"), ("GET", "launcher"), ("POST", "choice")])
def test_a_silent_launcher_is_a_bad_gateway(method: str, path: str) -> None:
    body = {"backend": "cpu"} if path == "choice" else None
    answer = ask(Control("http://127.0.0.1:9", SecretStr(TOKEN)), method, path, body)
    assert (answer.status_code, answer.json()["code"]) == (502, "launcher-silent")
    assert TOKEN not in answer.text
    assert "127.0.0.1:9" not in answer.text


def test_without_a_launcher_nothing_can_be_switched_and_it_is_said(tmp_path: Path) -> None:
    assert {name for name, value in ask(None, "GET", "launcher").json().items() if value} == set()
    for path, body in (("restart", None), ("choice", {"backend": "auto"})):
        answer = ask(None, "POST", path, body)
        assert (answer.status_code, answer.json()["code"]) == (409, "no-launcher")


@pytest.mark.parametrize("body", [{}, {"backend": "gpu"}, {"backend": None}, {"backend": "cpu", "more": 1}, [], None])
def test_a_malformed_choice_never_reaches_the_launcher(launcher: Launcher, body: Any) -> None:
    assert ask(launcher.control, "POST", "choice", body).status_code == 422
    assert launcher.asked == []
