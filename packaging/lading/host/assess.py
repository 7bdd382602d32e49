"""One build against one machine: every rule, none left out when an earlier one has failed. Pure.

Rules, in the order in which the reasons are told:

    1. The system's glibc is at least the build's (Linux). Without one the build does not run.
    2. There is a GPU that programs may see and use.
    3. The driver is at least the build's lowest one, number by number.
    4. For each GPU there is machine code, or PTX that the driver can compile: its CUDA version is at least the build's.
    5. CUDA 12.8 and 12.9 under a driver before 550 may have code that such a driver cannot unpack: a test must tell.

What is not known (no list of architectures, no compute capability, no lowest driver) is never taken for good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from lading.host.arch import capabilities, code_for, numbers
from lading.host.choice import Assessment, Candidate, Reason, Verdict
from lading.host.record import Gpu, HostFacts, NoGpu
from lading.host.visible import usable, visible_gpus

PACKED_CODE: Final = (12, 8)  # the first CUDA 12 whose builds may pack machine code in the newer way
UNPACKS_IT: Final = (550,)  # the first driver line that can unpack it
TELL = "only a test on the GPU can tell"

NO_GPU_TEXT: dict[NoGpu, str] = {
    "no_driver": "There is no NVIDIA driver.",
    "driver_not_loaded": "The NVIDIA driver is installed, but its kernel module does not run.",
    "driver_mismatch": "The NVIDIA driver was updated without a restart: its library and kernel module differ.",
    "no_permission": "This user or container may not open the GPU's device files.",
    "no_device": "The NVIDIA driver runs and knows no GPU.",
    "no_answer": "The NVIDIA driver does not answer.",
    "driver_error": "The NVIDIA driver reports an error.",
}


def assess(facts: HostFacts, candidate: Candidate, *, devices: str | None = None) -> Assessment:
    """Judge one build.

    Args:
        facts: The machine.
        candidate: The build.
        devices: Instead of the machine's ``CUDA_VISIBLE_DEVICES``.

    Returns:
        The verdict with its reasons.
    """
    gpus = visible_gpus(facts.gpu.gpus, facts.visible if devices is None else devices)
    everywhere = list(_libc(facts, candidate))
    single: dict[str, list[Reason]] = {}
    if not candidate.is_cpu:
        everywhere += _machine(facts, candidate, gpus)
        single = {gpu.uuid: list(_gpu(facts, candidate, gpu)) for gpu in gpus}
    covers = tuple(uuid for uuid, reasons in single.items() if _worst(reasons) == "fits")
    verdict = _worst(everywhere)
    if verdict == "fits" and not candidate.is_cpu and not covers:
        told = [_worst(reasons) for reasons in single.values()]
        verdict = "unknown" if "unknown" in told else "no"
    return Assessment(
        flavor=candidate.flavor,
        version=candidate.version,
        cuda=candidate.cuda,
        verdict=verdict,
        covers=covers if verdict == "fits" else (),
        whole=verdict == "fits" and len(covers) == len(gpus),
        reasons=(*everywhere, *(reason for reasons in single.values() for reason in reasons)),
    )


def _worst(reasons: Sequence[Reason]) -> Verdict:
    found = {reason.verdict for reason in reasons}
    return "no" if "no" in found else "unknown" if "unknown" in found else "fits"


def _libc(facts: HostFacts, candidate: Candidate) -> Iterator[Reason]:
    if candidate.glibc is None or not facts.is_linux:
        return
    need, have = numbers(candidate.glibc), numbers(facts.glibc)
    what = {"have": facts.glibc, "need": candidate.glibc}
    if have is None and facts.libc == "musl":
        text = f"It needs glibc {candidate.glibc}; this system's C library is musl."
        yield Reason(code="no_glibc", text=text, verdict="no", **what)
    elif have is None or need is None:
        text = f"It needs glibc {candidate.glibc}; this system does not say which it has."
        yield Reason(code="glibc_unknown", text=text, verdict="unknown", **what)
    elif have < need:
        text = f"It needs glibc {candidate.glibc} or newer; this system has {facts.glibc}."
        yield Reason(code="glibc_too_old", text=text, verdict="no", **what)


def _machine(facts: HostFacts, candidate: Candidate, gpus: Sequence[Gpu]) -> Iterator[Reason]:
    missing = no_gpu_reason(facts, gpus)
    if missing is not None:
        yield missing
        return
    yield from _driver(facts, candidate)
    if facts.clues.tegra:
        text = f"The GPU is part of the processor, whose driver has rules of its own: {TELL}."
        yield Reason(code="tegra", text=text, verdict="unknown")


def no_gpu_reason(facts: HostFacts, gpus: Sequence[Gpu]) -> Reason | None:
    """Why programs have no GPU here; none when they have one.

    Args:
        facts: The machine.
        gpus: Those that programs see.
    """
    if not facts.gpu.gpus:
        code = facts.gpu.reason or "driver_error"
        return Reason(code=code, text=NO_GPU_TEXT[code], verdict="no", have=facts.gpu.driver)
    if not gpus:
        text = f"CUDA_VISIBLE_DEVICES hides all {len(facts.gpu.gpus)} GPUs from programs."
        return Reason(code="gpus_hidden", text=text, verdict="no", have=facts.visible)
    return None


def _driver(facts: HostFacts, candidate: Candidate) -> Iterator[Reason]:
    have, need = numbers(facts.gpu.driver), numbers(candidate.driver)
    what = {"have": facts.gpu.driver, "need": candidate.driver}
    if have is None or need is None:
        said = "The machine does not say which driver it has" if have is None else "The build names no lowest driver"
        text = f"{said}: {TELL}."
        yield Reason(code="driver_unknown", text=text, verdict="unknown", **what)
        return
    if have < need:
        text = f"It needs driver {candidate.driver} or newer; this machine has {facts.gpu.driver}."
        yield Reason(code="driver_too_old", text=text, verdict="no", **what)
        return
    cuda = numbers(candidate.cuda) or ()
    if cuda[:1] == PACKED_CODE[:1] and cuda >= PACKED_CODE and have < UNPACKS_IT:
        text = f"Driver {facts.gpu.driver} may not be able to unpack CUDA {candidate.cuda} code: {TELL}."
        yield Reason(code="needs_kernel_test", text=text, verdict="fits", have=facts.gpu.driver, need="550")


def _gpu(facts: HostFacts, candidate: Candidate, gpu: Gpu) -> Iterator[Reason]:
    if not usable(gpu):
        text = f"{gpu.name} is divided (MIG) and has no instance."
        yield Reason(code="mig_without_instance", text=text, verdict="no", gpu=gpu.index)
        return
    what = {"gpu": gpu.index, "capability": gpu.capability, "archs": capabilities(candidate.archs)}
    if gpu.capability is None:
        text = f"The driver does not say the compute capability of {gpu.name}: {TELL}."
        yield Reason(code="cc_unknown", text=text, verdict="unknown", **what)
        return
    code = code_for(gpu.capability, candidate.archs)
    listed = ", ".join(capabilities(candidate.archs))
    if code == "none":
        text = f"It has no code for {gpu.name} ({gpu.capability}); it has code for {listed}."
        yield Reason(code="arch_unsupported", text=text, verdict="no", **what)
    elif code == "unknown":
        has = f"lists {listed}, which cannot be judged" if candidate.archs else "does not say what it has code for"
        text = f"The build {has}: {TELL}."
        yield Reason(code="arch_list_unknown", text=text, verdict="unknown", **what)
    elif code == "ptx":
        yield from _ptx(facts, candidate, gpu)


def _ptx(facts: HostFacts, candidate: Candidate, gpu: Gpu) -> Iterator[Reason]:
    have, need = numbers(facts.gpu.cuda), numbers(candidate.cuda)
    if have is not None and need is not None and have >= need:
        return
    said = "does not say which it can" if have is None else f"can up to {facts.gpu.cuda}"
    yield Reason(
        code="ptx_needs_newer_driver",
        text=f"{gpu.name} ({gpu.capability}) needs the driver to compile CUDA {candidate.cuda} code; it {said}.",
        verdict="unknown" if have is None else "no",
        gpu=gpu.index,
        have=facts.gpu.cuda,
        need=candidate.cuda,
        capability=gpu.capability,
        archs=capabilities(candidate.archs),
    )
