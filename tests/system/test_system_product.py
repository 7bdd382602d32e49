"""The real CUDA product: its sizes, its archives under stock tools, its libraries, its checks."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.system.product import OUT, Product

from lading.manifest.tree import tree_digest
from lading.process import scrubbed_environment

pytestmark = pytest.mark.system

MB = 1_000_000
GITHUB_LIMIT = 2 * 2**30


def tool(name: str) -> str:
    """A program of the system; skips loudly when it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed here")
    return found


def volumes(product: Product) -> list[Path]:
    return [product.assets / v.name for part in product.release.components for v in part.volumes]


def test_core_and_libs_keep_their_sizes(cuda: Product) -> None:
    core, libs = cuda.release.components
    if libs.profile != "release":
        pytest.skip("packed with the fast profile: run 'nox -s build_cuda'")

    assert core.size <= 85 * MB
    assert core.size + libs.size <= 2_000 * MB


@pytest.mark.proves("S0-21")
def test_every_asset_is_under_the_hosts_limit_and_has_its_checksum(cuda: Product) -> None:
    for part in cuda.release.components:
        for asset in (*part.volumes, part.index):
            assert (cuda.assets / asset.name).stat().st_size == asset.size < GITHUB_LIMIT
    done = subprocess.run(
        [tool("sha256sum"), "--check", "--quiet", *(f.name for f in sorted(cuda.assets.glob("*.sha256")))],
        cwd=cuda.assets,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_stock_zstd_and_tar_accept_the_archives(cuda: Product) -> None:
    zstd, tar = tool("zstd"), tool("tar")
    for part in cuda.release.components:
        files = [str(cuda.assets / volume.name) for volume in part.volumes]
        with subprocess.Popen(["cat", *files], stdout=subprocess.PIPE) as whole:
            listed = subprocess.run(
                [tar, f"--use-compress-program={zstd}", "-tf", "-"],
                stdin=whole.stdout,
                check=True,
                capture_output=True,
                text=True,
            )
        assert len(listed.stdout.splitlines()) == part.files
        for file in files:
            subprocess.run([zstd, "--quiet", "--test", file], check=True)


@pytest.mark.proves("S1-04")
def test_core_and_libs_together_are_the_tree(cuda: Product) -> None:
    assert cuda.release.tree == tree_digest(cuda.info.files)
    assert sum(part.files for part in cuda.release.components) == len(cuda.info.files)


def test_all_of_torch_and_nvidia_is_in_libs_by_its_owner(cuda: Product) -> None:
    libs = cuda.release.component("libs")
    assert libs is not None
    owned = [f for f in cuda.info.files if f.owner in {"torch", "triton"} or f.owner.startswith("nvidia-")]

    assert libs.tree == tree_digest(owned)


@pytest.mark.proves("S0-10", "S0-19")
def test_both_builds_say_their_version_and_carry_their_names(cuda: Product, cpu: Product) -> None:
    for product, name in ((cuda, "lading-server-cuda"), (cpu, "lading-server")):
        done = subprocess.run(
            [product.executable, "--version"],
            cwd=product.tree,
            env=scrubbed_environment(),
            check=True,
            capture_output=True,
            text=True,
        )
        assert done.stdout.strip() == f"lading-server {product.info.version}"
        assert product.info.entry.removesuffix(".exe") == name


def test_the_torch_inside_is_the_toolkits(cuda: Product) -> None:
    libs = cuda.release.component("libs")
    assert libs is not None
    assert libs.torch is not None
    assert (libs.torch.version, libs.torch.cuda) == ("2.7.1+cu126", "12.6")
    assert "sm_90" in libs.torch.archs


@pytest.mark.proves("X-19")
def test_the_frozen_product_starts_its_workers_by_running_itself(cuda: Product) -> None:
    done = subprocess.run(
        [cuda.executable, "--selftest", "--json"],
        cwd=cuda.tree,
        env=scrubbed_environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    worker = next(check for check in report["checks"] if check["name"].startswith("worker"))

    assert (done.returncode, report["passed"], worker["status"]) == (0, True, "pass")


def test_the_road_verified_it_and_every_cuda_library_came_from_the_tree(summary: dict[str, Any]) -> None:
    assert summary["outcome"] == "done"
    assert all(report["passed"] for report in summary["verifications"].values())
    checks = {check["name"]: check for check in summary["verifications"]["installed tree"]["checks"]}
    assert checks["loaded-libraries"]["status"] == "pass"
    assert checks["gpu"]["status"] in {"pass", "skipped"}


def test_libs_are_published_under_their_label_and_nothing_half_written_is_left(cuda: Product) -> None:
    store = OUT / "store"
    libs = cuda.release.component("libs")
    assert libs is not None
    assert (store / "assets" / "libs" / libs.version / libs.volumes[0].name).is_file()
    assert (store / "metadata" / "timestamp.json").is_file()
    assert not list(store.rglob("*.tmp"))
