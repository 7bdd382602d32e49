from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.integration.default_server import running

from lading.process import Finished, run, scrubbed_environment
from lading_server import __version__
from lading_server.workers import echo

SUFFIX = ".exe" if os.name == "nt" else ""
NAMES = ("lading-server", "lading-server-cuda")


def ask(tree: Path, name: str, *words: str, timeout: float = 120) -> Finished:
    return run([tree / f"{name}{SUFFIX}", *words], cwd=tree, environment=scrubbed_environment(), timeout=timeout)


def report(tree: Path, name: str) -> tuple[int, dict[str, Any]]:
    done = ask(tree, name, "--selftest", "--json")
    return done.returncode, json.loads(done.stdout)


@pytest.mark.proves("S0-10")
@pytest.mark.parametrize("name", NAMES)
def test_both_executables_print_name_and_version(frozen_server: Path, name: str) -> None:
    done = ask(frozen_server, name, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lading-server {__version__}\n", "")


@pytest.mark.proves("S0-11")
def test_the_version_needs_nothing_but_the_server_package(frozen_server: Path, tmp_path: Path) -> None:
    # Torch is absent from this build anyway; here everything else is, too.
    tree = tmp_path / "bare"
    shutil.copytree(frozen_server, tree, symlinks=True)
    payload = tree / "_internal"
    assert not (payload / "torch").exists()
    for package in (
        "numpy",
        "fastapi",
        "uvicorn",
        "pydantic",
        "pydantic_core",
        "starlette",
        "asyncio",
        "multiprocessing",
    ):
        assert (payload / package).exists(), package
        shutil.rmtree(payload / package)
    for module in ("argparse.pyc", "inspect.pyc", "pkgutil.pyc"):
        (payload / module).unlink()
    done = ask(tree, NAMES[0], "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"lading-server {__version__}\n", "")
    assert ask(tree, NAMES[0], "--help").returncode != 0


@pytest.mark.proves("S0-09", "S0-12")
@pytest.mark.parametrize("inherited", ["cpu", "cuda"])
@pytest.mark.parametrize(("name", "variant"), [(NAMES[0], "cpu"), (NAMES[1], "cuda")])
def test_health_names_the_binary_that_runs_whatever_was_inherited(
    frozen_server: Path, name: str, variant: str, inherited: str
) -> None:
    program = (str(frozen_server / f"{name}{SUFFIX}"),)
    with running(program, environment={"LADING_VARIANT": inherited}) as started:
        body = started.health()
        assert body["backend_variant"] == variant
        assert body["gpu_available"] is False
        # This very build has no torch: as the CPU server that is right, under the CUDA server's name it is not.
        assert body["status"] == ("ok" if variant == "cpu" else "degraded")
        assert ("this build has no torch" in str(body["reason"])) == (variant == "cuda")
        assert started.stop() == 0


@pytest.mark.proves("X-19")
def test_the_frozen_program_starts_workers_and_children_by_running_itself_again(frozen_server: Path) -> None:
    status, found = report(frozen_server, NAMES[0])
    assert (status, found["passed"], found["variant"]) == (0, True, "cpu")
    checks = {check["name"]: check for check in found["checks"]}
    rerun = checks["worker.rerun"]
    executable = str(frozen_server / f"{NAMES[0]}{SUFFIX}")
    assert rerun["status"] == "pass"
    assert rerun["evidence"]["command"] == [executable, "--worker", echo.__name__, "selftest"]
    assert rerun["evidence"]["answer"]["executable"] == executable
    assert rerun["evidence"]["answer"]["frozen"] is True
    assert checks["worker.multiprocessing"]["status"] == "pass"
    assert checks["imports"]["status"] == "pass"


@pytest.mark.proves("X-19")
def test_a_frozen_worker_ends_with_its_input_and_knows_its_own_variant(frozen_server: Path) -> None:
    executable = frozen_server / f"{NAMES[1]}{SUFFIX}"
    done = subprocess.run(
        [executable, "--worker", echo.__name__],
        input='{"n": 1}\n{"n": 2}\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=scrubbed_environment({"LADING_VARIANT": "cpu"}),
    )
    assert (done.returncode, done.stderr) == (0, "")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["echo"] for answer in answers] == [{"n": 1}, {"n": 2}]
    assert {answer["variant"] for answer in answers} == {"cuda"}


def test_a_module_that_was_not_frozen_in_is_no_worker(frozen_server: Path) -> None:
    done = ask(frozen_server, NAMES[0], "--worker", "not_frozen_in")
    assert done.returncode == 2
    assert "not_frozen_in cannot be imported" in done.stderr


def test_the_cuda_executable_without_torch_fails_its_selftest_and_says_why(frozen_server: Path) -> None:
    status, found = report(frozen_server, NAMES[1])
    assert (status, found["passed"], found["variant"]) == (1, False, "cuda")
    failed = {check["name"]: check["reason"] for check in found["checks"] if check["status"] == "fail"}
    assert failed == {"torch.build": "this is the CUDA build, but this build has no torch"}


def test_wrong_arguments_name_the_executable_in_the_usage(frozen_server: Path) -> None:
    done = ask(frozen_server, NAMES[0], "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {NAMES[0]}")
