from __future__ import annotations

import socket
from pathlib import Path

import pytest

from lading.launch.child import INSTANCE_VARIABLE, server_environment
from lading.launch.health import Health, judge
from lading.launch.log import TAIL_BYTES, as_quote, tail
from lading.launch.port import free_port, is_free, taken


@pytest.mark.parametrize(
    ("status", "instance", "verdict"),
    [
        ("ok", "me", "ready"),
        ("degraded", "me", "ready"),
        ("starting", "me", "wait"),
        ("error", "me", "unhealthy"),
        ("ok", "you", "stranger"),
        ("ok", None, "stranger"),
        ("starting", "you", "stranger"),
    ],
)
def test_only_an_answer_with_the_own_identity_counts(status: str, instance: str | None, verdict: str) -> None:
    assert judge(Health(status=status, instance_id=instance), "me") == verdict


def test_no_answer_means_wait() -> None:
    assert judge(None, "me") == "wait"


def test_a_health_record_of_a_newer_server_is_understood() -> None:
    health = Health.model_validate_json('{"status": "ok", "instance_id": "x", "brand_new": [1, 2]}')
    assert health.status == "ok"


def test_the_tail_of_a_log_is_whole_lines_only(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"".join(b"line %05d\n" % number for number in range(5000)) + b"\xff the last")
    assert tail(log, 2) == "line 04999\n\ufffd the last"
    log.write_bytes(b"x" * TAIL_BYTES + b" cut\nwhole\n")
    assert tail(log) == "whole"


def test_an_absent_or_empty_log_is_told_as_such(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""
    assert as_quote(tmp_path / "none") == "It printed nothing."


def test_a_listening_port_is_not_free_and_its_error_tells_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free("127.0.0.1", port)
        error = taken(port)
        assert error.exit_code == 44
        assert f"Port {port} is taken by" in error.what
        assert "--port" in error.todo
    assert is_free("127.0.0.1", port)
    assert free_port("127.0.0.1") > 0


def test_the_environment_of_a_server_has_its_identity_and_nothing_that_changes_its_libraries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("LD_PRELOAD", "PYTHONPATH", "CUDA_HOME", "_PYI_ARCHIVE_FILE", "_MEIPASS2"):
        monkeypatch.setenv(name, "/bad")
    environment = server_environment("abc", {"TOKEN": "t"})
    assert environment[INSTANCE_VARIABLE] == "abc"
    assert environment["TOKEN"] == "t"
    assert "/bad" not in environment.values()
