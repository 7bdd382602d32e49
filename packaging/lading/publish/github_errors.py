"""What GitHub's refusals mean, in plain words. Pure.

GitHub answers 404 to what a token may not see, and to what it may see and not change: which of both it was is known
only by whoever asked.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from typing_extensions import override

from lading.errors import (
    ConfigError,
    CredentialsRefused,
    DestinationMissing,
    LadingError,
    PermissionMissing,
    Unavailable,
)
from lading.manifest.github_layout import GitHubRepository

UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, UNPROCESSABLE = 401, 403, 404, 409, 422
MOVED = frozenset({301, 302, 307, 308})
_GIVE_ONE = (
    "Give a token that may write the repository's contents in GH_TOKEN or GITHUB_TOKEN: a fine-grained one with "
    "'Contents: read and write', or in a workflow `permissions: contents: write`."
)


def _as_detail(value: object) -> object:
    return value if isinstance(value, dict) else {"message": str(value)}


class Detail(BaseModel):
    """One thing that GitHub finds wrong with a request."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    code: str = ""
    field: str = ""
    message: str | None = None

    @override
    def __str__(self) -> str:
        return self.message or " ".join(part for part in (self.field, self.code) if part)


class Refusal(BaseModel):
    """What GitHub says when it refuses.

    Attributes:
        status: The status code.
        message: In GitHub's words.
        errors: What is wrong with which field.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")
    status: int
    message: str = ""
    errors: tuple[Annotated[Detail, BeforeValidator(_as_detail)], ...] = ()

    @property
    def said(self) -> str:
        """All of it in one line."""
        more = "; ".join(text for detail in self.errors if (text := str(detail)))
        return f"{self.status} {self.message}" + (f" ({more})" if more else "")

    def has(self, code: str, field: str = "") -> bool:
        """Whether a field was found wrong in a way."""
        return any(detail.code == code and (not field or detail.field == field) for detail in self.errors)


def refusal_of(status: int, body: Any) -> Refusal:
    """Read a refusal; whatever is not GitHub's form becomes its message.

    Args:
        status: The answer's.
        body: The parsed JSON, or text.
    """
    found = body if isinstance(body, dict) else {"message": str(body).strip()[:200]}
    errors = found.get("errors")
    parts = errors if isinstance(errors, list) else [errors] if errors else []
    try:
        return Refusal(status=status, message=str(found.get("message") or ""), errors=tuple(parts))
    except ValidationError:
        return Refusal(status=status, message=str(body)[:200])


def error_of(refusal: Refusal, repository: GitHubRepository, doing: str, *, writing: bool) -> LadingError:
    """The error that tells a person what to do about a refusal.

    Args:
        refusal: What GitHub said.
        repository: Where.
        doing: What was being done, such as ``creating the release v1``.
        writing: Reading has succeeded before, and this request would have changed something.
    """
    where, said = repository.page, f"{refusal.said}, {doing}"
    if refusal.status == UNAUTHORIZED:
        return CredentialsRefused(
            f"{where} does not accept the token: {said}.",
            usually="The token is mistyped, has expired or was revoked.",
            todo=_GIVE_ONE,
        )
    if refusal.status == FORBIDDEN or (refusal.status == NOT_FOUND and writing):
        return PermissionMissing(
            f"{where} does not let this token publish: {said}.",
            usually="The token may only read, the repository is archived, or a rule protects its branches or tags.",
            todo=_GIVE_ONE,
        )
    if refusal.status == NOT_FOUND:
        return DestinationMissing(
            f"There is no repository {where} for this token: {said}.",
            usually="Its name is mistyped, or it is private and the token has no access to it.",
            todo="Check `repository` in the destination's manifest, and what the token may see.",
        )
    if refusal.status in MOVED:
        return ConfigError(
            f"{where} has moved: {said}.",
            usually="The repository was renamed or given to another owner.",
            todo="Write its new name into the destination's manifest.",
        )
    if refusal.status == CONFLICT and "empty" in refusal.message.lower():
        return ConfigError(
            f"{where} has no commit yet: {said}.",
            usually="The repository was just created.",
            todo="Push a first commit, then publish.",
        )
    return Unavailable(
        f"{where} refuses: {said}.",
        usually="A rule of the repository forbids it, or GitHub has a bad moment.",
        todo="Read what GitHub says; run the same command again to go on. What is there is not sent twice.",
    )
