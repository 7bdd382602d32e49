"""Fetch the cores of earlier releases, from which patches are made; nothing when nothing was published yet.

They are read as a client reads them: from a root that is trusted, every byte against the signed manifest. So a build
takes nothing over from a destination that somebody else could have put there.

    python workflows/earlier.py FOLDER FLAVOR PLATFORM --root keys/1.root.json --from DESTINATION [--project DIR]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from packaging.version import Version

from lading.atomic import write_atomic
from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, LadingError
from lading.fetch.address import open_source
from lading.fetch.source import Source, fetch_small
from lading.fetch.trust import Trust
from lading.manifest.base import canonical_json
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.layout import METADATA, asset_path
from lading.manifest.names import component_name
from lading.manifest.project import Project, load_project
from lading.manifest.public_address import find_address
from lading.manifest.release import Asset, Release


def wanted(channel: Channel, project: Project, flavor: str, platform: str) -> list[ChannelEntry]:
    """The releases that patches lead from: the newest of the same build, older than what is built now."""
    older = [
        entry
        for entry in channel.releases
        if (entry.flavor, entry.platform) == (flavor, platform)
        and entry.target is not None
        and entry.withdrawn is None
        and Version(entry.version) < Version(project.version)
    ]
    return sorted(older, key=lambda entry: Version(entry.version), reverse=True)[: project.app.patches]


def keep_core(source: Source, release: Release, folder: Path) -> int:
    """Fetch a release's core: volumes, index and record.

    Returns:
        Bytes.

    Raises:
        DigestMismatch: They are not what was signed.
    """
    core = release.component("core")
    assert core is not None  # every release has one
    kept = 0
    for asset in (*core.volumes, core.index):
        path = asset_path(core, asset.name)
        write_atomic(folder / path, _fetched(source, path, asset))
        kept += asset.size
    record = component_name(core.volumes[0].name.removesuffix(".001"))
    write_atomic(folder / asset_path(core, record), canonical_json(core))
    return kept


def _fetched(source: Source, path: str, asset: Asset) -> bytes:
    data = fetch_small(source, path, asset.size)
    if data is None or sha256_bytes(data) != asset.sha256:
        found = "is not there" if data is None else f"has SHA-256 {sha256_bytes(data)}"
        raise DigestMismatch(f"{source.describe(path)} {found}; the release says {asset.sha256}.")
    return data


def fetch_earlier(folder: Path, project: Project, flavor: str, platform: str, *, address: str, root: bytes) -> int:
    """Fetch what patches of a build may lead from.

    Returns:
        How many releases.

    Raises:
        LadingError: Something is there and cannot be trusted or had.
    """
    with closing(open_source(address)) as source, tempfile.TemporaryDirectory() as scratch:
        if fetch_small(source.mirrors[0], f"{METADATA}/timestamp.json", 100_000) is None:
            print("Nothing was published yet: no patches.")
            return 0
        trust = Trust(source, root, Path(scratch))
        entries = wanted(trust.channel(project.app.name, project.app.channel), project, flavor, platform)
        for entry in entries:
            kept = keep_core(source, trust.release(entry, project.app.name), folder)
            print(f"{entry.version}: {kept / 1e6:,.1f} MB")
    return len(entries)


def main(arguments: Sequence[str]) -> int:
    """Fetch; the exit code of the error when something is wrong."""
    parser = argparse.ArgumentParser(description="Fetch the cores of earlier releases, for patches.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("flavor")
    parser.add_argument("platform")
    parser.add_argument("--root", type=Path, required=True, help="the root metadata that is trusted")
    parser.add_argument("--from", dest="source", required=True, help="a destination, an address, or a folder with /")
    parser.add_argument("--project", type=Path, default=Path())
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        project = load_project(options.project)
        address = find_address(options.source, options.project)
        found = fetch_earlier(
            options.folder, project, options.flavor, options.platform, address=address, root=options.root.read_bytes()
        )
    except LadingError as error:
        print(f"::error::{error}", file=sys.stderr)
        return error.exit_code
    print(f"{found} earlier releases")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
