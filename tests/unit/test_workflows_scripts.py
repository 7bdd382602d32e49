"""The scripts of the workflows: which builds there are, what may be published, whether two builds are the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from workflows import gate, matrix, render, same, steps

from lading.manifest.project import Project, load_project

# --- the matrix -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(root: Path) -> Project:
    return load_project(root)


def outputs(project: Project, **environment: str) -> dict[str, Any]:
    found: dict[str, Any] = matrix.outputs(project, environment)
    return {name: json.loads(text) if text.startswith("[") else text for name, text in found.items()}


def test_every_flavor_with_a_lock_is_built_and_no_other(project: Project) -> None:
    found = outputs(project)
    flavors = {build["flavor"] for build in found["builds"]}
    locked = {name for name, toolkit in project.toolkits.items() if toolkit.locks}

    assert flavors == {"cpu", *locked}
    assert "cu118" not in flavors, "its manifest names no lock"
    assert all((project.root / build["lock"]).is_file() for build in found["builds"])
    assert {build["flavor"] for build in found["checks"]} == locked, "each of them runs on a GPU before it is published"
    assert {build["flavor"] for build in found["rebuilds"]} == {"cpu"}
    assert (found["app"], found["version"]) == (project.app.name, project.version)


def test_builds_run_on_the_oldest_image_of_their_platform(project: Project) -> None:
    build = outputs(project)["builds"][0]

    assert (build["platform"], build["runner"]) == ("linux-x86_64", "ubuntu-22.04")
    assert set(matrix.RUNNERS) == {"linux-x86_64", "linux-aarch64", "windows-x86_64"}


def test_assets_are_cut_so_that_every_destination_takes_them(project: Project) -> None:
    assert outputs(project, LADING_DESTINATIONS="github")["limit"] == "2000000000"
    assert outputs(project, LADING_DESTINATIONS="github r2")["limit"] == "500000000"
    assert outputs(project)["limit"] == "500000000"


@pytest.mark.parametrize(
    ("environment", "publish"),
    [
        ({"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main", "PUBLISH": "false"}, "false"),
        ({"GITHUB_REF_TYPE": "tag", "PUBLISH": "false"}, "false"),
        ({"GITHUB_REF_TYPE": "tag", "PUBLISH": "true", "LADING_DESTINATIONS": "github"}, "true"),
    ],
)
def test_only_a_tag_publishes_and_only_when_asked(project: Project, environment: dict[str, str], publish: str) -> None:
    given = {"GITHUB_REF_NAME": f"v{project.version}"} | environment

    assert outputs(project, **given)["publish"] == publish


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({"GITHUB_REF_TYPE": "tag", "GITHUB_REF_NAME": "v9.9.9"}, "the tag is v9.9.9, and the program's version is"),
        ({"GITHUB_REF_TYPE": "branch", "GITHUB_REF_NAME": "main", "PUBLISH": "true"}, "only a tag is published"),
        ({"GITHUB_REF_TYPE": "tag", "PUBLISH": "true"}, "LADING_DESTINATIONS names no destination"),
        ({"LADING_DESTINATIONS": "gihtub"}, "There is no destination 'gihtub'"),
    ],
)
def test_a_run_that_makes_no_sense_ends_before_anything_is_built(
    project: Project, environment: dict[str, str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"GITHUB_REF_NAME": f"v{project.version}"} | environment

    assert matrix.main([str(project.root)], given) == matrix.FAILED
    told = capsys.readouterr()
    assert "::error::" in told.err
    assert says in told.err
    assert told.out == "", "no job gets a matrix"


def test_the_lines_are_what_the_next_jobs_read(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.main([str(project.root)], {}) == 0

    lines = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    workflow = yaml.safe_load((render.SOURCES / "release.yaml").read_text("utf-8"))
    assert set(workflow["jobs"]["plan"]["outputs"]) == set(lines)


# --- the gate ---------------------------------------------------------------------------------------------------------

ALL_WELL = {"plan": "success", "build": "success", "gpu": "success", "rebuild": "success"}


def judged(results: Mapping[str, str], *, said: str = "", needs_gpu: bool = True) -> gate.Verdict:
    return gate.judge(results, gpu=said, needs_gpu=needs_gpu)


def test_a_release_that_ran_on_a_gpu_may_be_published_and_says_so() -> None:
    verdict = judged(ALL_WELL)

    assert (verdict.problems, verdict.on_gpu) == ((), True)
    assert "verified on a GPU" in verdict.facts[0]
    assert "Not verified" not in gate.markdown(verdict)


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped"])
@pytest.mark.parametrize("job", ["plan", "build"])
def test_nothing_is_published_when_a_job_did_not_end_well(job: str, result: str) -> None:
    assert judged({**ALL_WELL, job: result}).problems == (f"{job}: {result}",)


@pytest.mark.parametrize("result", ["failure", "cancelled"])
@pytest.mark.parametrize("said", ["", "unverified"])
def test_a_gpu_job_that_failed_is_never_overruled(result: str, said: str) -> None:
    assert f"gpu: {result}" in judged({**ALL_WELL, "gpu": result}, said=said).problems


def test_a_gpu_job_that_did_not_run_stops_the_release_unless_a_maintainer_has_said_so() -> None:
    silent = judged({**ALL_WELL, "gpu": "skipped"})
    said = judged({**ALL_WELL, "gpu": "skipped"}, said="unverified")

    assert silent.problems == ("gpu: skipped, and LADING_GPU is not 'unverified'",)
    assert said.problems == ()
    for verdict in (silent, said):
        assert "**Not verified on a GPU.**" in gate.markdown(verdict)
        assert not verdict.on_gpu


def test_a_release_without_cuda_needs_no_gpu() -> None:
    verdict = judged({**ALL_WELL, "gpu": "skipped"}, needs_gpu=False)

    assert verdict.problems == ()
    assert "no CUDA build" in verdict.facts[0]


@pytest.mark.parametrize("result", ["failure", "cancelled"])
def test_builds_that_differ_are_not_published(result: str) -> None:
    assert judged({**ALL_WELL, "rebuild": result}).problems == (f"rebuild: {result}",)


@pytest.mark.parametrize(("gpu", "code"), [("success", 0), ("skipped", gate.FAILED)])
def test_the_gate_writes_the_job_summary(
    tmp_path: Path, gpu: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs: dict[str, Any] = {name: {"result": result} for name, result in {**ALL_WELL, "gpu": gpu}.items()}
    jobs["plan"]["outputs"] = {"checks": '[{"flavor": "cu126"}]'}
    files = {"GITHUB_STEP_SUMMARY": str(tmp_path / "page"), "GITHUB_OUTPUT": str(tmp_path / "out")}

    assert gate.main({"NEEDS": json.dumps(jobs), "GPU": "", **files}) == code

    page = (tmp_path / "page").read_text("utf-8")
    assert ("May be published" in page) == (code == 0)
    assert ("::error::gpu: skipped" in capsys.readouterr().out) == (code != 0)
    assert (tmp_path / "out").read_text("utf-8") == f"gpu={'verified' if code == 0 else 'not verified'}\n"


# --- two builds -------------------------------------------------------------------------------------------------------


def two(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("first", "second"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "a").write_bytes(b"1")
        (tmp_path / name / "sub" / "b").write_bytes(b"2")
    return tmp_path / "first", tmp_path / "second"


def test_equal_folders_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = two(tmp_path)

    assert same.main([str(first), str(second)]) == 0
    assert "2 and 2 files, 0 differences" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "sub" / "b").write_bytes(b"3"), "sub/b differs"),
        (lambda folder: (folder / "a").unlink(), "a is in the first build only"),
        (lambda folder: (folder / "c").write_bytes(b""), "c is in the second build only"),
    ],
)
def test_any_difference_fails_and_is_named(
    tmp_path: Path, change: Any, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two(tmp_path)
    change(second)

    assert same.main([str(first), str(second)]) == same.FAILED
    assert f"::error::{says}" in capsys.readouterr().out


def test_nothing_is_not_the_same_as_nothing(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()

    assert same.main([str(tmp_path / "first"), str(tmp_path / "second")]) == same.FAILED
    assert same.main([]) == same.USAGE


# --- running a step ---------------------------------------------------------------------------------------------------

WORKFLOW = """
jobs:
  a:
    env: {FROM_JOB: job}
    steps:
      - name: Greet
        env: {WHO: "${{ vars.WHO }}"}
        run: echo "$FROM_JOB $WHO"; false | cat; echo never
      - name: Unsafe
        run: echo ${{ vars.WHO }}
      - name: An action
        uses: actions/checkout
"""


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    path = tmp_path / "w.yaml"
    path.write_text(WORKFLOW)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="steps are bash")
def test_a_step_runs_under_the_workflows_shell_with_its_environment(workflow: Path, tmp_path: Path) -> None:
    done = steps.run_step(steps.find_step(workflow, "a", "Greet"), tmp_path, {"vars.WHO": "you"})

    assert done.returncode == 1, "pipefail"
    assert done.stdout == "job you\n"
    assert {path.name for path in tmp_path.iterdir()} == {"w.yaml"}


@pytest.mark.parametrize(
    ("job", "name", "says"),
    [
        ("a", "Gone", "no step 'Gone'"),
        ("b", "Greet", "in its job 'b'"),
        ("a", "An action", "with a script"),
        ("a", "Greet", "nobody says what 'vars.WHO'"),
        ("a", "Unsafe", "an expression in its script"),
    ],
)
def test_a_step_that_is_not_what_is_thought_is_refused(
    workflow: Path, tmp_path: Path, job: str, name: str, says: str
) -> None:
    with pytest.raises(steps.NoSuchStep, match=says):
        steps.run_step(steps.find_step(workflow, job, name), tmp_path, {})
