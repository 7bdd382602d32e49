"""An install chooses what fits the machine, and refuses what does not before anything large is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, PLATFORM, Files, Shop, program, write_packed
from tests.range_server import RangeServer

from lading.errors import HostUnfit
from lading.host import Gpu, GpuFacts, HostFacts
from lading.host.gpu import Nvml
from lading.manifest.base import canonical_json, read_record
from lading.manifest.release import Release, Requirements
from lading.publish.folder import FolderDestination
from lading.publish.publisher import publish
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version
from lading.store.preview import plan_install
from lading.store.update import update

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": os.urandom(20_000)}
NEEDS = {
    "cpu": Requirements(glibc="2.17", disk=1),
    "cu126": Requirements(driver="525.60.13", archs=("sm_50", "sm_60", "sm_90"), glibc="2.17", disk=1),
    "cu130": Requirements(driver="580", archs=("sm_75", "sm_90", "compute_120"), glibc="2.17", disk=1),
}


def offer(shop: Shop, version: str, flavor: str, needs: Requirements | None = None) -> None:
    """Publish a release that needs something of its machine."""
    folder = shop.folder / f"packed-{version}-{flavor}"
    libs: Files | None = None if flavor == "cpu" else {f"_internal/nvidia/{flavor}.so": flavor.encode() * 20_000}
    file = write_packed(folder, version, {**CORE, "_internal/v.pyc": version.encode()}, libs, label=f"{flavor}-v1")
    release = read_record(Release, file.read_bytes(), origin=str(file))
    file.write_bytes(canonical_json(release.model_copy(update={"requirements": needs or NEEDS[flavor]})))
    publish(folder, file, FolderDestination(shop.store), shop.keys)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    for flavor in NEEDS:
        offer(made, "0.1.0", flavor)
    return made


def host(capability: str | None = None, driver: str = "580.65.06") -> HostFacts:
    gpu = GpuFacts(source="none", reason="no_driver", detail="none")
    if capability is not None:
        one = Gpu(index=0, name="Test GPU", uuid="GPU-0", capability=capability, memory=1)
        gpu = GpuFacts(source="simulated", driver=driver, gpus=(one,))
    return HostFacts(platform=PLATFORM, system="test", libc="glibc", glibc="2.36", cpus=1, gpu=gpu)


def assets(server: RangeServer) -> list[str]:
    return [path for path, _ in server.requests if path.startswith("assets/")]


@pytest.mark.proves("X-29")
@pytest.mark.parametrize(
    ("facts", "flavor"),
    [(host("9.0"), "cu130"), (host("9.0", "570.1"), "cu126"), (host("6.1"), "cu126"), (host(), "cpu")],
    ids=["newest", "older driver", "older GPU", "no GPU"],
)
def test_what_fits_the_machine_is_installed(
    shop: Shop, server: RangeServer, data: Path, facts: HostFacts, flavor: str
) -> None:
    plan = plan_install(server.url, shop.root, data, app=APP, host=facts)
    assert not data.exists()
    result = install(server.url, shop.root, data, app=APP, host=facts)
    assert result.flavor == flavor
    assert plan.version_id == result.version_id


def test_what_cannot_run_is_refused_before_anything_large_is_fetched(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    install(server.url, shop.root, data, app=APP, host=host("6.1"))
    assert assets(server)
    server.requests.clear()
    with pytest.raises(HostUnfit, match="no code for Test GPU"):
        install(server.url, shop.root, data, app=APP, flavor="cu130", host=host("6.1"))
    assert assets(server) == []
    current = current_version(Home(data, "cuda"))
    assert current is not None
    assert current.marker.flavor == "cu126"


def test_a_refusal_on_a_fresh_machine_leaves_nothing_but_metadata(shop: Shop, server: RangeServer, data: Path) -> None:
    with pytest.raises(HostUnfit):
        install(server.url, shop.root, data, app=APP, flavor="cu126", host=host())
    assert assets(server) == []
    assert not (data / "backends").exists()


def test_what_is_forced_is_installed_all_the_same(shop: Shop, server: RangeServer, data: Path) -> None:
    result = install(server.url, shop.root, data, app=APP, flavor="cu130", host=host(), force=True)
    assert result.flavor == "cu130"


def test_one_flavor_costs_one_manifest_and_the_index_says_nothing_of_needs(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    install(server.url, shop.root, data, app=APP, flavor="cu126", host=host("9.0"))
    assert len([path for path, _ in server.requests if path.endswith(".release.json")]) == 1
    indexes = [path.read_bytes() for path in (shop.store / "targets/channels").rglob("*.stable.json")]
    assert indexes
    assert not any(b"sm_" in index or b"525" in index for index in indexes)


class TestUpdates:
    """A new release may need more than the machine has: that is noticed before it takes the place of one that runs."""

    def test_a_release_that_dropped_the_gpu_is_refused_and_the_old_one_stays(
        self, shop: Shop, server: RangeServer, data: Path
    ) -> None:
        install(server.url, shop.root, data, app=APP, host=host("6.1"))
        offer(shop, "0.2.0", "cu126", NEEDS["cu126"].model_copy(update={"archs": ("sm_75", "sm_90")}))
        server.requests.clear()
        with pytest.raises(HostUnfit, match=r"0\.2\.0 \(cu126\).*6\.1"):
            update(data, host=host("6.1"))
        assert assets(server) == []
        current = current_version(Home(data, "cuda"))
        assert current is not None
        assert current.marker.version == "0.1.0"

    def test_it_can_be_forced(self, shop: Shop, server: RangeServer, data: Path) -> None:
        install(server.url, shop.root, data, app=APP, host=host("6.1"))
        offer(shop, "0.2.0", "cu126", NEEDS["cu126"].model_copy(update={"archs": ("sm_75",)}))
        assert update(data, host=host("6.1"), force=True).variants[0].outcome == "updated"

    def test_what_was_forced_onto_a_machine_is_kept_up_to_date(
        self, shop: Shop, server: RangeServer, data: Path
    ) -> None:
        install(server.url, shop.root, data, app=APP, flavor="cu126", host=host(), force=True)
        offer(shop, "0.2.0", "cu126")
        assert update(data, host=host()).variants[0].outcome == "updated"


# --- the command ------------------------------------------------------------------------------------------------------


def lading(folder: Path, *words: str | Path, variables: Mapping[str, str] | None = None) -> tuple[int, Any, str]:
    done = subprocess.run(
        [sys.executable, "-m", "lading", *map(str, words), "--json"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(variables or {})},
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


needs_no_gpu = pytest.mark.skipif(bool(Nvml().look().gpus), reason="this machine's own GPU would be found")


@needs_no_gpu
@pytest.mark.skipif(os.name != "posix", reason="the stand-in for the driver's tool is a shell script")
class TestCommand:
    @pytest.fixture
    def where(self, shop: Shop, data: Path) -> list[str | Path]:
        return [shop.store, "--root", shop.store / "metadata/1.root.json", "--app", APP, "--data", data]

    @pytest.fixture
    def with_gpu(self, tmp_path: Path) -> dict[str, str]:
        """Variables under which the driver's tool tells of a GPU."""
        folder = tmp_path / "bin"
        folder.mkdir()
        tool = folder / "nvidia-smi"
        tool.write_text("#!/bin/sh\necho '0, Tesla P40, GPU-1, 6.1, 24576, 570.86.15'\n")
        tool.chmod(0o755)
        return {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}

    def test_a_machine_without_a_gpu_gets_the_cpu_build(self, where: list[str | Path], tmp_path: Path) -> None:
        code, result, _ = lading(tmp_path, "install", *where)
        assert (code, result["flavor"]) == (0, "cpu")

    def test_why_is_told(self, where: list[str | Path], tmp_path: Path) -> None:
        words = [sys.executable, "-m", "lading", "install", *map(str, where)]
        for more in (["--dry-run"], []):
            done = subprocess.run([*words, *more], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert "cpu: There is no NVIDIA driver." in done.stderr

    def test_a_machine_with_one_gets_what_fits_it(
        self, where: list[str | Path], tmp_path: Path, with_gpu: dict[str, str]
    ) -> None:
        code, result, _ = lading(tmp_path, "install", *where, variables=with_gpu)
        assert (code, result["flavor"]) == (0, "cu126")

    def test_a_flavor_that_cannot_run_is_refused_unless_forced(
        self, where: list[str | Path], tmp_path: Path, data: Path
    ) -> None:
        code, told, _ = lading(tmp_path, "install", *where, "--flavor", "cu126")
        assert (code, told["error"]) == (45, "HostUnfit")
        assert "--flavor cpu" in told["todo"]
        assert not (data / "backends").exists()
        assert lading(tmp_path, "install", *where, "--flavor", "cu126", "--dry-run")[0] == 45
        code, result, _ = lading(tmp_path, "install", *where, "--flavor", "cu126", "--force")
        assert (code, result["flavor"]) == (0, "cu126")

    def test_the_flavor_can_be_named_by_a_variable(self, where: list[str | Path], tmp_path: Path) -> None:
        assert lading(tmp_path, "install", *where, variables={"LADING_FLAVOR": "cu126"})[0] == 45
        code, result, _ = lading(tmp_path, "install", *where, variables={"LADING_FLAVOR": "cpu"})
        assert (code, result["flavor"]) == (0, "cpu")
