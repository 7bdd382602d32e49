"""Which object store, and a client for it: settings out of a manifest and the environment, botocore for the rest.

Credentials come from the environment or the standard files. The machine's own identity (instance metadata) is not asked
for: a publisher that nobody gave credentials to shall say so, and not publish as whatever the machine happens to be.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import botocore.exceptions as native
import botocore.session
from botocore.config import Config

from lading.errors import ConfigError
from lading.manifest.destination import S3Destination as Manifest
from lading.publish.s3_errors import credentials_missing
from lading.publish.section import FileSection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

ACCOUNT = "CLOUDFLARE_ACCOUNT_ID"
R2_HOST = "r2.cloudflarestorage.com"
_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
_MACHINE = ("container-role", "iam-role")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where objects go.

    Attributes:
        bucket: The bucket.
        prefix: Put before every key, without slashes at its ends; empty for none.
        endpoint: The service's URL; none for AWS.
        region: For the signature; none for what the environment says.
        addressing: Whether the bucket stands in the path or in the host's name.
        connect: Seconds until there is a connection.
        silence: Seconds without a byte.
    """

    bucket: str
    prefix: str = ""
    endpoint: str | None = None
    region: str | None = None
    addressing: Literal["path", "virtual", "auto"] = "auto"
    connect: float = 15.0
    silence: float = 60.0

    @property
    def url(self) -> str:
        """For messages: ``s3://bucket/prefix``."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


def settings_of(manifest: Manifest, environment: Mapping[str, str]) -> Settings:
    """What a manifest and the environment say.

    Args:
        manifest: The destination's.
        environment: Has the account of an R2 bucket, if the manifest does not.

    Raises:
        ConfigError: The account is missing, or is not one.
    """
    r2 = manifest.preset == "r2"
    endpoint = manifest.endpoint or (_r2_endpoint(manifest, environment) if r2 else None)
    return Settings(
        bucket=manifest.bucket,
        prefix=manifest.prefix.strip("/"),
        endpoint=endpoint,
        region="auto" if r2 else manifest.region or (None if endpoint is None else _region(environment)),
        addressing=manifest.addressing or ("auto" if endpoint is None else "path"),
    )


def _region(environment: Mapping[str, str]) -> str:
    """The region for a host of one's own, most of which take this one when nobody says another."""
    return environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1"


def _r2_endpoint(manifest: Manifest, environment: Mapping[str, str]) -> str:
    account = manifest.account or environment.get(ACCOUNT, "")
    if not _ACCOUNT_ID.fullmatch(account):
        found = f"{account!r} is none" if account else "there is none"
        raise ConfigError(
            f"The bucket {manifest.bucket} on R2 needs an account id of 32 hexadecimal digits; {found}.",
            usually="The account's name, a zone's id or an API token was given in its place.",
            todo=f"Copy the account id from the dashboard's R2 page to `account` in the destination's manifest, "
            f"or set {ACCOUNT}.",
        )
    jurisdiction = f".{manifest.jurisdiction}" if manifest.jurisdiction else ""
    return f"https://{account}{jurisdiction}.{R2_HOST}"


def open_client(settings: Settings, *, connections: int) -> S3Client:
    """A client, whose every call is one attempt.

    Args:
        settings: Where.
        connections: How many are kept open.

    Raises:
        CredentialsMissing: There are none.
        ConfigError: The settings make no client.
    """
    session = botocore.session.get_session()
    where = settings.url
    try:
        providers = session.get_component("credential_provider")
        for name in _MACHINE:
            providers.remove(name)
        if session.get_credentials() is None:
            raise credentials_missing(where, "none were found")
        client = session.create_client(
            "s3", region_name=settings.region, endpoint_url=settings.endpoint, config=_config(settings, connections)
        )
    except (native.NoCredentialsError, native.PartialCredentialsError, native.ProfileNotFound) as error:
        raise credentials_missing(where, str(error).rstrip(".")) from error
    except (native.BotoCoreError, ValueError) as error:  # ValueError: not a URL
        raise ConfigError(
            f"{where} cannot be used as it is configured: {error}",
            usually="The endpoint, the region or the standard configuration file has a mistake.",
            todo="Correct it, then run the same command again.",
        ) from error
    client.meta.events.register_first("request-created.s3", _signing)
    client.meta.events.register_last("request-created.s3", _sending)
    return cast("S3Client", client)


def _config(settings: Settings, connections: int) -> Config:
    return Config(
        signature_version="s3v4",
        s3={"addressing_style": settings.addressing, "payload_signing_enabled": True},
        # By default checksums are sent as trailers, which R2 and others refuse. The signature covers every body's
        # SHA-256, and bodies have their MD5 as well.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        retries={"total_max_attempts": 1, "mode": "standard"},
        connect_timeout=settings.connect,
        read_timeout=settings.silence,
        max_pool_connections=connections,
        user_agent_extra="lading",
    )


def _signing(request: object, **_: object) -> None:
    """Before a request is signed: its body is read for that, which is no progress."""
    body = getattr(request, "body", None)
    if isinstance(body, FileSection):
        body.sending = False


def _sending(request: object, **_: object) -> None:
    """After a request was signed: what is read of its body now is sent."""
    body = getattr(request, "body", None)
    if isinstance(body, FileSection):
        body.sending = True
