"""``manifests/destinations.yaml``: where releases are published. Credentials are never written here."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from lading.manifest.base import Name, Record, RelPath, Size

GITHUB_ASSET_LIMIT = 2 * 2**30  # "size must be less than or equal to 2147483648": docs, and the upload's own error
CDN_CACHE_LIMIT = 512 * 2**20  # Cloudflare caches no larger object on its Free, Pro and Business plans

WebAddress = Annotated[str, Field(pattern=r"^https?://[^\s]+$", description="an address that begins with https://")]


class FolderDestination(Record):
    """A plain folder, which any web server can serve.

    Attributes:
        kind: ``folder``.
        path: The folder, relative to the project.
        asset_limit: Largest asset; a publication refuses larger ones, so pack in volumes below it.
    """

    kind: Literal["folder"]
    path: RelPath
    asset_limit: Size = Field(default=2_000_000_000, ge=64 * 2**20)


class GitHubDestination(Record):
    """GitHub Releases.

    Attributes:
        kind: ``github``.
        repository: ``owner/name``.
        api: Base URL of the API, for GitHub Enterprise.
        asset_limit: Largest asset, likewise; at most the host's 2 GiB.
    """

    kind: Literal["github"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$", description="owner/name")
    api: WebAddress | None = None
    asset_limit: Size = Field(default=2_000_000_000, ge=64 * 2**20, le=GITHUB_ASSET_LIMIT)


class S3Destination(Record):
    """Any S3, or R2 by ``preset: r2``.

    Attributes:
        kind: ``s3``.
        bucket: The bucket.
        prefix: Put before every key.
        preset: ``s3``, or ``r2`` with its rules (region auto, no ACLs, equal parts, checksums only when required).
        endpoint: The service's URL; for R2 derived from the account.
        account: R2's account id; or ``CLOUDFLARE_ACCOUNT_ID`` in the environment.
        jurisdiction: Where an R2 bucket must stay, if it was made so.
        region: For the signature; R2 needs none, and otherwise the environment may say it.
        addressing: Whether the bucket stands in the path or in the host's name; decided by the endpoint when none.
        public: The base URL under which clients read.
        asset_limit: Largest asset, likewise; below 512 MB the CDN in front of R2 caches every one.
    """

    kind: Literal["s3"]
    bucket: str = Field(
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="a bucket's name: 3 to 63 lower-case letters, digits, . and -",
    )
    prefix: str = ""
    preset: Literal["s3", "r2"] = "s3"
    endpoint: WebAddress | None = None
    account: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{32}$", description="an account id: 32 hexadecimal digits"
    )
    jurisdiction: Literal["eu", "fedramp"] | None = None
    region: str | None = Field(default=None, pattern=r"^[a-z0-9-]+$", description="a region such as eu-central-1")
    addressing: Literal["path", "virtual"] | None = None
    public: WebAddress | None = None
    asset_limit: Size = Field(default=500_000_000, ge=64 * 2**20)


Destination = Annotated[FolderDestination | GitHubDestination | S3Destination, Field(discriminator="kind")]


class Destinations(Record):
    """All destinations.

    Attributes:
        schema: Names this format.
        destinations: Each destination by its name.
    """

    schema_: Literal["lading/destinations/1"] = Field(alias="schema")
    destinations: dict[Name, Destination] = Field(min_length=1)
