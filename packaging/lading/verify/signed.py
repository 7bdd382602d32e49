"""Is a published release signed, listed and fresh? Asked in the way a client asks: level *bytes*.

The repository is read by the client's own workflow from its first root, or from one that the caller trusts. Without
such a root the answer is that the repository is sound by itself; whose it is, only a trusted root can tell.

Does not: judge a folder that was packed and not published yet, where nothing is signed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from lading.fetch.folder import FolderSource
from lading.fetch.trust import Trust
from lading.manifest.layout import METADATA, release_target
from lading.manifest.names import release_name
from lading.manifest.release import Release
from lading.verify.engine import Outcome, failed, passed

FIRST_ROOT = f"{METADATA}/1.root.json"


def check_signed(folders: Sequence[Path], record: Path | None, release: Release, root: bytes | None) -> Outcome:
    """Follow the signatures from the root to a release.

    Args:
        folders: Where the release lies; the first one that has metadata is the repository.
        record: The release manifest's file.
        release: The release.
        root: The root metadata to begin with; the repository's own first one when none.

    Returns:
        Whether a client would accept the release now, and list it.
    """
    repository = next((folder for folder in folders if (folder / METADATA).is_dir()), None)
    if repository is None or record is None:
        return failed("it is not published: there is no signed metadata in its folder")
    own = repository / FIRST_ROOT
    if root is None and not own.is_file():
        return failed(f"there is no {FIRST_ROOT} to begin with")
    path = release_target(release, release_name(release.app, release.version, release.flavor, release.platform))
    with tempfile.TemporaryDirectory(prefix="lading-verify-") as scratch:
        trust = Trust(FolderSource(repository), own.read_bytes() if root is None else root, Path(scratch))
        signed = trust.target(path)
        channels = [trust.channel(release.app, name) for name in trust.channels(release.app)]
    if signed != record.read_bytes():
        return failed(f"{record} is not the release manifest that was signed as {path}")
    listing = [channel for channel in channels if any(entry.target == path for entry in channel.releases)]
    if not listing:
        return failed(f"no channel lists {path}: it was taken off, or never published")
    entry = next(entry for entry in listing[0].releases if entry.target == path)
    if entry.withdrawn is not None:
        return failed(f"its publisher withdrew it: {entry.withdrawn.reason}")
    names = ", ".join(channel.channel for channel in listing)
    whose = "the trusted root" if root is not None else "the repository's own first root"
    return passed(f"signed and listed in {names}, beginning at {whose}", target=path, trusted=root is not None)
