"""One upload of one file, as a program of its own, so that its memory can be measured: ours, or boto3's.

    python -m bench.uploading ours|boto3 URL BUCKET KEY FILE

Credentials are in the environment. Prints as JSON the seconds from the first request to the last, without the
start of Python, and the most memory in bytes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def boto3_upload(url: str, bucket: str, key: str, file: Path) -> Callable[[], object]:
    """boto3's own way, with its defaults."""
    import boto3  # noqa: PLC0415 (each side pays for its own imports only)
    from botocore.config import Config  # noqa: PLC0415

    settings = Config(s3={"addressing_style": "path"})
    client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=settings)
    return lambda: client.upload_file(str(file), bucket, key)


def our_upload(url: str, bucket: str, key: str, file: Path) -> Callable[[], object]:
    """What ``lading publish`` does with one volume, given the digest that the release has."""
    from lading.digest import sha256_file  # noqa: PLC0415
    from lading.publish.destination import Stored  # noqa: PLC0415
    from lading.publish.s3 import S3Destination, open_bucket  # noqa: PLC0415
    from lading.publish.s3_client import Settings  # noqa: PLC0415

    opened = open_bucket(Settings(bucket=bucket, endpoint=url, region="us-east-1", addressing="path"))
    destination = S3Destination(opened)
    stored = Stored(size=file.stat().st_size, sha256=sha256_file(file))
    return lambda: destination.put_file(key, file, stored, lambda _: None)


def main(arguments: list[str]) -> int:
    """Upload, and say how long it took."""
    side, url, bucket, key, file = arguments
    upload = {"ours": our_upload, "boto3": boto3_upload}[side](url, bucket, key, Path(file))
    began = time.perf_counter()
    upload()
    print(json.dumps({"seconds": time.perf_counter() - began, "peak": _peak()}))
    return 0


def _peak() -> int:
    """Most memory of this program, in bytes; what its parent needed before it started it is not counted."""
    status = Path("/proc/self/status").read_text("ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
