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
    "no_answer",  # the driver did not answer in time
    "driver_error",  # anything else that the driver says
]
Vendor = Literal["nvidia", "amd", "intel", "other"]
Container = Literal["docker", "podman", "kubernetes", "lxc", "other"]


class GpuInstance(Record):
    """A part of a GPU that was divided (MIG), which programs see as a GPU of its own.

    Attributes:
        name: Such as ``NVIDIA H100 80GB HBM3 MIG 1g.10gb``.
        uuid: Usable in ``CUDA_VISIBLE_DEVICES``; CUDA gives a program one instance at the most.
        memory: Bytes in all; 0 when the driver does not say.
    """

    name: str
    uuid: str
    memory: int = 0


class Gpu(Record):
    """One NVIDIA GPU.

    Attributes:
        index: The driver's number.
        name: Such as ``NVIDIA H200``.
        uuid: Stable identifier, usable in ``CUDA_VISIBLE_DEVICES``.
        capability: Compute capability such as ``8.6``; none when the driver is too old to say.
        memory: Bytes in all; 0 when the driver does not say, because the GPU shares the processor's.
        mig: Whether it is divided: then only its instances can be used, and none when there are none.
        instances: Its instances.
        virtual: Whether it is a slice of a host's GPU (vGPU) or a whole one handed to this virtual machine.
    """

    index: int
    name: str
    uuid: str
    capability: str | None = None
    memory: int
    mig: bool = False
    instances: tuple[GpuInstance, ...] = ()
    virtual: Literal["vgpu", "passthrough"] | None = None


class GpuFacts(Record):
    """What the driver says.

    Attributes:
        source: Who answered.
        driver: The driver's version, such as ``570.86.15``.
        cuda: The newest CUDA version that the driver itself supports, such as ``12.8``; only NVML says it.
        gpus: The GPUs, by index.
        reason: Why there is none; absent when there is one.
        detail: The reason in words, with what was tried; or what could not be read of a GPU.
    """

    source: Literal["nvml", "nvidia-smi", "none", "simulated"]
    driver: str | None = None
    cuda: str | None = None
    gpus: tuple[Gpu, ...] = ()
    reason: NoGpu | None = None
    detail: str = ""


class Display(Record):
    """A graphics or compute card as the system's bus shows it, whether or not a driver knows it.

    Attributes:
        vendor: Who made it.
        pci: Vendor and device number, such as ``10de:2684``.
        driver: The kernel driver that holds it, such as ``nvidia``, ``nouveau`` or ``vfio-pci``; none on Windows.
    """

    vendor: Vendor
    pci: str
    driver: str | None = None


class Clues(Record):
    """What the system shows beside the driver, to explain why there is no GPU.

    Attributes:
        displays: Cards on the bus.
        module: Version of the NVIDIA kernel module that is loaded (Linux).
        device_files: Number of GPU device files (Linux); none where they say nothing.
        closed_files: Device files that this user may not open.
        container: The container that this process is in, as far as it shows.
        wsl: Whether this is Linux inside Windows, where the driver is Windows' own.
        tegra: Whether this is a Jetson or another board with the GPU in the processor.
        secure_boot: Whether the firmware accepts only signed kernel modules; none when it does not say.
    """

    displays: tuple[Display, ...] = ()
    module: str | None = None
    device_files: int | None = None
    closed_files: tuple[str, ...] = ()
    container: Container | None = None
    wsl: bool = False
    tegra: bool = False
    secure_boot: bool | None = None

    def has(self, vendor: Vendor) -> bool:
        """Whether there is a card of a vendor."""
        return any(display.vendor == vendor for display in self.displays)


class HostFacts(Record):
    """This machine, as far as a release asks.

    Attributes:
        platform: A platform tag such as ``linux-x86_64``; other machines get theirs in the same form.
        system: The operating system in words.
        libc: Which C library; none on Windows and when it is neither.
        glibc: Its version; none where there is none (Windows, musl).
        cpus: Processors that this process may use.
        memory: Bytes of main memory.
        gpu: What the NVIDIA driver says.
        visible: ``CUDA_VISIBLE_DEVICES``, when it is set.
        clues: What else the system shows.
    """

    platform: str
    system: str
    libc: Literal["glibc", "musl"] | None = None
    glibc: str | None = None
    cpus: int
    memory: int | None = None
    gpu: GpuFacts
    visible: str | None = None
    clues: Clues = Clues()

    @property
    def has_gpu(self) -> bool:
        """Whether there is at least one NVIDIA GPU."""
        return bool(self.gpu.gpus)

    @property
    def is_linux(self) -> bool:
        """Whether this is Linux, inside Windows or not."""
        return self.platform.startswith("linux")
