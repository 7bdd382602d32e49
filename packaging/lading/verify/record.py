"""The report of a verification: checks with verdicts and evidence."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue, model_validator

from lading.host.record import HostFacts
from lading.manifest.base import Record

Level = Literal["bytes", "layout", "linkage", "start", "provenance", "gpu", "serving"]
Status = Literal["pass", "fail", "skipped"]


class Check(Record):
    """One question that was put, and its answer.

    Attributes:
        name: Stable identifier such as ``archive-libs``.
        level: Which kind of promise it is about.
        status: ``pass``, ``fail`` or ``skipped``.
        reason: For a failure, what is wrong; for a skip, why; for a pass, what was found, in a few words.
        evidence: Figures and names that the verdict rests on.
        seconds: How long it took.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    level: Level
    status: Status
    reason: str = ""
    evidence: dict[str, JsonValue] = Field(default_factory=dict)
    seconds: float = Field(default=0.0, ge=0)


class Subject(Record):
    """What was verified.

    Attributes:
        kind: A folder of packed assets, a tree, a running server, or what a destination serves.
        where: Its path or URL.
        app, version, flavor, platform: Which release it is, as far as known.
        tree: Digest of the release's whole tree.
    """

    kind: Literal["packed", "tree", "server", "published"]
    where: str
    app: str | None = None
    version: str | None = None
    flavor: str | None = None
    platform: str | None = None
    tree: str | None = None


class Verification(Record):
    """The report.

    Attributes:
        subject: What was verified.
        host: The machine that it was verified on.
        checks: In the order in which they were made.
        passed: No check failed.
        seconds: How long it took.
    """

    schema_: Literal["lading/verification/1"] = Field(default="lading/verification/1", alias="schema")
    subject: Subject
    host: HostFacts
    checks: tuple[Check, ...]
    passed: bool
    seconds: float = Field(ge=0)

    @model_validator(mode="after")
    def _verdict_follows(self) -> Verification:
        if self.passed != all(check.status != "fail" for check in self.checks):
            message = f"'passed' is {self.passed}, the checks say otherwise"
            raise ValueError(message)
        return self

    def of(self, status: Status) -> tuple[Check, ...]:
        """The checks with that status."""
        return tuple(check for check in self.checks if check.status == status)
