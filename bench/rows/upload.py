"""Uploading one large volume to an object store on loopback: throughput against ``boto3.upload_file``, and memory.

The store is OpenStack Swift, started for the row. Ours does more than the peer: it digests and verifies the file,
leaves what a later run can go on from, and never writes over an object. Each side uploads several times, in turn; the
best counts, because a store that tidies up in between slows down whoever comes next.

As a program: ``python -m bench.rows.upload [FILE]``; without a file, a GB of noise.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.measure import run
from bench.rows.base import ROOT, CannotMeasure, Context, Need, Result, mebibytes

from lading.digest import sha256_file

if TYPE_CHECKING:
    from tests.doubles.swift import Swift

MEMORY_LIMIT = 200.0  # MiB
GOAL = 0.9
TIMES = 3
BUCKET = "bench"
NOISE = 10**9  # bytes


class Upload:
    """A volume must go up about as fast as boto3 sends it, in bounded memory."""

    name = "upload"
    needs: tuple[Need, ...] = ("object_store",)

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Upload a file of noise.

        Raises:
            CannotMeasure: The store does not run here.
        """
        import pytest  # noqa: PLC0415 (the doubles of the tests are not installed everywhere)

        with context.folder("upload") as folder:
            try:
                return compare(_noise(folder / "volume"), folder / "swift")
            except pytest.skip.Exception as error:
                raise CannotMeasure(str(error)) from error


def is_possible() -> Literal[True] | None:
    """Whether everything is installed that uploads are measured with."""
    wanted = ("boto3", "pytest", "filelock")
    return True if sys.platform == "linux" and all(find_spec(name) for name in wanted) else None


def compare(file: Path, home: Path) -> tuple[Result, ...]:
    """Upload a file with both sides.

    Args:
        file: What to upload.
        home: An empty folder for the store.
    """
    from tests.doubles import swift  # noqa: PLC0415 (as above)
    from tests.doubles.s3_client import plain_client  # noqa: PLC0415

    with swift.running(home) as store:
        client = plain_client(store.url, store.key, store.secret)
        client.create_bucket(Bucket=BUCKET)
        runs: Mapping[str, list[tuple[float, int]]] = {"boto3": [], "ours": []}
        for number in range(TIMES):
            for side, found in runs.items():
                sha256_file(file)  # both sides find it in the page cache
                key = f"{side}-{number}"
                words: list[str | Path] = [sys.executable, "-m", "bench.uploading", side, store.url, BUCKET, key, file]
                said = json.loads(run([*_environment(store), *words], cwd=ROOT).stdout)
                found.append((said["seconds"], said["peak"]))
                client.delete_object(Bucket=BUCKET, Key=key)
    best = {side: min(seconds for seconds, _ in found) for side, found in runs.items()}
    peak = {side: max(peak for _, peak in found) for side, found in runs.items()}
    what = f"upload of {file.stat().st_size / 1e6:,.0f} MB"
    return (
        Result(row="upload", what=what, unit="s", peer=best["boto3"], ours=best["ours"], goal=GOAL),
        Result(
            row="upload",
            what="… memory",
            unit="MiB",
            peer=mebibytes(peak["boto3"]),
            ours=mebibytes(peak["ours"]),
            limit=MEMORY_LIMIT,
        ),
    )


def _environment(store: Swift) -> list[str]:
    words = {
        "AWS_ACCESS_KEY_ID": store.key,
        "AWS_SECRET_ACCESS_KEY": store.secret,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    return ["env", *(f"{name}={value}" for name, value in words.items())]


def _noise(path: Path) -> Path:
    with path.open("wb") as stream:
        for _ in range(NOISE // 10**7):
            stream.write(os.urandom(10**7))
    return path


def main(arguments: list[str]) -> int:
    """Measure by hand."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(arguments[0]) if arguments else _noise(Path(folder) / "volume")
        for result in compare(file, Path(folder) / "swift"):
            peer = "" if result.peer is None else f", boto3 {result.peer:.2f}"
            print(f"{result.what}: {result.ours:.2f} {result.unit}{peer}; reached: {result.reached}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
