"""The patch file: magic, header length, header, blobs. Pure; docs/reference/format.md has the bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from backports import zstd

from lading.errors import FormatInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.patchfile import MAGIC, PatchBlob, PatchHeader

_LENGTH = struct.Struct("<I")
HEADER_LIMIT = 64 * 2**20  # bytes of the header, decompressed; stops a small frame from filling the memory


def write_patch(header: PatchHeader, blobs: Iterable[bytes]) -> bytes:
    """Put a patch file together."""
    packed = zstd.compress(canonical_json(header), 19)
    return b"".join([MAGIC, _LENGTH.pack(len(packed)), packed, *blobs])


def read_patch(data: bytes, *, origin: str) -> tuple[PatchHeader, list[tuple[PatchBlob, memoryview]]]:
    """Take a patch file apart.

    Args:
        data: The whole file, already checked against its digest.
        origin: Its name, for the message.

    Returns:
        The header, and every blob with its bytes: first the index's, then the files' in order.

    Raises:
        FormatInvalid: It is not a patch file, or is cut off, or has bytes too many.
    """
    start = len(MAGIC) + _LENGTH.size
    if len(data) < start or data[: len(MAGIC)] != MAGIC:
        raise _broken(origin, f"it begins with {data[:8]!r}; a patch begins with {MAGIC!r}")
    (length,) = _LENGTH.unpack(data[len(MAGIC) : start])
    header = _read_header(data[start : start + length], origin)
    blobs = []
    at = start + length
    for blob in (header.index, *header.files):
        blobs.append((blob, memoryview(data)[at : at + blob.size]))
        at += blob.size
    if at != len(data):
        raise _broken(origin, f"it has {len(data)} bytes; its header says {at}")
    return header, blobs


def _read_header(packed: bytes, origin: str) -> PatchHeader:
    decoder = zstd.ZstdDecompressor()
    try:
        text = decoder.decompress(packed, max_length=HEADER_LIMIT)
    except zstd.ZstdError as error:
        raise _broken(origin, f"its header cannot be decompressed: {error}") from error
    if not decoder.eof or decoder.unused_data:
        raise _broken(origin, f"its header is not one whole zstd frame of at most {HEADER_LIMIT} bytes")
    header = read_record(PatchHeader, text, origin=origin)
    for blob in (header.index, *header.files):
        if (blob.path is None) != (blob is header.index):
            raise _broken(origin, f"the blob for {blob.path or 'no path'} is not where it belongs")
        if blob is not header.index and (blob.old is None) != (blob.method == "zstd"):
            raise _broken(
                origin, f"the blob for {blob.path} has the method {blob.method} and the older file {blob.old}"
            )
    return header


def _broken(origin: str, what: str) -> FormatInvalid:
    return FormatInvalid(
        f"{origin} is not a valid patch: {what}.",
        usually="It was cut off or altered on the way.",
        todo="Nothing: the update goes on without the patch.",
    )
