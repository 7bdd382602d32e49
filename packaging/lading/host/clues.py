"""What the system shows beside the driver: cards on the bus, kernel drivers, device files, containers, firmware.

Only small files of the system are read, nothing is run and nothing can hang. A file that is not there or not readable
is no clue. The parsing is apart from the reading, so that it is tested with other machines' files.

Does not: conclude anything (:mod:`lading.host.hints` does).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lading.host.record import Clues, Container, Display, Vendor

VENDORS: dict[str, Vendor] = {"10de": "nvidia", "1002": "amd", "1022": "amd", "8086": "intel"}
_CARD_CLASSES = ("0x03", "0x12")  # display controllers, processing accelerators
_MATCHING_ID = re.compile(r"pci\\ven_([0-9a-f]{4})&dev_([0-9a-f]{4})", re.IGNORECASE)
_DEVICE_FILE = re.compile(r"^nvidia(?:[0-9]+|ctl|-uvm)$")
_WINDOWS_DISPLAYS = r"SYSTEM\CurrentControlSet\Control\Class\{4d36e968-e325-11ce-bfc1-08002be10318}"
_SECURE_BOOT = "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


def read_clues() -> Clues:
    """The clues of this machine."""
    if sys.platform == "win32":  # pragma: no cover (Windows)
        return Clues(displays=registry_displays(_registry_values()))
    return linux_clues(Path("/"), os.environ)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", errors="replace").strip()
    except OSError:
        return ""


def linux_clues(root: Path, environment: Mapping[str, str]) -> Clues:
    """The clues of a Linux machine.

    Args:
        root: Its root folder.
        environment: The process's variables.
    """
    files = _device_files(root / "dev")
    return Clues(
        displays=tuple(_pci_displays(root / "sys/bus/pci/devices")),
        module=_text(root / "sys/module/nvidia/version") or _module_version(_text(root / "proc/driver/nvidia/version")),
        device_files=sum(path.name.removeprefix("nvidia").isdigit() for path in files),
        closed_files=tuple(f"/dev/{path.name}" for path in files if not os.access(path, os.R_OK | os.W_OK)),
        container=_container(root, environment),
        wsl="microsoft" in _text(root / "proc/sys/kernel/osrelease").lower(),
        tegra=(root / "etc/nv_tegra_release").exists() or "tegra" in _text(root / "proc/device-tree/compatible"),
        secure_boot=_secure_boot(root / _SECURE_BOOT),
    )


def _device_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if _DEVICE_FILE.match(path.name))
    except OSError:
        return []


def _pci_displays(devices: Path) -> Iterator[Display]:
    try:
        cards = sorted(devices.iterdir())
    except OSError:
        return
    for card in cards:
        if not _text(card / "class").startswith(_CARD_CLASSES):
            continue
        vendor, device = (_text(card / name).removeprefix("0x") for name in ("vendor", "device"))
        held = card / "driver"
        driver = held.resolve().name if held.exists() else None
        yield Display(vendor=VENDORS.get(vendor, "other"), pci=f"{vendor}:{device}", driver=driver)


def _module_version(text: str) -> str | None:
    """The version in ``NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.86.15  Thu Jan 23 …``."""
    found = re.search(r"\b(\d{3}\.\d+(?:\.\d+)?)\b", text)
    return found[1] if found else None


def _container(root: Path, environment: Mapping[str, str]) -> Container | None:
    if "KUBERNETES_SERVICE_HOST" in environment:
        return "kubernetes"
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    named = environment.get("container", "")
    known: dict[str, Container] = {"docker": "docker", "podman": "podman", "lxc": "lxc"}
    return known.get(named, "other" if named else None)


def _secure_boot(path: Path) -> bool | None:
    try:
        return path.read_bytes()[-1:] == b"\x01"  # four bytes of attributes, then the value
    except OSError:
        return None


def registry_displays(entries: Iterable[Mapping[str, object]]) -> tuple[Display, ...]:
    r"""The cards in Windows' class of display adapters.

    Args:
        entries: The values of each of its numbered keys; ``MatchingDeviceId`` is such as ``PCI\VEN_10DE&DEV_2684``.
    """
    found: list[Display] = []
    for entry in entries:
        match = _MATCHING_ID.search(str(entry.get("MatchingDeviceId", "")))
        if match is not None:
            vendor, device = match[1].lower(), match[2].lower()
            found.append(Display(vendor=VENDORS.get(vendor, "other"), pci=f"{vendor}:{device}"))
    return tuple(found)


if sys.platform == "win32":  # pragma: no cover (Windows)
    import winreg

    def _registry_values() -> Iterator[Mapping[str, object]]:
        try:
            displays = winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, _WINDOWS_DISPLAYS)
        except OSError:
            return
        with displays:
            for number in range(winreg.QueryInfoKey(displays)[0]):
                try:
                    with winreg.OpenKey(displays, winreg.EnumKey(displays, number)) as key:
                        values = [winreg.EnumValue(key, place) for place in range(winreg.QueryInfoKey(key)[1])]
                except OSError:
                    continue  # the key "Properties" is closed to users
                yield {name: value for name, value, _ in values}
