"""What explains that there is no GPU, or will surprise somebody although there is one. Pure.

The driver only says that it is not there; what the system shows beside it tells a missing driver from a missing GPU,
nouveau from Secure Boot, and a container without a GPU from a machine without one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from lading.host.record import HostFacts
from lading.manifest.base import Record

HintCode = Literal[
    "nvidia_without_driver",
    "nouveau",
    "secure_boot",
    "passed_through",
    "module_without_files",
    "container_without_gpu",
    "wsl_driver",
    "closed_files",
    "restart",
    "hung",
    "amd_gpu",
    "intel_gpu",
    "no_card",
    "driver_without_gpu",
    "tegra",
    "lost_gpu",
]


class Hint(Record):
    """An explanation.

    Attributes:
        code: For programs; stable.
        text: What is the matter.
        todo: What to do about it.
    """

    code: HintCode
    text: str
    todo: str


def hints(facts: HostFacts) -> tuple[Hint, ...]:
    """Explain a machine's GPU, or that it has none.

    Args:
        facts: The machine.

    Returns:
        The explanations, the likeliest first; nothing when the GPUs are simply there.
    """
    if facts.has_gpu:
        return tuple(_with_gpu(facts))
    found = tuple(_driver(facts)) or tuple(_cards(facts))
    return found or tuple(_nothing(facts))


def _with_gpu(facts: HostFacts) -> Iterator[Hint]:
    if facts.gpu.detail and facts.gpu.source == "nvml":
        yield Hint(
            code="lost_gpu",
            text=f"A GPU does not answer: {facts.gpu.detail}.",
            todo="Restart the machine; if it stays, look for Xid errors in the kernel's log.",
        )
    if facts.clues.tegra:
        yield Hint(
            code="tegra",
            text="This is a board with the GPU in the processor (Jetson).",
            todo="Use a build that was made for it, or try one and verify it with `lading verify --require-gpu`.",
        )


def _driver(facts: HostFacts) -> Iterator[Hint]:
    """What the driver itself complains about."""
    clues = facts.clues
    if facts.gpu.reason == "no_answer":
        yield Hint(
            code="hung",
            text="The NVIDIA driver is there and does not answer.",
            todo="Restart the machine. Programs that wait for the driver cannot even be killed before.",
        )
    if facts.gpu.reason == "driver_mismatch":
        yield Hint(
            code="restart",
            text="The driver was updated, and the old kernel module still runs"
            + (f" ({clues.module})." if clues.module else "."),
            todo="Restart the machine.",
        )
    if clues.closed_files and not clues.container:
        yield Hint(
            code="closed_files",
            text=f"This user may not open {', '.join(clues.closed_files)}.",
            todo="Join the group that owns these files (often video or render), then log in again.",
        )
    if clues.module and not clues.device_files:
        yield _module_without_files(facts)
    if clues.wsl and facts.gpu.reason in {"no_driver", "driver_not_loaded", "driver_error"}:
        yield Hint(
            code="wsl_driver",
            text="This is Linux inside Windows, and Windows hands no NVIDIA driver to it.",
            todo="Install NVIDIA's driver in Windows, run `wsl --update` and `wsl --shutdown` there; install no driver "
            "in Linux.",
        )


def _module_without_files(facts: HostFacts) -> Hint:
    module = f"The host's NVIDIA driver {facts.clues.module} runs"
    if facts.clues.container:
        return Hint(
            code="container_without_gpu",
            text=f"{module}, but this container was started without a GPU.",
            todo="Start it with one: `docker run --gpus all …` with the NVIDIA Container Toolkit on the host, or ask "
            "for nvidia.com/gpu in Kubernetes.",
        )
    return Hint(
        code="module_without_files",
        text=f"{module}, but there are no device files /dev/nvidia0 and so on.",
        todo="Run `nvidia-modprobe -u -c=0` as root, or restart the machine.",
    )


def _cards(facts: HostFacts) -> Iterator[Hint]:
    """What the cards on the bus say."""
    clues = facts.clues
    nvidia = [card for card in clues.displays if card.vendor == "nvidia"]
    holders = {card.driver for card in nvidia}
    if "nouveau" in holders:
        yield Hint(
            code="nouveau",
            text="The NVIDIA GPU is held by nouveau, the free driver, which cannot run CUDA.",
            todo="Install NVIDIA's driver from the distribution's packages and restart; they shut nouveau off.",
        )
    elif "vfio-pci" in holders:
        yield Hint(
            code="passed_through",
            text="The NVIDIA GPU is reserved for virtual machines (vfio-pci).",
            todo="Run this in the virtual machine that has the GPU, or give the GPU back to this system.",
        )
    elif nvidia and clues.secure_boot and facts.gpu.reason == "driver_not_loaded":
        yield Hint(
            code="secure_boot",
            text="There is an NVIDIA GPU and a driver, and Secure Boot lets no unsigned kernel module run.",
            todo="Enrol the key of the driver's module (`mokutil --import`), use the distribution's signed driver, or "
            "switch Secure Boot off.",
        )
    elif nvidia:
        yield Hint(
            code="nvidia_without_driver",
            text=f"There is an NVIDIA GPU ({nvidia[0].pci}), but no driver that runs it.",
            todo="Install NVIDIA's driver from the distribution's packages or NVIDIA's site, then restart.",
        )


def _nothing(facts: HostFacts) -> Iterator[Hint]:
    """No NVIDIA card is seen."""
    clues = facts.clues
    if facts.gpu.reason == "no_device":
        yield Hint(
            code="driver_without_gpu",
            text="The NVIDIA driver runs, but it has no GPU.",
            todo="Hand a GPU to this machine or container; a card that the driver does not know needs another one.",
        )
    if clues.container:
        yield Hint(
            code="container_without_gpu",
            text="This container sees no GPU; whether the host has one does not show here.",
            todo="If the host has one, start the container with it: `docker run --gpus all …`.",
        )
    if clues.has("amd"):
        yield Hint(
            code="amd_gpu",
            text="There is an AMD GPU; CUDA builds need one of NVIDIA's.",
            todo="Use the CPU build.",
        )
    elif clues.has("intel"):
        yield Hint(
            code="intel_gpu",
            text="There is an Intel GPU; CUDA builds need one of NVIDIA's.",
            todo="Use the CPU build.",
        )
    elif not clues.container:
        yield Hint(code="no_card", text="No graphics card shows on this machine.", todo="Use the CPU build.")
