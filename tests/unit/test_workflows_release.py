"""The workflows parse, cannot fail silently, and publish a release only when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflows import assets, render, verify_torch_cuda

SOURCES = sorted(path for path in render.SOURCES.glob("*.yaml") if path.name != render.PINS)
EVERY = [*SOURCES, *sorted(render.RENDERED.glob("*.y*ml"))]
BOTH_RELEASES = [path for path in EVERY if path.name == "release.yaml"]
ids = pytest.mark.parametrize("path", EVERY, ids=lambda path: path.relative_to(render.ROOT).as_posix())
releases = pytest.mark.parametrize("path", BOTH_RELEASES, ids=lambda path: path.relative_to(render.ROOT).as_posix())

MINIMAL = """
permissions: {}
concurrency: {group: a}
defaults: {run: {shell: "bash -euo pipefail {0}"}}
jobs:
  a:
    permissions: {contents: read}
    timeout-minutes: 5
    steps:
      - uses: actions/checkout
      - run: echo hello
"""
PINS = {"actions/checkout": render.Pin(version="v9.9.9", commit="0" * 40, node=24)}


def load(path: Path) -> dict[str, Any]:
    data = yaml.safe_load(path.read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


@ids
@pytest.mark.proves("S0-22")
def test_every_workflow_parses_and_every_command_is_text(path: Path) -> None:
    for _, step in render.steps(load(path)):
        assert isinstance(step.get("run", ""), str)


@ids
@pytest.mark.proves("S0-23")
def test_every_workflow_stops_at_the_first_error(path: Path) -> None:
    assert render.weaknesses(load(path)) == []


@pytest.mark.proves("S0-22", "S0-23", "S1-24")
def test_the_rendered_workflows_are_those_of_the_sources() -> None:
    rendered = render.render_all(render.SOURCES)

    assert set(rendered) == {path.name for path in SOURCES} == {"ci.yaml", "refresh.yaml", "release.yaml"}
    assert render.stale(rendered, render.RENDERED) == []


def test_checking_writes_nothing_and_passes() -> None:
    before = {path: path.stat().st_mtime_ns for path in render.RENDERED.iterdir()}

    assert render.main(["--check"]) == 0
    assert {path: path.stat().st_mtime_ns for path in render.RENDERED.iterdir()} == before


def test_a_stale_missing_or_foreign_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("old")
    (tmp_path / "foreign.yml").write_text("x")

    found = render.stale({"a.yaml": "new", "b.yaml": "b"}, tmp_path)

    assert found == ["b.yaml is missing", "foreign.yml has no source in workflows/", "a.yaml is stale"]


@pytest.mark.proves("S1-24")
def test_every_action_is_pinned_to_a_commit_and_runs_on_the_node_that_runners_have() -> None:
    pins = render.read_pins((render.SOURCES / render.PINS).read_text("utf-8"))
    by_commit = {f"{name}@{pin.commit}": pin for name, pin in pins.items()}

    used = [
        step["uses"]
        for path in render.RENDERED.glob("*.yaml")
        for _, step in render.steps(load(path))
        if "uses" in step
    ]

    assert set(used) == set(by_commit), "an action that is not pinned, or a pin that nothing uses"
    assert {by_commit[action].node for action in used} == {24}


@pytest.mark.proves("S1-24")
def test_an_action_for_an_older_node_is_refused() -> None:
    text = "actions/checkout: {version: v3.0.0, commit: " + "a" * 40 + ", node: 16}"

    with pytest.raises(render.WorkflowInvalid, match=r"actions/checkout v3\.0\.0 asks for Node 16"):
        render.read_pins(text)


@pytest.mark.parametrize("commit", ["v4", "abc", "A" * 40])
def test_a_pin_that_is_no_commit_is_refused(commit: str) -> None:
    with pytest.raises(render.WorkflowInvalid, match="is not a commit"):
        render.read_pins(f"actions/checkout: {{version: v4, commit: '{commit}', node: 24}}")


def test_rendering_pins_the_actions_and_keeps_the_rest() -> None:
    text = render.render("x.yaml", "# why\n" + MINIMAL, PINS)

    assert text.startswith("# Rendered from workflows/x.yaml")
    assert "# why" in text
    assert f"- uses: actions/checkout@{'0' * 40} # v9.9.9\n" in text
    assert yaml.safe_load(text)["jobs"]["a"]["steps"][0]["uses"] == f"actions/checkout@{'0' * 40}"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("run: echo hello", "run: echo key: value", "is not YAML"),
        ("run: echo hello", "run: {a: b}", "run is dict, not text"),
        ("run: echo hello", "run: upload || true", "swallows an error"),
        ("run: echo hello", "run: gh release upload v1 a --clobber", "replaces what is published"),
        ("run: echo hello", "continue-on-error: true\n        run: echo", "may fail unnoticed"),
        ("run: echo hello", "shell: sh\n        run: echo", "leaves the default shell"),
        ("bash -euo pipefail {0}", "bash", "the default shell is not"),
        ("uses: actions/checkout", "uses: actions/checkout@v4", "is not in actions.yaml"),
        ("uses: actions/checkout", "uses: evil/action # harmless", "is not in actions.yaml"),
        ("timeout-minutes: 5", "continue-on-error: true", "may fail unnoticed"),
        ("permissions: {}", "permissions: {contents: write}", "gives every job permissions"),
        ("permissions: {}", "name: x", "gives every job permissions"),
        ("permissions: {contents: read}", "name: x", "does not say which permissions"),
        ("concurrency: {group: a}", "name: x", "two runs of it"),
        (
            "uses: actions/checkout",
            "uses: actions/upload-artifact\n        with: {path: x}",
            "says nothing when there are no",
        ),
    ],
)
@pytest.mark.proves("S0-22", "S0-23")
def test_a_workflow_that_could_fail_silently_is_refused(old: str, new: str, says: str) -> None:
    assert old in MINIMAL

    with pytest.raises(render.WorkflowInvalid, match=re.escape(says)):
        render.render("x.yaml", MINIMAL.replace(old, new), PINS)


# --- the release pipeline ---------------------------------------------------------------------------------------------


@releases
@pytest.mark.proves("S0-22")
def test_the_release_verifies_cuda_in_torch_between_build_and_upload(path: Path) -> None:
    names = [step.get("name") for step in load(path)["jobs"]["build"]["steps"]]
    step = next(step for step in load(path)["jobs"]["build"]["steps"] if step.get("name") == "Verify CUDA in torch")

    assert names.index("Build") < names.index("Verify CUDA in torch") < names.index("Keep the assets")
    assert "workflows/verify_torch_cuda.py" in step["run"]


def fake_torch(folder: Path, cuda: str | None, archs: str | None = "sm_80 sm_90") -> None:
    package = folder / "torch"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from types import SimpleNamespace\nfrom . import _C\n"
        f"__version__ = '2.7.1'\nversion = SimpleNamespace(cuda={cuda!r})\n"
    )
    (package / "_C.py").write_text(f"def _cuda_getArchFlags():\n    return {archs!r}\n" if archs is not None else "")


def run_the_step(folder: Path, *, environments: int = 1) -> subprocess.CompletedProcess[str]:
    """Run the workflow's own text with an interpreter that finds the fake torch."""
    step = next(
        step["run"]
        for step in load(render.RENDERED / "release.yaml")["jobs"]["build"]["steps"]
        if step.get("name") == "Verify CUDA in torch"
    )
    for number in range(environments):
        python = folder / "out" / "env" / f"0123456789a{number}" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    (folder / "workflows").symlink_to(render.SOURCES)
    script = folder / "step.sh"
    script.write_text(step)
    return subprocess.run(
        ["bash", "-euo", "pipefail", str(script)],
        cwd=folder,
        env={**os.environ, "FLAVOR": "cu126"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="the step runs on the Linux runner")
@pytest.mark.parametrize(
    ("cuda", "archs", "says"),
    [
        (None, None, "CPU-only build"),
        ("12.8", "sm_80", "built with CUDA 12.8 (cu128); cu126 was asked for"),
        ("12.6", "", "no GPU architecture"),
        ("12.6", None, "no GPU architecture"),
    ],
)
@pytest.mark.proves("S0-22")
def test_the_verifying_step_fails_on_a_torch_without_the_toolkit(
    tmp_path: Path, cuda: str | None, archs: str | None, says: str
) -> None:
    fake_torch(tmp_path, cuda, archs)

    done = run_the_step(tmp_path)

    assert done.returncode == verify_torch_cuda.FAILED
    assert says in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="the step runs on the Linux runner")
@pytest.mark.proves("S0-22")
def test_the_verifying_step_passes_on_the_toolkits_torch(tmp_path: Path) -> None:
    fake_torch(tmp_path, "12.6")

    done = run_the_step(tmp_path)

    assert (done.returncode, done.stderr) == (0, "")
    assert "torch 2.7.1, CUDA 12.6, architectures sm_80 sm_90" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="the step runs on the Linux runner")
@pytest.mark.parametrize("environments", [0, 2])
@pytest.mark.proves("S0-22")
def test_the_verifying_step_fails_when_there_is_not_exactly_one_environment(tmp_path: Path, environments: int) -> None:
    fake_torch(tmp_path, "12.6")

    assert run_the_step(tmp_path, environments=environments).returncode != 0


def test_the_verifier_says_when_torch_is_not_there_at_all(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.12: cannot open')")
    script = render.SOURCES / "verify_torch_cuda.py"

    done = subprocess.run(
        [sys.executable, str(script), "cu126"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == verify_torch_cuda.FAILED
    assert "cannot be imported: libcudart.so.12" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["12.6"], ["cu126", "x"]])
def test_the_verifier_refuses_to_guess_the_toolkit(arguments: list[str]) -> None:
    assert verify_torch_cuda.main(arguments) == 2


def needs(job: dict[str, Any]) -> set[str]:
    given = job.get("needs", [])
    return {given} if isinstance(given, str) else set(given)


@releases
@pytest.mark.proves("S0-23", "S1-24")
def test_everything_is_checked_before_anything_is_published_and_fetched_back_afterwards(path: Path) -> None:
    jobs = load(path)["jobs"]
    names = [step.get("name") for step in jobs["publish"]["steps"]]
    order = ["Fetch the assets", "Verify the set of assets", "Verify checksums", "Publish", "Say what was published"]

    assert [name for name in names if name in order] == order == names[-len(order) :]
    assert needs(jobs["gate"]) == {"plan", "build", "gpu", "rebuild"}
    assert {"gate", "attest"} <= needs(jobs["publish"])
    assert "needs.gate.result == 'success'" in jobs["publish"]["if"]
    assert "needs.plan.outputs.publish == 'true'" in jobs["publish"]["if"]
    assert needs(jobs["verify"]) == {"plan", "publish"}
    assert "secrets." not in json.dumps(jobs["verify"]), "what a stranger sees"


@releases
@pytest.mark.proves("S1-24")
def test_the_pipeline_publishes_every_file_of_the_release_folder(path: Path) -> None:
    jobs = load(path)["jobs"]
    keep = next(step for step in jobs["build"]["steps"] if step.get("name") == "Keep the assets")
    fetch = next(step for step in jobs["publish"]["steps"] if step.get("name") == "Fetch the assets")
    publish = next(step for step in jobs["publish"]["steps"] if step.get("name") == "Publish")

    assert keep["with"]["path"] == "out/release/*"
    assert keep["with"]["if-no-files-found"] == "error"
    assert fetch["with"] == {
        "pattern": "assets-*", "merge-multiple": True, "path": "assets", "digest-mismatch": "error",
    }  # fmt: skip
    assert "lading publish assets" in publish["run"]


@releases
def test_only_the_jobs_that_must_may_write_and_only_behind_a_reviewed_environment(path: Path) -> None:
    jobs = load(path)["jobs"]
    writers = {name for name, job in jobs.items() if "write" in job["permissions"].values()}

    assert writers == {"attest", "publish"}
    assert all(job["permissions"].get("contents") in {"read", None} for name, job in jobs.items() if name != "publish")
    assert {name for name, job in jobs.items() if "secrets." in json.dumps(job)} == {"publish"}
    assert jobs["publish"]["environment"] == "release"
    assert not commands(jobs["attest"]), "nothing of the repository runs where the workflow's identity can be used"


@releases
def test_a_hand_started_run_publishes_only_when_it_is_told_to(path: Path) -> None:
    workflow: dict[Any, Any] = load(path)
    started = workflow[True]  # what YAML makes of the key `on`

    assert started["workflow_dispatch"]["inputs"]["publish"]["default"] is False
    assert started["push"] == {"tags": ["v*"]}
    assert "needs.plan.outputs.publish != 'true'" in workflow["jobs"]["rehearse"]["if"]


@ids
def test_no_release_takes_anything_from_a_cache_and_what_is_cached_is_keyed_by_locks(path: Path) -> None:
    for where, step in render.steps(load(path)):
        assert "cache" not in step.get("with", {}), where
        if str(step.get("uses", "")).startswith("actions/cache"):
            assert path.name == "ci.yaml"
            assert "hashFiles('build/requirements/*.txt'" in step["with"]["key"], where


# --- the set of assets ------------------------------------------------------------------------------------------------


def asset(folder: Path, name: str, data: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    (folder / name).write_bytes(data)
    (folder / f"{name}.sha256").write_text(f"{digest}  {name}\n")
    return {"name": name, "size": len(data), "sha256": digest}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small release with all the kinds of files that a real one has."""
    folder = tmp_path / "assets"
    folder.mkdir()
    components = []
    for component, base in (("core", "a-core-0.1.0-cu126-linux-x86_64"), ("libs", "a-libs-cu126-v1-linux-x86_64")):
        volumes = [asset(folder, f"{base}.tar.zst.{number:03}", bytes([number]) * 9) for number in (1, 2)]
        index = asset(folder, f"{base}.index.zst", b"index of " + base.encode())
        asset(folder, f"{base}.json", b"{}")
        components.append({"component": component, "volumes": volumes, "index": index})
    release = {"flavor": "cu126", "components": components, "patches": [{"asset": asset(folder, "a.patch", b"p")}]}
    asset(folder, "a-0.1.0-cu126-linux-x86_64.release.json", json.dumps(release).encode())
    return folder


def test_a_whole_set_passes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert assets.main(["complete", str(folder)]) == 0
    assert "0 problems" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [
        "a-core-0.1.0-cu126-linux-x86_64.tar.zst.001",
        "a-core-0.1.0-cu126-linux-x86_64.tar.zst.001.sha256",
        "a-libs-cu126-v1-linux-x86_64.tar.zst.002",
        "a-libs-cu126-v1-linux-x86_64.tar.zst.002.sha256",
        "a-libs-cu126-v1-linux-x86_64.index.zst",
        "a-libs-cu126-v1-linux-x86_64.json",
        "a-libs-cu126-v1-linux-x86_64.json.sha256",
        "a-0.1.0-cu126-linux-x86_64.release.json.sha256",
        "a.patch",
    ],
)
@pytest.mark.proves("S0-23", "S1-24")
def test_a_set_without_one_of_its_files_is_refused(folder: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / name).unlink()

    assert assets.main(["complete", str(folder)]) == assets.FAILED
    assert f"{name} is missing" in capsys.readouterr().out


@pytest.mark.proves("S0-23")
def test_a_set_without_a_release_manifest_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a-0.1.0-cu126-linux-x86_64.release.json").unlink()

    assert assets.main(["complete", str(folder)]) == assets.FAILED
    assert "no release manifest" in capsys.readouterr().out


@pytest.mark.proves("S0-23")
def test_a_volume_that_is_not_the_manifests_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a-core-0.1.0-cu126-linux-x86_64.tar.zst.002").write_bytes(b"other")

    assert assets.main(["complete", str(folder)]) == assets.FAILED
    assert "tar.zst.002 has 5 bytes" in capsys.readouterr().out


def test_a_cuda_release_without_libs_and_a_file_over_the_limit_are_refused() -> None:
    base = "a-core-0.1.0-cu126-linux-x86_64"
    fact = assets.Fact(size=assets.ASSET_LIMIT, sha256="0" * 64)
    index = {"name": f"{base}.index.zst", "size": 1, "sha256": "1" * 64}
    volume = {"name": f"{base}.tar.zst", "size": fact.size, "sha256": fact.sha256}
    release = {"flavor": "cu126", "components": [{"component": "core", "index": index, "volumes": [volume]}]}

    problems = assets.incomplete({f"{base}.tar.zst": fact}, {"a.release.json": release})

    assert any("a cu126 release has ['core', 'libs']" in problem for problem in problems)
    assert any("the host takes less than 2,147,483,648" in problem for problem in problems)
