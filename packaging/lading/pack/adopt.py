"""Build information for somebody else's onedir tree: nobody owns its files, so names alone decide about libs."""

from __future__ import annotations

import os
from importlib.metadata import version as distribution_version
from pathlib import Path

from backports import zstd

from lading.manifest.base import Platform
from lading.manifest.buildinfo import BuildInfo, OwnedEntry
from lading.manifest.release import Provenance, TorchBuild
from lading.manifest.toolkit import Toolkit
from lading.pack.scan import find_entry, scan_tree
from lading.pack.split import NO_OWNER
from lading.progress import Progress


def adopt(
    tree: Path,
    *,
    app: str,
    version: str,
    platform: Platform,
    toolkit: Toolkit | None,
    entry: str | None,
    progress: Progress,
) -> BuildInfo:
    """Describe a onedir tree that Lading did not freeze.

    Args:
        tree: The tree.
        app, version, platform: What it is to be released as.
        toolkit: Its toolkit, or none for a CPU build. Its torch version is believed, since nothing else says it.
        entry: The executable; found when none.
        progress: Where to report.

    Returns:
        Build information with no owners.

    Raises:
        TreeInvalid, LinkEscapes: See :func:`lading.pack.scan.scan_tree` and :func:`lading.pack.scan.find_entry`.
    """
    executable = entry or find_entry(tree)
    files = scan_tree(tree, progress)
    torch = None
    if toolkit is not None:
        torch = TorchBuild(version=f"{toolkit.torch}+{toolkit.name}", cuda=toolkit.cuda, archs=())
    return BuildInfo(
        app=app,
        version=version,
        platform=platform,
        variant="cuda" if toolkit else "cpu",
        entry=executable,
        toolkit=toolkit.name if toolkit else None,
        modules="compressed",
        files=tuple(OwnedEntry(**file.model_dump(), owner=NO_OWNER, via="pattern") for file in files),
        distributions={},
        torch=torch,
        provenance=Provenance(
            commit="unknown",
            epoch=int(os.environ.get("SOURCE_DATE_EPOCH", "0")),
            python="unknown",
            pyinstaller="unknown",
            zstd=zstd.zstd_version,
            lading=distribution_version("lading"),
        ),
    )
