"""A component's index: fetched whole, checked against the release, then decompressed within a bound."""

from __future__ import annotations

from backports.zstd import ZstdDecompressor, ZstdError

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FormatInvalid, SourceUnreachable
from lading.fetch.source import Source, fetch_small, retrying
from lading.manifest.base import read_record
from lading.manifest.index import Index
from lading.manifest.layout import asset_path
from lading.manifest.release import ComponentRecord

RAW_LIMIT = 256 * 2**20  # bytes; an index of a million files has about as many


def fetch_index(source: Source, component: ComponentRecord) -> bytes:
    """Fetch a component's compressed index.

    Args:
        source: Where from.
        component: Which.

    Returns:
        Bytes with exactly the size and SHA-256 that the release gives.

    Raises:
        SourceUnreachable: It is not there, or cannot be reached.
        DigestMismatch: It is another one, even when fetched again.
    """
    return retrying()(_fetch_once, source, component)


def _fetch_once(source: Source, component: ComponentRecord) -> bytes:
    path = asset_path(component, component.index.name)
    data = fetch_small(source, path, component.index.size)
    if data is None:
        raise SourceUnreachable(
            f"{source.describe(path)} is not there.",
            usually="The mirror is incomplete.",
            todo="Use another source.",
        )
    if (len(data), sha256_bytes(data)) != (component.index.size, component.index.sha256):
        raise DigestMismatch(
            f"{source.describe(path)} has {len(data)} bytes with SHA-256 {sha256_bytes(data)}; "
            f"the release says {component.index.size} bytes with {component.index.sha256}.",
            usually="It was damaged at the source or altered on the way.",
            todo="Run the same command again; if it stays, use another source. Nothing was changed here.",
        )
    return data


def read_index(data: bytes, component: ComponentRecord) -> Index:
    """Decompress and parse an index whose digest has been checked.

    Raises:
        FormatInvalid: It is not an index, or one that expands beyond all reason.
    """
    name = component.index.name
    try:
        raw = ZstdDecompressor().decompress(data, max_length=RAW_LIMIT + 1)
    except ZstdError as error:
        raise FormatInvalid(
            f"{name} cannot be decompressed: {error}.",
            usually="The publisher signed a mistake.",
            todo="Tell the publisher; nothing was changed here.",
        ) from error
    if len(raw) > RAW_LIMIT:
        raise FormatInvalid(
            f"{name} expands to more than {RAW_LIMIT} bytes.",
            usually="The publisher signed a mistake.",
            todo="Tell the publisher; nothing was changed here.",
        )
    return read_record(Index, raw, origin=name)
