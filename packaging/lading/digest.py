"""SHA-256 of files and streams, in fixed blocks."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

BLOCK = 2**20  # bytes read at once; above 256 KiB the block size no longer changes the throughput


def sha256_bytes(data: bytes | memoryview) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def sha256_stream(stream: BinaryIO, advance: Callable[[int], None] | None = None) -> tuple[str, int]:
    """Digest a stream to its end.

    Args:
        stream: Open for reading in binary mode.
        advance: Called with the number of bytes of each block.

    Returns:
        The digest and the number of bytes read.
    """
    digest = hashlib.sha256()
    size = 0
    buffer = bytearray(BLOCK)
    view = memoryview(buffer)
    while count := stream.readinto(buffer):  # type: ignore[attr-defined]
        digest.update(view[:count])
        size += count
        if advance is not None:
            advance(count)
    return digest.hexdigest(), size


def sha256_file(path: Path, advance: Callable[[int], None] | None = None) -> str:
    """Digest a file.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        return sha256_stream(stream, advance)[0]
