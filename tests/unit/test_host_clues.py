"""What other machines' files say about them, and how it is explained."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.host import Clues, Display, Gpu, GpuFacts, HostFacts, NoGpu, hints
from lading.host.clues import linux_clues, read_clues, registry_displays

NVIDIA = "10de:2684"


def card(root: Path, vendor: str, device: str, driver: str | None = None, kind: str = "0x030000") -> None:
    """A card on the bus, as the kernel shows it."""
    number = len(list((root / "sys/bus/pci/devices").glob("*"))) if (root / "sys").exists() else 0
    folder = root / f"sys/bus/pci/devices/0000:0{number}:00.0"
    folder.mkdir(parents=True)
    for name, text in {"vendor": vendor, "device": device, "class": kind}.items():
        (folder / name).write_text(f"0x{text}\n" if name != "class" else f"{text}\n")
    if driver is not None:
        target = root / f"sys/bus/pci/drivers/{driver}"
        target.mkdir(parents=True, exist_ok=True)
        (folder / "driver").symlink_to(target)


def put(root: Path, name: str, content: str | bytes) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


class TestLinux:
    def test_an_empty_system_has_no_clues(self, tmp_path: Path) -> None:
        assert linux_clues(tmp_path, {}) == Clues(device_files=0)

    def test_cards_are_known_by_vendor_and_holder(self, tmp_path: Path) -> None:
        card(tmp_path, "10de", "2684", "nouveau")
        card(tmp_path, "1002", "73bf", "amdgpu", kind="0x038000")
        card(tmp_path, "10de", "20b5", kind="0x030200")
        card(tmp_path, "1002", "740f", "amdgpu", kind="0x120000")
        card(tmp_path, "10de", "1aef", "snd_hda_intel", kind="0x040300")  # the card's sound
        card(tmp_path, "8086", "15f3", "igc", kind="0x020000")  # a network card
        assert linux_clues(tmp_path, {}).displays == (
            Display(vendor="nvidia", pci=NVIDIA, driver="nouveau"),
            Display(vendor="amd", pci="1002:73bf", driver="amdgpu"),
            Display(vendor="nvidia", pci="10de:20b5"),
            Display(vendor="amd", pci="1002:740f", driver="amdgpu"),
        )

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("sys/module/nvidia/version", "570.86.15\n"),
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 22:50:36 UTC 2025\n",
            ),
            (
                "proc/driver/nvidia/version",
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC 12.2.0",
            ),
        ],
    )
    def test_the_loaded_module_has_a_version(self, tmp_path: Path, name: str, text: str) -> None:
        put(tmp_path, name, text)
        assert linux_clues(tmp_path, {}).module == "570.86.15"

    def test_device_files_are_counted_and_closed_ones_are_named(self, tmp_path: Path) -> None:
        for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset", "null"):
            put(tmp_path, f"dev/{name}", "")
        (tmp_path / "dev/nvidia-uvm").unlink()
        (tmp_path / "dev/nvidia-uvm").symlink_to("gone")  # what cannot be opened, for root as well
        clues = linux_clues(tmp_path, {})
        assert (clues.device_files, clues.closed_files) == (2, ("/dev/nvidia-uvm",))

    @pytest.mark.parametrize(
        ("file", "environment", "kind"),
        [
            (".dockerenv", {}, "docker"),
            ("run/.containerenv", {"container": "podman"}, "podman"),
            (".dockerenv", {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "kubernetes"),
            ("x", {"container": "lxc"}, "lxc"),
            ("x", {"container": "systemd-nspawn"}, "other"),
            ("x", {}, None),
        ],
    )
    def test_containers_are_known(
        self, tmp_path: Path, file: str, environment: dict[str, str], kind: str | None
    ) -> None:
        put(tmp_path, file, "")
        assert linux_clues(tmp_path, environment).container == kind

    def test_linux_inside_windows_boards_and_secure_boot(self, tmp_path: Path) -> None:
        put(tmp_path, "proc/sys/kernel/osrelease", "5.15.153.1-microsoft-standard-WSL2\n")
        put(tmp_path, "proc/device-tree/compatible", b"nvidia,p3768-0000+p3767-0005\0nvidia,tegra234\0")
        efi = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"
        put(tmp_path, efi, b"\x06\0\0\0\x01")
        clues = linux_clues(tmp_path, {})
        assert (clues.wsl, clues.tegra, clues.secure_boot) == (True, True, True)
        put(tmp_path, efi, b"\x06\0\0\0\0")
        assert linux_clues(tmp_path, {}).secure_boot is False


def test_windows_registry_names_the_cards() -> None:
    entries: list[dict[str, object]] = [
        {"DriverDesc": "NVIDIA GeForce RTX 4090", "MatchingDeviceId": r"PCI\VEN_10DE&DEV_2684&SUBSYS_16F310DE"},
        {"DriverDesc": "AMD Radeon(TM) Graphics", "MatchingDeviceId": r"pci\ven_1002&dev_164e"},
        {"DriverDesc": "Microsoft Basic Render Driver", "MatchingDeviceId": r"root\basicrender"},
        {},
    ]
    assert registry_displays(entries) == (
        Display(vendor="nvidia", pci=NVIDIA),
        Display(vendor="amd", pci="1002:164e"),
    )


def test_this_machine_can_be_read() -> None:
    assert isinstance(read_clues(), Clues)


def host(reason: NoGpu | None, **clues: object) -> HostFacts:
    gpus = (Gpu(index=0, name="T4", uuid="GPU-0", capability="7.5", memory=1),) if reason is None else ()
    gpu = GpuFacts(source="none" if reason else "nvml", reason=reason, gpus=gpus)
    return HostFacts(platform="linux-x86_64", system="test", cpus=1, gpu=gpu, clues=Clues.model_validate(clues))


NV = Display(vendor="nvidia", pci=NVIDIA)
AMD = Display(vendor="amd", pci="1002:73bf", driver="amdgpu")
INTEL = Display(vendor="intel", pci="8086:9bc4", driver="i915")
MODULE = {"module": "570.86.15", "device_files": 0}


@pytest.mark.parametrize(
    ("facts", "codes"),
    [
        (host("no_driver"), ["no_card"]),
        (host("no_driver", displays=(NV, INTEL)), ["nvidia_without_driver"]),
        (host("no_driver", displays=(AMD,)), ["amd_gpu"]),
        (host("no_driver", displays=(INTEL,)), ["intel_gpu"]),
        (host("no_driver", displays=(INTEL, AMD)), ["amd_gpu"]),
        (host("no_driver", displays=(NV.model_copy(update={"driver": "nouveau"}),)), ["nouveau"]),
        (host("no_driver", displays=(NV.model_copy(update={"driver": "vfio-pci"}),)), ["passed_through"]),
        (host("driver_not_loaded", displays=(NV,), secure_boot=True), ["secure_boot"]),
        (host("driver_not_loaded", displays=(NV,), secure_boot=False), ["nvidia_without_driver"]),
        (host("no_driver", displays=(NV,), secure_boot=True), ["nvidia_without_driver"]),
        (host("no_driver", container="docker", displays=(NV,), **MODULE), ["container_without_gpu"]),
        (host("no_driver", container="docker"), ["container_without_gpu"]),
        (host("driver_not_loaded", **MODULE), ["module_without_files"]),
        (host("no_driver", wsl=True), ["wsl_driver"]),
        (host("no_permission", closed_files=("/dev/nvidia0",), device_files=1, module="570"), ["closed_files"]),
        (host("driver_mismatch", displays=(NV,), module="570", device_files=1), ["restart"]),
        (host("no_answer", displays=(NV,), module="570", device_files=1), ["hung"]),
        (host("no_device"), ["driver_without_gpu", "no_card"]),
        (host(None), []),
        (host(None, displays=(NV, AMD)), []),
        (host(None, tegra=True), ["tegra"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)
def test_every_way_of_having_no_gpu_is_explained(facts: HostFacts, codes: list[str]) -> None:
    found = hints(facts)
    assert [hint.code for hint in found] == codes
    assert all(hint.text.endswith(".") and hint.todo for hint in found)


def test_a_gpu_that_was_lost_is_told_beside_those_that_are_there() -> None:
    facts = host(None)
    lost = facts.model_copy(update={"gpu": facts.gpu.model_copy(update={"detail": "NVML: GPU 1: GPU is lost"})})
    assert [hint.code for hint in hints(lost)] == ["lost_gpu"]
