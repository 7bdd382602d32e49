"""The self-test's report, and the running of checks: whatever a check does, it ends as a line of the report.

Standard library only: a build in which even pydantic is broken must still be able to say so.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["pass", "fail", "skipped"]
Evidence = Mapping[str, Any]


class CheckFailedError(Exception):
    """Raised by a check that found something wrong.

    Args:
        reason: What is wrong, with the values that disagree.
        evidence: What else was found.
    """

    def __init__(self, reason: str, evidence: Evidence | None = None) -> None:
        super().__init__(reason)
        self.evidence = evidence or {}


class CheckSkippedError(Exception):
    """Raised by a check that cannot be done here, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to be checked.

    Attributes:
        name: Stable and dotted, such as ``cuda.cufft``.
        work: Does it and returns the evidence, or raises.
    """

    name: str
    work: Callable[[], Evidence]


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a check ended.

    Attributes:
        name: The check's.
        status: Pass, fail or skipped.
        reason: Why it failed or was skipped; empty when it passed.
        evidence: What was measured.
        seconds: How long it took.
    """

    name: str
    status: Status
    reason: str = ""
    evidence: Evidence = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Report:
    """The whole self-test.

    Attributes:
        name, version, variant: Of the server.
        passed: No check failed.
        seed: Of the random inputs; the same seed gives the same inputs.
        host: The interpreter and the system.
        device: What can be computed on, and why there is no GPU when there is none.
        torch: Torch's version, CUDA, architectures, cuDNN and NCCL; nothing in a build without torch.
        checks: Every check in the order in which it ran.
    """

    name: str
    version: str
    variant: str
    passed: bool
    seed: int
    host: Evidence
    device: Evidence
    torch: Evidence | None
    checks: tuple[Result, ...]


def run(check: Check) -> Result:
    """Do a check. Never raises, except for what asks the whole program to stop."""
    began = time.perf_counter()
    status: Status = "pass"
    reason = ""
    evidence: Evidence = {}
    try:
        evidence = check.work()
    except CheckSkippedError as error:
        status, reason = "skipped", str(error)
    except CheckFailedError as error:
        status, reason, evidence = "fail", str(error), error.evidence
    except Exception as error:  # noqa: BLE001 (a broken build fails in any way; each is a finding, none ends the report)
        status, reason = "fail", f"{type(error).__name__}: {error}"
        evidence = {"traceback": traceback.format_exception(error)[-3:]}
    return Result(
        name=check.name, status=status, reason=reason, evidence=evidence, seconds=round(time.perf_counter() - began, 4)
    )
