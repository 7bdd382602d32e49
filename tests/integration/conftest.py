"""What several integration tests share: the default server, frozen once; a workshop for small servers."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from tests.doubles.fixtures import (  # noqa: F401 (fixtures for the tests of this folder)
    between,
    make_place,
    moto_store,
    r2_checks,
    swift_place,
    swift_store,
)
from tests.integration.freeze_projects import Workshop, make_workshop
from tests.integration.launch_place import Place, copy_data, make_shop
from tests.packed_release import Shop
from tests.range_server import RangeServer, serving

from lading.freeze.settings import spec_settings
from lading.manifest.project import load_project
from lading.process import run, scrubbed_environment

FREEZE_SECONDS = 300
# Packages of the test environment that libraries import when they are there; the freeze step has an environment
# without them.
STRANGERS = ("pytest", "_pytest", "hypothesis", "setuptools", "attr", "mypy", "IPython", "tkinter")


def _freeze(root: Path, folder: Path) -> Path:
    project = load_project(root)
    names = project.app.executable
    settings = spec_settings(
        project, name=names.cpu, excludes=STRANGERS, exclusions=(), contents=folder / "contents.json"
    )
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    words: list[str | Path] = [
        "--noconfirm",
        "--log-level",
        "WARN",
        "--distpath",
        folder / "dist",
        "--workpath",
        folder / "work",
    ]
    done = run(
        [sys.executable, "-m", "PyInstaller", *words, project.path(project.app.spec)],
        cwd=folder,
        environment=scrubbed_environment({"LADING_FREEZE_SETTINGS": str(folder / "settings.json")}),
        timeout=FREEZE_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    tree = folder / "dist" / names.cpu
    suffix = ".exe" if os.name == "nt" else ""
    # The same program under the other name: the variant is a matter of the name alone.
    shutil.copy2(tree / f"{names.cpu}{suffix}", tree / f"{names.cuda}{suffix}")
    return tree


@pytest.fixture(scope="session")
def frozen_server(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default server without torch, frozen by the project's own spec: the folder with its executable.

    A second executable with the CUDA build's name lies beside it.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one for all workers: freezing takes a while
    folder = shared / "frozen-server"
    with FileLock(f"{folder}.lock"):
        if not (folder / "tree").exists():
            folder.mkdir(exist_ok=True)
            _freeze(root, folder).rename(folder / "tree")
    return folder / "tree"


@pytest.fixture(scope="session")
def installed_both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Shop, Path]:
    """A publisher, and a data directory with version 0.1.0 of both variants; to be copied, not to be changed."""
    shop = make_shop(tmp_path_factory.mktemp("launch-shop"))
    place = Place(shop=shop, data=tmp_path_factory.mktemp("launch") / "data", scratch=shop.folder)
    place.install("cpu")
    place.install("cuda")
    return shop, place.data


@pytest.fixture
def place(installed_both: tuple[Shop, Path], tmp_path: Path) -> Place:
    """A data directory with both variants, on a machine with a GPU."""
    shop, data = installed_both
    copy_data(data, tmp_path / "data")
    return Place(shop=shop, data=tmp_path / "data", scratch=tmp_path)


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """Where small projects are frozen; the environment is made by the first freeze and shared by the others."""
    made = make_workshop(tmp_path_factory.mktemp("workshop"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS"):
            patch.setenv(name, " ".join([str(made.wheel.parent), os.environ.get(name, "")]).strip())
        yield made


@pytest.fixture
def server(shop: Shop) -> Iterator[RangeServer]:
    """The repository of the test's own ``shop``, over HTTP."""
    with serving(shop.store) as running:
        yield running


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory that is not there yet."""
    return tmp_path / "data"
