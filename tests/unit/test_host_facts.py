from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pynvml
import pytest

from lading.host import Gpu, GpuFacts, SimulatedGpus, free_disk, host_facts, look_for_gpus, platform_tag
from lading.host.facts import usable_cpus
from lading.host.gpu import NvidiaSmi, Nvml, parse_smi

FIELDS = ("index", "name", "uuid", "compute_cap", "memory.total", "driver_version")
H200 = Gpu(index=0, name="NVIDIA H200", uuid="GPU-1", capability="9.0", memory=150_754_820_096)
NONE = GpuFacts(source="none", reason="no_driver", detail="NVML: not found")


@pytest.mark.parametrize(
    ("system", "machine", "tag"),
    [
        ("Linux", "x86_64", "linux-x86_64"),
        ("Windows", "AMD64", "windows-x86_64"),
        ("Linux", "aarch64", "linux-aarch64"),
        ("Darwin", "arm64", "darwin-aarch64"),
    ],
)
def test_platform_tags(system: str, machine: str, tag: str) -> None:
    assert platform_tag(system, machine) == tag


def test_the_facts_of_a_simulated_machine() -> None:
    gpus = GpuFacts(source="simulated", driver="570.86.15", gpus=(H200,))
    facts = host_facts((SimulatedGpus(gpus),))
    assert facts.has_gpu
    assert facts.gpu.driver == "570.86.15"
    assert facts.cpus == usable_cpus() >= 1


def test_the_tool_is_asked_when_the_library_is_not_there() -> None:
    found = look_for_gpus(
        [SimulatedGpus(NONE), SimulatedGpus(GpuFacts(source="nvidia-smi", driver="535.1", gpus=(H200,)))]
    )
    assert found.source == "nvidia-smi"


def test_without_any_answer_the_first_reason_counts_and_all_details_are_kept() -> None:
    second = GpuFacts(source="none", reason="driver_error", detail="nvidia-smi: exit 9")
    found = look_for_gpus([SimulatedGpus(NONE), SimulatedGpus(second)])
    assert found.reason == "no_driver"
    assert found.detail == "NVML: not found; nvidia-smi: exit 9"


def test_a_driver_without_a_gpu_is_a_final_answer() -> None:
    empty = GpuFacts(source="nvml", driver="570.1", reason="no_device", detail="none")
    assert look_for_gpus([SimulatedGpus(empty), SimulatedGpus(GpuFacts(source="simulated", gpus=(H200,)))]) == empty


def test_the_real_library_gives_gpus_or_a_reason() -> None:
    found = Nvml().look()
    assert bool(found.gpus) is (found.reason is None)
    assert found.gpus or found.detail


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no_driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver_not_loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "driver_mismatch"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission"),
        (pynvml.NVML_ERROR_UNKNOWN, "driver_error"),
    ],
)
def test_every_failure_of_the_library_has_a_typed_reason(
    monkeypatch: pytest.MonkeyPatch, code: int, reason: str
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    assert Nvml().look().reason == reason


def test_the_tools_values_are_read() -> None:
    found = parse_smi(
        "0, NVIDIA H200, GPU-1, 9.0, 143771, 570.86.15\n1, Tesla P40, GPU-2, 6.1, 24576, 570.86.15\n", FIELDS
    )
    assert found.driver == "570.86.15"
    assert [(gpu.name, gpu.capability) for gpu in found.gpus] == [("NVIDIA H200", "9.0"), ("Tesla P40", "6.1")]
    assert found.gpus[0].memory == 143771 * 2**20


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no_device"),
        ("No devices were found", "no_device"),
        ("NVIDIA-SMI 610.47  CUDA UMD Version: 13.1", "driver_error"),
        ("0, NVIDIA H200, GPU-1, 9.0, [N/A], 570.86.15", "driver_error"),
    ],
)
def test_an_unexpected_answer_of_the_tool_is_a_reason_and_no_crash(text: str, reason: str) -> None:
    found = parse_smi(text, FIELDS)
    assert (found.gpus, found.reason) == ((), reason)


def script(folder: Path, body: str) -> Path:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name != "posix", reason="the stand-in tool is a shell script")
class TestTool:
    def test_a_tool_that_hangs_is_killed(self, tmp_path: Path) -> None:
        began = time.monotonic()
        found = NvidiaSmi(script(tmp_path, "sleep 60"), timeout=0.3).look()
        assert found.reason == "no_answer"
        assert time.monotonic() - began < 5

    def test_an_older_tool_is_asked_again_without_the_capability(self, tmp_path: Path) -> None:
        body = 'case "$1" in *compute_cap*) echo "Field \\"compute_cap\\" is not valid"; exit 2;; esac\n'
        found = NvidiaSmi(script(tmp_path, body + 'echo "0, Tesla K80, GPU-9, 11441, 470.82.01"')).look()
        assert found.driver == "470.82.01"
        assert found.gpus[0].capability is None

    @pytest.mark.parametrize(
        ("said", "reason"),
        [
            ("Failed to initialize NVML: Driver/library version mismatch", "driver_mismatch"),
            ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "driver_not_loaded"),
            ("Failed to initialize NVML: Insufficient Permissions", "no_permission"),
            ("Segmentation fault", "driver_error"),
        ],
    )
    def test_what_the_tool_complains_about_is_typed(self, tmp_path: Path, said: str, reason: str) -> None:
        found = NvidiaSmi(script(tmp_path, f'echo "{said}"; exit 9')).look()
        assert found.reason == reason
        assert said[:20] in found.detail

    def test_a_tool_that_cannot_be_run_is_a_reason(self, tmp_path: Path) -> None:
        path = script(tmp_path, "true")
        path.chmod(0o644)
        assert NvidiaSmi(path).look().reason == "driver_error"


def test_free_disk_of_a_folder_that_is_yet_to_be_made(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "a" / "b") > 0


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
def test_the_glibc_of_this_machine_is_a_version_or_none() -> None:
    version = host_facts((SimulatedGpus(NONE),)).glibc
    assert version is None or version.replace(".", "").isdigit()
