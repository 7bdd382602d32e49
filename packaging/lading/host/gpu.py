"""Ask the NVIDIA driver for its version and GPUs: by NVML, else by ``nvidia-smi``, else say why not.

NVML is the driver's own library and answers in milliseconds. The tool is asked only when the library cannot be
loaded (some containers have only the tool), as comma-separated values and never as the table for people, whose text
changes between drivers.

Does not: load CUDA, run anything on a GPU, or decide which toolkit fits.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import pynvml

from lading.host.record import Gpu, GpuFacts, NoGpu
from lading.process import run

SMI_TIMEOUT = 15.0  # seconds; a driver that initialises cold takes up to ten, a hung one for ever
_FIELDS = "index,name,uuid,compute_cap,memory.total,driver_version"
_FIELDS_OLD = "index,name,uuid,memory.total,driver_version"  # drivers before 510 do not know compute_cap
MIB = 2**20


class GpuProbe(Protocol):
    """Someone who knows the driver and the GPUs."""

    def look(self) -> GpuFacts:
        """Ask. Never raises: a driver that fails is a fact."""


class SimulatedGpus:
    """A machine with the GPUs that one says, for tests and rehearsals."""

    def __init__(self, facts: GpuFacts) -> None:
        self.facts = facts

    def look(self) -> GpuFacts:
        """The given facts."""
        return self.facts


_NVML_REASONS: dict[int, NoGpu] = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no_driver",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver_mismatch",
    pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
    pynvml.NVML_ERROR_TIMEOUT: "no_answer",
}


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class Nvml:
    """The driver's management library."""

    def look(self) -> GpuFacts:
        """Ask the library."""
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            return _nvml_failure(error)
        try:
            driver = _text(pynvml.nvmlSystemGetDriverVersion())
            gpus = tuple(_nvml_gpu(index) for index in range(pynvml.nvmlDeviceGetCount()))
        except pynvml.NVMLError as error:
            return _nvml_failure(error)
        finally:
            pynvml.nvmlShutdown()
        if not gpus:
            return GpuFacts(source="nvml", driver=driver, reason="no_device", detail=f"driver {driver} knows no GPU")
        return GpuFacts(source="nvml", driver=driver, gpus=gpus)


def _nvml_failure(error: pynvml.NVMLError) -> GpuFacts:
    reason = _NVML_REASONS.get(getattr(error, "value", -1), "driver_error")
    return GpuFacts(source="none", reason=reason, detail=f"NVML: {error}")


def _nvml_gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    capability: str | None
    try:
        major, minor = pynvml.nvmlDeviceGetCudaComputeCapability(handle)
        capability = f"{major}.{minor}"
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_FunctionNotFound):
        capability = None
    return Gpu(
        index=index,
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        capability=capability,
        memory=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
    )


class NvidiaSmi:
    """The driver's command-line tool.

    Args:
        program: The tool; looked for on the PATH when none.
        timeout: Seconds until it is killed.
    """

    def __init__(self, program: Path | None = None, timeout: float = SMI_TIMEOUT) -> None:
        self._program = program
        self._timeout = timeout

    def look(self) -> GpuFacts:
        """Run the tool."""
        program = self._program or shutil.which("nvidia-smi")
        if program is None:
            return GpuFacts(source="none", reason="no_driver", detail="nvidia-smi is not on the PATH")
        last = ""
        for fields in (_FIELDS, _FIELDS_OLD):
            try:
                done = run([program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"], timeout=self._timeout)
            except subprocess.TimeoutExpired:
                text = f"nvidia-smi did not answer in {self._timeout:g} s"
                return GpuFacts(source="none", reason="no_answer", detail=text)
            except OSError as error:
                return GpuFacts(source="none", reason="driver_error", detail=f"nvidia-smi: {error}")
            if done.returncode == 0:
                return parse_smi(done.stdout, fields.split(","))
            last = (done.stdout.strip() or done.stderr.strip())[:300]
        return GpuFacts(source="none", reason=_smi_reason(last), detail=f"nvidia-smi: {last}")


def _smi_reason(text: str) -> NoGpu:
    if "version mismatch" in text:
        return "driver_mismatch"
    if "couldn't communicate" in text:
        return "driver_not_loaded"
    if "Insufficient Permissions" in text:
        return "no_permission"
    return "no_device" if "No devices" in text else "driver_error"


def parse_smi(text: str, fields: Sequence[str]) -> GpuFacts:
    """Read the tool's comma-separated answer.

    Args:
        text: One line a GPU.
        fields: The columns that were asked for.

    Returns:
        The facts; a line that does not have the columns makes it a ``driver_error``.
    """
    gpus: list[Gpu] = []
    driver: str | None = None
    for line in filter(None, (line.strip() for line in text.splitlines())):
        row = dict(zip(fields, (cell.strip() for cell in line.split(",")), strict=False))
        if len(row) != len(fields) or not row["index"].isdigit() or not row["memory.total"].isdigit():
            detail = f"nvidia-smi answered something unexpected: {line[:120]}"
            return GpuFacts(
                source="none", reason="no_device" if "No devices" in line else "driver_error", detail=detail
            )
        capability = row.get("compute_cap", "")
        driver = row["driver_version"]
        gpus.append(
            Gpu(
                index=int(row["index"]),
                name=row["name"],
                uuid=row["uuid"],
                capability=capability if capability.replace(".", "").isdigit() else None,
                memory=int(row["memory.total"]) * MIB,
            )
        )
    if not gpus:
        return GpuFacts(source="none", driver=driver, reason="no_device", detail="nvidia-smi lists no GPU")
    return GpuFacts(source="nvidia-smi", driver=driver, gpus=tuple(gpus))


def look_for_gpus(probes: Sequence[GpuProbe] | None = None) -> GpuFacts:
    """Ask one probe after another until one knows a GPU.

    Args:
        probes: Whom to ask; NVML, then the tool, when none are given.

    Returns:
        The first answer with a GPU; else the first answer, which has the most precise reason, with the others' details.
    """
    answers: list[GpuFacts] = []
    for probe in probes if probes is not None else (Nvml(), NvidiaSmi()):
        facts = probe.look()
        if facts.gpus or facts.reason == "no_device":
            return facts
        answers.append(facts)
    if not answers:
        return GpuFacts(source="none", reason="no_driver", detail="nobody was asked")
    return answers[0].model_copy(update={"detail": "; ".join(answer.detail for answer in answers)})
