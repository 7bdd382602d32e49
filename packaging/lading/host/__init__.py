"""This machine's facts (platform, libc, driver, GPUs, disk), and which of several builds fits it."""

from __future__ import annotations

from lading.host.choice import Assessment, Candidate, Reason, Remedy, Resolution
from lading.host.facts import free_disk, glibc_version, host_facts, host_facts_async, platform_tag
from lading.host.gpu import GpuProbe, SimulatedGpus, look_for_gpus
from lading.host.hints import Hint, hints
from lading.host.record import Clues, Display, Gpu, GpuFacts, GpuInstance, HostFacts, NoGpu
from lading.host.resolve import resolve

__all__ = [
    "Assessment",
    "Candidate",
    "Clues",
    "Display",
    "Gpu",
    "GpuFacts",
    "GpuInstance",
    "GpuProbe",
    "Hint",
    "HostFacts",
    "NoGpu",
    "Reason",
    "Remedy",
    "Resolution",
    "SimulatedGpus",
    "free_disk",
    "glibc_version",
    "hints",
    "host_facts",
    "host_facts_async",
    "look_for_gpus",
    "platform_tag",
    "resolve",
]
