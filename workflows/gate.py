"""May this run publish? Judges how the jobs before ended, and says in the job summary what a release stands on.

It stands alone on the standard library. A job that was skipped is never taken for one that passed: the check on a GPU
may be missing only where a maintainer has said so by ``LADING_GPU=unverified``, and then the summary says so too.

    python workflows/gate.py      (NEEDS: the JSON of the jobs before; GPU: the variable LADING_GPU)
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

UNVERIFIED = "unverified"
FAILED = 70


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What follows from the jobs before.

    Attributes:
        problems: Why nothing may be published; empty when it may.
        facts: What the release stands on, one line each.
        on_gpu: The builds were verified on a GPU.
    """

    problems: tuple[str, ...]
    facts: tuple[str, ...]
    on_gpu: bool


def judge(results: Mapping[str, str], *, gpu: str, needs_gpu: bool) -> Verdict:
    """Judge the jobs before.

    Args:
        results: How each ended: success, failure, cancelled or skipped.
        gpu: The variable ``LADING_GPU``.
        needs_gpu: There are builds that need one.
    """
    problems = [
        f"{name}: {result}"
        for name, result in results.items()
        if result != "success" and not (name in {"gpu", "rebuild"} and result == "skipped")
    ]
    on_gpu = needs_gpu and results.get("gpu") == "success"
    facts = []
    if not needs_gpu:
        facts.append("There is no CUDA build in this release.")
    elif on_gpu:
        facts.append("Every CUDA build was installed and verified on a GPU.")
    else:
        facts.append("**Not verified on a GPU.** No CUDA build of this release has run on one.")
        if gpu != UNVERIFIED:
            problems.append(f"gpu: {results.get('gpu', 'missing')}, and LADING_GPU is not '{UNVERIFIED}'")
    if results.get("rebuild") == "success":
        facts.append("The CPU build was made a second time on another machine: the same bytes.")
    else:
        facts.append(f"No build was made a second time ({results.get('rebuild', 'missing')}).")
    return Verdict(problems=tuple(dict.fromkeys(problems)), facts=tuple(facts), on_gpu=on_gpu)


def markdown(verdict: Verdict) -> str:
    """The verdict for the job summary."""
    head = "### May be published\n" if not verdict.problems else "### Must not be published\n"
    lines = [f"- {line}" for line in (*verdict.problems, *verdict.facts)]
    return "\n".join([head, *lines, ""])


def main(environment: Mapping[str, str] = os.environ) -> int:
    """Judge, print and write; 70 when nothing may be published."""
    needs = json.loads(environment["NEEDS"])
    results = {name: job["result"] for name, job in needs.items()}
    checks = json.loads(needs["plan"].get("outputs", {}).get("checks") or "[]")
    verdict = judge(results, gpu=environment.get("GPU", ""), needs_gpu=bool(checks))
    for file, text in (
        ("GITHUB_STEP_SUMMARY", markdown(verdict)),
        ("GITHUB_OUTPUT", f"gpu={'verified' if verdict.on_gpu else 'not verified'}\n"),
    ):
        if environment.get(file):
            with Path(environment[file]).open("a", encoding="utf-8") as stream:
                stream.write(text)
    print(markdown(verdict))
    for problem in verdict.problems:
        print(f"::error::{problem}")
    return FAILED if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
