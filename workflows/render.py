"""Render ``workflows/*.yaml`` into ``.github/workflows/``, every action pinned to its commit; or check that it is done.

A source names an action without a version (``uses: actions/checkout``); ``actions.yaml`` has the versions, in one
place. The rendered text is the source's, with the pins and a first line that says where it comes from: comments stay.
Rendering refuses a workflow that could fail silently: see :func:`weaknesses`. It runs nothing and asks no network.

    python workflows/render.py            write
    python workflows/render.py --check    exit 70 when a rendered file is missing, stale or nobody's
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "workflows"
RENDERED = ROOT / ".github" / "workflows"
PINS = "actions.yaml"
SHELL = "bash -euo pipefail {0}"
OLDEST_NODE = 24  # what hosted runners have; actions that ask for an older one are refused or forced
FAILED = 70

_USES = re.compile(r"^(?P<lead>\s*(?:-\s+)?uses:\s*)(?P<action>\S+)[^\n]*$", re.MULTILINE)
_COMMIT = re.compile(r"[0-9a-f]{40}")


class WorkflowInvalid(Exception):
    """A workflow that must not be rendered; one line a reason."""


@dataclass(frozen=True, kw_only=True)
class Pin:
    """One action: the version for people, the commit for the runner, the Node that it asks for."""

    version: str
    commit: str
    node: int


def read_pins(text: str) -> dict[str, Pin]:
    """Parse ``actions.yaml``.

    Raises:
        WorkflowInvalid: A commit is not one, or an action asks for a Node that runners no longer have.
    """
    pins = {name: Pin(**fields) for name, fields in yaml.safe_load(text).items()}
    wrong = [
        f"{name}: {pin.commit!r} is not a commit" for name, pin in pins.items() if not _COMMIT.fullmatch(pin.commit)
    ]
    wrong += [
        f"{name} {pin.version} asks for Node {pin.node}; runners have {OLDEST_NODE} and newer"
        for name, pin in pins.items()
        if pin.node < OLDEST_NODE
    ]
    if wrong:
        raise WorkflowInvalid("\n".join(wrong))
    return pins


def steps(workflow: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every step of every job, with a name to speak of it."""
    for job, body in workflow["jobs"].items():
        for number, step in enumerate(body.get("steps", ()), start=1):
            yield f"job {job}, step {number} ({step.get('name', step.get('uses', 'unnamed'))})", step


def weaknesses(workflow: object) -> list[str]:
    """What would let a workflow fail without anybody noticing.

    Every command runs under a shell that stops at the first error, also inside a pipe; nothing is allowed to fail;
    nothing that is kept as an artifact may be absent; nothing that is published is replaced.

    Args:
        workflow: The parsed file.
    """
    if not isinstance(workflow, Mapping) or not isinstance(workflow.get("jobs"), Mapping):
        return ["it is not a mapping with jobs"]
    found = []
    if workflow.get("defaults", {}).get("run", {}).get("shell") != SHELL:
        found.append(f"the default shell is not {SHELL!r}")
    if workflow.get("permissions") != {}:
        found.append("it gives every job permissions: {} belongs at the top, and what a job needs at the job")
    if "concurrency" not in workflow:
        found.append("two runs of it may be at the same thing (concurrency)")
    for name, job in workflow["jobs"].items():
        found += [f"job {name} does not say which permissions it needs"] if "permissions" not in job else []
        found += [f"job {name} has no timeout-minutes"] if "timeout-minutes" not in job else []
        found += [f"job {name} may fail unnoticed (continue-on-error)"] if "continue-on-error" in job else []
    for where, step in steps(workflow):
        found += [f"{where}: {weakness}" for weakness in _weak_step(step)]
    return found


def _weak_step(step: Mapping[str, Any]) -> Iterator[str]:
    run = step.get("run")
    if ("run" in step) == ("uses" in step):
        yield "a step has either run or uses"
    if "run" in step and not isinstance(run, str):
        yield f"run is {type(run).__name__}, not text (quote it, or use a block)"
    if "continue-on-error" in step:
        yield "it may fail unnoticed (continue-on-error)"
    if "shell" in step:
        yield "it leaves the default shell"
    if isinstance(run, str) and re.search(r"\|\|\s*(?:true|:)(?:\s|$)|set \+e|--clobber", run):
        yield "it swallows an error or replaces what is published"
    if str(step.get("uses", "")).startswith("actions/upload-artifact") and (
        step.get("with", {}).get("if-no-files-found") != "error"
    ):
        yield "it keeps nothing and says nothing when there are no files (if-no-files-found: error)"


def render(name: str, text: str, pins: Mapping[str, Pin]) -> str:
    """Render one workflow.

    Args:
        name: File name of the source, for the first line and for messages.
        text: The source.
        pins: The actions.

    Returns:
        The text for ``.github/workflows/``.

    Raises:
        WorkflowInvalid: It does not parse, names an action that is not listed or carries a version of its own, or is
            weak.
    """
    try:
        workflow = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WorkflowInvalid(f"{name} is not YAML: {error}") from error
    problems = weaknesses(workflow) or [
        f"{where}: {step['uses']} is not in {PINS}, where its version belongs"
        for where, step in steps(workflow)
        if "uses" in step and step["uses"] not in pins
    ]
    if problems:
        raise WorkflowInvalid("\n".join(f"{name}: {problem}" for problem in problems))
    pinned = _USES.sub(lambda match: _pinned(match, pins), text)
    return f"# Rendered from workflows/{name}; edit that file, then run `python workflows/render.py`.\n{pinned}"


def _pinned(match: re.Match[str], pins: Mapping[str, Pin]) -> str:
    pin = pins[match["action"]]
    return f"{match['lead']}{match['action']}@{pin.commit} # {pin.version}"


def render_all(sources: Path) -> dict[str, str]:
    """Render every workflow of a folder, by file name.

    Raises:
        WorkflowInvalid: One of them, or the pins, must not be rendered.
    """
    pins = read_pins((sources / PINS).read_text("utf-8"))
    files = sorted(path for path in sources.glob("*.yaml") if path.name != PINS)
    return {path.name: render(path.name, path.read_text("utf-8"), pins) for path in files}


def stale(rendered: Mapping[str, str], folder: Path) -> list[str]:
    """How ``.github/workflows/`` differs from what would be rendered."""
    there = {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.y*ml"))}
    problems = [f"{name} is missing" for name in rendered if name not in there]
    problems += [f"{name} has no source in workflows/" for name in there if name not in rendered]
    return problems + [f"{name} is stale" for name in rendered if name in there and there[name] != rendered[name]]


def main(arguments: list[str] | None = None) -> int:
    """Write or check; 0 when all is well, 70 when not."""
    parser = argparse.ArgumentParser(description="Render the workflows, or check that they are rendered.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when something is stale")
    options = parser.parse_args(arguments)
    try:
        rendered = render_all(SOURCES)
    except WorkflowInvalid as error:
        print(error, file=sys.stderr)
        return FAILED
    if not options.check:
        RENDERED.mkdir(parents=True, exist_ok=True)
        for name, text in rendered.items():
            (RENDERED / name).write_text(text, encoding="utf-8", newline="\n")
    problems = stale(rendered, RENDERED)
    for problem in problems:
        print(f".github/workflows/{problem}; run `python workflows/render.py`", file=sys.stderr)
    print(f"{len(rendered)} workflows, {len(problems)} problems")
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main())
