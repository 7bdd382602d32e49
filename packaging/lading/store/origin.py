"""``origin.json``: where a variant was installed from, so that an update needs nothing to be said again.

The root metadata is kept whole in the same file: whom to trust and where to ask are replaced together or not at all.
A damaged record counts as none; the next install writes it anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from lading.atomic import write_atomic
from lading.errors import FormatInvalid
from lading.manifest.base import Name, Platform, Record, canonical_json, read_record

PRIVATE = 0o600  # an address may hold a password


class Origin(Record):
    """Where a variant came from.

    Attributes:
        app, channel, flavor, platform: What was chosen.
        sources: Addresses and folders, the preferred one first; none when a program brought a source of its own.
        root: The trusted root metadata, as it was given.
    """

    schema_: Literal["lading/origin/1"] = "lading/origin/1"
    app: Name
    channel: Name
    flavor: Name
    platform: Platform
    sources: tuple[str, ...]
    root: str

    @property
    def root_bytes(self) -> bytes:
        """The trusted root metadata."""
        return self.root.encode("utf-8")


def source_texts(source: object) -> tuple[str, ...]:
    """What to remember of a source: addresses as they are, folders by their full path; nothing of an object."""
    texts = [source] if isinstance(source, str) else source
    if not isinstance(texts, Sequence) or not all(isinstance(text, str) for text in texts):
        return ()
    return tuple(text if "://" in text else str(Path(text).expanduser().absolute()) for text in texts)


def read_origin(path: Path) -> Origin | None:
    """Read an origin; an absent or damaged one is none."""
    try:
        return read_record(Origin, path.read_bytes(), origin=str(path))
    except (FileNotFoundError, FormatInvalid):
        return None


def write_origin(path: Path, origin: Origin) -> None:
    """Write an origin atomically, unless it is that already.

    What a program brought as an object does not replace addresses that are known for the same root.
    """
    known = read_origin(path)
    if known is not None and not origin.sources and known.root == origin.root:
        origin = origin.model_copy(update={"sources": known.sources})
    if origin != known:
        write_atomic(path, canonical_json(origin), mode=PRIVATE)
