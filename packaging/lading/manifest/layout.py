"""Where everything lies in a published repository, relative to its base (docs/reference/repository.md).

Publishers and clients share these paths and nothing else. They say no host: the same paths hold for a folder, a bucket
and any mirror.
"""

from __future__ import annotations

from lading.manifest.release import ComponentRecord, Release

METADATA = "metadata"  # TUF metadata
TARGETS = "targets"  # TUF targets, under their digests (consistent snapshots)
ASSETS = "assets"  # archives, indexes, patches, records
CHANNELS, RELEASES = "channels", "releases"  # among the TUF target paths
RETIRED = "retired.json"  # the TUF target that says what was taken off a short while ago


def asset_folder(component: ComponentRecord) -> str:
    """``assets/core/0.1.0`` or ``assets/libs/cu126-v1``: libs lie once under their label, for all releases."""
    return f"{ASSETS}/{component.component}/{component.version}"


def asset_path(component: ComponentRecord, name: str) -> str:
    """Where an asset of a component lies."""
    return f"{asset_folder(component)}/{name}"


def release_target(release: Release, name: str) -> str:
    """The TUF target path of a release manifest called ``name``."""
    return f"{RELEASES}/{release.app}/{release.version}/{name}"


def channel_target(app: str, channel: str) -> str:
    """The TUF target path of a channel's index."""
    return f"{CHANNELS}/{app}/{channel}.json"


def stored_target(path: str, sha256: str) -> str:
    """Where a TUF target's bytes lie: the digest before the last part of its path, so that none is overwritten."""
    folder, slash, name = path.rpartition("/")
    return f"{TARGETS}/{folder}{slash}{sha256}.{name}"
