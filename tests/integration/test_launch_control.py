"""The control interface, asked rightly and wrongly; the command line over it; and that only one launcher runs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.launch_place import SETTLED, Place, health, processes_below
from tests.packed_release import APP, ENTRY

from lading.errors import Busy, ConfigError, LauncherAbsent, PortTaken
from lading.launch.address import Address, only_launcher, read_address, remove_address, write_address
from lading.launch.control import LARGEST_BODY, TOKEN_VARIABLE, URL_VARIABLE, Control
from lading.launch.launcher import Launcher
from lading.launch.remote import Remote
from lading.launch.status import LauncherStatus
from lading.store.preference import read_preference
from lading.store.removal import uninstall

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in server is started by its first line")


@dataclass(frozen=True)
class Answer:
    status: int
    kind: str
    body: dict[str, Any]
    headers: Mapping[str, str]


@dataclass
class Desk:
    """A launcher with its control interface."""

    launcher: Launcher
    control: Control
    stopped: threading.Event

    def ask(self, method: str, path: str, body: bytes | object = None, *, drop: str = "", **headers: str) -> Answer:
        """Send one request as it is; names of headers are written with underscores."""
        url = self.control.address.url.removeprefix("http://")
        sent = {"Authorization": f"Bearer {self.control.address.token}", "Host": url}
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent |= {"Content-Type": "application/json", "Content-Length": str(len(data))}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection(url, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True)
            for name, value in sent.items():
                if name != drop:
                    connection.putheader(name, value)
            connection.endheaders(data)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        told = json.loads(text) if text else {}
        return Answer(answer.status, answer.headers.get_content_type(), told, dict(answer.headers))


@pytest.fixture
def desk(place: Place) -> Iterator[Desk]:
    stopped = threading.Event()
    with place.launcher() as launcher:
        control = Control(launcher, stopped.set)
        launcher.environment.update(control.environment)
        write_address(place.data, control.address)
        try:
            yield Desk(launcher, control, stopped)
        finally:
            remove_address(place.data, control.address)
            control.close()


# --- what it does -----------------------------------------------------------------------------------------------------


def test_status_choice_restart_and_stop_do_what_they_say(desk: Desk, place: Place) -> None:
    assert desk.ask("GET", "/status").body["phase"] == "stopped"
    first = desk.ask("POST", "/restart", {"wait": True})
    assert (first.status, first.body["phase"], first.body["backend"]) == (200, "ready", "cuda")
    chosen = desk.ask("POST", "/choice", {"backend": "cpu"})
    assert (chosen.status, chosen.body["choice"], chosen.body["backend"]) == (200, "cpu", "cuda")
    assert read_preference(place.data) == "cpu"
    taken = desk.ask("POST", "/restart")
    assert (taken.status, taken.body["phase"]) == (202, "restarting")
    assert desk.launcher.wait(lambda state: state.phase == "ready", SETTLED)
    assert health(desk.launcher.status())["backend_variant"] == "cpu"
    ended = desk.ask("POST", "/stop")
    assert ended.status == 202
    assert desk.stopped.wait(5)
    assert desk.launcher.wait(lambda state: state.phase == "stopped", SETTLED)


@pytest.mark.proves("X-34")
def test_the_server_is_told_address_and_token_in_its_environment_and_nowhere_else(desk: Desk, place: Place) -> None:
    found = desk.launcher.start()
    told = health(found)["told"]
    assert told[URL_VARIABLE] == desk.control.address.url
    assert told[TOKEN_VARIABLE] == desk.control.address.token
    token = desk.control.address.token
    assert all(token not in word for process in processes_below(place.data) for word in process.cmdline())
    assert token not in json.dumps(desk.ask("GET", "/status").body)
    logs = [path.read_text("utf-8", "replace") for path in (place.data / "logs").iterdir()]
    assert not any(token in text for text in logs)


def test_the_address_is_for_the_user_alone_and_goes_with_the_launcher(desk: Desk, place: Place) -> None:
    path = place.data / "launch" / "control.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_bytes())["schema"] == "lading/control/1"
    assert Remote(place.data).status().phase == "stopped"
    other = desk.control.address.model_copy(update={"token": "another"})
    remove_address(place.data, other)
    assert path.exists(), "it belongs to the launcher that wrote it last"
    remove_address(place.data, desk.control.address)
    with pytest.raises(LauncherAbsent, match="No launcher runs"):
        read_address(place.data)


def test_an_address_of_a_dead_launcher_counts_as_none(place: Place) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    write_address(place.data, Address(url="http://127.0.0.1:9", token="t", pid=dead.pid))
    with pytest.raises(LauncherAbsent):
        Remote(place.data)
    write_address(place.data, Address(url="http://127.0.0.1:9", token="t", pid=os.getpid()))
    with pytest.raises(LauncherAbsent):
        Remote(place.data).status()
    (place.data / "launch" / "control.json").write_text("{", "utf-8")
    with pytest.raises(LauncherAbsent):
        Remote(place.data)


@pytest.mark.proves("S0-31")
def test_a_restart_that_fails_tells_the_caller_why_as_the_same_error(desk: Desk, place: Place) -> None:
    first = desk.launcher.start()
    assert first.url is not None
    port = int(first.url.rpartition(":")[2])
    desk.launcher.stop()
    with socket.create_server(("127.0.0.1", port)):
        answer = desk.ask("POST", "/restart", {"wait": True})
        assert (answer.status, answer.kind) == (503, "application/problem+json")
        assert (answer.body["code"], answer.body["exit_code"]) == ("PortTaken", 44)
        assert f"process {os.getpid()}" in answer.body["detail"]
        with pytest.raises(PortTaken, match=f"Port {port} is taken by"):
            Remote(place.data).restart()
    assert Remote(place.data).restart().url == first.url


def test_a_launcher_that_was_told_what_to_run_refuses_a_choice(place: Place) -> None:
    with place.launcher(only="cpu") as launcher:
        assert launcher.start().backend == "cpu"
        control = Control(launcher, lambda: None)
        try:
            answer = Desk(launcher, control, threading.Event()).ask("POST", "/choice", {"backend": "cuda"})
        finally:
            control.close()
        assert (answer.status, answer.body["code"]) == (409, "ConfigError")
        with pytest.raises(ConfigError, match="only the cpu variant"):
            launcher.choose("cuda")
    assert read_preference(place.data) == "auto"


# --- asked wrongly ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "refusal"),
    [
        ({"drop": "Authorization"}, (401, "token")),
        ({"Authorization": "Bearer wrong"}, (401, "token")),
        ({"Authorization": "Bearer "}, (401, "token")),
        ({"Authorization": "Basic dGVzdA=="}, (401, "token")),
        ({"Authorization": "Bearer \xff\xfe"}, (401, "token")),
        ({"Host": "evil.example"}, (403, "wrong_host")),
        ({"Host": "127.0.0.1"}, (403, "wrong_host")),
        ({"drop": "Host"}, (403, "wrong_host")),
        ({"Origin": "http://127.0.0.1"}, (403, "origin")),
        ({"Origin": "null"}, (403, "origin")),
    ],
)
@pytest.mark.parametrize("request_line", [("GET", "/status"), ("POST", "/stop")])
def test_who_may_not_ask_is_refused_and_nothing_happens(
    desk: Desk, request_line: tuple[str, str], headers: dict[str, str], refusal: tuple[int, str]
) -> None:
    answer = desk.ask(*request_line, **headers)
    assert (answer.status, answer.body["code"]) == refusal
    assert answer.kind == "application/problem+json"
    assert desk.control.address.token not in json.dumps(answer.body)
    assert not desk.stopped.is_set()
    assert ("Www-Authenticate" in answer.headers or "WWW-Authenticate" in answer.headers) == (refusal[0] == 401)


@pytest.mark.parametrize(
    ("request_line", "body", "headers", "status"),
    [
        (("POST", "/choice"), b"{", {}, 400),
        (("POST", "/choice"), b"", {}, 400),
        (("POST", "/choice"), b"[]", {}, 400),
        (("POST", "/choice"), {"backend": "rocm"}, {}, 400),
        (("POST", "/choice"), {"backend": "cpu", "more": 1}, {}, 400),
        (("POST", "/choice"), b"\xff\xfe", {}, 400),
        (("POST", "/restart"), {"wait": "yes"}, {}, 400),
        (("POST", "/restart"), {"retry": 1}, {}, 400),
        (("POST", "/stop"), {"now": True}, {}, 400),
        (("POST", "/choice"), b"x", {"Content_Length": "-1"}, 400),
        (("POST", "/choice"), b"x", {"Content_Length": "ten"}, 400),
        (("POST", "/choice"), b" " * (LARGEST_BODY + 1), {}, 413),
        (("POST", "/choice"), b"x", {"Content_Length": "99999999999999999999999"}, 413),
        (("POST", "/choice"), {"backend": "cpu"}, {"Content_Type": "text/plain"}, 415),
        (("POST", "/choice"), b"backend=cpu", {"Content_Type": "application/x-www-form-urlencoded"}, 415),
        (("POST", "/choice"), b"0\r\n\r\n", {"Transfer_Encoding": "chunked"}, 411),
        (("POST", "/status"), None, {}, 405),
        (("GET", "/stop"), None, {}, 405),
        (("PUT", "/choice"), {"backend": "cpu"}, {}, 405),
        (("DELETE", "/status"), None, {}, 405),
        (("GET", "/"), None, {}, 404),
        (("GET", "/../status"), None, {}, 404),
        (("POST", "/health"), None, {}, 404),
    ],
)
def test_what_is_no_request_of_the_protocol_gets_its_own_answer_and_changes_nothing(
    desk: Desk, request_line: tuple[str, str], body: object, headers: dict[str, str], status: int
) -> None:
    answer = desk.ask(*request_line, body, **headers)
    assert (answer.status, answer.kind) == (status, "application/problem+json")
    assert answer.body["status"] == status
    assert answer.body["detail"]
    assert desk.launcher.status().phase == "stopped"
    assert desk.launcher.status().choice == "auto"
    assert desk.ask("GET", "/status").status == 200


@pytest.mark.parametrize(
    "noise",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"GET\r\n\r\n", b"\r\n\r\n", b"A" * 70_000, b"GET / HTTP/9.9\r\n\r\n"],
)
def test_noise_on_the_port_is_survived(desk: Desk, noise: bytes) -> None:
    port = int(desk.control.address.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as line:
        line.sendall(noise)
        line.shutdown(socket.SHUT_WR)
        while line.recv(4096):
            pass
    assert desk.ask("GET", "/status").status == 200


def test_it_listens_on_loopback_alone(desk: Desk) -> None:
    assert desk.control._server.socket.getsockname()[0] == "127.0.0.1"


# --- one launcher, and the command line -------------------------------------------------------------------------------


def lading(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lading", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={**os.environ, **variables}
    )


@contextmanager
def running(place: Place, *words: str, **variables: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """``lading run`` on a place's data directory, ready."""
    command = [sys.executable, "-m", "lading", "run", "--data", str(place.data), "--app", APP, "--json", *words]
    environment = {**os.environ, **place.environment, **variables}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, process.stderr.read() if process.stderr else ""
        yield process, json.loads(line)
    finally:
        process.terminate()
        process.communicate(timeout=20)
        until = time.monotonic() + 15
        while left := processes_below(place.data):
            assert time.monotonic() < until, f"{left} outlived the launcher"
            time.sleep(0.01)


def test_the_command_line_asks_chooses_restarts_and_stops(place: Place) -> None:
    where = ("--data", place.data, "--app", APP)
    assert lading("control", "choose", "cpu", *where).returncode == 0
    assert lading("control", "status", *where).returncode == LauncherAbsent.exit_code
    with running(place) as (process, first):
        assert (first["backend"], first["choice"]) == ("cpu", "cpu")
        told = json.loads(lading("control", "status", "--json", *where).stdout)
        assert (told["phase"], told["url"]) == ("ready", first["url"])
        shown = lading("control", "choose", "cuda", "--restart", *where)
        assert shown.returncode == 0, shown.stderr
        assert f"ready: cuda {place.cuda.name} at {first['url']}" in shown.stdout.replace("\n", " ")
        assert process.stdout is not None
        again = json.loads(process.stdout.readline())
        assert (again["phase"], again["backend"], again["url"]) == ("ready", "cuda", first["url"])
        assert "chosen: cuda" in lading("control", "status", *where).stdout
        assert lading("control", "stop", *where).returncode == 0
        assert process.wait(20) == 0
    assert not (place.data / "launch" / "control.json").exists()


def test_a_second_launcher_says_at_once_who_is_there(place: Place) -> None:
    with running(place) as (process, first):
        began = time.monotonic()
        second = lading("run", "--data", place.data, "--app", APP)
        assert second.returncode == Busy.exit_code
        assert f"A launcher runs already for {place.data}: process {process.pid}" in second.stderr
        assert time.monotonic() - began < 10
        assert health(LauncherStatus.model_validate(first, strict=False))["status"] == "ok"
    with only_launcher(place.data) as note:
        assert note is None


def test_a_launcher_that_fails_after_a_restart_that_was_asked_for_stays_to_be_asked_again(place: Place) -> None:
    uninstall(place.data, "cuda")
    with running(place) as (process, _):
        entry = next((place.data / "backends/cpu/versions").iterdir()) / "tree" / ENTRY
        entry.chmod(0o644)
        where = ("--data", place.data, "--app", APP)
        failed = lading("control", "restart", *where)
        assert failed.returncode == 43
        assert "cannot be started: Permission denied" in failed.stderr
        assert process.poll() is None
        assert "failed" in lading("control", "status", *where).stdout
        entry.chmod(0o755)
        assert lading("control", "restart", *where).returncode == 0


@pytest.mark.proves("X-38")
def test_a_launcher_that_is_killed_leaves_nothing_and_the_next_one_starts_on_the_same_port(
    place: Place, tmp_path: Path
) -> None:
    note = tmp_path / "worker"
    with running(place, FAKE_CHILD=str(note), FAKE_ESCAPE="1") as (process, first):
        port = first["url"].rpartition(":")[2]
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        with running(place, "--port", port) as (_, second):
            assert second["url"] == first["url"]
            assert second["pid"] != first["pid"]
    assert not Path(f"/proc/{note.read_text('utf-8')}").exists()
