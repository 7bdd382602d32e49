"""A data directory with installed builds that are the stand-in server, and a launcher for it."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
from tests.packed_release import APP, ENTRY, Files, Shop

from lading.host.record import Gpu, GpuFacts, HostFacts
from lading.launch.launcher import Launcher
from lading.launch.machine import Bounds
from lading.launch.settings import Settings, Times
from lading.launch.status import LauncherStatus
from lading.manifest.base import Variant
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import Installed, current_version

PROGRAM = Path(__file__).with_name("fake_server.py")
LIBS: Files = {"_internal/nvidia/cublas/libcublas.so.12": b"cublas" * 2000, "_internal/torch/lib.so": b"torch" * 900}
TIMES = Times(
    healthy=20, end=0.6, port=0.6, probe=10, look=0.1, answer=0.5, misses=2,
    bounds=Bounds(deaths=3, window=60, first_pause=0.01, longest_pause=0.02),
)  # fmt: skip
SETTLED = 30.0  # seconds in which everything here has come to rest


def gpu_host(driver: str = "570.86.15") -> HostFacts:
    """A machine with a GPU."""
    gpu = Gpu(index=0, name="NVIDIA H200", uuid="GPU-1", capability="9.0", memory=141 * 10**9)
    return replace_gpu(GpuFacts(source="simulated", driver=driver, cuda="12.8", gpus=(gpu,)))


def bare_host() -> HostFacts:
    """A machine without one."""
    return replace_gpu(GpuFacts(source="none", reason="no_driver", detail="NVML: not found"))


def replace_gpu(facts: GpuFacts) -> HostFacts:
    return HostFacts(platform="linux-x86_64", system="Linux 6.1", libc="glibc", glibc="2.36", cpus=2, gpu=facts)


def core(version: str) -> Files:
    """The files of a core that says a version."""
    source = PROGRAM.read_text("utf-8").replace('"FAKE_VERSION", "0.1.0"', f'"FAKE_VERSION", "{version}"')
    program = f"#!{sys.executable}\n{source}".encode()
    return {ENTRY: program, "_internal/app.pyc": version.encode() * 50, "_internal/deep/er.pyc": b"deep" * 90}


def make_shop(folder: Path) -> Shop:
    """A publisher of two versions of both variants."""
    shop = Shop(folder)
    for version in ("0.1.0", "0.2.0"):
        shop.release(version, core(version), LIBS)
    shop.release("0.1.0", core("0.1.0"))
    return shop


@dataclass
class Place:
    """A data directory of its own for one test.

    Attributes:
        shop: Where versions come from.
        data: The data directory.
        scratch: A folder for notes of the servers.
        host: The machine.
        modes: How the servers behave, by variant.
    """

    shop: Shop
    data: Path
    scratch: Path
    host: HostFacts = field(default_factory=gpu_host)
    modes: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.data, "cuda")

    @property
    def cuda(self) -> Installed:
        found = current_version(self.home)
        assert found is not None
        return found

    def install(self, variant: Variant, version: str = "0.1.0") -> None:
        flavor = "cu126" if variant == "cuda" else "cpu"
        install(str(self.shop.store), self.shop.root, self.data, app=APP, version=version, flavor=flavor)

    def behave(self, **modes: str) -> None:
        """From the next start on, servers behave like this."""
        self.modes |= modes
        (self.scratch / "modes.json").write_text(json.dumps(self.modes), "utf-8")

    @property
    def environment(self) -> dict[str, str]:
        """What the servers need."""
        if not (self.scratch / "modes.json").exists():
            self.behave()
        return {"FAKE_MODES": str(self.scratch / "modes.json"), "FAKE_CALLS": str(self.scratch / "calls")}

    def calls(self) -> list[str]:
        """What the programs were started for, since the last look."""
        path = self.scratch / "calls"
        found = path.read_text("utf-8").splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return found

    def settings(self, times: Times = TIMES, **others: Any) -> Settings:
        environment: Mapping[str, str] = {**self.environment, **others.pop("environment", {})}
        return replace(Settings(data=self.data, app=APP, times=times, environment=environment), **others)

    @contextmanager
    def launcher(self, times: Times = TIMES, **others: Any) -> Iterator[Launcher]:
        """A launcher that is closed, and has left nothing behind, when the block ends."""
        launcher = Launcher(self.settings(times, **others), look=lambda: self.host)
        try:
            yield launcher
        finally:
            launcher.close()
            assert processes_below(self.data) == []


def copy_data(source: Path, target: Path) -> None:
    """Copy a data directory with its links and times, by which whole files are known."""
    shutil.copytree(source, target, symlinks=True)


def processes_below(folder: Path) -> list[psutil.Process]:
    """The programs below a folder that run, and their keepers."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(f"{folder}/" in word for word in process.info["cmdline"] or [])
    ]


def health(status: LauncherStatus) -> dict[str, Any]:
    """What the server of a status answers."""
    assert status.url is not None
    answer = httpx.get(f"{status.url}/health", trust_env=False, timeout=5)
    body: dict[str, Any] = answer.json()
    return body
