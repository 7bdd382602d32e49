"""HDiffPatch, the method that follows code which moved.

A module of its own, because its library takes longer to import than a small patch takes to apply, and many patches have
no blob of this kind.
"""

from __future__ import annotations

import hdiffpatch

_HEAD = 64  # bytes at the beginning of a difference that have its sizes; it needs half of them at most
_EIGHTH_BIT = 0x80


def encode_hdiff(old: bytes, new: bytes, *, level: int) -> bytes:
    """Encode a file as a difference, in the smaller of two compressions.

    Args:
        old: The older file, not empty.
        new: The file, not empty.
        level: zstd's level.
    """
    plain = hdiffpatch.diff(old, new, compression=hdiffpatch.COMPRESSION_NONE)
    compressions = (hdiffpatch.ZStdConfig(level=level), hdiffpatch.COMPRESSION_LZMA2)
    return min((bytes(hdiffpatch.recompress(plain, one)) for one in compressions), key=len)


def decode_hdiff(blob: bytes, old: bytes, size: int) -> bytes:
    """Decode a difference.

    Args:
        blob: The difference.
        old: The older bytes.
        size: Bytes that must come out.

    Raises:
        ValueError: It is no difference between so many bytes, or a broken one.
    """
    found = said_sizes(blob)
    if found != (size, len(old)):
        message = f"it leads from {found[1]} to {found[0]} bytes, not from {len(old)} to {size}"
        raise ValueError(message)
    try:
        return bytes(hdiffpatch.apply(old, blob))
    except hdiffpatch.HDiffPatchError as error:
        raise ValueError(str(error)) from error


def said_sizes(blob: bytes) -> tuple[int, int]:
    """The sizes that a difference itself says: of the new and of the old file.

    They are looked at first, because the library makes as much room as the blob asks for.

    Raises:
        ValueError: It is no difference.
    """
    head = blob[:_HEAD]
    kind = head.find(b"\0")
    if not head.startswith(b"HDIFF13&") or kind < 0:
        message = f"it begins with {blob[:9]!r}, not as an HDiffPatch difference"
        raise ValueError(message)
    new, at = _number(head, kind + 1)
    old, _ = _number(head, at)
    return new, old


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A number of HDiffPatch: seven bits a byte, highest first; all bytes but the last have the eighth bit."""
    value = 0
    for place in range(at, len(data)):
        value = value << 7 | data[place] & (_EIGHTH_BIT - 1)
        if data[place] < _EIGHTH_BIT:
            return value, place + 1
    message = "it is cut off"
    raise ValueError(message)
