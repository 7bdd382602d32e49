"""What an object store's refusals mean, in plain words. Pure.

A refusal is either final, and becomes one of our errors, or may pass, and becomes :class:`Passing`. Three answers
decide something instead of ending it, so they have classes of their own: the condition of a request did not hold, the
host does not know conditions, and an upload in parts is gone.

Nothing here repeats what a host says about credentials: some hosts send the access key back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import botocore.exceptions as native

from lading.errors import (
    AssetTooLarge,
    ClockSkewed,
    ConfigError,
    CredentialsMissing,
    CredentialsRefused,
    DestinationFull,
    DestinationMissing,
    DestinationRefuses,
    DestinationUnreachable,
    LadingError,
    PermissionMissing,
    RateLimited,
)
from lading.publish.attempts import Passing

_UNKNOWN = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "Unauthorized", "InvalidSecurity", "AuthFailure"}
)
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"})
_SKEWED = frozenset({"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"})
_NO_BUCKET = frozenset({"NoSuchBucket", "InvalidBucketName"})
_ELSEWHERE = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "InvalidRegionName", "IllegalLocationConstraintException"}
)
_DENIED = frozenset(
    {"AccessDenied", "AllAccessDisabled", "AccountProblem", "NotEntitled", "ObjectLockedByBucketPolicy"}
)
_FULL = frozenset({"QuotaExceeded", "StorageQuotaExceeded", "InsufficientStorage"})
_LIMITED = frozenset({"SlowDown", "TooManyRequests", "TooMuchConcurrency", "Throttling", "ThrottlingException"})
_PASSING = _LIMITED | {
    "RequestTimeout", "RequestTimeoutException", "InternalError", "ServiceUnavailable", "OperationAborted",
    "ConditionalRequestConflict", "BadDigest", "XAmzContentSHA256Mismatch", "IncompleteBody", "ClientDisconnect",
}  # fmt: skip
_PASSING_STATUS = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, PRECONDITION_FAILED, TOO_MANY, NOT_IMPLEMENTED, NO_ROOM = (
    401, 403, 404, 412, 429, 501, 507,
)  # fmt: skip

_NO_CREDENTIALS = (
    native.NoCredentialsError,
    native.PartialCredentialsError,
    native.CredentialRetrievalError,
    native.ProfileNotFound,
    native.NoAuthTokenError,
    native.TokenRetrievalError,
    native.SSOError,
)
_BAD_SETTINGS = (
    native.InvalidEndpointConfigurationError,
    native.InvalidRegionError,
    native.ConfigParseError,
    native.InvalidConfigError,
    native.ParamValidationError,
)
WRITES_APART = 1.0  # seconds between two writes of one object that R2 wants
GOES_ON = "Run the same command again to go on: what is there is not sent twice."
CREDENTIALS_TODO = (
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (for R2: an R2 API token's key id and secret), or name a profile "
    "of the standard credentials file in AWS_PROFILE. They are never written into a manifest."
)


class Decides(Exception):
    """An answer that the caller decides about."""


class Precondition(Decides):
    """The request's condition did not hold: the object is there, or is another one."""


class NoConditions(Decides):
    """The host does not know such conditions."""


class UploadGone(Decides):
    """There is no such upload in parts: it was finished or ended."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What a host says when it refuses.

    Attributes:
        status: Of the answer.
        code, message: In the host's words.
        retry_after: Seconds that it asks us to wait.
        date: What time it was there.
    """

    status: int
    code: str
    message: str = ""
    retry_after: float | None = None
    date: datetime | None = None

    @property
    def said(self) -> str:
        """The status and the code in one word or two; the message is left out, because it may name a key."""
        return str(self.status) if self.code in {"", str(self.status)} else f"{self.status} {self.code}"


def refusal_of(response: Mapping[str, Any]) -> Refusal:
    """Read what botocore made of an answer."""
    meta, error = response.get("ResponseMetadata", {}), response.get("Error", {})
    headers: Mapping[str, str] = meta.get("HTTPHeaders", {})
    asked = headers.get("retry-after", "")
    return Refusal(
        status=int(meta.get("HTTPStatusCode", 0)),
        code=str(error.get("Code", "")),
        message=str(error.get("Message", "")),
        retry_after=float(asked) if asked.isdecimal() else None,
        date=http_date(headers.get("date")),
    )


def http_date(text: str | None) -> datetime | None:
    """The time in a Date header."""
    try:
        return parsedate_to_datetime(text or "").astimezone(UTC)
    except (ValueError, TypeError):
        return None


def failure(refusal: Refusal, where: str, doing: str, now: datetime) -> LadingError | Passing | Decides:
    """What a refusal comes to.

    Args:
        refusal: What the host said.
        where: The destination, for the message.
        doing: What was being done, such as ``writing assets/core/0.1.0/a.tar.zst``.
        now: What time it is here.

    Returns:
        An exception to raise.
    """
    found = _decides(refusal)
    if found is not None:
        return found
    if refusal.code in _SKEWED:
        return _skewed(refusal, where, doing, now)
    if refusal.code not in _DENIED and (refusal.code in _PASSING or refusal.status in _PASSING_STATUS):
        return _passing(refusal, where, doing)
    return _account(refusal, where, doing) or _place(refusal, where, doing)


def _decides(refusal: Refusal) -> Decides | None:
    if refusal.status == PRECONDITION_FAILED:
        return Precondition(refusal.said)
    if refusal.status == NOT_IMPLEMENTED:
        return NoConditions(refusal.said)
    if refusal.code == "NoSuchUpload":
        return UploadGone(refusal.said)
    return None


def _skewed(refusal: Refusal, where: str, doing: str, now: datetime) -> ClockSkewed:
    there = refusal.date
    ahead = None if there is None else now - there
    values = "" if ahead is None or there is None else f": it is {there:%Y-%m-%d %H:%M:%S} UTC there, {_apart(ahead)}"
    return ClockSkewed(
        f"{where} refuses requests with our time while {doing} ({refusal.said}){values}.",
        usually="This machine's clock is wrong; a signed request is good for some minutes only.",
        todo="Set the clock (or let it be set by NTP), then run the same command again.",
    )


def _apart(ahead: timedelta) -> str:
    hours, minutes = divmod(round(abs(ahead.total_seconds()) / 60), 60)
    return f"{hours} h {minutes} min {'later' if ahead > timedelta(0) else 'earlier'} here"


def _passing(refusal: Refusal, where: str, doing: str) -> Passing:
    if refusal.status == TOO_MANY or refusal.code in _LIMITED:
        final = RateLimited(
            f"{where} wants no more requests for now while {doing} ({refusal.said}).",
            usually="The host limits requests, or writes to one object: R2 takes about one a second.",
            todo=f"Wait some minutes. {GOES_ON}",
        )
        return Passing(final, retry_after=refusal.retry_after or WRITES_APART)
    return Passing(unreachable(where, doing, refusal.said), retry_after=refusal.retry_after)


def unreachable(where: str, doing: str, why: str) -> DestinationUnreachable:
    """The error for a host that did not answer as it should, again and again."""
    return DestinationUnreachable(
        f"{where} could not be reached while {doing}: {why}.",
        usually="The network, a proxy or the host has trouble; nothing half-published is visible.",
        todo=GOES_ON,
    )


def _account(refusal: Refusal, where: str, doing: str) -> LadingError | None:
    """Whether it is about who we are and what we may."""
    about_keys = refusal.code == "InvalidArgument" and "access key" in refusal.message.lower()  # R2: of a wrong length
    if refusal.code in _EXPIRED:
        return CredentialsRefused(
            f"{where} says that the credentials have expired, while {doing} ({refusal.said}).",
            usually="They were temporary, with a session token that is too old by now.",
            todo=f"Get new ones. {GOES_ON}",
        )
    if refusal.code in _UNKNOWN or refusal.status == UNAUTHORIZED or about_keys:
        return CredentialsRefused(
            f"{where} does not accept the credentials while {doing} ({refusal.said}).",
            usually="The key id or the secret is mistyped, belongs to another account or endpoint, or was revoked.",
            todo=CREDENTIALS_TODO,
        )
    if refusal.code in _DENIED or (refusal.status == FORBIDDEN and refusal.code not in _FULL):
        return PermissionMissing(
            f"{where} does not allow it: {refusal.said} while {doing}.",
            usually="The credentials are good, but may not do this in this bucket, or a lock rule protects the object.",
            todo="Allow listing, reading, writing and deleting objects in the bucket "
            "(R2: a token with 'Object Read & Write'), then run the same command again.",
        )
    return None


def _place(refusal: Refusal, where: str, doing: str) -> LadingError:
    """It is about the bucket, its room, or nothing that we know."""
    if refusal.code in _NO_BUCKET:
        return DestinationMissing(
            f"{where}: there is no such bucket at this endpoint ({refusal.said} while {doing}).",
            usually="Its name is mistyped, it belongs to another account, or it was not made yet.",
            todo="Check `bucket`, `account` and `endpoint` in the destination's manifest, or make the bucket.",
        )
    if refusal.code in _ELSEWHERE:
        return DestinationMissing(
            f"{where}: the bucket is not in this region or not at this endpoint ({refusal.said} while {doing}).",
            usually="The bucket lies in another region than the request was signed for.",
            todo="Set AWS_REGION, or `endpoint` in the destination's manifest, to the bucket's own.",
        )
    if refusal.code == "EntityTooLarge":
        return AssetTooLarge(
            f"{where} does not take an object of this size ({refusal.said} while {doing}).",
            usually="The host's limit for one object is below the manifest's `asset_limit`.",
            todo="Lower `asset_limit` of the destination and pack again.",
        )
    if refusal.code in _FULL or refusal.status == NO_ROOM:
        return DestinationFull(
            f"{where} has no room left ({refusal.said} while {doing}).",
            usually="The account's quota is used up.",
            todo=f"Make room, or raise the quota. {GOES_ON}",
        )
    return DestinationRefuses(
        f"{where} refuses ({refusal.said} while {doing}).",
        usually="The host does not support what was asked, or forbids it.",
        todo="Look the code up in the host's documentation.",
    )


def local_failure(error: native.BotoCoreError, where: str, doing: str) -> LadingError | Passing:
    """What a failure on this side of the connection comes to.

    Args:
        error: What botocore raised.
        where, doing: For the message.

    Returns:
        An exception to raise.
    """
    if isinstance(error, _NO_CREDENTIALS):
        return credentials_missing(where, type(error).__name__)
    if isinstance(error, _BAD_SETTINGS):
        return ConfigError(
            f"{where} cannot be used as it is configured, while {doing}: {error}",
            usually="The endpoint, the region or the standard configuration file has a mistake.",
            todo="Correct it, then run the same command again.",
        )
    final = unreachable(where, doing, _cause(error))
    if isinstance(error, native.SSLError):
        final.usually = "Its certificate is not trusted here: a proxy inspects the traffic, or the endpoint is wrong."
        final.todo = "Give the proxy's certificate in AWS_CA_BUNDLE, or correct `endpoint` in the manifest."
        return final
    return Passing(final)


def credentials_missing(where: str, why: str) -> CredentialsMissing:
    """The error for no credentials, or half of them."""
    return CredentialsMissing(
        f"There are no credentials for {where} ({why}).",
        usually="The environment has none, or only one of key id and secret; a workflow does not pass the secrets on.",
        todo=CREDENTIALS_TODO,
    )


def _cause(error: native.BotoCoreError) -> str:
    cause = error.kwargs.get("error") or error
    return f"{type(cause).__name__}: {str(cause).strip()[:200]}".rstrip(".")
