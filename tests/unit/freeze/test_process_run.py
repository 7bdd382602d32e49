"""The one place that runs programs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lading.process import LEAKS, run, scrubbed_environment, show

PYTHON = sys.executable


def test_output_and_status_come_back_apart_and_whole() -> None:
    code = "import sys; sys.stdout.write('out' * 100_000); sys.stderr.write('err' * 100_000); sys.exit(3)"
    finished = run([PYTHON, "-c", code])
    assert finished.returncode == 3
    assert finished.stdout == "out" * 100_000
    assert finished.stderr == "err" * 100_000
    assert finished.argv == (PYTHON, "-c", code)


def test_bytes_that_are_no_text_are_replaced() -> None:
    finished = run([PYTHON, "-c", r"import sys; sys.stdout.buffer.write(b'a\xffb\xc3\xa9')"])
    assert finished.stdout == "a�bé"


def test_standard_input_is_empty() -> None:
    assert run([PYTHON, "-c", "import sys; print(repr(sys.stdin.read()))"], timeout=30).stdout.strip() == "''"


def test_it_runs_where_it_is_told_with_nothing_but_the_given_environment(tmp_path: Path) -> None:
    code = "import os; print(os.getcwd()); print(os.environ.get('ONE'), os.environ.get('HOME'))"
    finished = run([PYTHON, "-c", code], cwd=tmp_path, environment={"ONE": "1"})
    assert finished.stdout.splitlines() == [str(tmp_path.resolve()), "1 None"]


def test_a_log_gets_both_streams_in_order_and_replaces_an_older_one(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("older and longer than what comes now" * 10)
    code = "import sys; print('one', flush=True); print('two', file=sys.stderr, flush=True); print('three')"
    finished = run([PYTHON, "-c", code], log=log)
    assert (finished.stdout, finished.stderr) == ("", "")
    assert log.read_text().split() == ["one", "two", "three"]


def test_what_cannot_be_started_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        run([tmp_path / "nothing"])
    file = tmp_path / "plain.txt"
    file.write_text("x")
    with pytest.raises(PermissionError):
        run([file])


def _gone(pid: int) -> bool:
    """Whether a process is no longer running; its parent may be slow to collect it."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.01)
    return False


SLEEPER = "import subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']"


def test_too_slow_a_program_is_killed_with_its_children_and_what_it_said_is_kept() -> None:
    code = f"{SLEEPER}); print(p.pid, flush=True); time.sleep(600)"
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run([PYTHON, "-c", code], timeout=1.5)
    assert time.monotonic() - began < 20
    assert late.value.output is not None
    assert _gone(int(late.value.output))


@pytest.mark.skipif(sys.platform == "win32", reason="sessions are POSIX's")
def test_a_descendant_that_left_the_group_does_not_keep_the_caller_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading.process._LAST_WORDS", 0.5)
    code = f"{SLEEPER}, start_new_session=True); print(p.pid, flush=True); time.sleep(600)"
    with pytest.raises(subprocess.TimeoutExpired) as late:
        run([PYTHON, "-c", code], timeout=1.5)
    assert late.value.output is not None
    psutil.Process(int(late.value.output)).kill()


def test_what_leaks_into_builds_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LEAKS:
        monkeypatch.setenv(name, "junk")
    monkeypatch.setenv("KEPT", "yes")
    clean = scrubbed_environment({"PYTHONHASHSEED": "0"})
    assert clean["KEPT"] == "yes"
    assert clean["PYTHONHASHSEED"] == "0"
    assert [name for name in LEAKS if clean.get(name) == "junk"] == []
    assert {"LD_LIBRARY_PATH", "LD_PRELOAD", "PYTHONPATH", "PYTHONHOME", "CUDA_HOME"} <= set(LEAKS)


def test_a_command_is_shown_as_one_would_type_it() -> None:
    assert show(["echo", "a b", "$HOME"]) == "+ echo 'a b' '$HOME'"
