"""This machine's facts: platform, libc, driver, GPUs, disk."""

from __future__ import annotations

from lading.host.facts import free_disk, glibc_version, host_facts, platform_tag
from lading.host.gpu import GpuProbe, SimulatedGpus, look_for_gpus
from lading.host.record import Gpu, GpuFacts, HostFacts, NoGpu

__all__ = [
    "Gpu",
    "GpuFacts",
    "GpuProbe",
    "HostFacts",
    "NoGpu",
    "SimulatedGpus",
    "free_disk",
    "glibc_version",
    "host_facts",
    "look_for_gpus",
    "platform_tag",
]
