"""Buckets that tests publish to, on the stores of this folder, and how a publisher's own process would open them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tests.doubles.s3_client import contents, plain_client

from lading.publish.attempts import Patience
from lading.publish.s3 import OURS, S3Destination, open_bucket
from lading.publish.s3_client import Settings

PART = 5 * 2**20
PREFIX = "repo"
QUICK = Patience(attempts=6, first=0.05, longest=5.0)
_ENVIRONMENT = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket.

    Attributes:
        url: Where a publisher connects to; maybe a proxy.
        store: Where the store itself is.
        key, secret: Of somebody who may write there.
        bucket: Its name.
        region: For the signature.
        public: Where everybody may read, if they may.
    """

    url: str
    store: str
    key: str
    secret: str
    bucket: str
    region: str = "us-east-1"
    public: str | None = None

    def through(self, url: str) -> Place:
        """The same, over a proxy."""
        return replace(self, url=url)

    def settings(self) -> Settings:
        """As a manifest would say it."""
        return Settings(
            bucket=self.bucket, prefix=PREFIX, endpoint=self.url, region=self.region, addressing="path", silence=20.0
        )

    def environment(self) -> dict[str, str]:
        """What a publisher's process has in its environment."""
        return {**NOTHING, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret}

    def open(self, *, patience: Patience = QUICK, part: int = PART, ttl: float = 120.0) -> S3Destination:
        """Open it, as another process would."""
        with environment(self.environment()):
            bucket = open_bucket(self.settings(), patience=patience)
        return S3Destination(bucket, PREFIX, name="test", part=part, ttl=ttl)

    def contents(self) -> dict[str, bytes]:
        """Everything there, with what is not for clients."""
        found = contents(plain_client(self.store, self.key, self.secret), self.bucket)
        return {key.removeprefix(f"{PREFIX}/"): data for key, data in found.items()}

    def unfinished(self) -> list[str]:
        """What would cost money and is of no use: keys of unfinished uploads, leases and notes."""
        client = plain_client(self.store, self.key, self.secret)
        uploads = client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [item["Key"] for item in uploads] + [key for key in self.contents() if key.startswith(OURS)]


NOTHING: Mapping[str, str] = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these AWS variables and no others while the block runs."""
    with _ENVIRONMENT:
        before = dict(os.environ)
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            del os.environ[name]
        os.environ.update(variables)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)
