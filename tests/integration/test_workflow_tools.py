"""What others wrote to check workflows finds nothing in ours, and would find what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from workflows import check, render

GOOD = """
on: {workflow_dispatch: }
permissions: {}
jobs:
  a:
    runs-on: ubuntu-22.04
    timeout-minutes: 5
    name: a
    steps:
      - name: Hello
        run: echo "$HOME"
"""


def written(tmp_path: Path, text: str) -> list[Path]:
    folder = tmp_path / ".github" / "workflows"
    folder.mkdir(parents=True)
    (folder / "w.yaml").write_text(text)
    return [folder / "w.yaml"]


def test_the_rendered_workflows_follow_the_published_schema(tmp_path: Path) -> None:
    rendered = sorted(render.RENDERED.glob("*.yaml"))

    assert len(rendered) == 3
    assert check.check_schema(rendered) == check.Outcome(tool="schema")
    wrong = check.check_schema(written(tmp_path, GOOD.replace("runs-on", "run-on")))
    assert "run-on" in wrong.problems[0]


def test_the_rendered_workflows_have_no_finding_of_zizmor_that_is_not_explained(tmp_path: Path) -> None:
    assert check.check_zizmor(sorted(render.RENDERED.glob("*.yaml"))) == check.Outcome(tool="zizmor")
    unpinned = GOOD.replace("- name: Hello", "- uses: actions/checkout@v4\n      - name: Hello")
    assert "unpinned-uses" in check.check_zizmor(written(tmp_path, unpinned)).problems[0]


def test_every_explanation_for_zizmor_has_a_reason_and_is_needed(tmp_path: Path) -> None:
    text = check.ZIZMOR_RULES.read_text("utf-8")
    rules = yaml.safe_load(text)["rules"]
    lines = [line.strip() for line in text.splitlines()]

    for rule, settings in rules.items():
        for number in (n for n, line in enumerate(lines) if line.startswith("- ")):
            assert lines[number - 1].startswith("#"), "a reason above it"
        for file in settings["ignore"]:
            others = {name: value for name, value in rules.items() if name != rule}
            (tmp_path / "z.yml").write_text(yaml.safe_dump({"rules": others}))
            found = check.check_zizmor([render.RENDERED / file], tmp_path / "z.yml")
            assert rule in found.problems[0], f"{rule} finds nothing in {file} any more"


def test_the_rendered_workflows_pass_actionlint(tmp_path: Path) -> None:
    outcome = check.check_actionlint(sorted(render.RENDERED.glob("*.yaml")))
    if outcome.skipped:
        pytest.skip(f"NOT TESTED: actionlint: {outcome.skipped}")
    assert outcome.problems == []
    wrong = check.check_actionlint(written(tmp_path, GOOD.replace("$HOME", "${{ needs.b.result }} ${{ steps.x.y }}")))
    assert len(wrong.problems) >= 1


def test_the_steps_pass_shellcheck(tmp_path: Path) -> None:
    outcome = check.check_shell(sorted(render.RENDERED.glob("*.yaml")))
    if outcome.skipped:
        pytest.skip(f"NOT TESTED: shellcheck: {outcome.skipped}")
    assert outcome.problems == []
    wrong = check.check_shell(written(tmp_path, GOOD.replace('"$HOME"', "$HOME/a")))
    assert "SC2086" in wrong.problems[0]
