"""Ask the NVIDIA driver for its version and GPUs: by NVML, else by ``nvidia-smi``, else say why not.

NVML is the driver's own library and answers in milliseconds. The tool is asked only when the library cannot be
loaded (some containers have only the tool), as comma-separated values and never as the table for people, whose text
changes between drivers. Both are asked in a process of their own and for a bounded time, because a call into a hung
driver never returns and cannot be interrupted.

Does not: load CUDA, run anything on a GPU, or decide which toolkit fits.
"""

from __future__ import annotations

import csv
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lading.errors import FormatInvalid
from lading.host.bounded import ask_in_thread, ask_program
from lading.host.record import Gpu, GpuFacts, NoGpu
from lading.manifest.base import read_record

NVML_TIMEOUT = 15.0  # seconds; a driver that initialises cold takes up to ten, a hung one for ever
SMI_TIMEOUT = 15.0
_FIELDS = "index,name,uuid,compute_cap,memory.total,driver_version"
_FIELDS_OLD = "index,name,uuid,memory.total,driver_version"  # drivers before 510 do not know compute_cap
MIB = 2**20
_SHOWN = 300  # characters of what a program said


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


def _none(reason: NoGpu, detail: str) -> GpuFacts:
    return GpuFacts(source="none", reason=reason, detail=detail)


class Nvml:
    """The driver's management library, in a process of its own.

    A frozen program has no interpreter to start: there the library is asked in a thread that is left behind if it
    hangs.

    Args:
        timeout: Seconds until the driver counts as hung.
        bindings: The folder of NVIDIA's Python bindings; that of the installed ones when none.
        in_thread: Whether to ask in a thread; decided by how this program runs when none.
    """

    def __init__(
        self, timeout: float = NVML_TIMEOUT, *, bindings: Path | None = None, in_thread: bool | None = None
    ) -> None:
        self._timeout = timeout
        self._bindings = bindings
        without_interpreter = bool(getattr(sys, "frozen", False)) or not sys.executable
        self._in_thread = without_interpreter if in_thread is None else in_thread

    def look(self) -> GpuFacts:
        """Ask the library."""
        return self._thread() if self._in_thread else self._child()

    def _silent(self) -> GpuFacts:
        return _none("no_answer", f"NVML did not answer in {self._timeout:g} s: the driver hangs")

    def _thread(self) -> GpuFacts:
        from lading.host import nvml_child  # noqa: PLC0415 (imports the bindings, which the other way does not need)

        told = ask_in_thread(nvml_child.read, self._timeout)
        return self._silent() if told is None else GpuFacts.model_validate(told)

    def _child(self) -> GpuFacts:
        script = Path(__file__).with_name("nvml_child.py")
        try:
            # -I: neither the working folder nor the caller's variables decide what it loads.
            done = ask_program([sys.executable, "-I", script, self._bindings or _bindings_folder()], self._timeout)
        except OSError as error:
            return _none("driver_error", f"NVML: no process could be started: {error}")
        if done is None:
            return self._silent()
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:_SHOWN]
            return _none("driver_error", f"NVML: the process that asked it ended with {done.returncode}: {last}")
        try:
            return read_record(GpuFacts, done.stdout.encode(), origin="NVML's answer")
        except FormatInvalid as error:
            return _none("driver_error", error.what[:_SHOWN])


def _bindings_folder() -> Path:
    found = importlib.util.find_spec("pynvml")
    assert found is not None, "nvidia-ml-py is one of our dependencies"
    assert found.origin is not None
    return Path(found.origin).parent


def smi_places(system: str = sys.platform) -> tuple[Path, ...]:
    """Where the driver's tool may lie when it is not on the PATH.

    Args:
        system: As :data:`sys.platform` says.
    """
    if system == "win32":
        windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows"))
        programs = Path(os.environ.get("PROGRAMFILES", r"C:\Program Files"))
        return (windows / "System32/nvidia-smi.exe", programs / "NVIDIA Corporation/NVSMI/nvidia-smi.exe")
    return (Path("/usr/bin/nvidia-smi"), Path("/usr/lib/wsl/lib/nvidia-smi"))


def find_smi() -> Path | None:
    """The driver's tool: where the driver puts it, before the PATH, which others can write to."""
    known = next((place for place in smi_places() if place.is_file()), None)
    found = known or shutil.which("nvidia-smi")
    return Path(found) if found is not None else None


class NvidiaSmi:
    """The driver's command-line tool.

    Args:
        program: The tool; looked for when none.
        timeout: Seconds until it is killed.
    """

    def __init__(self, program: Path | None = None, timeout: float = SMI_TIMEOUT) -> None:
        self._program = program
        self._timeout = timeout

    def look(self) -> GpuFacts:
        """Run the tool."""
        program = self._program or find_smi()
        if program is None:
            return _none("no_driver", "nvidia-smi is not there")
        last = ""
        for fields in (_FIELDS, _FIELDS_OLD):
            try:
                done = ask_program(
                    [program, f"--query-gpu={fields}", "--format=csv,noheader,nounits"], timeout=self._timeout
                )
            except OSError as error:
                return _none("driver_error", f"nvidia-smi: {error}")
            if done is None:
                return _none("no_answer", f"nvidia-smi did not answer in {self._timeout:g} s: the driver hangs")
            if done.returncode == 0:
                return parse_smi(done.stdout, fields.split(","))
            last = (done.stdout.strip() or done.stderr.strip())[:_SHOWN]
        return _none(_smi_reason(last), f"nvidia-smi: {last}")


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
        cells = next(csv.reader([line], skipinitialspace=True))
        row = dict(zip(fields, (cell.strip() for cell in cells), strict=False))
        if len(cells) != len(fields) or not row["index"].isdigit():
            reason: NoGpu = "no_device" if "No devices" in line else "driver_error"
            return _none(reason, f"nvidia-smi answered something unexpected: {line[:120]}")
        driver = row["driver_version"]
        gpus.append(_gpu(row))
    if not gpus:
        return GpuFacts(source="none", driver=driver, reason="no_device", detail="nvidia-smi lists no GPU")
    return GpuFacts(source="nvidia-smi", driver=driver, gpus=tuple(gpus))


def _gpu(row: dict[str, str]) -> Gpu:
    capability, memory = row.get("compute_cap", ""), row["memory.total"]
    return Gpu(
        index=int(row["index"]),
        name=row["name"],
        uuid=row["uuid"],
        capability=capability if capability.replace(".", "", 1).isdigit() else None,
        memory=int(memory) * MIB if memory.isdigit() else 0,  # [N/A] where it is the processor's memory
    )


def look_for_gpus(probes: Sequence[GpuProbe] | None = None) -> GpuFacts:
    """Ask one probe after another until one knows a GPU.

    Args:
        probes: Whom to ask; NVML, then the tool, when none are given.

    Returns:
        The first answer with a GPU; else the first answer, which has the most precise reason, with the others' details.
        A driver that knows no GPU, and one that hangs, is not asked a second time.
    """
    answers: list[GpuFacts] = []
    for probe in probes if probes is not None else (Nvml(), NvidiaSmi()):
        facts = probe.look()
        if facts.gpus or facts.reason in {"no_device", "no_answer"}:
            return facts
        answers.append(facts)
    if not answers:
        return _none("no_driver", "nobody was asked")
    return answers[0].model_copy(update={"detail": "; ".join(answer.detail for answer in answers)})
