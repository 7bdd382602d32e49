"""What an object store says about each object when it serves it to clients and caches. Pure.

Rules:
    * ``metadata/timestamp.json`` is the one file that is replaced: every cache asks again before it gives it.
    * Everything else has one content for ever.
    * No ``Content-Encoding``: a client that asks for ``.zst`` wants the compressed bytes, not what is in them.
"""

from __future__ import annotations

from dataclasses import dataclass

from lading.manifest.layout import METADATA

TIMESTAMP = f"{METADATA}/timestamp.json"
FOREVER = "public, max-age=31536000, immutable"
ALWAYS_ASK = "no-cache"
BYTES = "application/octet-stream"

_TYPES = {".json": "application/json", ".zst": "application/zstd", ".sha256": "text/plain; charset=utf-8"}


@dataclass(frozen=True, kw_only=True)
class Headers:
    """What is stored beside an object's bytes.

    Attributes:
        content_type: ``Content-Type``.
        cache_control: ``Cache-Control``.
    """

    content_type: str
    cache_control: str


def headers_of(path: str) -> Headers:
    """The headers for a path of a repository."""
    name = path.rpartition("/")[2]
    suffix = f".{name.rpartition('.')[2]}"
    return Headers(
        content_type=_TYPES.get(suffix, BYTES),
        cache_control=ALWAYS_ASK if path == TIMESTAMP else FOREVER,
    )
