"""Encode one file as a difference from an older one, and decode it again. Pure.

Three methods are tried and the smallest answer is kept: HDiffPatch, which follows code that moved (1 to 26 % of a
relinked library); zstd with the older file as prefix, which says copied bytes in fewer; and plain zstd, for files that
have nothing in common.

Memory: encoding needs about seven times the older bytes, decoding the older bytes, twice the newer ones and the blob.
:mod:`lading.delta.parts` cuts large files, so that this stays small.
"""

from __future__ import annotations

import hashlib

from backports import zstd

from lading.errors import DigestMismatch, FormatInvalid
from lading.manifest.patchfile import Method

_LEVEL = 19  # patches are made once and fetched by everybody


def _window_log(size: int) -> int:
    """A window over both files, within what every 64-bit decoder allows when told to (31)."""
    return max(10, min(31, size.bit_length()))


def _zstd(data: bytes, level: int) -> bytes:
    parameter = zstd.CompressionParameter
    return zstd.compress(data, options={parameter.compression_level: level, parameter.checksum_flag: 0})


def _zstd_from(old: bytes, new: bytes, level: int) -> bytes:
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: level,
        parameter.window_log: _window_log(len(old) + len(new)),
        parameter.enable_long_distance_matching: 1,
        parameter.checksum_flag: 0,
    }
    return zstd.compress(new, options=options, zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix)


def encode(old: bytes | None, new: bytes, *, level: int = _LEVEL) -> tuple[Method, bytes]:
    """Encode a file in the fewest bytes.

    Args:
        old: The older file, or none.
        new: The file.
        level: zstd's level.

    Returns:
        The method and its blob.
    """
    candidates: list[tuple[Method, bytes]] = [("zstd", _zstd(new, level))]
    if old:
        if len(old) >= zstd_dictionary_least():
            candidates.append(("zstd-from", _zstd_from(old, new, level)))
        if new:
            from lading.delta.hdiff import encode_hdiff  # noqa: PLC0415 (40 ms that most patches do not need)

            candidates.append(("hdiff", encode_hdiff(old, new, level=level)))
    return min(candidates, key=lambda candidate: len(candidate[1]))


def zstd_dictionary_least() -> int:
    """Bytes that a raw dictionary must have at least (zstd's own rule)."""
    return 8


def decode(method: Method, blob: bytes, old: bytes | None, *, size: int, sha256: str, name: str) -> bytes:
    """Decode the blob of a whole file and check what comes out.

    Args:
        method, blob, old, size, name: As for :func:`decode_part`.
        sha256: Digest that the file must have.

    Returns:
        The file.

    Raises:
        FormatInvalid: The blob cannot be decoded.
        DigestMismatch: Something else came out.
    """
    new = decode_part(method, blob, old, size=size, name=name)
    if (found := hashlib.sha256(new).hexdigest()) != sha256:
        raise wrong_file(name, size, found, sha256)
    return new


def decode_part(method: Method, blob: bytes, old: bytes | None, *, size: int, name: str) -> bytes:
    """Decode a blob; whoever puts the file together checks its digest.

    Args:
        method: How it was encoded.
        blob: The bytes.
        old: The older bytes, already checked against their file's digest; none for ``zstd``.
        size: Bytes that must come out; more are never produced.
        name: The file's name, for the message.

    Returns:
        Exactly so many bytes.

    Raises:
        FormatInvalid: The blob cannot be decoded.
    """
    try:
        return _exactly(_decode(method, blob, old, size), size)
    except (zstd.ZstdError, ValueError, MemoryError) as error:
        raise FormatInvalid(
            f"The patch's blob for {name} ({method}, {len(blob)} bytes) cannot be decoded: {error}",
            usually="The patch was cut off or altered on the way.",
            todo="Nothing: the update goes on without the patch.",
        ) from error


def _exactly(new: bytes, size: int) -> bytes:
    if len(new) != size:
        message = f"it gives {len(new)} bytes, not {size}"
        raise ValueError(message)
    return new


def wrong_file(name: str, size: int, found: str, wanted: str | None) -> DigestMismatch:
    """The error for a file that a patch made, and that is not the one of the index."""
    return DigestMismatch(
        f"The patch made {name} with {size} bytes and SHA-256 {found}; it must have {wanted}.",
        usually="The patch was altered on the way, or was made from other files.",
        todo="Nothing: the update goes on without the patch.",
    )


def _decode(method: Method, blob: bytes, old: bytes | None, size: int) -> bytes:
    if method == "zstd":
        return _decompress(zstd.ZstdDecompressor(), blob, size)
    if old is None:
        message = f"the method {method} needs the older file"
        raise ValueError(message)
    if method == "hdiff":
        from lading.delta.hdiff import decode_hdiff  # noqa: PLC0415 (as above)

        return decode_hdiff(blob, old, size)
    options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _window_log(len(old) + size)}
    decoder = zstd.ZstdDecompressor(zstd_dict=zstd.ZstdDict(old, is_raw=True).as_prefix, options=options)
    return _decompress(decoder, blob, size)


def _decompress(decoder: zstd.ZstdDecompressor, blob: bytes, size: int) -> bytes:
    # A limit of 0 would stop before the frame's end is seen; one byte more than allowed is enough to notice.
    new = decoder.decompress(blob, max_length=size + 1)
    if not decoder.eof or decoder.unused_data:
        message = f"it is not one whole zstd frame of {size} bytes"
        raise ValueError(message)
    return new
