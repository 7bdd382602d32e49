"""The real frozen trees: what the CUDA switch and the CPU switch made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.system.product import OUT

from lading.freeze.freeze import BUILDINFO, read_buildinfo
from lading.freeze.gates import check_torch
from lading.freeze.place import is_intact
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.project import Project, load_project
from lading.process import run, scrubbed_environment

pytestmark = pytest.mark.system

SUFFIX = ".exe" if os.name == "nt" else ""


@pytest.fixture(scope="module")
def project(root: Path) -> Project:
    return load_project(root)


def frozen(flavor: str, session: str) -> BuildInfo:
    """The build information of a tree under ``out/``; skips loudly when there is none."""
    file = OUT / "tree" / flavor / BUILDINFO
    if not file.is_file():
        pytest.skip(f"there is no tree of {flavor}: run 'nox -s {session}'")
    return read_buildinfo(file)


def says(flavor: str, info: BuildInfo) -> str:
    """What a tree's executable says of its version."""
    tree = OUT / "tree" / flavor / info.entry.removesuffix(SUFFIX)
    done = run([tree / info.entry, "--version"], cwd=tree, environment=scrubbed_environment(), timeout=90)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.proves("S0-19", "S0-10")
def test_the_cuda_switch_made_the_executable_with_cuda_in_its_name(project: Project) -> None:
    info = frozen("cu126", "build_cuda")
    assert info.entry == f"{project.app.executable.cuda}{SUFFIX}"
    assert (info.variant, info.toolkit) == ("cuda", "cu126")
    check_torch(info.torch, project.toolkit("cu126"))
    assert says("cu126", info) == f"{info.app} {info.version}"


@pytest.mark.proves("S0-19", "S0-10")
def test_the_cpu_build_has_the_cpus_name_and_no_torch(project: Project) -> None:
    info = frozen("cpu", "build_cpu")
    assert info.entry == f"{project.app.executable.cpu}{SUFFIX}"
    assert (info.variant, info.toolkit, info.torch) == ("cpu", None, None)
    assert not {entry.owner for entry in info.files} & {"torch", "triton"}
    assert says("cpu", info) == f"{info.app} {info.version}"


def test_every_file_of_the_cuda_tree_has_an_owner_that_is_pinned_or_no_distribution(project: Project) -> None:
    info = frozen("cu126", "build_cuda")
    assert is_intact(OUT / "tree" / "cu126" / info.entry.removesuffix(SUFFIX), info.files)
    owners = {entry.owner for entry in info.files}
    assert owners <= {"app", "python", "pyinstaller", "system", *info.distributions}
    assert {"torch", "triton", "nvidia-cublas-cu12", "numpy", "app", "python"} <= owners
    assert all(item.reason for item in info.dropped)
