from __future__ import annotations

import io
import json
import os
import sys

import pytest

from lading_server.variant import VARIABLE
from lading_server.workers import echo
from lading_server.workers.command import popen_options, worker_command
from lading_server.workers.dispatch import dispatch


@pytest.mark.proves("X-19")
def test_a_frozen_program_runs_itself_again_and_never_uses_minus_m(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", "/opt/app/lading-server-cuda")
    assert worker_command("lading_server.workers.echo", "large", "--version") == [
        "/opt/app/lading-server-cuda", "--worker", "lading_server.workers.echo", "large", "--version",
    ]  # fmt: skip


def test_from_source_the_interpreter_runs_the_package() -> None:
    assert worker_command("a.b") == [sys.executable, "-m", "lading_server", "--worker", "a.b"]


@pytest.mark.parametrize("module", ["", "a b", "a/b", "a..b", "-c", ".a", "1a", "a\n"])
def test_a_command_for_no_module_is_refused_before_a_process_is_started(module: str) -> None:
    with pytest.raises(TypeError, match="must be a dotted name"):
        worker_command(module)


@pytest.mark.proves("X-19")
def test_on_windows_no_console_window_opens() -> None:
    assert popen_options("win32") == {"creationflags": 0x0800_0000}
    assert popen_options("linux") == {"creationflags": 0}


def test_a_worker_gets_its_arguments_and_the_variant_of_its_executable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "cuda")
    monkeypatch.setattr(sys, "stdin", io.StringIO('{"n": 1}\nnot json\n[2]\n\n{"n": 3}\n'))
    assert dispatch([echo.__name__, "one", "two"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("echo") for line in lines] == [{"n": 1}, None, None, None, {"n": 3}]
    assert lines[0]["arguments"] == ["one", "two"]
    assert lines[0]["variant"] == "cpu"
    assert (lines[0]["pid"], lines[0]["frozen"]) == (os.getpid(), False)
    assert lines[1]["error"].startswith("not JSON: ")
    assert lines[2]["error"] == "a request is a JSON object, found list"
