"""Servers under a keeper: nothing of them outlives the launcher, and what they print neither blocks nor piles up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.integration.launch_place import PROGRAM, processes_below

from lading.errors import ServerUnhealthy
from lading.launch import keeper
from lading.launch.kept import KEEPER_DIED, Kept, Sink, keep_if_asked, keeper_command
from lading.launch.port import free_port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="process groups and orphans are looked at as Linux has them"
)

# A launcher that starts one server and then does what it is told on its standard input: it may be killed meanwhile.
LAUNCHER = """
import os, signal, sys
from pathlib import Path
from lading.launch.kept import Kept, Sink
tree, log = Path(sys.argv[1]), Path(sys.argv[2])
port = sys.argv[3]
words = ["--host", "127.0.0.1", "--port", port]
kept = Kept(tree, "server", words, environment=dict(os.environ), sink=Sink(log=log), grace=0.5)
print(kept.pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tree"
    folder.mkdir()
    program = folder / "server"
    program.write_text(f"#!{sys.executable}\n{PROGRAM.read_text('utf-8')}", "utf-8")
    program.chmod(0o755)
    yield folder
    eventually(lambda: processes_below(tmp_path) == [], "something is left")


def eventually(holds: Callable[[], bool], otherwise: str, seconds: float = 15) -> None:
    until = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > until:
            pytest.fail(otherwise)
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def kept(tree: Path, log: Path, *, port: int | None = None, **environment: str) -> Kept:
    words = ["--host", "127.0.0.1", "--port", str(port or free_port("127.0.0.1"))]
    return Kept(
        tree, "server", words, environment={**os.environ, **environment}, sink=Sink(log=log, limit=20_000, keep=2)
    )


def lines(log: Path) -> str:
    return log.read_text("utf-8", "replace") if log.exists() else ""


# --- nothing is orphaned ----------------------------------------------------------------------------------------------


@pytest.mark.proves("X-38")
@pytest.mark.parametrize("mode", ["ok", "stubborn"])
@pytest.mark.parametrize(
    ("victim", "worker_is"),
    # A worker that left its group is known to the keeper alone.
    [("launcher", "in its group"), ("launcher", "in a session of its own"), ("keeper", "in its group")],
)
def test_a_launcher_or_keeper_that_is_killed_leaves_no_server_and_no_worker(
    tree: Path, tmp_path: Path, mode: str, victim: str, worker_is: str
) -> None:
    note = tmp_path / "child"
    escape = {"FAKE_ESCAPE": "1"} if worker_is == "in a session of its own" else {}
    environment = {**os.environ, "FAKE_MODE": mode, "FAKE_CHILD": str(note), **escape}
    words = [sys.executable, "-c", LAUNCHER, str(tree), str(tmp_path / "log"), str(free_port("127.0.0.1"))]
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        server = int(launcher.stdout.readline())
        eventually(lambda: "listening" in lines(tmp_path / "log"), "it never listened")
        worker = int(note.read_text("utf-8"))
        assert not gone(worker)
        guilty = launcher.pid if victim == "launcher" else psutil.Process(server).ppid()
        os.kill(guilty, signal.SIGKILL)
        eventually(lambda: gone(server) and gone(worker), "the server or its worker outlived the launcher")
        launcher.kill()


def test_a_launcher_that_hangs_blocks_nothing(tree: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", LAUNCHER, str(tree), str(tmp_path / "log"), str(free_port("127.0.0.1"))]
    environment = {**os.environ, "FAKE_MODE": "noisy"}
    with subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout is not None
        launcher.stdout.readline()
        launcher.send_signal(signal.SIGSTOP)
        written = sum(path.stat().st_size for path in tmp_path.glob("log*"))
        eventually(
            lambda: sum(path.stat().st_size for path in tmp_path.glob("log*")) > written + 10 * keeper.CHUNK,
            "the server no longer prints",
        )
        launcher.kill()


def test_a_server_that_ends_by_itself_takes_its_workers_with_it(tree: Path, tmp_path: Path) -> None:
    note = tmp_path / "child"
    server = kept(tree, tmp_path / "log", FAKE_MODE="dies-later", FAKE_CHILD=str(note), FAKE_ESCAPE="1")
    assert server.wait(15) == 9
    assert gone(int(note.read_text("utf-8")))


def test_orphans_that_end_do_not_pile_up_as_zombies(tmp_path: Path) -> None:
    script = "for i in 1 2 3 4 5; do (sh -c 'sleep 0.01 &' &); done; sleep 0.4; ls > /dev/null; exec sleep 60"
    server = Kept(Path("/bin"), "sh", ["-c", script], environment=dict(os.environ), sink=Sink(log=tmp_path / "log"))
    mother = psutil.Process(psutil.Process(server.pid).ppid())
    eventually(lambda: psutil.Process(server.pid).name() == "sleep", "the script did not end")
    assert [child.pid for child in mother.children()] == [server.pid]
    server.end(1)


# --- ending -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "status"), [("ok", -signal.SIGTERM), ("stubborn", -signal.SIGKILL)])
def test_a_server_is_asked_to_end_and_killed_when_it_does_not(
    tree: Path, tmp_path: Path, mode: str, status: int
) -> None:
    server = kept(tree, tmp_path / "log", FAKE_MODE=mode)
    eventually(lambda: "listening" in lines(tmp_path / "log"), "it never listened")
    assert server.poll() is None
    assert server.end(0.3) == status
    assert server.end(0.3) == status


def test_an_earlier_end_counts_when_it_is_asked_twice(tree: Path, tmp_path: Path) -> None:
    server = kept(tree, tmp_path / "log", FAKE_MODE="stubborn")
    eventually(lambda: "listening" in lines(tmp_path / "log"), "it never listened")
    server._keeper.stdin.write(b"end 600\n")  # type: ignore[union-attr]
    began = time.monotonic()
    assert server.end(0.2) == -signal.SIGKILL
    assert time.monotonic() - began < 10


def test_a_program_that_cannot_be_started_says_why(tree: Path, tmp_path: Path) -> None:
    (tree / "server").chmod(0o644)
    with pytest.raises(ServerUnhealthy, match="server cannot be started: Permission denied"):
        kept(tree, tmp_path / "log")
    (tree / "server").unlink()
    with pytest.raises(ServerUnhealthy, match="server cannot be started: No such file"):
        kept(tree, tmp_path / "log")


def test_a_keeper_that_is_killed_counts_as_the_servers_end(tree: Path, tmp_path: Path) -> None:
    server = kept(tree, tmp_path / "log")
    psutil.Process(server.pid).parent().kill()  # type: ignore[union-attr]
    assert server.wait(10) == KEEPER_DIED
    eventually(lambda: gone(server.pid), "the server outlived its keeper")


def test_sigterm_for_all_processes_of_a_service_ends_them_in_order(tree: Path, tmp_path: Path) -> None:
    server = kept(tree, tmp_path / "log")
    eventually(lambda: "listening" in lines(tmp_path / "log"), "it never listened")
    psutil.Process(server.pid).parent().terminate()  # type: ignore[union-attr]
    assert server.wait(10) == -signal.SIGTERM


# --- the log ----------------------------------------------------------------------------------------------------------


def test_a_log_is_bounded_in_size_and_number_and_loses_no_line_between(tmp_path: Path) -> None:
    script = "i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"
    sink = Sink(log=tmp_path / "log", limit=9000, keep=9)
    server = Kept(Path("/bin"), "sh", ["-c", script], environment=dict(os.environ), sink=sink)
    assert server.wait(20) == 0
    logs = sorted(tmp_path.glob("log*"), key=lambda path: -int(path.suffix[1:] or 0))
    assert all(path.stat().st_size <= 9000 + keeper.CHUNK for path in logs)
    assert "".join(map(lines, logs)).splitlines() == [f"line {number}" for number in range(2000)]


def test_each_start_has_a_log_of_its_own_and_earlier_ones_go(tmp_path: Path) -> None:
    for number in range(5):
        sink = Sink(log=tmp_path / "log", keep=2)
        script = f"echo run {number}"
        server = Kept(Path("/bin"), "sh", ["-c", script], environment=dict(os.environ), sink=sink)
        assert server.wait(20) == 0
    assert {path.name: lines(path) for path in tmp_path.iterdir()} == {
        "log": "run 4\n",
        "log.1": "run 3\n",
        "log.2": "run 2\n",
    }


@pytest.mark.parametrize("log", ["/dev/full", "/proc/no/such/place/log"])
def test_a_log_that_cannot_be_written_is_told_and_the_server_goes_on(tree: Path, log: str) -> None:
    server = kept(tree, Path(log), FAKE_MODE="noisy")
    eventually(lambda: server.lost is not None, "nobody said that the log is lost")
    assert server.lost in {"No space left on device", "No such file or directory"}
    time.sleep(0.05)
    assert server.poll() is None
    assert server.end(1) == -signal.SIGTERM


def test_standard_error_can_be_kept_apart(tmp_path: Path) -> None:
    sink = Sink(log=tmp_path / "out", errors=tmp_path / "err")
    server = Kept(Path("/bin"), "sh", ["-c", "echo a; echo b >&2"], environment=dict(os.environ), sink=sink)
    assert server.wait(20) == 0
    assert (lines(tmp_path / "out"), lines(tmp_path / "err")) == ("a\n", "b\n")


# --- how it is started ------------------------------------------------------------------------------------------------


def test_a_frozen_launcher_starts_itself_as_its_keeper() -> None:
    assert keeper_command("{}", frozen=True) == [sys.executable, keeper.FLAG, "{}"]
    assert keeper_command("{}", frozen=False)[-2:] == [keeper.__file__, "{}"]
    keep_if_asked(["run", "--json"])
    order = {"command": ["/no/such"], "log": "/dev/null", "limit": 9, "keep": 0, "errors": None, "grace": 1}
    words = [sys.executable, "-m", "lading", keeper.FLAG, json.dumps(order)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "error 2 No such file or directory\n")


def test_secrets_are_in_no_argument_list(tree: Path, tmp_path: Path) -> None:
    server = kept(tree, tmp_path / "log", MY_SECRET="s3cret")
    for process in (psutil.Process(server.pid), psutil.Process(server.pid).parent()):
        assert process is not None
        assert "s3cret" not in " ".join(process.cmdline())
    assert psutil.Process(server.pid).environ()["MY_SECRET"] == "s3cret"
    server.end(0)
