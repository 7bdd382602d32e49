"""The product's own manifests: they are right, and they hold the facts about CUDA, torch and drivers."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

import lading_server._version
from lading.manifest.check import check_folder
from lading.manifest.lockfile import parse_lock
from lading.manifest.project import Project, load_project

MAXWELL_TO_HOPPER = ("5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "9.0")


@pytest.fixture(scope="module")
def product(root: Path) -> Project:
    return load_project(root)


def test_the_products_manifests_and_locks_are_right(root: Path) -> None:
    problems = check_folder(root)
    assert [p.text() for p in problems if p.level == "error"] == []
    assert [(p.file, p.key) for p in problems] == [("manifests/toolkits/cu118.yaml", "locks")]


def test_the_default_toolkit_is_cuda_126_with_torch_271(product: Project) -> None:
    toolkit = product.toolkit()
    assert (toolkit.name, toolkit.cuda, toolkit.torch, toolkit.label) == ("cu126", "12.6", "2.7.1", "cu126-v1")


@pytest.mark.parametrize(
    ("name", "cuda", "linux", "windows"),
    [
        ("cu118", "11.8", "450.80.02", "452.39"),
        ("cu126", "12.6", "525.60.13", "528.33"),
        ("cu128", "12.8", "525.60.13", "528.33"),
        ("cu130", "13.0", "580", "580"),
    ],
)
def test_driver_floors_are_those_of_minor_version_compatibility(
    product: Project, name: str, cuda: str, linux: str, windows: str
) -> None:
    toolkit = product.toolkit(name)
    assert (toolkit.cuda, toolkit.driver.linux, toolkit.driver.windows) == (cuda, linux, windows)


@pytest.mark.parametrize(
    ("name", "torch", "archs", "ptx"),
    [
        ("cu118", "2.7", ("3.7", *MAXWELL_TO_HOPPER), None),
        ("cu126", "2.7", MAXWELL_TO_HOPPER, None),
        ("cu126", "2.14", MAXWELL_TO_HOPPER, None),
        ("cu128", "2.7", ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0"), "12.0"),
        ("cu128", "2.10", ("7.0", "7.5", "8.0", "8.6", "9.0", "10.0", "12.0"), None),
        ("cu128", "2.11", ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0"), None),
        ("cu130", "2.11", ("7.5", "8.0", "8.6", "9.0", "10.0", "12.0"), "12.0"),
    ],
)
def test_offers_are_the_builds_that_exist(
    product: Project, name: str, torch: str, archs: tuple[str, ...], ptx: str | None
) -> None:
    offers = [offer for offer in product.toolkit(name).offers if torch in offer.torch]
    assert [(offer.archs, offer.ptx) for offer in offers] == [(archs, ptx)]


def test_no_torch_line_is_offered_twice_by_a_toolkit(product: Project) -> None:
    for toolkit in product.toolkits.values():
        lines = [line for offer in toolkit.offers for line in offer.torch]
        assert len(lines) == len(set(lines)), toolkit.name


@pytest.mark.parametrize(
    ("path", "kept_out"),
    [
        ("nvidia/cusolver/lib/libcusolverMg.so.11", True),
        ("nvidia/cu13/lib/libcusolverMg.so.12", True),
        ("nvidia/cusolver/lib/libcusolver.so.11", False),
        ("nvidia/cufft/lib/libcufftw.so.11", True),
        ("nvidia/cufft/lib/libcufft.so.11", False),
        ("nvidia/cuda_cupti/lib/libcupti.so.12", False),
        ("triton/backends/nvidia/lib/cupti/libcupti.so.12", True),
        ("triton/backends/nvidia/lib/libdevice.10.bc", False),
        ("triton/backends/nvidia/bin/ptxas", False),
        ("triton/backends/nvidia/bin/nvdisasm", True),
        ("triton/backends/nvidia/include/cuda.h", False),
        ("triton/backends/amd/compiler.py", False),
        ("triton/backends/amd/lib/ockl.bc", True),
        ("torch/bin/protoc-3.13.0.0", True),
        ("torch/bin/torch_shm_manager", False),
        ("torch/lib/libtorch_cuda.so", False),
        ("torch/_ops.py", False),
        ("torch/testing/_comparison.py", False),
    ],
)
def test_what_runs_stays_and_what_does_not_is_kept_out(product: Project, path: str, *, kept_out: bool) -> None:
    for toolkit in product.toolkits.values():
        assert (toolkit.exclusion(path) is not None) is kept_out, toolkit.name


def test_torchs_test_tables_are_kept_out_where_that_was_proven(product: Project) -> None:
    tables = "torch/testing/_internal/common_methods_invocations.pyc"
    used = "torch/testing/_internal/logging_tensor.py"  # torch.utils.checkpoint imports it
    assert [name for name, toolkit in product.toolkits.items() if toolkit.exclusion(tables)] == ["cu118", "cu126"]
    assert not any(toolkit.exclusion(used) for toolkit in product.toolkits.values())


def test_every_distribution_of_the_locks_that_is_nvidias_goes_to_libs(product: Project) -> None:
    for toolkit in product.toolkits.values():
        for relative in toolkit.locks.values():
            lock = parse_lock(product.path(relative).read_text(encoding="utf-8"), relative)
            owned = [w.name for w in lock.wanted if w.name.startswith(("nvidia", "cuda", "torch", "triton"))]
            assert owned
            for name in owned:
                assert any(fnmatchcase(name, pattern) for pattern in toolkit.libs.distributions), name


def test_budgets_keep_core_and_libs_under_what_the_product_promises(product: Project) -> None:
    core, libs = product.app.budgets.core, product.toolkit().budgets.libs
    assert core is not None
    assert libs is not None
    assert core <= 85_000_000
    assert core + libs <= 2_000_000_000


def test_every_destination_keeps_assets_below_two_gib(product: Project) -> None:
    assert all(destination.asset_limit < 2 * 2**30 for destination in product.destinations.values())


@pytest.mark.proves("S1-26")
def test_the_version_is_written_once_and_the_same_everywhere(root: Path, product: Project) -> None:
    """The app's manifest, the package's metadata and the server take it from one file; no manifest repeats it."""
    build = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert product.version == lading_server._version.__version__
    assert product.app.version_from == build["tool"]["hatch"]["version"]["path"]
    assert "version" in build["project"]["dynamic"]
    assert "version" not in build["project"]
    for file in (root / "manifests").rglob("*.yaml"):
        assert f" {product.version}\n" not in file.read_text(encoding="utf-8"), file
