"""The patch file: magic, header length, header, blobs; docs/reference/format.md has the bytes.

A patch may be much larger than the memory that an update should take, so a reader of a file on disk
(:class:`PatchFile`) holds the header alone and reads one blob at a time.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import BinaryIO

from backports import zstd

from lading.delta.parts import OLDER, WHOLE
from lading.errors import FormatInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.patchfile import MAGIC, PatchBlob, PatchHeader

_LENGTH = struct.Struct("<I")
_START = len(MAGIC) + _LENGTH.size
HEADER_LIMIT = 64 * 2**20  # bytes of the header, decompressed; stops a small frame from filling the memory


def write_patch(header: PatchHeader, blobs: Iterable[bytes]) -> bytes:
    """Put a patch file together."""
    packed = zstd.compress(canonical_json(header), 19)
    return b"".join([MAGIC, _LENGTH.pack(len(packed)), packed, *blobs])


def read_patch(data: bytes, *, origin: str) -> tuple[PatchHeader, list[tuple[PatchBlob, memoryview]]]:
    """Take a patch file apart that is in memory.

    Args:
        data: The whole file, already checked against its digest.
        origin: Its name, for the message.

    Returns:
        The header, and every blob with its bytes: first the index's, then the files' in order.

    Raises:
        FormatInvalid: It is not a patch file, or is cut off, or has bytes too many.
    """
    length = _header_length(data[:_START], origin)
    header = _read_header(data[_START : _START + length], origin)
    blobs = (header.index, *header.files)
    starts = _starts(header, _START + length, len(data), origin)
    view = memoryview(data)
    return header, [(blob, view[at : at + blob.size]) for blob, at in zip(blobs, starts, strict=True)]


@dataclass(frozen=True, kw_only=True)
class PatchFile:
    """A patch on disk, its header read.

    Attributes:
        path: The file, already checked against its digest.
        header: What it leads from and to.
        starts: Where each blob begins: first the index's, then those of ``header.files``.
    """

    path: Path
    header: PatchHeader
    starts: tuple[int, ...]

    def index_blob(self) -> bytes:
        """The blob of the newer index.

        Raises:
            OSError: The file cannot be read.
        """
        return self._read(self.starts[0], self.header.index.size)

    def blob(self, number: int) -> bytes:
        """The blob of ``header.files[number]``.

        Raises:
            OSError: The file cannot be read.
        """
        return self._read(self.starts[number + 1], self.header.files[number].size)

    def parts(self) -> dict[str, tuple[int, ...]]:
        """The numbers of the blobs of each file, by its path."""
        numbers = groupby(range(len(self.header.files)), key=lambda number: self.header.files[number].path)
        return {path or "": tuple(group) for path, group in numbers}

    def _read(self, start: int, size: int) -> bytes:
        with self.path.open("rb", buffering=0) as stream:
            stream.seek(start)
            return _exactly(stream, size)


def open_patch(path: Path, *, origin: str) -> PatchFile:
    """Read the header of a patch on disk.

    Args:
        path: The file, already checked against its digest.
        origin: Its name, for the message.

    Returns:
        The patch.

    Raises:
        FormatInvalid: It is not a patch file, or is cut off, or has bytes too many.
        OSError: It cannot be read.
    """
    with path.open("rb", buffering=0) as stream:
        length = _header_length(_exactly(stream, _START), origin)
        header = _read_header(_exactly(stream, length), origin)
    starts = _starts(header, _START + length, path.stat().st_size, origin)
    return PatchFile(path=path, header=header, starts=starts)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    """So many bytes, or all that there are."""
    data = bytearray()
    while len(data) < size and (block := stream.read(size - len(data))):
        data += block
    return bytes(data)


def _header_length(start: bytes, origin: str) -> int:
    if len(start) < _START or start[: len(MAGIC)] != MAGIC:
        raise _broken(origin, f"it begins with {start[:8]!r}; a patch begins with {MAGIC!r}")
    (length,) = _LENGTH.unpack(start[len(MAGIC) :])
    return int(length)


def _starts(header: PatchHeader, first: int, size: int, origin: str) -> tuple[int, ...]:
    *starts, end = accumulate((blob.size for blob in (header.index, *header.files)), initial=first)
    if end != size:
        raise _broken(origin, f"it has {size} bytes; its header says {end}")
    return tuple(starts)


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
        _check_part(blob, origin)
    _check_order(header, origin)
    return header


def _check_part(blob: PatchBlob, origin: str) -> None:
    """A blob says which piece of the older file it is relative to, or says nothing of it; and no piece is too large."""
    piece = (blob.old_start is None, blob.old_size is None)
    if piece not in {(True, True), (False, False)} or (blob.old is None and not piece[0]):
        raise _broken(origin, f"the blob for {blob.path or 'the index'} does not say what it is relative to")
    if (blob.raw or 0) > WHOLE or (blob.old_size or 0) > OLDER:
        raise _broken(
            origin, f"the blob for {blob.path} makes {blob.raw} bytes from {blob.old_size}; it may {WHOLE} from {OLDER}"
        )


def _check_order(header: PatchHeader, origin: str) -> None:
    """The parts of a file follow one another, and say that they are parts."""
    seen: set[str | None] = set()
    for path, group in groupby(header.files, key=lambda blob: blob.path):
        parts = list(group)
        if path in seen or (len(parts) > 1 and any(part.raw is None for part in parts)):
            raise _broken(origin, f"it has {path} twice")
        seen.add(path)


def _broken(origin: str, what: str) -> FormatInvalid:
    return FormatInvalid(
        f"{origin} is not a valid patch: {what}.",
        usually="It was cut off or altered on the way.",
        todo="Nothing: the update goes on without the patch.",
    )
