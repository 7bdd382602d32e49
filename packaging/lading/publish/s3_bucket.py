"""A bucket: the few calls that publishing needs, with typed answers and our own errors.

Each method that writes is one attempt, because only its caller knows how to find out whether a failed attempt arrived.
Methods that read try again by themselves. Nothing here knows what the objects are for.
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, TypeVar, cast

import botocore.exceptions as native

from lading.digest import BLOCK, sha256_bytes
from lading.publish.attempts import Passing, Patience, persist
from lading.publish.destination import Stored
from lading.publish.headers import Headers
from lading.publish.s3_errors import (
    NOT_FOUND,
    UploadGone,
    failure,
    http_date,
    local_failure,
    refusal_of,
    unreachable,
)
from lading.publish.s3_parts import PartThere
from lading.publish.section import FileSection

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef, ListPartsOutputTypeDef, UploadPartOutputTypeDef

SHA256 = "sha256"  # metadata of an object: the digest that was verified before it became visible
Condition = Literal["absent"] | str | None  # noqa: PYI051 (an ETag, or the word)
R = TypeVar("R")

_HEX_MD5 = 32


@dataclass(frozen=True, kw_only=True)
class Head:
    """What a host says about an object.

    Attributes:
        size: Bytes.
        etag: As it is, without quotes.
        sha256: The digest that is kept with it; none when another program put it there.
    """

    size: int
    etag: str
    sha256: str | None

    def holds(self, stored: Stored) -> bool:
        """Whether it is an object of ours with this content."""
        return (self.size, self.sha256) == (stored.size, stored.sha256)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """An object in a listing.

    Attributes:
        key: Its key.
        size: Bytes.
        age: Seconds since it was written, both by the host's clock.
    """

    key: str
    size: int
    age: float


class Bucket:
    """One bucket of an object store.

    Args:
        client: botocore's.
        name: The bucket.
        where: For messages.
        patience: How hard to try.
        clock: What time it is.
    """

    def __init__(
        self,
        client: S3Client,
        name: str,
        *,
        where: str,
        patience: Patience,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._client = client
        self._name = name
        self.where = where
        self.patience = patience
        self._clock = clock

    def with_patience(self, patience: Patience) -> Bucket:
        """The same bucket, tried more or less hard."""
        return Bucket(self._client, self._name, where=self.where, patience=patience, clock=self._clock)

    def close(self) -> None:
        """Let the connections go; the next call makes new ones."""
        self._client.close()

    def head(self, key: str) -> Head | None:
        """What lies under a key, or none."""

        def call() -> Head | None:
            answer = self._found(
                f"looking at {key}",
                lambda: self._client.head_object(Bucket=self._name, Key=key),
            )
            return None if answer is None else _head(answer)

        return persist(call, self.patience)

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A small object's bytes and its ETag, or none."""

        def call() -> tuple[bytes, str] | None:
            doing = f"reading {key}"
            answer = self._found(doing, lambda: self._client.get_object(Bucket=self._name, Key=key))
            if answer is None:
                return None
            with closing(answer["Body"]) as body:
                return self._try(doing, body.read), answer["ETag"].strip('"')

        return persist(call, self.patience)

    def digest(self, key: str) -> Stored | None:
        """Read an object back in full and say what it is, or none."""
        return self.fetch(key, Path(os.devnull))

    def fetch(self, key: str, target: Path) -> Stored | None:
        """Read an object in full into a file, and say what it is; none when it is not there."""

        def call() -> Stored | None:
            doing = f"reading {key} back"
            answer = self._found(doing, lambda: self._client.get_object(Bucket=self._name, Key=key))
            if answer is None:
                return None
            whole, size = hashlib.sha256(), 0
            with closing(answer["Body"]) as body, target.open("wb") as file:
                while block := self._try(doing, lambda: body.read(BLOCK)):
                    whole.update(block)
                    file.write(block)
                    size += len(block)
            return Stored(size=size, sha256=whole.hexdigest())

        return persist(call, self.patience)

    def listing(self, prefix: str) -> tuple[Listed, ...]:
        """The objects whose keys begin so."""

        def call() -> tuple[Listed, ...]:
            def pages() -> Iterator[Listed]:
                for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self._name, Prefix=prefix):
                    now = http_date(page["ResponseMetadata"]["HTTPHeaders"].get("date")) or self._clock()
                    for item in page.get("Contents", []):
                        age = max(0.0, (now - item["LastModified"]).total_seconds())
                        yield Listed(key=item["Key"], size=item["Size"], age=age)

            return self._try(f"listing {prefix}", lambda: tuple(pages()))

        return persist(call, self.patience)

    def put(self, key: str, data: bytes, headers: Headers, condition: Condition = None) -> str:
        """Write a small object: one attempt.

        Args:
            key: Its key.
            data: Its bytes.
            headers: What is stored beside them.
            condition: ``absent``: only if nothing is there; an ETag: only over this object; none: in any case.

        Returns:
            Its ETag.
        """
        conditions: dict[str, Any] = {}
        if condition is not None:
            conditions = {"IfNoneMatch": "*"} if condition == "absent" else {"IfMatch": f'"{condition}"'}
        answer = self._try(
            f"writing {key}",
            lambda: self._client.put_object(
                Bucket=self._name,
                Key=key,
                Body=data,
                ContentMD5=_base64_md5(hashlib.md5(data, usedforsecurity=False).hexdigest()),
                ContentType=headers.content_type,
                CacheControl=headers.cache_control,
                Metadata={SHA256: sha256_bytes(data)},
                **conditions,
            ),
        )
        return answer["ETag"].strip('"')

    def delete(self, key: str) -> None:
        """Remove an object, if it is there."""
        persist(
            lambda: self._found(f"removing {key}", lambda: self._client.delete_object(Bucket=self._name, Key=key)),
            self.patience,
        )

    def begin(self, key: str, sha256: str, headers: Headers) -> str:
        """Begin an upload in parts: one attempt.

        Args:
            key: The object's key.
            sha256: What its digest will be.
            headers: What is stored beside it.

        Returns:
            The upload's id.
        """
        answer = self._try(
            f"beginning the upload of {key}",
            lambda: self._client.create_multipart_upload(
                Bucket=self._name,
                Key=key,
                ContentType=headers.content_type,
                CacheControl=headers.cache_control,
                Metadata={SHA256: sha256},
            ),
        )
        return answer["UploadId"]

    def uploads(self, prefix: str) -> tuple[tuple[str, str], ...]:
        """Key and id of the unfinished uploads whose keys begin so."""

        def call() -> tuple[tuple[str, str], ...]:
            def pages() -> Iterator[tuple[str, str]]:
                paginator = self._client.get_paginator("list_multipart_uploads")
                for page in paginator.paginate(Bucket=self._name, Prefix=prefix):
                    for item in page.get("Uploads", []):
                        yield item["Key"], item["UploadId"]

            return self._try(f"listing the unfinished uploads of {prefix}", lambda: tuple(pages()))

        return tuple(found for found in persist(call, self.patience) if found[0].startswith(prefix))

    def parts(self, key: str, upload: str, only: int | None = None) -> Mapping[int, PartThere]:
        """The parts that an upload has, by number.

        Args:
            key, upload: The object's key and the upload's id.
            only: Ask for this one.

        Raises:
            UploadGone: There is no such upload.
        """

        def call() -> Mapping[int, PartThere]:
            def one() -> Iterator[ListPartsOutputTypeDef]:
                yield self._client.list_parts(
                    Bucket=self._name, Key=key, UploadId=upload, PartNumberMarker=(only or 1) - 1, MaxParts=1
                )

            def pages() -> Iterable[ListPartsOutputTypeDef]:
                if only is not None:
                    return one()
                return self._client.get_paginator("list_parts").paginate(Bucket=self._name, Key=key, UploadId=upload)

            def found() -> dict[int, PartThere]:
                return {
                    item["PartNumber"]: PartThere(length=item["Size"], etag=item["ETag"].strip('"'))
                    for page in pages()
                    for item in page.get("Parts", [])
                }

            return self._try(f"listing the parts of {key}", found)

        return persist(call, self.patience)

    def upload_part(self, key: str, upload: str, number: int, section: FileSection, md5: str) -> str:
        """Send one part: one attempt.

        Args:
            key, upload: The object's key and the upload's id.
            number: The part's.
            section: Its bytes.
            md5: Their MD5, in hexadecimal digits.

        Returns:
            The part's ETag.
        """
        doing = f"sending part {number} of {key}"
        answer = self._try(
            doing,
            lambda: self._client.upload_part(
                Bucket=self._name,
                Key=key,
                UploadId=upload,
                PartNumber=number,
                Body=cast("IO[bytes]", section),
                ContentLength=len(section),
                ContentMD5=_base64_md5(md5),
            ),
        )
        etag = answer["ETag"].strip('"')
        if _is_md5(answer, etag) and etag != md5:
            raise Passing(unreachable(self.where, doing, f"the host received other bytes, MD5 {etag} instead of {md5}"))
        return etag

    def complete(self, key: str, upload: str, etags: Sequence[str], *, only_if_absent: bool) -> str:
        """Make an object of its parts: one attempt.

        Args:
            key, upload: The object's key and the upload's id.
            etags: Of all parts, in order.
            only_if_absent: Not if there is an object of that name.

        Returns:
            The object's ETag.
        """
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if only_if_absent else {}
        answer = self._try(
            f"finishing {key}",
            lambda: self._client.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload,
                MultipartUpload={
                    "Parts": [{"PartNumber": number, "ETag": f'"{etag}"'} for number, etag in enumerate(etags, 1)]
                },
                **condition,
            ),
        )
        return answer["ETag"].strip('"')

    def abort(self, key: str, upload: str) -> None:
        """Give an unfinished upload up, if it is there."""

        def call() -> None:
            try:
                self._found(
                    f"giving up an upload of {key}",
                    lambda: self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload),
                )
            except UploadGone:
                return

        persist(call, self.patience)

    def _found(self, doing: str, call: Callable[[], R]) -> R | None:
        """One attempt; none when there is no such object (a bucket that is missing is another answer)."""
        try:
            return self._attempt(doing, call)
        except native.ClientError as error:
            refusal = refusal_of(error.response)
            if refusal.status == NOT_FOUND and refusal.code in {"NoSuchKey", "404", "NotFound", ""}:
                return None
            raise failure(refusal, self.where, doing, self._clock()) from error

    def _try(self, doing: str, call: Callable[[], R]) -> R:
        """One attempt, its failure as an exception of ours."""
        try:
            return self._attempt(doing, call)
        except native.ClientError as error:
            raise failure(refusal_of(error.response), self.where, doing, self._clock()) from error

    def _attempt(self, doing: str, call: Callable[[], R]) -> R:
        try:
            return call()
        except native.BotoCoreError as error:
            raise local_failure(error, self.where, doing) from error
        except ConnectionError as error:  # while a body is read
            raise Passing(unreachable(self.where, doing, str(error))) from error


def _head(answer: HeadObjectOutputTypeDef) -> Head:
    sha256 = answer.get("Metadata", {}).get(SHA256, "").lower()
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):  # noqa: PLR2004 (hexadecimal digits of SHA-256)
        sha256 = ""
    return Head(size=answer["ContentLength"], etag=answer["ETag"].strip('"'), sha256=sha256 or None)


def _is_md5(answer: UploadPartOutputTypeDef, etag: str) -> bool:
    """Whether a part's ETag is its MD5: with keys of the bucket's own it is not."""
    encrypted = "aws:kms" in answer.get("ServerSideEncryption", "") or "SSECustomerAlgorithm" in answer
    return len(etag) == _HEX_MD5 and not encrypted


def _base64_md5(digits: str) -> str:
    return base64.b64encode(bytes.fromhex(digits)).decode()
