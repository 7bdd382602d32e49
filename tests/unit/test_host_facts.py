from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pynvml
import pytest

from lading.host import (
    Gpu,
    GpuFacts,
    HostFacts,
    SimulatedGpus,
    free_disk,
    host_facts,
    host_facts_async,
    look_for_gpus,
    platform_tag,
)
from lading.host.bounded import ask_in_thread, ask_program
from lading.host.facts import libc_family, usable_cpus
from lading.host.gpu import NvidiaSmi, Nvml, parse_smi, smi_places

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


@pytest.mark.parametrize("in_thread", [False, True])
def test_the_real_library_gives_gpus_or_a_reason(*, in_thread: bool) -> None:
    found = Nvml(in_thread=in_thread).look()
    assert bool(found.gpus) is (found.reason is None)
    assert found.gpus or found.detail


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no_driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "driver_not_loaded"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "driver_mismatch"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "no_permission"),
        (pynvml.NVML_ERROR_TIMEOUT, "no_answer"),
        (pynvml.NVML_ERROR_UNKNOWN, "driver_error"),
    ],
)
def test_every_failure_of_the_library_has_a_typed_reason(tmp_path: Path, code: int, reason: str) -> None:
    found = Nvml(bindings=stand_in(tmp_path, f"def nvmlInit():\n    raise NVMLError({code})\n")).look()
    assert (found.source, found.reason) == ("none", reason)
    assert str(code) in found.detail


STAND_IN = """
class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(f"error {value}")
        self.value = value

class Memory:
    total = 1000

def nothing(*_):
    raise NVMLError(3)

nvmlInit = nvmlShutdown = lambda: None
nvmlSystemGetDriverVersion = lambda: "580.65.06"
nvmlSystemGetCudaDriverVersion_v2 = lambda: 13010
nvmlDeviceGetCount = lambda: 1
nvmlDeviceGetHandleByIndex = lambda index: index
nvmlDeviceGetName = lambda handle: f"NVIDIA {handle}"
nvmlDeviceGetUUID = lambda handle: f"GPU-{handle}"
nvmlDeviceGetCudaComputeCapability = lambda handle: (9, 0)
nvmlDeviceGetMemoryInfo = lambda handle: Memory
nvmlDeviceGetMigMode = nvmlDeviceGetVirtualizationMode = nothing
"""


def stand_in(folder: Path, more: str = "") -> Path:
    """NVIDIA's bindings for a driver with one GPU, as the real ones are written, and what differs from that."""
    constants = "".join(f"{name} = {value}\n" for name, value in vars(pynvml).items() if name.startswith("NVML_ERROR_"))
    (folder / "pynvml.py").write_text(constants + STAND_IN + more)
    return folder


class TestLibrary:
    """The library's answers, through the process that asks it."""

    def test_a_plain_gpu(self, tmp_path: Path) -> None:
        found = Nvml(bindings=stand_in(tmp_path)).look()
        assert (found.source, found.driver, found.cuda, found.reason) == ("nvml", "580.65.06", "13.1", None)
        assert found.gpus == (Gpu(index=0, name="NVIDIA 0", uuid="GPU-0", capability="9.0", memory=1000),)

    def test_texts_of_older_bindings_are_bytes(self, tmp_path: Path) -> None:
        more = "nvmlSystemGetDriverVersion = lambda: b'470.1'\nnvmlDeviceGetName = lambda handle: b'Tesla'\n"
        found = Nvml(bindings=stand_in(tmp_path, more)).look()
        assert (found.driver, found.gpus[0].name) == ("470.1", "Tesla")

    def test_what_an_old_driver_does_not_know_is_left_out(self, tmp_path: Path) -> None:
        more = "nvmlDeviceGetCudaComputeCapability = nvmlDeviceGetMemoryInfo = nothing\n"
        more += "nvmlSystemGetCudaDriverVersion_v2 = nothing\n"
        found = Nvml(bindings=stand_in(tmp_path, more)).look()
        assert (found.cuda, found.gpus[0].capability, found.gpus[0].memory) == (None, None, 0)

    def test_a_divided_gpu_has_its_instances(self, tmp_path: Path) -> None:
        more = """
nvmlDeviceGetMigMode = lambda handle: [1, 1]
nvmlDeviceGetMaxMigDeviceCount = lambda handle: 7
def nvmlDeviceGetMigDeviceHandleByIndex(handle, number):
    if number > 1:
        raise NVMLError(6)
    return f"part {number}"
"""
        (gpu,) = Nvml(bindings=stand_in(tmp_path, more)).look().gpus
        assert gpu.mig
        assert [(part.name, part.uuid) for part in gpu.instances] == [
            ("NVIDIA part 0", "GPU-part 0"),
            ("NVIDIA part 1", "GPU-part 1"),
        ]

    def test_a_slice_of_a_hosts_gpu(self, tmp_path: Path) -> None:
        (gpu,) = Nvml(bindings=stand_in(tmp_path, "nvmlDeviceGetVirtualizationMode = lambda handle: 2\n")).look().gpus
        assert gpu.virtual == "vgpu"

    def test_a_lost_gpu_says_nothing_about_the_others(self, tmp_path: Path) -> None:
        more = """
nvmlDeviceGetCount = lambda: 2
def nvmlDeviceGetHandleByIndex(index):
    if index == 0:
        raise NVMLError(NVML_ERROR_GPU_IS_LOST)
    return index
"""
        found = Nvml(bindings=stand_in(tmp_path, more)).look()
        assert [gpu.index for gpu in found.gpus] == [1]
        assert "GPU 0" in found.detail

    def test_only_lost_gpus_are_an_error_and_no_gpus_are_none(self, tmp_path: Path) -> None:
        lost = Nvml(bindings=stand_in(tmp_path, "nvmlDeviceGetHandleByIndex = nothing\n")).look()
        assert (lost.gpus, lost.reason) == ((), "driver_error")
        none = Nvml(bindings=stand_in(tmp_path, "nvmlDeviceGetCount = lambda: 0\n")).look()
        assert (none.driver, none.reason) == ("580.65.06", "no_device")

    @pytest.mark.parametrize(
        "more", ["import os\nos.abort()\n", "raise ImportError('broken')\n", "import sys\nsys.exit(print('{'))\n"]
    )
    def test_a_library_that_takes_its_process_along_is_a_reason(self, tmp_path: Path, more: str) -> None:
        found = Nvml(bindings=stand_in(tmp_path, more)).look()
        assert (found.gpus, found.reason) == ((), "driver_error")
        assert found.detail


HANGS = "import time\ndef nvmlInit():\n    time.sleep(600)\n"


@pytest.mark.proves("X-36")
class TestBounded:
    def test_a_hung_library_is_left_and_the_tool_is_not_asked_in_vain(self, tmp_path: Path) -> None:
        began = time.monotonic()
        asked: list[str] = []

        class Tool:
            def look(self) -> GpuFacts:
                asked.append("nvidia-smi")
                return NONE

        found = look_for_gpus([Nvml(0.5, bindings=stand_in(tmp_path, HANGS)), Tool()])
        assert (found.reason, asked) == ("no_answer", [])
        assert time.monotonic() - began < 30

    def test_a_question_in_a_thread_is_left_too(self) -> None:
        never = threading.Event()
        assert ask_in_thread(never.wait, 0.05) is None
        assert ask_in_thread(lambda: 7, 60) == 7
        never.set()

    def test_an_error_in_the_thread_is_the_callers(self) -> None:
        with pytest.raises(ZeroDivisionError):
            ask_in_thread(lambda: 1 // 0, 60)

    @pytest.mark.skipif(sys.platform != "linux", reason="the stand-in for what cannot be killed is made with setsid")
    def test_what_outlives_its_killing_is_left_behind(self, tmp_path: Path) -> None:
        # A descendant in a session of its own survives and holds the pipes, as a process stuck in the driver does.
        pid = tmp_path / "pid"
        began = time.monotonic()
        try:
            assert ask_program(["sh", "-c", f"setsid sleep 600 & echo $! > {pid}; wait"], 1.0) is None
            assert time.monotonic() - began < 30
            os.kill(int(pid.read_text()), 0)  # it lives on
        finally:
            os.kill(int(pid.read_text()), signal.SIGKILL)

    def test_the_event_loop_goes_on_meanwhile(self, tmp_path: Path) -> None:
        bindings = stand_in(tmp_path, HANGS)

        async def both() -> tuple[HostFacts, int]:
            looking = asyncio.create_task(host_facts_async((Nvml(1.0, bindings=bindings),)))
            turns = 0
            while not looking.done():
                await asyncio.sleep(0.01)
                turns += 1
            return await looking, turns

        facts, turns = asyncio.run(both())
        assert facts.gpu.reason == "no_answer"
        assert turns > 10  # a loop that was held up turns once


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
        ("0, NVIDIA H200, GPU-1, 9.0, 570.86.15", "driver_error"),
    ],
)
def test_an_unexpected_answer_of_the_tool_is_a_reason_and_no_crash(text: str, reason: str) -> None:
    found = parse_smi(text, FIELDS)
    assert (found.gpus, found.reason) == ((), reason)


def test_names_with_commas_and_memory_that_is_the_processors_are_read() -> None:
    (gpu,) = parse_smi('0, "NVIDIA A, B", GPU-1, 12.1, [N/A], 580.1\n', FIELDS).gpus
    assert (gpu.name, gpu.memory, gpu.capability) == ("NVIDIA A, B", 0, "12.1")


def script(folder: Path, body: str) -> Path:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


@pytest.mark.skipif(os.name != "posix", reason="the stand-in tool is a shell script")
class TestTool:
    @pytest.mark.proves("X-36")
    def test_it_is_asked_for_values_and_never_for_the_table(self, tmp_path: Path) -> None:
        words = tmp_path / "words"
        body = f'echo "$@" >> {words}\necho "0, T4, GPU-1, 7.5, 15360, 535.1"'
        assert NvidiaSmi(script(tmp_path, body)).look().gpus[0].capability == "7.5"
        assert words.read_text().splitlines() == [
            "--query-gpu=index,name,uuid,compute_cap,memory.total,driver_version --format=csv,noheader,nounits"
        ]

    @pytest.mark.proves("X-36")
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


@pytest.mark.skipif(sys.platform != "linux", reason="there is a choice on Linux only")
def test_the_c_library_is_named() -> None:
    facts = host_facts((SimulatedGpus(NONE),))
    assert facts.libc in {"glibc", "musl"}
    assert (facts.libc == "glibc") is (facts.glibc is not None)
    assert libc_family() == facts.libc
    assert (facts.memory or 0) > 2**26


def test_what_hides_gpus_from_programs_is_a_fact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert host_facts((SimulatedGpus(NONE),)).visible == "1"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert host_facts((SimulatedGpus(NONE),)).visible is None


def test_the_tool_is_looked_for_where_each_system_has_it() -> None:
    assert [place.name for place in smi_places("win32")] == ["nvidia-smi.exe", "nvidia-smi.exe"]
    assert Path("/usr/lib/wsl/lib/nvidia-smi") in smi_places("linux")
