"""Compression profiles: what they are set to, and why (figures: docs/measurements/)."""

from __future__ import annotations

from typing import Literal

from backports import zstd

from lading.manifest.index import FRAME_LIMIT

Profile = Literal["fast", "release"]

LEVELS: dict[Profile, int] = {
    "fast": 1,  # development: as fast as the disk
    "release": 12,
}
_WINDOW_LOG = (FRAME_LIMIT - 1).bit_length()  # a window as large as a frame sees all of it; more would only cost memory


def compress_frame(raw: bytes | bytearray | memoryview, profile: Profile) -> bytes:
    """Compress one frame by itself, with its size and a checksum inside, so that ``zstd -t`` really tests it."""
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: LEVELS[profile],
        parameter.window_log: _WINDOW_LOG,
        parameter.checksum_flag: 1,
        parameter.content_size_flag: 1,
    }
    return zstd.compress(raw, options=options)
