"""Which builds a channel has for this machine, which of them run here, and why: asked for, and nothing of it kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.host.choice import Resolution
from lading.host.platform import this_platform
from lading.host.record import HostFacts
from lading.host.resolve import resolve
from lading.manifest.base import Platform, Record, Variant
from lading.manifest.release import Release
from lading.store.choice import candidate_of, newest_of_each, variant_of
from lading.store.home import trust_folder
from lading.store.installation import known_installation
from lading.store.rollout import Asked
from lading.store.wish import copied_trust, opened


class Build(Record):
    """The newest release of one flavor.

    Attributes:
        flavor, version: Which.
        label: Its libs; none in a CPU build.
        archive_bytes: What a first install fetches, metadata and indexes not counted.
        disk_bytes: What it takes unpacked.
    """

    flavor: str
    version: str
    label: str | None = None
    archive_bytes: int = 0
    disk_bytes: int = 0


class Builds(Record):
    """What a channel has for this machine.

    Attributes:
        builds: The newest release of each flavor, in the channel's order.
        resolution: Which of them fits, and why each other does not.
    """

    builds: tuple[Build, ...]
    resolution: Resolution

    def of(self, flavor: str | None) -> Build | None:
        """One build."""
        return next((build for build in self.builds if build.flavor == flavor), None)


def find_builds(
    source: Source | str | Sequence[str],
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    variant: Variant | None = None,
    platform: Platform | None = None,
    host: HostFacts,
) -> Builds:
    """Ask a repository what it has for this machine.

    Args:
        source, root, data, app, channel, platform: As for :func:`lading.store.install.install`; the data directory is
            looked at for the metadata seen, and not changed.
        variant: Only builds of this variant: without it the CPU build is chosen where no CUDA build fits.
        host: This machine.

    Raises:
        LadingError: As ``install``, without those about writing.
    """
    with opened(source) as repository, copied_trust(data) as scratch:
        folder = trust_folder(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        trust = Trust(repository, root, folder)
        asked = Asked(platform=platform or this_platform(), machine=known_installation(scratch))
        entries = newest_of_each(trust.channel(app, channel), asked)
        wanted = [entry for entry in entries if variant in {None, variant_of(entry.flavor)}]
        releases = [trust.release(entry, app) for entry in wanted]
    return Builds(
        builds=tuple(map(_build, releases)), resolution=resolve(host, [candidate_of(release) for release in releases])
    )


def _build(release: Release) -> Build:
    libs = release.component("libs")
    return Build(
        flavor=release.flavor,
        version=release.version,
        label=libs.version if libs else None,
        archive_bytes=sum(volume.size for component in release.components for volume in component.volumes),
        disk_bytes=release.requirements.disk,
    )
