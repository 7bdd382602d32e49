"""What a program's own ``--selftest --json`` prints, and what it means for who wants to start it. Pure."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

QUICK_VARIABLE = "LADING_SELFTEST"
QUICK = "quick"  # its value for a self-test of one kernel; programs that do not know it do all they have
USAGE = 2  # the exit status of a program that does not know an option


class OwnCheck(BaseModel):
    """One check that the program made of itself. Foreign to Lading's records: programs add fields."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    status: str
    reason: str | None = None
    evidence: JsonValue = None
    seconds: float | None = None


class SelftestReport(BaseModel):
    """What ``--selftest --json`` prints."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str
    version: str
    variant: str
    passed: bool
    checks: tuple[OwnCheck, ...]
    device: JsonValue = None
    torch: JsonValue = None


def parse_report(text: str) -> SelftestReport | str:
    """Find the report in what the program printed.

    Args:
        text: Standard output; lines before the JSON object are tolerated, since libraries print.

    Returns:
        The report, or why there is none.
    """
    start = text.find("{")
    if start < 0:
        return f"it printed no JSON; its output begins {text.strip()[:120]!r}"
    try:
        data, _ = json.JSONDecoder().raw_decode(text[start:])
        return SelftestReport.model_validate(data)
    except json.JSONDecodeError as error:
        return f"its JSON is broken: {error}"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"its JSON is no report: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def proof_problem(stdout: str, stderr: str, status: int) -> str | None:
    """Why a self-test that was to use the GPU is no proof that the program works; none when it is.

    A program that has no self-test proves nothing and is not refused for it: its health will tell.

    Args:
        stdout, stderr: What it printed.
        status: Its exit status.
    """
    report = parse_report(stdout)
    if isinstance(report, str):
        if status == USAGE:
            return None
        last = (stderr.strip().splitlines() or [""])[-1]
        return f"its self-test says nothing: {report} (exit status {status}){f': {last[:200]}' if last else ''}"
    failed = [f"{check.name}: {check.reason or 'failed'}" for check in report.checks if check.status == "fail"]
    if failed:
        return f"its self-test failed: {'; '.join(failed[:3])}"
    if not report.passed or status != 0:
        return f"its self-test did not pass (exit status {status}) and does not say why"
    return None
