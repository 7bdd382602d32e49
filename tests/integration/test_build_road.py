"""The whole road with the default server, without CUDA: built, published, installed over HTTP, started, verified."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lading.errors import FreezeFailed
from lading.manifest.base import read_record
from lading.report.summary import BuildSummary

ROOT = Path(__file__).resolve().parents[2]
STEPS = ("freeze", "pack", "sign and publish", "install", "verify files", "start and ask")


class Road:
    """A copy of the project that tests may change, and what a walk over it said."""

    def __init__(self, project: Path) -> None:
        self.project = project
        self.out = project / "out"
        self.page = project / "step-summary.md"

    def walk(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run ``lading build``, which is without CUDA unless told otherwise."""
        environment = {**os.environ, "GITHUB_STEP_SUMMARY": str(self.page)}
        return subprocess.run(
            [sys.executable, "-m", "lading", "build", "--profile", "fast", "--json", *words],
            cwd=self.project,
            env=environment,
            check=False,
            capture_output=True,
            text=True,
        )

    def good(self, *words: str) -> BuildSummary:
        """Walk, and expect a good end."""
        done = self.walk(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        return read_record(BuildSummary, done.stdout.encode(), origin="standard output")

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace a text in a file of the project."""
        file = self.project / path
        text = file.read_text(encoding="utf-8")
        assert old in text
        file.write_text(text.replace(old, new, 1), encoding="utf-8")

    @property
    def release(self) -> dict[str, Any]:
        """The newest release manifest in the packed folder."""
        found = max((self.out / "release").glob("*.release.json"), key=lambda path: path.stat().st_mtime_ns)
        release: dict[str, Any] = json.loads(found.read_bytes())
        return release


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    """A project that was walked once; the tests below go on from there in their order."""
    project = tmp_path_factory.mktemp("road")
    for name in ("manifests", "build", "server", "packaging"):
        shutil.copytree(ROOT / name, project / name, ignore=shutil.ignore_patterns("__pycache__"))
    made = Road(project)
    made.good()
    yield made
    shutil.rmtree(project)


def reused(summary: BuildSummary) -> dict[str, bool]:
    return {step.name: step.reused for step in summary.steps}


def test_the_first_walk_ends_in_a_verified_running_server(road: Road) -> None:
    summary = json.loads((road.out / "summary.json").read_bytes())

    assert [step["name"] for step in summary["steps"]] == list(STEPS)
    assert set(summary["verifications"]) == {"packed assets", "installed tree", "running server"}
    assert all(report["passed"] for report in summary["verifications"].values())
    health = summary["verifications"]["running server"]["checks"][0]
    assert (health["name"], health["status"]) == ("health", "pass")


def test_the_job_page_gets_the_summary_as_markdown(road: Road) -> None:
    page = road.page.read_text(encoding="utf-8")

    assert "lading-server" in page
    assert "start and ask" in page


@pytest.mark.proves("S0-19")
def test_a_default_build_has_the_cpu_executable(road: Road) -> None:
    assert road.release["entry"] in {"lading-server", "lading-server.exe"}
    assert road.release["flavor"] == "cpu"
    assert [component["component"] for component in road.release["components"]] == ["core"]


def test_a_second_walk_reuses_everything_but_the_start(road: Road) -> None:
    summary = road.good()

    assert reused(summary) == {name: name != "start and ask" for name in STEPS}


def test_a_changed_line_is_built_again_under_the_same_version(road: Road) -> None:
    before = road.release["tree"]
    road.edit("server/lading_server/health.py", '"""', '"""Changed. ')  # its first docstring

    summary = road.good()

    assert road.release["tree"] != before
    assert not reused(summary)["install"]
    freeze = next(step for step in summary.steps if step.name == "freeze")
    assert freeze.note == "only the program's own modules changed"


def test_the_next_version_carries_a_patch_of_a_few_kilobytes(road: Road) -> None:
    road.edit("server/lading_server/_version.py", "0.1.0", "0.1.1")

    summary = road.good()

    (patch,) = road.release["patches"]
    assert patch["from_version"] == "0.1.0"
    assert patch["asset"]["size"] < 32_000
    installs = sorted(path.name for path in (road.out / "data/backends/cpu/versions").iterdir())
    assert any(name.startswith("0.1.1-") for name in installs)
    install = next(step for step in summary.steps if step.name == "install")
    assert not install.reused


def test_the_installed_server_answers_when_it_is_run_by_hand(road: Road) -> None:
    argv = [sys.executable, "-m", "lading", "run", "--data", str(road.out / "data"), "--json"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            health = httpx.get(facts["url"] + "/health").json()
        finally:
            process.terminate()

    assert (health["status"], health["version"], health["backend_variant"]) == ("ok", "0.1.1", "cpu")


def test_a_walk_that_breaks_says_where_and_keeps_what_was_there(road: Road) -> None:
    installed = (road.out / "data/backends/cpu/current").resolve()
    road.edit("server/lading_server/_version.py", "0.1.1", "0.1.2")
    road.edit("server/lading_server/health.py", "from __future__ import annotations", "from __future__ import nothing")

    done = road.walk()

    summary = json.loads(done.stdout)
    assert done.returncode == FreezeFailed.exit_code
    assert summary == json.loads((road.out / "summary.json").read_bytes())
    assert summary["outcome"] == "failed"
    assert [step["name"] for step in summary["steps"]] == ["freeze"]
    assert (road.out / "data/backends/cpu/current").resolve() == installed
    road.edit("server/lading_server/health.py", "from __future__ import nothing", "from __future__ import annotations")
    assert road.good().version == "0.1.2"
