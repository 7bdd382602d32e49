"""What an installed program says of its version: asked in its own folder, within a bound, whatever it answers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop
from tests.packed_release import program as program_bytes

from lading.errors import ConfigError
from lading.launch.probe import PATIENCE, PATIENCE_WINDOWS, VARIABLE, plain_version, probe_patience, said_version
from lading.launch.selftest import QUICK, QUICK_VARIABLE, SelftestReport, parse_report
from lading.store.install import install

LIBS: Files = {"_internal/nvidia/libcublas.so.12": b"cublas" * 500}
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="the programs of these tests are shell scripts")


def program(folder: Path, script: str) -> str:
    path = folder / "server"
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path.name


@POSIX
@pytest.mark.proves("S1-09")
@pytest.mark.parametrize("text", ["1.2.3", "v1.2.3"])
def test_the_version_is_what_the_program_says_in_its_own_folder(tmp_path: Path, text: str) -> None:
    (tmp_path / "beside").write_text(text, "utf-8")
    said = said_version(tmp_path, program(tmp_path, 'echo "demo $(cat beside)"'), patience=20)
    assert said.version == "1.2.3"
    assert said.why is None


@POSIX
@pytest.mark.proves("S1-09")
@pytest.mark.parametrize(
    ("script", "why"),
    [
        pytest.param("exit 3", "ended with status 3", id="fails"),
        pytest.param("echo no library >&2; exit 127", "no library", id="fails and says why"),
        pytest.param("true", "not a name and a version", id="silent"),
        pytest.param("echo hello there, world", "'hello there, world", id="says something else"),
        pytest.param("kill -11 $$", "ended with status -11", id="crashes"),
    ],
)
def test_a_program_that_does_not_tell_has_no_version_and_a_reason(tmp_path: Path, script: str, why: str) -> None:
    said = said_version(tmp_path, program(tmp_path, script), patience=20)
    assert said.version is None
    assert why in (said.why or "")


@POSIX
@pytest.mark.proves("X-32")
def test_a_program_that_hangs_is_ended_with_its_children_when_the_time_is_up(tmp_path: Path) -> None:
    entry = program(tmp_path, "sleep 300 & echo $! > child; wait")
    said = said_version(tmp_path, entry, patience=1.5)
    assert said.version is None
    assert said.why == "it did not answer --version in 1.5 s"
    child = Path("/proc", (tmp_path / "child").read_text("utf-8").strip())
    for _ in range(200):  # the system takes it away when its new parent has noticed
        if not child.exists() or "\nState:\tZ" in (child / "status").read_text("utf-8"):
            return
        time.sleep(0.05)
    pytest.fail("the child still runs")


def test_what_is_not_there_cannot_be_started(tmp_path: Path) -> None:
    said = said_version(tmp_path, "server", patience=20)
    assert said.version is None
    assert "cannot be started" in (said.why or "")


@pytest.mark.proves("X-32")
def test_the_time_limit_is_generous_on_windows_and_can_be_set() -> None:
    assert probe_patience({}, "posix") == PATIENCE
    assert probe_patience({}, "nt") == PATIENCE_WINDOWS >= 90
    assert probe_patience({VARIABLE: "7.5"}, "nt") == 7.5


@pytest.mark.parametrize("text", ["", "soon", "0", "-3", "inf", "nan"])
def test_a_time_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=VARIABLE):
        probe_patience({VARIABLE: text})


@pytest.mark.parametrize("text", ["1.0.0", "v1.0.0", " v1.0.0\n"])
def test_a_leading_v_does_not_matter(text: str) -> None:
    assert plain_version(text) == "1.0.0"


@POSIX
@pytest.mark.proves("S1-09")
def test_the_status_tells_what_each_installed_program_says(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    core: Files = {ENTRY: program_bytes("demo v0.1.0"), "_internal/a.pyc": b"a"}
    for version in ("0.1.0", "0.2.0"):  # the second one was built wrongly: it says the first one's version
        shop.release(version, {**core, "_internal/a.pyc": version.encode()}, LIBS)
        install(str(shop.store), shop.root, tmp_path / "data", app=APP)
    command = [sys.executable, "-m", "lading", "status", "--probe", "--data", str(tmp_path / "data"), "--app", APP]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True)
    probes = json.loads(done.stdout)["probes"]
    assert {name.partition("+")[0]: (said["version"], said.get("why")) for name, said in probes.items()} == {
        "0.1.0": ("0.1.0", None),
        "0.2.0": ("0.1.0", "it says 0.1.0, and was installed as 0.2.0"),
    }
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "says it is 0.1.0" in shown
    assert "was installed as 0.2.0" in shown


@pytest.mark.proves("X-30")
def test_the_default_server_answers_a_launcher_with_one_kernel_and_what_it_needs() -> None:
    command = [sys.executable, "-m", "lading_server", "--selftest", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env={**os.environ, QUICK_VARIABLE: QUICK}
    )
    report = parse_report(done.stdout)
    assert isinstance(report, SelftestReport)
    assert [check.name for check in report.checks] == ["imports", "torch.build", "cuda.device", "cuda.cublas.fp32"]
