"""Digests of files and streams."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from lading.digest import BLOCK, sha256_bytes, sha256_file, sha256_stream


@pytest.mark.parametrize("size", [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7])
def test_any_size_gives_the_digest_of_all_its_bytes(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]
    path = tmp_path / "a"
    path.write_bytes(data)
    expected = hashlib.sha256(data).hexdigest()
    assert sha256_file(path) == sha256_bytes(data) == sha256_bytes(memoryview(data)) == expected
    seen: list[int] = []
    assert sha256_stream(io.BytesIO(data), seen.append) == (expected, size)
    assert sum(seen) == size
    assert all(count <= BLOCK for count in seen)


def test_a_stream_is_read_from_where_it_stands() -> None:
    stream = io.BytesIO(b"skipped, read")
    stream.seek(9)
    assert sha256_stream(stream) == (hashlib.sha256(b"read").hexdigest(), 4)


def test_a_file_that_cannot_be_read_is_the_systems_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sha256_file(tmp_path / "gone")
