"""Names of published files.

All carry app, component, version and platform, so that no host ever gets another's; a core also carries its flavor
(``cpu``, or the toolkit's name), because one version of an app may be built for several toolkits.
"""

from __future__ import annotations

from lading.manifest.base import Platform


def core_archive_name(app: str, version: str, flavor: str, platform: Platform) -> str:
    """``lading-server-core-0.1.0-cu126-linux-x86_64.tar.zst``."""
    return f"{app}-core-{version}-{flavor}-{platform}.tar.zst"


def libs_archive_name(app: str, label: str, platform: Platform) -> str:
    """``lading-server-libs-cu126-v1-linux-x86_64.tar.zst``."""
    return f"{app}-libs-{label}-{platform}.tar.zst"


def volume_name(archive: str, number: int, count: int) -> str:
    """The archive's own name when it is whole, else ``….tar.zst.001`` and so on (``number`` counts from 1)."""
    return archive if count == 1 else f"{archive}.{number:03d}"


def index_name(archive: str) -> str:
    """``….index.zst`` beside the archive."""
    return archive.removesuffix(".tar.zst") + ".index.zst"


def component_name(archive: str) -> str:
    """``….json``: the component record beside the archive."""
    return archive.removesuffix(".tar.zst") + ".json"


def checksum_name(asset: str) -> str:
    """``….sha256`` beside every asset, in ``sha256sum -c`` format."""
    return asset + ".sha256"


def patch_name(archive: str, from_version: str) -> str:
    """``lading-server-core-0.1.1-cu126-linux-x86_64-from-0.1.0.patch``."""
    return f"{archive.removesuffix('.tar.zst')}-from-{from_version}.patch"


def release_name(app: str, version: str, flavor: str, platform: Platform) -> str:
    """``lading-server-0.1.0-cu126-linux-x86_64.release.json``."""
    return f"{app}-{version}-{flavor}-{platform}.release.json"
