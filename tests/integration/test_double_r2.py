"""The checks that stand for R2 refuse what R2 refuses: otherwise passing them would mean nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from tests.doubles.fixtures import MakePlace
from tests.doubles.places import PART, Place


@pytest.fixture
def place(make_place: MakePlace) -> Place:
    return make_place("r2")


def client(place: Place, region: str = "auto", **more: Any) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=place.url,
        region_name=region,
        aws_access_key_id=place.key,
        aws_secret_access_key=place.secret,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, **more),
    )


def refused(call: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def plain(place: Place) -> Any:
    return client(place, request_checksum_calculation="when_required")


@pytest.mark.parametrize("lengths", [(PART, PART + 1, 5), (PART, PART + 1), (PART + 1, PART, 5)])
def test_parts_of_different_lengths(place: Place, lengths: tuple[int, ...]) -> None:
    s3, where = plain(place), {"Bucket": place.bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    parts = [
        {
            "PartNumber": number,
            "ETag": s3.upload_part(**where, UploadId=upload, PartNumber=number, Body=bytes(length))["ETag"],
        }
        for number, length in enumerate(lengths, 1)
    ]
    done = {**where, "UploadId": upload, "MultipartUpload": {"Parts": parts}}
    assert refused(lambda: s3.complete_multipart_upload(**done)) == (400, "InvalidPart")
    assert place.contents() == {}


def test_checksums_as_trailers_acls_and_other_regions(place: Place) -> None:
    s3 = plain(place)
    put = {"Bucket": place.bucket, "Key": "k", "Body": b"x"}
    assert refused(lambda: s3.put_object(**put, ACL="public-read")) == (501, "NotImplemented")
    assert refused(lambda: s3.put_bucket_acl(Bucket=place.bucket, ACL="public-read")) == (501, "NotImplemented")
    elsewhere = client(place, "eu-west-1", request_checksum_calculation="when_required")
    assert refused(lambda: elsewhere.put_object(**put)) == (400, "InvalidRegionName")
    trailing = client(place, request_checksum_calculation="when_required")
    trailing.meta.events.register(
        "before-sign.s3", lambda request, **_: request.headers.add_header("x-amz-trailer", "x-amz-checksum-crc32")
    )
    assert refused(lambda: trailing.put_object(**put)) == (501, "NotImplemented")
    assert place.contents() == {}


def test_bodies_that_are_not_what_was_signed(place: Place) -> None:
    s3 = plain(place)
    wrong = "1B2M2Y8AsgTpgAmY7PhCfg=="  # of nothing
    assert refused(
        lambda: s3.put_object(Bucket=place.bucket, Key="k", Body=b"x", ContentMD5=wrong)
    ) == (400, "BadDigest")  # fmt: skip
    assert place.contents() == {}


def test_a_second_write_within_a_second(place: Place) -> None:
    s3 = plain(place)
    s3.put_object(Bucket=place.bucket, Key="k", Body=b"one")
    second = {"Bucket": place.bucket, "Key": "k", "Body": b"two"}
    assert refused(lambda: s3.put_object(**second)) == (429, "TooMuchConcurrency")
    s3.put_object(Bucket=place.bucket, Key="another", Body=b"two")
    assert place.contents() == {"k": b"one", "another": b"two"}


def test_wrong_credentials_behind_the_checks(place: Place) -> None:
    stranger = client(
        Place(url=place.url, store=place.store, key=place.key, secret="wrong", bucket=place.bucket),
        request_checksum_calculation="when_required",
    )
    found = refused(lambda: stranger.put_object(Bucket=place.bucket, Key="k", Body=b"x"))
    assert found == (403, "SignatureDoesNotMatch")
