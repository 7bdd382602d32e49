"""What an install did."""

from __future__ import annotations

from pydantic import Field

from lading.fetch.mirrors import MirrorReport
from lading.manifest.base import Record
from lading.store.planned import Way
from lading.store.repair import Damage


class InstallResult(Record):
    """What an install did.

    Attributes:
        path: The version's folder.
        tree: The runnable tree in it.
        entry: The executable.
        version_id: The folder's name.
        app, version, flavor, label: Which release; ``label`` names its libs.
        previous: The version that was in use before.
        already_installed: The version was there; nothing was fetched but metadata.
        bytes_fetched: Archive bytes that were fetched and verified in this run.
        bytes_received: Everything that came over the source, metadata, indexes and repeated attempts included.
        requests: All requests, metadata included.
        bytes_resumed: Archive bytes that an earlier, interrupted run had verified already.
        bytes_reused, files_reused: Taken from installed versions.
        files_written: Put together from frames.
        files_patched: Made from older files by patches.
        ways: How each component was come by, and why.
        received: What came over the source, by kind: metadata, indexes, patches, frames.
        damage: What was wrong with the version that was there; a sound copy took its place.
        removed: Versions that need not be kept any more and were deleted.
        left: Versions that should have gone, but could not, because a program runs from them.
        bytes_freed: What the disk got back by that.
        mirrors: The mirrors that failed in something, with what they did.
        seconds: From call to return.
    """

    path: str
    tree: str
    entry: str
    version_id: str
    app: str
    version: str
    flavor: str
    label: str | None
    previous: str | None
    already_installed: bool
    bytes_fetched: int = 0
    bytes_received: int = 0
    requests: int = 0
    bytes_resumed: int = 0
    bytes_reused: int = 0
    files_reused: int = 0
    files_written: int = 0
    files_patched: int = 0
    ways: tuple[Way, ...] = ()
    received: dict[str, int] = Field(default_factory=dict)
    damage: tuple[Damage, ...] = ()
    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    bytes_freed: int = 0
    mirrors: tuple[MirrorReport, ...] = ()
    seconds: float = 0.0
