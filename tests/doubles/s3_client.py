"""A plain client for what tests arrange and look at, so that nothing is arranged by what is tested."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, cast

import botocore.session
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@cache
def plain_client(url: str, key: str, secret: str) -> S3Client:
    """A client for an S3 address."""
    client = botocore.session.get_session().create_client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        config=Config(
            s3={"addressing_style": "path"}, request_checksum_calculation="when_required", retries={"mode": "standard"}
        ),
    )
    return cast("S3Client", client)


def contents(client: S3Client, bucket: str) -> dict[str, bytes]:
    """Every object of a bucket."""
    found = {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            found[item["Key"]] = client.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
    return found
