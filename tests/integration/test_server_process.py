from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.integration.default_server import FROM_SOURCE, Running, running

from lading.process import run, scrubbed_environment
from lading_server import __version__
from lading_server.similarity import MAX_BODY_BYTES
from lading_server.workers import echo
from lading_server.workers.command import popen_options, worker_command

GOOD = {"queries": [[1, 0]], "corpus": [[1, 0], [0, 1]], "k": 1}


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running() as started:
        yield started


def raw(server: Running, sent: bytes) -> bytes:
    """Send bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(sent)
        received = b""
        while part := connection.recv(65_536):
            received += part
        return received


def large_request() -> bytes:
    """About the largest that is allowed: more than half a second of work."""
    row = [float(number % 97) for number in range(480)]
    body = {"queries": [row] * 1024, "corpus": [row] * 1024, "k": 195, "metric": "euclidean"}
    return json.dumps(body).encode()


@pytest.mark.proves("S0-09")
def test_health_is_that_of_this_very_process(server: Running) -> None:
    body = server.health()
    assert body.items() >= {
        "status": "ok", "name": "lading-server", "version": __version__, "backend_variant": "cpu",
        "gpu_available": False, "gpu_type": None, "pid": server.process.pid,
    }.items()  # fmt: skip


def test_it_listens_on_loopback_and_says_the_real_port(server: Running) -> None:
    assert server.url.startswith("http://127.0.0.1:")
    assert server.port > 0


@pytest.mark.proves("S0-12")
def test_an_inherited_variant_changes_nothing() -> None:
    environment = {"LADING_VARIANT": "cuda", "LADING_INSTANCE": "mine"}
    with running(environment=environment) as started:
        body = started.health()
        assert (body["backend_variant"], body["status"], body["instance_id"]) == ("cpu", "ok", "mine")


def test_neighbours_over_http(server: Running) -> None:
    answer = httpx.post(f"{server.url}/v1/similarity", json=GOOD)
    assert answer.status_code == 200
    assert answer.json()["indices"] == [[0]]


@pytest.mark.parametrize(
    ("request_line", "headers", "body", "status"),
    [
        ("POST /v1/similarity", {"content-type": "application/json"}, b'{"queries": [[1,', 422),
        ("POST /v1/similarity", {"content-type": "application/json"}, b"\x00\xff", 422),
        ("POST /v1/similarity", {}, b"{}", 415),
        ("GET /v1/similarity", {}, b"", 405),
        ("GET /../../etc/passwd", {}, b"", 404),
        ("GET /health%00", {}, b"", 404),
        ("BREW /health", {}, b"", 405),
    ],
)
def test_malformed_requests_get_problems(
    server: Running, request_line: str, headers: dict[str, str], body: bytes, status: int
) -> None:
    lines = [f"{request_line} HTTP/1.1", "host: localhost", "connection: close", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    head, _, content = raw(server, "\r\n".join([*lines, "", ""]).encode() + body).partition(b"\r\n\r\n")
    assert head.split(b" ", maxsplit=2)[1] == str(status).encode()
    assert b"content-type: application/problem+json" in head
    assert json.loads(content)["status"] == status
    assert server.health()["status"] == "ok"


@pytest.mark.parametrize(
    "sent",
    [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"no http at all", b"GET / HTTP/1.1\r\nbad header"],
    ids=["TLS", "words", "header"],
)
def test_what_is_no_http_is_refused_and_the_server_goes_on(server: Running, sent: bytes) -> None:
    assert raw(server, sent + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert server.health()["status"] == "ok"


def test_a_body_that_claims_to_be_too_large_is_refused_before_it_is_sent(server: Running) -> None:
    head = (
        "POST /v1/similarity HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {MAX_BODY_BYTES + 1}\r\n\r\n"
    )
    answer = raw(server, head.encode())
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"code":"body-too-large"' in answer


def test_a_client_that_leaves_in_the_middle_of_its_body_harms_nobody(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/similarity HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        )
    assert httpx.post(f"{server.url}/v1/similarity", json=GOOD).status_code == 200


def test_health_answers_while_the_engine_works(server: Running) -> None:
    body = large_request()
    headers = {"content-type": "application/json"}
    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(httpx.post, f"{server.url}/v1/similarity", content=body, headers=headers, timeout=120)
        waits = []
        while not working.done():
            began = time.monotonic()
            server.health()
            waits.append(time.monotonic() - began)
            time.sleep(0.02)
    answer = working.result()
    assert answer.status_code == 200
    # Much less than the work itself; a bound for a busy machine.
    assert sorted(waits)[len(waits) // 2] < 0.5
    assert len(answer.json()["indices"]) == 1024


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_answers_what_it_has_and_ends_with_status_0(number: signal.Signals) -> None:
    with running() as started:
        body = large_request()
        headers = {"content-type": "application/json"}
        with ThreadPoolExecutor(1) as pool:
            working = pool.submit(httpx.post, f"{started.url}/v1/similarity", content=body, headers=headers, timeout=60)
            time.sleep(0.4)  # the request is under way
            assert not working.done()
            started.process.send_signal(number)
            assert working.result().status_code == 200
        assert started.process.wait(20) == 0
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{started.url}/health")


def test_a_taken_port_is_a_clear_error_and_leaves_its_owner_alone(server: Running) -> None:
    done = run([*FROM_SOURCE, "--port", str(server.port)], environment=scrubbed_environment(), timeout=60)
    assert done.returncode == 44
    assert done.stdout == ""
    assert f"127.0.0.1 port {server.port} is already in use" in done.stderr
    assert "--port" in done.stderr
    assert "Traceback" not in done.stderr
    assert server.health()["pid"] == server.process.pid


def test_of_two_that_start_at_once_on_one_port_one_serves_and_the_other_says_why_not() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*FROM_SOURCE, "--port", str(port)]
    both = [
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=scrubbed_environment())
        for _ in range(2)
    ]
    try:
        ended: list[subprocess.Popen[str]] = []
        until = time.monotonic() + 60
        while not ended and time.monotonic() < until:
            ended = [process for process in both if process.poll() is not None]
            time.sleep(0.02)
        assert [process.returncode for process in ended] == [44]
        (winner,) = [process for process in both if process not in ended]
        timer = threading.Timer(30, winner.kill)
        timer.start()
        assert winner.stdout is not None
        assert winner.stdout.readline() == f"listening on http://127.0.0.1:{port}\n"
        timer.cancel()
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["pid"] == winner.pid
    finally:
        for process in both:
            process.kill()
            process.communicate()


@pytest.mark.parametrize(
    ("host", "part"), [("192.0.2.1", "is no address of this machine"), ("no-such-host.invalid", "is no address")]
)
def test_a_host_that_is_not_this_machine_is_a_usage_error(host: str, part: str) -> None:
    done = run([*FROM_SOURCE, "--host", host, "--port", "0"], environment=scrubbed_environment(), timeout=60)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_version_and_help_from_source(word: str) -> None:
    done = run([*FROM_SOURCE, word], environment=scrubbed_environment(), timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"lading-server {__version__}\n" if word == "--version" else "usage: ")


@pytest.mark.proves("X-19")
def test_a_worker_is_started_by_the_command_that_this_program_gives() -> None:
    with subprocess.Popen(
        worker_command(echo.__name__, "large"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=scrubbed_environment({"LADING_VARIANT": "cuda"}),
        **popen_options(),
    ) as worker:
        assert worker.stdin is not None
        assert worker.stdout is not None
        for number in range(3):
            worker.stdin.write(json.dumps({"id": number}) + "\n")
            worker.stdin.flush()
            answer = json.loads(worker.stdout.readline())
            assert answer["echo"] == {"id": number}
            assert answer["pid"] == worker.pid
            assert answer["arguments"] == ["large"]
            assert answer["variant"] == "cpu"
        worker.stdin.close()
        assert worker.wait(20) == 0


def test_the_selftest_prints_a_report_and_nothing_else() -> None:
    done = run([*FROM_SOURCE, "--selftest", "--json"], environment=scrubbed_environment(), timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert (report["name"], report["version"], report["variant"]) == ("lading-server", __version__, "cpu")
    assert report["passed"] is True
    assert report["torch"] is None
    status = {check["name"]: check["status"] for check in report["checks"]}
    assert status["worker.rerun"] == status["worker.multiprocessing"] == "pass"
    assert status["cuda.nccl"] == "skipped"


def test_the_selftest_tells_a_person_how_it_goes_on_standard_error() -> None:
    done = run([*FROM_SOURCE, "--selftest"], environment=scrubbed_environment(), timeout=120)
    assert json.loads(done.stdout)["passed"] is True
    assert "pass    numpy.matmul" in done.stderr


def test_the_selftest_fails_where_a_gpu_is_required_and_absent() -> None:
    words = [*FROM_SOURCE, "--selftest", "--json", "--require-gpu"]
    done = run(words, environment=scrubbed_environment(), timeout=120)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    failed = {check["name"]: check["reason"] for check in report["checks"] if check["status"] == "fail"}
    assert failed["cuda.device"] == "this build has no torch"


def test_a_broken_numpy_is_a_finding_of_the_selftest_and_no_crash(tmp_path: Path) -> None:
    broken = "print('noise on standard output')\nraise ImportError('libopenblas.so.0: cannot open')\n"
    (tmp_path / "numpy.py").write_text(broken, encoding="utf-8")
    environment = scrubbed_environment({"PYTHONPATH": str(tmp_path)})
    done = run([*FROM_SOURCE, "--selftest", "--json"], environment=environment, timeout=120)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert report["checks"][0]["name"] == "imports"
    assert "libopenblas.so.0: cannot open" in report["checks"][0]["reason"]
    assert "noise on standard output" in done.stderr
