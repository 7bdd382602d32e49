"""The real products under ``out/``: what ``nox -s build_cuda`` and ``nox -s build_cpu`` left there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from lading.freeze.freeze import read_buildinfo
from lading.manifest.base import read_record
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.release import Release

ROOT = Path(__file__).resolve().parents[2]
OUT = ROOT / "out"


@dataclass(frozen=True, kw_only=True)
class Product:
    """A built product.

    Attributes:
        tree: The frozen tree.
        info: Its build information.
        assets: The packed folder.
        release: The release manifest.
    """

    tree: Path
    info: BuildInfo
    assets: Path
    release: Release

    @property
    def executable(self) -> Path:
        """The frozen program."""
        return self.tree / self.info.entry


def product_of(flavor: str, session: str) -> Product:
    """The product of a flavor; skips loudly when it has not been built."""
    home = OUT / "tree" / flavor
    releases = sorted((OUT / "release").glob(f"*-{flavor}-*.release.json"), key=lambda path: path.stat().st_mtime_ns)
    if not (home / "buildinfo.json").is_file() or not releases:
        pytest.skip(f"the {flavor} product is not built: run 'nox -s {session}' first")
    info = read_buildinfo(home / "buildinfo.json")
    release = read_record(Release, releases[-1].read_bytes(), origin=releases[-1].name)
    tree = next(path for path in home.iterdir() if path.is_dir())
    return Product(tree=tree, info=info, assets=OUT / "release", release=release)
