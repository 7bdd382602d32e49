"""The small assets of a packed folder: written with their checksum files, and read with their digests checked."""

from __future__ import annotations

from pathlib import Path

from backports import zstd

from lading.atomic import write_atomic
from lading.digest import sha256_bytes, sha256_file
from lading.errors import FormatInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.index import INDEX_LEVEL, Index
from lading.manifest.names import checksum_name, index_name
from lading.manifest.release import Asset

INDEX_LIMIT = 64 * 2**20  # decompressed; two orders of magnitude above a real index


def write_asset(folder: Path, name: str, data: bytes, *, durable: bool = True) -> Asset:
    """Write a small asset and its checksum file; the asset last, so that one that is there has its checksum.

    Args:
        folder: Where.
        name: The asset's name.
        data: Its bytes.
        durable: Flush them to disk.

    Returns:
        The asset.

    Raises:
        DiskFull, AccessDenied: The folder cannot take it.
    """
    asset = Asset(name=name, size=len(data), sha256=sha256_bytes(data))
    write_atomic(folder / checksum_name(name), asset.checksum_line, durable=durable)
    write_atomic(folder / name, data, durable=durable)
    return asset


def keep_checksum(folder: Path, asset: Asset) -> None:
    """Write an asset's checksum file when it is lost or wrong."""
    path = folder / checksum_name(asset.name)
    if not path.is_file() or path.read_bytes() != asset.checksum_line:
        write_atomic(path, asset.checksum_line, durable=False)


def read_index(folder: Path, asset: Asset) -> Index:
    """Read a packed component's index.

    Raises:
        FormatInvalid: It is not the index that the record names, or is not there.
    """
    path = folder / asset.name
    found = sha256_file(path) if path.is_file() else "no such file"
    if found != asset.sha256:
        raise FormatInvalid(
            f"{path} has SHA-256 {found}; its component record says {asset.sha256}.",
            usually="The folder mixes files of two builds or lacks some, or the disk is failing.",
            todo="Get the folder again from where it was published, or pack again.",
        )
    try:
        text = zstd.ZstdDecompressor().decompress(path.read_bytes(), max_length=INDEX_LIMIT)
    except zstd.ZstdError as error:
        raise FormatInvalid(f"{path} cannot be decompressed: {error}", todo="Pack again.") from error
    return read_record(Index, text, origin=asset.name)


def write_index(folder: Path, archive: str, index: Index) -> Asset:
    """Write an archive's index.

    Returns:
        The asset.
    """
    return write_asset(folder, index_name(archive), zstd.compress(canonical_json(index), INDEX_LEVEL), durable=False)
