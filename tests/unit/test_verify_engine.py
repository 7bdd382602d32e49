from __future__ import annotations

import pytest
from pydantic import ValidationError

from lading.errors import FormatInvalid
from lading.host import GpuFacts, HostFacts
from lading.manifest.base import canonical_json, read_record
from lading.verify.engine import Outcome, Rule, conclude, failed, from_problems, passed, put, skipped
from lading.verify.record import Check, Subject, Verification

HOST = HostFacts(platform="linux-x86_64", system="Linux", cpus=2, gpu=GpuFacts(source="none", reason="no_driver"))


def rule(name: str, outcome: Outcome | Exception, *needs: str) -> Rule[None]:
    def run(_: None) -> Outcome:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return Rule(name=name, level="bytes", run=run, needs=needs)


def test_a_failure_stops_only_what_depends_on_it() -> None:
    seen: list[str] = []
    checks = put(
        [
            rule("a", failed("broken")),
            rule("b", passed(), "a"),
            rule("c", passed("fine")),
            rule("d", passed(), "b"),
            rule("e", skipped("not here")),
            rule("f", passed(), "c", "e"),
        ],
        None,
        lambda check: seen.append(check.name),
    )
    assert [(check.name, check.status, check.reason) for check in checks] == [
        ("a", "fail", "broken"),
        ("b", "skipped", "because a failed"),
        ("c", "pass", "fine"),
        ("d", "skipped", "because b was skipped"),
        ("e", "skipped", "not here"),
        ("f", "skipped", "because e was skipped"),
    ]
    assert seen == ["a", "b", "c", "d", "e", "f"]


def test_a_ladings_error_and_a_systems_error_fail_the_check() -> None:
    checks = put([rule("a", FormatInvalid("bad frame 3")), rule("b", PermissionError(13, "Permission denied"))], None)
    assert [check.status for check in checks] == ["fail", "fail"]
    assert checks[0].reason == "bad frame 3"
    assert checks[0].evidence == {"error": "FormatInvalid"}
    assert "refuses access" in checks[1].reason


def test_our_own_bug_is_no_verdict() -> None:
    with pytest.raises(ZeroDivisionError):
        put([rule("a", ZeroDivisionError())], None)


def test_problems_are_counted_and_the_first_twenty_listed() -> None:
    outcome = from_problems([f"file {number}" for number in range(50)], "fine", files=50)
    assert outcome.status == "fail"
    assert outcome.reason == "file 0 (and 49 more)"
    assert outcome.evidence["problem_count"] == 50
    assert len(outcome.evidence["problems"]) == 20  # type: ignore[arg-type]
    assert from_problems([], "fine").status == "pass"


def test_the_report_passes_when_nothing_failed_and_survives_its_json() -> None:
    checks = put([rule("a", passed("yes", files=3)), rule("b", skipped("no GPU"))], None)
    report = conclude(Subject(kind="tree", where="x"), HOST, checks, began=0.0)
    assert report.passed
    assert [check.name for check in report.of("skipped")] == ["b"]
    assert read_record(Verification, canonical_json(report), origin="test") == report


def test_a_report_cannot_contradict_its_checks() -> None:
    check = Check(name="a", level="bytes", status="fail")
    with pytest.raises(ValidationError, match="the checks say otherwise"):
        Verification(subject=Subject(kind="tree", where="x"), host=HOST, checks=(check,), passed=True, seconds=0)
