"""The steps of a workflow as something that can be run here: their own text, and the environment that they would have.

It knows of expressions only what it is told: ``values`` has what stands between ``${{`` and ``}}``, and an expression
that is not in it is an error. So what is run is what GitHub would run, or nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_EXPRESSION = re.compile(r"\$\{\{\s*(.+?)\s*\}\}")


class NoSuchStep(Exception):
    """A workflow has no step of that name, or an expression that nobody gave a value for."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step that runs a script.

    Attributes:
        name: Its name.
        script: Its text.
        environment: What workflow, job and step put into the environment, expressions not yet filled in.
    """

    name: str
    script: str
    environment: Mapping[str, str]


def find_step(workflow: Path, job: str, name: str) -> Step:
    """A step of a workflow.

    Args:
        workflow: The source or the rendered file.
        job: The job's key.
        name: The step's name.

    Raises:
        NoSuchStep: There is none, or it runs no script.
    """
    loaded: dict[str, Any] = yaml.safe_load(workflow.read_text("utf-8"))
    body = loaded["jobs"].get(job, {})
    for step in body.get("steps", ()):
        if step.get("name") == name and "run" in step:
            environment = {**loaded.get("env", {}), **body.get("env", {}), **step.get("env", {})}
            return Step(
                name=name, script=step["run"], environment={key: str(text) for key, text in environment.items()}
            )
    message = f"{workflow.name} has no step {name!r} with a script in its job {job!r}"
    raise NoSuchStep(message)


def filled(step: Step, values: Mapping[str, str]) -> dict[str, str]:
    """The step's environment.

    Args:
        step: The step.
        values: What each expression gives.

    Raises:
        NoSuchStep: One of them is not known.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            message = f"nobody says what {match[1]!r} of the step {step.name!r} is"
            raise NoSuchStep(message)
        return values[match[1]]

    if _EXPRESSION.search(step.script):
        message = f"the step {step.name!r} has an expression in its script, where anybody could put commands"
        raise NoSuchStep(message)
    return {key: _EXPRESSION.sub(value, text) for key, text in step.environment.items()}


def run_step(
    step: Step, folder: Path, values: Mapping[str, str], environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does: the workflows' own shell, and the environment of workflow, job and step.

    Args:
        step: The step.
        folder: The working directory.
        values: What each expression gives.
        environment: What the runner itself has; this process's when none.

    Returns:
        How it ended; standard error is in its output.
    """
    script = folder / ".step.sh"
    script.write_text(step.script, encoding="utf-8", newline="\n")
    try:
        return subprocess.run(
            [shutil.which("bash") or "bash", "-euo", "pipefail", script.name],
            cwd=folder,
            env={**(os.environ if environment is None else environment), **filled(step, values)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            check=False,
        )
    finally:
        script.unlink()
