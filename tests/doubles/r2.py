"""What R2 refuses beyond other object stores, as checks in front of one that does the rest.

The rules, as documented by R2 or seen by its users:
    * all parts of an upload but the last have one length, and the last is not longer (10048)
    * a key takes about one write a second, further ones get 429 (10058)
    * no checksums as trailers, no ACLs, no region but ``auto`` and its aliases
    * a body is what its signed digest and its Content-MD5 say
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from xml.etree import ElementTree as ET

from tests.doubles.faults import Asked, Fault, Gateway, gateway

REGIONS = frozenset({"auto", "us-east-1", ""})
BETWEEN_WRITES = 1.0  # seconds
SMALLEST_PART = 5 * 2**20

_SCOPE = re.compile(r"Credential=[^/]+/[0-9]+/([^/]*)/s3/aws4_request")


def _refuse(status: int, code: str) -> Fault:
    return Fault(kind="answer", status=status, code=code)


@dataclass
class Rules:
    """The state that the rules need.

    Attributes:
        clock: Seconds of any clock.
        lengths: Of the parts, by upload.
        written: When each key of each bucket was last written.
    """

    clock: Callable[[], float] = time.monotonic
    lengths: dict[str, dict[int, int]] = field(default_factory=lambda: defaultdict(dict))
    written: dict[str, float] = field(default_factory=dict)

    def check(self, asked: Asked, body: bytes) -> Fault | None:
        """What R2 says instead of doing it."""
        return self._form(asked) or self._body(asked, body) or self._parts(asked, body) or self._pace(asked)

    def _form(self, asked: Asked) -> Fault | None:
        headers = asked.headers
        digest = headers.get("x-amz-content-sha256", "")
        if digest.startswith("STREAMING-") or "x-amz-trailer" in headers or "aws-chunked" in str(headers):
            return _refuse(501, "NotImplemented")
        if any(name == "x-amz-acl" or name.startswith("x-amz-grant-") for name in headers) or "acl" in asked.query:
            return _refuse(501, "NotImplemented")
        scope = _SCOPE.search(headers.get("authorization", ""))
        if scope is not None and scope[1] not in REGIONS:
            return _refuse(400, "InvalidRegionName")
        return None

    def _body(self, asked: Asked, body: bytes) -> Fault | None:
        told = asked.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD")
        if told not in {"UNSIGNED-PAYLOAD", hashlib.sha256(body).hexdigest()}:
            return _refuse(400, "XAmzContentSHA256Mismatch")
        md5 = asked.headers.get("content-md5")
        if md5 is not None and base64.b64decode(md5) != hashlib.md5(body, usedforsecurity=False).digest():
            return _refuse(400, "BadDigest")
        return None

    def _parts(self, asked: Asked, body: bytes) -> Fault | None:
        upload = asked.query.get("uploadId", "")
        if asked.operation == "UploadPart":
            number = int(asked.query["partNumber"])
            self.lengths[upload][number] = len(body)
        if asked.operation != "CompleteMultipartUpload":
            return None
        numbers = [int(found.text or 0) for found in ET.fromstring(body).iter() if found.tag.endswith("PartNumber")]
        lengths = [self.lengths[upload].get(number, 0) for number in numbers]
        if len(set(lengths[:-1])) > 1 or (lengths[:-1] and lengths[-1] > lengths[0]):
            return _refuse(400, "InvalidPart")
        return None

    def _pace(self, asked: Asked) -> Fault | None:
        if asked.operation not in {"PutObject", "CompleteMultipartUpload"}:
            return None
        now, name = self.clock(), f"{asked.bucket}/{asked.key}"
        if now - self.written.get(name, -BETWEEN_WRITES) < BETWEEN_WRITES:
            return _refuse(429, "TooMuchConcurrency")
        self.written[name] = now
        return None


@contextmanager
def strict(upstream: str) -> Iterator[Gateway]:
    """Put the checks in front of a store while the block runs."""
    with gateway(upstream) as running:
        running.checks.append(Rules().check)
        yield running
