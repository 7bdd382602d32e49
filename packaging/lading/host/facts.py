"""What this machine is: platform tag, libc, processors, memory, GPUs, free disk.

Does not: decide whether a release fits; it only says what is there.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Literal

from lading.host.clues import read_clues
from lading.host.gpu import GpuProbe, look_for_gpus
from lading.host.record import HostFacts

VISIBLE = "CUDA_VISIBLE_DEVICES"
_MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "arm64": "aarch64", "aarch64": "aarch64"}


def platform_tag(system: str | None = None, machine: str | None = None) -> str:
    """A platform tag such as ``linux-x86_64`` or ``windows-x86_64``.

    Args:
        system: As :func:`platform.system` says; this machine's when none.
        machine: As :func:`platform.machine` says; this machine's when none.
    """
    family = (system or platform.system()).lower()
    processor = (machine or platform.machine()).lower()
    return f"{family}-{_MACHINES.get(processor, processor)}"


def glibc_version() -> str | None:
    """The running glibc, such as ``2.36``; none on Windows and on systems with another libc."""
    if sys.platform == "win32" or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return None
    family, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return version if family == "glibc" else None


def libc_family(root: Path = Path("/")) -> Literal["glibc", "musl"] | None:
    """Which C library this Linux has; none on other systems and when it is neither.

    Args:
        root: The system's root folder.
    """
    if sys.platform != "linux":
        return None
    if glibc_version() is not None:
        return "glibc"
    return "musl" if any((root / "lib").glob("ld-musl-*.so.1")) else None


def usable_cpus() -> int:
    """Processors that this process may use, which a container or an affinity mask may have cut down."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def free_disk(folder: Path) -> int:
    """Free bytes where a folder is or would be made.

    Args:
        folder: Need not exist.

    Raises:
        OSError: The file system does not answer.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def host_facts(probes: tuple[GpuProbe, ...] | None = None) -> HostFacts:
    """Look at this machine. Bounded: a driver that hangs is a fact after some seconds.

    Args:
        probes: Whom to ask about GPUs; the real ones when none are given.
    """
    import psutil  # noqa: PLC0415 (20 ms that an update check does not need)

    return HostFacts(
        platform=platform_tag(),
        system=f"{platform.system()} {platform.release()}",
        libc=libc_family(),
        glibc=glibc_version(),
        cpus=usable_cpus(),
        memory=psutil.virtual_memory().total,
        gpu=look_for_gpus(probes),
        visible=os.environ.get(VISIBLE),
        clues=read_clues(),
    )


async def host_facts_async(probes: tuple[GpuProbe, ...] | None = None) -> HostFacts:
    """As :func:`host_facts`, without holding up the event loop.

    Args:
        probes: Whom to ask about GPUs; the real ones when none are given.
    """
    return await asyncio.to_thread(host_facts, probes)
