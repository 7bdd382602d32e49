from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lading_server import __version__
from lading_server.entry import main
from lading_server.options import DEFAULT_HOST, DEFAULT_PORT, Options, parse

SERVER = Path(__file__).resolve().parent.parent.parent / "server"

# Runs the program as its script does, in an interpreter in which nothing but the server's own package can be imported.
_BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] != "lading_server":
            raise ImportError(f"blocked: {name}")
        return None

sys.path.insert(0, sys.argv.pop(1))
before = set(sys.modules)
sys.meta_path.insert(0, Blocker())
from lading_server.entry import main

status = main()
new = sorted(set(sys.modules) - before)
sys.meta_path.pop(0)
import json

print(json.dumps({"status": status, "new": new}))
"""


def blocked(*words: str) -> subprocess.CompletedProcess[str]:
    # -S: no site-packages, so no .pth file imports anything beforehand; numpy, torch and FastAPI do not exist there.
    return subprocess.run(
        [sys.executable, "-S", "-c", _BLOCKED, str(SERVER), *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.proves("S0-10")
@pytest.mark.parametrize("words", [["--version"], ["--host", "0.0.0.0", "--version"], ["--version", "--nonsense"]])
def test_version_is_one_line_with_name_and_version(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    said = capsys.readouterr()
    assert said.out == f"lading-server {__version__}\n"
    assert said.err == ""


@pytest.mark.proves("S0-11")
def test_version_imports_nothing_but_three_modules_of_its_own() -> None:
    done = blocked("--version")
    assert done.stderr == ""
    first, second = done.stdout.splitlines()
    assert first == f"lading-server {__version__}"
    assert json.loads(second) == {
        "status": 0,
        "new": ["lading_server", "lading_server._version", "lading_server.entry"],
    }


def test_the_blocker_really_blocks() -> None:
    done = blocked("--help")
    assert done.returncode == 1
    assert "ImportError: blocked: " in done.stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--vers"], "unrecognized arguments: --vers"),
        (["serve"], "unrecognized arguments: serve"),
        (["--port", "65536"], "invalid port number from 0 to 65535 value: '65536'"),
        (["--port", "-1"], "--port"),
        (["--port", "http"], "invalid port number from 0 to 65535 value: 'http'"),
        (["--log-level", "loud"], "invalid choice: 'loud'"),
        (["--json"], "--json and --require-gpu go with --selftest"),
        (["--require-gpu", "--port", "1"], "--json and --require-gpu go with --selftest"),
    ],
)
def test_wrong_arguments_get_the_usage_on_stderr_and_status_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    said = capsys.readouterr()
    assert stopped.value.code == 2
    assert said.out == ""
    assert said.err.startswith("usage: ")
    assert part in said.err


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "no module is named"),
        (["--version"], "'--version' is not a module name"),
        (["os; import shutil"], "is not a module name"),
        (["../evil"], "is not a module name"),
        (["lading_server.workers.nowhere"], "cannot be imported: No module named 'lading_server.workers.nowhere'"),
        (["lading_server.variant"], "lading_server.variant has no function main"),
    ],
)
def test_a_worker_that_cannot_run_gets_the_usage_and_status_2(
    words: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--worker", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("usage: --worker <module> [argument ...]")
    assert part in said.err


def test_the_defaults_listen_on_loopback_only() -> None:
    assert parse([]) == Options(host="127.0.0.1", port=8765, log_level="info")
    assert (DEFAULT_HOST, DEFAULT_PORT) == ("127.0.0.1", 8765)


def test_every_option_is_read() -> None:
    words = ["--host", "::1", "--port", "0", "--log-level", "debug", "--selftest", "--json", "--require-gpu"]
    assert parse(words) == Options(host="::1", port=0, log_level="debug", selftest=True, json=True, require_gpu=True)
