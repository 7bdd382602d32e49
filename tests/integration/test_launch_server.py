from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import psutil
import pytest
from typing_extensions import override

from lading.errors import PortTaken, ServerUnhealthy
from lading.launch import NoHealth, running
from lading.launch.port import free_port, is_free

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in server is started by its first line")
ENTRY = "fake-cuda"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "a tree with spaces"
    (folder / "_internal").mkdir(parents=True)
    source = Path(__file__).with_name("fake_server.py").read_text()
    program = folder / ENTRY
    program.write_text(f"#!{sys.executable}\n{source}")
    program.chmod(0o755)
    return folder


_earlier: set[psutil.Process] = set()  # servers that other tests of this run keep


@pytest.fixture(autouse=True)
def _see_what_runs() -> None:
    _earlier.clear()
    _earlier.update(psutil.Process().children(recursive=True))


def children() -> list[psutil.Process]:
    """What this test has started and what still runs."""
    found = [child for child in psutil.Process().children(recursive=True) if child not in _earlier]
    return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]


def test_a_server_runs_in_its_own_folder_with_a_scrubbed_environment_and_is_gone_afterwards(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/cuda/lib64")
    monkeypatch.setenv("_PYI_PARENT_PROCESS_LEVEL", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1234")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    log = tmp_path / "logs" / "server.log"
    with running(tree, ENTRY, environment={"MY_SECRET": "s3cret"}, log=log, deadline=20) as server:
        said = httpx.get(f"{server.url}/health", trust_env=False).json()
        command = psutil.Process(server.pid).cmdline()
        assert server.health.backend_variant == "cuda"
        assert server.ask().status == "ok"
    assert Path(said["cwd"]) == tree
    assert "LD_LIBRARY_PATH" not in said["environment"]
    assert "_PYI_PARENT_PROCESS_LEVEL" not in said["environment"]
    assert {"CUDA_VISIBLE_DEVICES", "MY_SECRET", "LADING_INSTANCE"} <= set(said["environment"])
    assert not any(
        "s3cret" in word or server.health.instance_id in word for word in command if server.health.instance_id
    )
    assert "listening on" in log.read_text()
    assert children() == []
    with pytest.raises(NoHealth):
        server.ask()


def test_two_starts_have_two_identities(tree: Path) -> None:
    seen = set()
    for _ in range(2):
        with running(tree, ENTRY, deadline=20) as server:
            seen.add(server.health.instance_id)
    assert len(seen) == 2


def test_a_server_that_exits_is_reported_at_once_with_its_exit_code_and_last_lines(tree: Path) -> None:
    began = time.monotonic()
    with (
        pytest.raises(ServerUnhealthy, match=r"exit code 7(.|\n)*CUDA error: out of memory"),
        running(tree, ENTRY, environment={"FAKE_MODE": "crash"}, deadline=60),
    ):
        pytest.fail("it must not become ready")
    assert time.monotonic() - began < 10
    assert children() == []


def test_a_server_that_hangs_is_killed_at_the_deadline(tree: Path) -> None:
    with (
        pytest.raises(
            ServerUnhealthy, match=r"not ready after 1 s; its last answer was NewConnectionError(.|\n)*starting up"
        ),
        running(tree, ENTRY, environment={"FAKE_MODE": "hang"}, deadline=1, patience=0.2),
    ):
        pytest.fail("it must not become ready")
    assert children() == []


def test_a_server_killed_by_a_signal_is_told_as_such(tree: Path) -> None:
    def kill() -> None:
        for child in children():
            os.kill(child.pid, signal.SIGSEGV)

    killer = threading.Timer(0.4, kill)
    killer.start()
    with (
        pytest.raises(ServerUnhealthy, match="killed by signal 11"),
        running(tree, ENTRY, environment={"FAKE_MODE": "hang"}, deadline=20),
    ):
        pytest.fail("it must not become ready")
    killer.join()


@pytest.mark.parametrize("mode", ["slow", "late"])
def test_a_server_that_needs_time_is_waited_for(tree: Path, mode: str) -> None:
    with running(tree, ENTRY, environment={"FAKE_MODE": mode}, deadline=20) as server:
        assert server.health.status == "ok"
        assert server.seconds >= 0.5


def test_degraded_counts_as_ready(tree: Path) -> None:
    with running(tree, ENTRY, environment={"FAKE_MODE": "degraded"}, deadline=20) as server:
        assert server.health.status == "degraded"
        assert server.health.reason == "no GPU is used"


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("unwell", "not well: status 'broken'"),
        ("wrong-id", "answers as instance 'somebody-else', not as the one it was started as"),
        ("no-json", "not ready after 1 s; its last answer was HTTP 200 with something that is no health record"),
    ],
)
def test_a_server_that_does_not_prove_itself_is_stopped(tree: Path, mode: str, words: str) -> None:
    with (
        pytest.raises(ServerUnhealthy, match=words),
        running(tree, ENTRY, environment={"FAKE_MODE": mode}, deadline=1 if mode == "no-json" else 20),
    ):
        pytest.fail("it must not become ready")
    assert children() == []


def test_a_taken_port_names_its_owner_who_is_left_alone(tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owner:
        port = owner.getsockname()[1]
        with (
            pytest.raises(PortTaken, match=rf"Port {port} is taken by .*process {os.getpid()}"),
            running(tree, ENTRY, port=port),
        ):
            pytest.fail("it must not start")
        assert owner.fileno() >= 0
    assert children() == []


def test_an_answer_of_somebody_else_on_the_port_is_not_taken_for_the_server(tree: Path) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"status": "ok", "instance_id": "mine", "version": "0.1.0"}')

        @override
        def log_message(self, format: str, *args: object) -> None:
            pass

    port = free_port("127.0.0.1")
    stranger: list[HTTPServer] = []

    def intrude() -> None:
        stranger.append(HTTPServer(("127.0.0.1", port), Stranger))
        stranger[0].serve_forever()

    timer = threading.Timer(0.15, intrude)
    timer.start()
    try:
        with (
            pytest.raises(PortTaken, match=rf"Port {port} answers for .*process {os.getpid()}"),
            running(tree, ENTRY, port=port, environment={"FAKE_MODE": "hang"}, deadline=20, patience=0.2),
        ):
            pytest.fail("a stranger's answer must not count")
    finally:
        stranger[0].shutdown()
        stranger[0].server_close()
        timer.join()
    assert children() == []


@pytest.mark.parametrize("mode", ["ok", "stubborn"])
def test_workers_end_with_their_server(tree: Path, tmp_path: Path, mode: str) -> None:
    note = tmp_path / "child"
    with running(tree, ENTRY, environment={"FAKE_MODE": mode, "FAKE_CHILD": str(note)}, deadline=20, patience=0.3):
        worker = int(note.read_text())
        assert psutil.pid_exists(worker)
    until = time.monotonic() + 5
    while time.monotonic() < until and psutil.pid_exists(worker):
        if psutil.Process(worker).status() == psutil.STATUS_ZOMBIE:
            break
        time.sleep(0.02)
    else:
        assert not psutil.pid_exists(worker)


def test_an_error_inside_the_block_still_ends_the_server(tree: Path) -> None:
    with pytest.raises(ZeroDivisionError), running(tree, ENTRY, deadline=20) as server:
        _ = 1 / 0
    assert not psutil.pid_exists(server.pid)


def test_a_server_that_died_inside_the_block_ends_it_quietly(tree: Path) -> None:
    with running(tree, ENTRY, environment={"FAKE_MODE": "dies-later"}, deadline=20) as server:
        assert server.process.wait(10) == 9
    assert children() == []


def test_the_wanted_port_is_used_and_free_again(tree: Path) -> None:
    port = free_port("127.0.0.1")
    with running(tree, ENTRY, port=port, deadline=20) as server:
        assert server.url == f"http://127.0.0.1:{port}"
        assert not is_free("127.0.0.1", port)
    assert is_free("127.0.0.1", port)


def test_an_entry_that_cannot_run_says_so(tree: Path) -> None:
    (tree / ENTRY).chmod(0o644)
    with pytest.raises(ServerUnhealthy, match="cannot be started: Permission denied"), running(tree, ENTRY):
        pytest.fail("it must not start")
    (tree / ENTRY).unlink()
    with pytest.raises(ServerUnhealthy, match="cannot be started: No such file"), running(tree, ENTRY):
        pytest.fail("it must not start")


def test_sigterm_is_how_a_server_is_asked_to_end(tree: Path) -> None:
    with running(tree, ENTRY, deadline=20) as server:
        process: subprocess.Popen[bytes] = server.process
    assert process.returncode == -signal.SIGTERM
