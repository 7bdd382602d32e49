"""The endpoints in the frozen server, as its process: what a launcher's environment makes of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.backend_world import FORCED, cuda_shop
from tests.integration.default_server import Running, running
from tests.packed_release import APP
from tests.range_server import serving

from lading.process import run, scrubbed_environment
from lading_server import __version__

SUFFIX = ".exe" if os.name == "nt" else ""
PROGRAM = f"lading-server{SUFFIX}"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    shop = cuda_shop(tmp_path / "shop")
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    with serving(shop.store) as store:
        yield {
            "LADING_DATA": str(tmp_path / "data"),
            "LADING_SOURCE": f"http://127.0.0.1:9/dead|{store.url}",
            "LADING_ROOT": str(root),
            "LADING_APP": APP,
            "LADING_CONTROL_URL": "http://127.0.0.1:9",
            "LADING_CONTROL_TOKEN": "the-control-token",
            "LADING_FALLBACK_REASON": "the CUDA build ended with exit code 1",
        }


def followed(server: Running) -> dict[str, Any]:
    with httpx.stream("GET", f"{server.url}/backend/cuda-progress", timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    last: dict[str, Any] = json.loads(lines[-1].removeprefix("data: "))
    return last


@pytest.mark.proves("S0-01", "S0-02", "S0-05", "S0-09")
def test_the_frozen_server_installs_and_deletes_a_cuda_backend(
    frozen_server: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with running((str(frozen_server / PROGRAM),), environment=environment) as server:
        health = server.health()
        assert (health["backend_variant"], health["status"]) == ("cpu", "degraded")
        assert health["fallback_reason"] == "the CUDA build ended with exit code 1"

        begun = httpx.post(f"{server.url}/backend/download-cuda", json=FORCED)
        assert begun.status_code == 202
        last = followed(server)
        assert (last["status"], last["progress"]) == ("complete", 100.0)
        status = httpx.get(f"{server.url}/backend/cuda-status").json()
        assert (status["available"], status["active"], status["cuda_libs_version"]) == (True, False, "cu126-v1")
        assert str(tmp_path) not in json.dumps(status)
        entry = tmp_path / "data" / status["binary_path"]
        assert subprocess.run([entry], capture_output=True, check=True).stdout == b"one\n"

        silent = httpx.post(f"{server.url}/backend/restart")
        assert (silent.status_code, silent.json()["code"]) == (502, "launcher-silent")
        assert "the-control-token" not in silent.text

        assert httpx.delete(f"{server.url}/backend/cuda").status_code == 200
        assert httpx.get(f"{server.url}/backend/cuda-status").json()["available"] is False
        assert server.stop() == 0


def test_a_stopping_server_does_not_wait_for_who_only_listens(frozen_server: Path, environment: dict[str, str]) -> None:
    with (
        running((str(frozen_server / PROGRAM),), environment=environment) as server,
        httpx.stream("GET", f"{server.url}/backend/cuda-progress", timeout=60) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(line for line in lines if line.startswith("data: "))
        assert server.stop() == 0
        assert [line for line in lines if line.startswith("data: ")] == [], "the stream has ended in order"


def test_without_a_launcher_the_frozen_server_says_that_it_is_not_managed(frozen_server: Path) -> None:
    with running((str(frozen_server / PROGRAM),)) as server:
        assert httpx.get(f"{server.url}/backend/cuda-status").json()["managed"] is False
        answer = httpx.post(f"{server.url}/backend/download-cuda")
        assert (answer.status_code, answer.json()["code"]) == (409, "not-managed")
        answer = httpx.post(f"{server.url}/backend/restart")
        assert (answer.status_code, answer.json()["code"]) == (409, "no-launcher")


@pytest.mark.proves("S0-11")
def test_the_version_is_answered_without_the_client(frozen_server: Path) -> None:
    bare = scrubbed_environment({"LADING_ROOT": "no-such-file", "LADING_AUTO_UPDATE": "nonsense"})
    done = run([frozen_server / PROGRAM, "--version"], environment=bare, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lading-server {__version__}\n", "")


@pytest.mark.parametrize(
    ("name", "value"),
    [("LADING_ROOT", "nowhere"), ("LADING_AUTO_UPDATE", "maybe"), ("LADING_ALLOWED_ORIGINS", "*")],
)
def test_a_variable_that_cannot_be_meant_is_a_usage_error(frozen_server: Path, name: str, value: str) -> None:
    done = run([frozen_server / PROGRAM, "--port", "0"], environment=scrubbed_environment({name: value}), timeout=60)
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
