"""Records of what this machine is and has."""

from __future__ import annotations

from typing import Literal

from lading.manifest.base import Record

NoGpu = Literal[
    "no_driver",  # neither the driver's library nor its tool is there
    "driver_not_loaded",  # installed, but the kernel module does not run
    "driver_mismatch",  # library and kernel module differ: updated without a restart
    "no_permission",  # the device files are closed to this user or container
    "no_device",  # the driver runs and knows no GPU
    "no_answer",  # the driver's tool did not answer in time
    "driver_error",  # anything else that the driver says
]


class Gpu(Record):
    """One NVIDIA GPU.

    Attributes:
        index: The driver's number.
        name: Such as ``NVIDIA H200``.
        uuid: Stable identifier, usable in ``CUDA_VISIBLE_DEVICES``.
        capability: Compute capability such as ``8.6``; none when the driver is too old to say.
        memory: Bytes in all.
    """

    index: int
    name: str
    uuid: str
    capability: str | None = None
    memory: int


class GpuFacts(Record):
    """What the driver says.

    Attributes:
        source: Who answered.
        driver: The driver's version, such as ``570.86.15``.
        gpus: The GPUs, by index.
        reason: Why there is none; absent when there is one.
        detail: The reason in words, with what was tried.
    """

    source: Literal["nvml", "nvidia-smi", "none", "simulated"]
    driver: str | None = None
    gpus: tuple[Gpu, ...] = ()
    reason: NoGpu | None = None
    detail: str = ""


class HostFacts(Record):
    """This machine, as far as a release asks.

    Attributes:
        platform: A platform tag such as ``linux-x86_64``; other machines get theirs in the same form.
        system: The operating system in words.
        glibc: Its version; none where there is none (Windows, musl).
        cpus: Processors that this process may use.
        gpu: What the NVIDIA driver says.
    """

    platform: str
    system: str
    glibc: str | None = None
    cpus: int
    gpu: GpuFacts

    @property
    def has_gpu(self) -> bool:
        """Whether there is at least one NVIDIA GPU."""
        return bool(self.gpu.gpus)
