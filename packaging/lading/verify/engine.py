"""Put one check after another; a failure stops only those that depend on it.

Invariants:
    * Every check of the list is in the report, whatever happens: a check whose ground is missing is skipped, and says
      because of which other.
    * A check fails by its outcome or by any error of :mod:`lading.errors`; an error of another kind is our bug and is
      not turned into a verdict.

Does not: know any particular check.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import JsonValue

from lading.atomic import as_host_error
from lading.errors import LadingError
from lading.host.record import HostFacts
from lading.verify.record import Check, Level, Status, Subject, Verification

C = TypeVar("C")
SHOWN = 20  # examples that evidence lists; the count is always given


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A check's answer; see :class:`lading.verify.record.Check`."""

    status: Status
    reason: str = ""
    evidence: Mapping[str, JsonValue] = field(default_factory=dict)


def passed(reason: str = "", **evidence: JsonValue) -> Outcome:
    """It is as it should be."""
    return Outcome(status="pass", reason=reason, evidence=evidence)


def failed(reason: str, **evidence: JsonValue) -> Outcome:
    """It is not."""
    return Outcome(status="fail", reason=reason, evidence=evidence)


def skipped(reason: str, **evidence: JsonValue) -> Outcome:
    """It cannot be told here."""
    return Outcome(status="skipped", reason=reason, evidence=evidence)


def from_problems(problems: Sequence[str], found: str, **evidence: JsonValue) -> Outcome:
    """Pass without problems; else fail with the first, the count, and a list.

    Args:
        problems: One line each.
        found: What to say when there are none.
        evidence: Figures, in either case.
    """
    if not problems:
        return passed(found, **evidence)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    listed: list[JsonValue] = list(problems[:SHOWN])
    return failed(f"{problems[0]}{more}", problems=listed, problem_count=len(problems), **evidence)


@dataclass(frozen=True, kw_only=True)
class Rule(Generic[C]):
    """One check of an ordered list.

    Attributes:
        name: Its identifier in the report.
        level: Its level.
        run: Looks at the context and answers; may leave what it found in the context for later checks.
        needs: Checks that must have passed before.
    """

    name: str
    level: Level
    run: Callable[[C], Outcome]
    needs: tuple[str, ...] = ()


def _answer(rule: Rule[C], context: C) -> Outcome:
    try:
        return rule.run(context)
    except LadingError as error:
        return failed(error.what, error=error.kind)
    except OSError as error:
        known = as_host_error(error, "reading")
        return failed(known.what if isinstance(known, LadingError) else str(error), error=type(error).__name__)


def put(rules: Sequence[Rule[C]], context: C, watch: Callable[[Check], None] | None = None) -> tuple[Check, ...]:
    """Put all checks.

    Args:
        rules: In order; a rule may need only earlier ones.
        context: What they look at.
        watch: Told every answer at once.

    Returns:
        One answer each, in order.
    """
    answers: dict[str, Check] = {}
    for rule in rules:
        ground = next((name for name in rule.needs if name in answers and answers[name].status != "pass"), None)
        began = time.monotonic()
        if ground is None:
            outcome = _answer(rule, context)
        else:
            word = "failed" if answers[ground].status == "fail" else "was skipped"
            outcome = skipped(f"because {ground} {word}")
        answers[rule.name] = Check(
            name=rule.name,
            level=rule.level,
            status=outcome.status,
            reason=outcome.reason,
            evidence=dict(outcome.evidence),
            seconds=round(time.monotonic() - began, 3),
        )
        if watch is not None:
            watch(answers[rule.name])
    return tuple(answers.values())


def conclude(subject: Subject, host: HostFacts, checks: Sequence[Check], *, began: float) -> Verification:
    """Make the report.

    Args:
        subject: What was verified.
        host: Where.
        checks: The answers.
        began: :func:`time.monotonic` at the start.
    """
    return Verification(
        subject=subject,
        host=host,
        checks=tuple(checks),
        passed=all(check.status != "fail" for check in checks),
        seconds=round(time.monotonic() - began, 3),
    )
