"""A component's index: fetched whole or made from a patch, checked against the release, decompressed within a bound.

The release manifest gives the digest of the index as it is published, compressed. A patch gives the same index
decompressed; it is the right one because the patch's own digest is in the release manifest too, and the patch says the
index's. It is kept compressed again, quickly and therefore not as published, and is known later by what the release
manifest says of its content: the tree digest, the number of files and their bytes.
"""

from __future__ import annotations

from functools import lru_cache
from threading import Event

from backports import zstd

from lading.cancel import sleeping_until
from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FormatInvalid, SourceUnreachable
from lading.fetch.source import Source, fetch_small, retrying
from lading.manifest.base import read_record
from lading.manifest.index import Index
from lading.manifest.layout import asset_path
from lading.manifest.release import ComponentRecord
from lading.manifest.tree import tree_digest

RAW_LIMIT = 64 * 2**20  # bytes; an index of as many files as a release may have takes two thirds of it
_DESCRIPTOR, _CHECKSUM = 4, 0b100  # the byte of a zstd frame, and the bit of it, that say whether it has a checksum
_KEPT_LEVEL = 1  # measured on 461 kB: 1 ms and 9 % more bytes than the published level, which takes 74 ms
_PARSED = 4  # indexes remembered: those of two components in two versions


def fetch_index(source: Source, component: ComponentRecord, *, stop: Event | None = None) -> bytes:
    """Fetch a component's compressed index.

    Args:
        source: Where from.
        component: Which.
        stop: Ends the waits between attempts.

    Returns:
        Bytes with exactly the size and SHA-256 that the release gives.

    Raises:
        SourceUnreachable: It is not there, or cannot be reached.
        DigestMismatch: It is another one, even when fetched again.
        Interrupted: ``stop`` was set.
    """
    return retrying(sleeping_until(stop))(_fetch_once, source, component, stop)


def _fetch_once(source: Source, component: ComponentRecord, stop: Event | None) -> bytes:
    path = asset_path(component, component.index.name)
    data = fetch_small(source, path, component.index.size, stop=stop)
    if data is None:
        raise SourceUnreachable(
            f"{source.describe(path)} is not there.",
            usually="The mirror is incomplete.",
            todo="Use another source.",
        )
    if (len(data), sha256_bytes(data)) != (component.index.size, component.index.sha256):
        error = DigestMismatch(
            f"{source.describe(path)} has {len(data)} bytes with SHA-256 {sha256_bytes(data)}; "
            f"the release says {component.index.size} bytes with {component.index.sha256}.",
            usually="It was damaged at the source or altered on the way.",
            todo="Run the same command again; if it stays, use another source. Nothing was changed here.",
        )
        source.distrust(path, error.what)
        raise error
    return data


def unpack_index(data: bytes, name: str) -> bytes:
    """Decompress an index.

    Args:
        data: One zstd frame.
        name: The index's name, for the message.

    Returns:
        Its canonical JSON.

    Raises:
        FormatInvalid: It cannot be decompressed, or expands beyond all reason.
    """
    decoder = zstd.ZstdDecompressor()
    try:
        raw = decoder.decompress(data, max_length=RAW_LIMIT + 1)
    except zstd.ZstdError as error:
        raise _broken(name, f"cannot be decompressed: {error}") from error
    if len(raw) > RAW_LIMIT:
        raise _broken(name, f"expands to more than {RAW_LIMIT} bytes")
    if not decoder.eof:
        raise _broken(name, "is cut off")
    return raw


def pack_index(raw: bytes) -> bytes:
    """Compress an index that came decompressed, to be kept: with a checksum by which damage is noticed.

    Args:
        raw: The right index of a component, decompressed.
    """
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {parameter.compression_level: _KEPT_LEVEL, parameter.checksum_flag: 1}
    return zstd.compress(raw, options=options)


def read_index(data: bytes, component: ComponentRecord) -> Index:
    """Decompress and parse an index whose digest has been checked.

    Raises:
        FormatInvalid: It is not an index, or one that expands beyond all reason.
    """
    return _parsed(data, component.index.name)


@lru_cache(maxsize=_PARSED)
def _parsed(data: bytes, name: str) -> Index:
    return read_record(Index, unpack_index(data, name), origin=name)


def proves(data: bytes, component: ComponentRecord) -> bool:
    """Whether compressed bytes are a component's index.

    Args:
        data: What was kept on this machine.
        component: What the release says.

    Returns:
        They are the published ones; or they are undamaged and their content is what the release says.
    """
    if sha256_bytes(data) == component.index.sha256:
        return True
    if not has_checksum(data):
        return False
    try:
        index = read_index(data, component)
    except FormatInvalid:
        return False
    return fits(index, component)


def fits(index: Index, component: ComponentRecord) -> bool:
    """Whether an index lists what a component consists of."""
    facts = (len(index.files), sum(entry.size for entry in index.files))
    if facts != (component.files, component.unpacked):
        return False
    return tree_digest(index.files) == component.tree


def has_checksum(data: bytes) -> bool:
    """Whether a zstd frame ends with a checksum of its content."""
    return len(data) > _DESCRIPTOR and bool(data[_DESCRIPTOR] & _CHECKSUM)


def _broken(name: str, what: str) -> FormatInvalid:
    return FormatInvalid(
        f"{name} {what}.",
        usually="The publisher signed a mistake.",
        todo="Tell the publisher; nothing was changed here.",
    )
