"""Which of several builds a machine gets. Pure.

Rules:

    1. A build that somebody named is taken, whatever is found; what is found is still told.
    2. Of the CUDA builds that run on every visible GPU, the one with the newest CUDA.
    3. Without one, the best GPU that any build runs on decides (compute capability, then memory): the build with the
       newest CUDA that runs on it is taken, and only the GPUs that it runs on are to be shown to it.
    4. Without one, the CPU build, with the reason that is nearest to being solved.
    5. Without one, nothing.

A build whose fitness is not known is never chosen by itself, because nobody could tell why it fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lading.host.arch import numbers
from lading.host.assess import assess, no_gpu_reason
from lading.host.choice import Assessment, Candidate, Reason, ReasonCode, Remedy, Resolution
from lading.host.hints import hints
from lading.host.record import Gpu, HostFacts
from lading.host.visible import device_id, visible_gpus

_OTHER_CARDS = frozenset({"amd_gpu", "intel_gpu", "no_card"})
_SOLVABLE: tuple[ReasonCode, ...] = ("ptx_needs_newer_driver", "glibc_too_old", "no_glibc", "mig_without_instance")


def resolve(
    facts: HostFacts, candidates: Sequence[Candidate], *, forced: str | None = None, devices: str | None = None
) -> Resolution:
    """Choose a build.

    Args:
        facts: The machine.
        candidates: The builds, at most one of a flavor.
        forced: A flavor that somebody named.
        devices: The GPUs to be used, written as in ``CUDA_VISIBLE_DEVICES``; the machine's own setting when none.

    Returns:
        The choice and what led to it.

    Raises:
        RuntimeError: ``forced`` is none of the candidates.
    """
    gpus = visible_gpus(facts.gpu.gpus, facts.visible if devices is None else devices)
    found = tuple(sorted((assess(facts, one, devices=devices) for one in candidates), key=_rank, reverse=True))
    chosen, why = _named(found, forced) if forced is not None else _chosen(facts, found, gpus)
    covered = [gpu for gpu in gpus if chosen is not None and gpu.uuid in chosen.covers]
    partly = bool(covered) and len(covered) < len(gpus)
    divided = any(gpu.mig for gpu in covered)
    return Resolution(
        chosen=chosen.flavor if chosen else None,
        why=why,
        forced=forced is not None,
        fits=chosen.verdict if chosen else "no",
        devices=tuple(device_id(gpu) for gpu in covered),
        visible=",".join(device_id(gpu) for gpu in covered) if partly or (divided and len(gpus) > 1) else None,
        needs_kernel_test=chosen is not None and _untested(chosen),
        assessments=found,
        remedies=tuple(_remedies(facts, found, chosen, gpus)),
        notes=tuple(_notes(facts, gpus, devices)),
    )


def _rank(found: Assessment) -> tuple[int, ...]:
    return numbers(found.cuda) or ()


def _untested(found: Assessment) -> bool:
    return found.cuda is not None and (found.verdict == "unknown" or found.has("needs_kernel_test"))


def _named(found: Sequence[Assessment], flavor: str) -> tuple[Assessment, Reason]:
    named = next((one for one in found if one.flavor == flavor), None)
    if named is None:
        message = f"{flavor} is none of the candidates {[one.flavor for one in found]}"
        raise RuntimeError(message)
    against = next((reason for reason in named.reasons if reason.verdict != "fits"), None)
    text = f"{flavor} was named." if against is None else f"{flavor} was named, although: {against.text}"
    return named, Reason(code="forced", text=text, verdict=named.verdict)


def _chosen(facts: HostFacts, found: Sequence[Assessment], gpus: Sequence[Gpu]) -> tuple[Assessment | None, Reason]:
    fitting = [one for one in found if one.verdict == "fits" and one.cuda is not None]
    whole = next((one for one in fitting if one.whole), None)
    if whole is not None:
        every = {1: "the GPU", 2: "both GPUs"}.get(len(gpus), f"all {len(gpus)} GPUs")
        text = f"It has the newest CUDA that runs on {every} under driver {facts.gpu.driver}."
        return whole, Reason(code="best_for_all", text=text, verdict="fits")
    for gpu in sorted(gpus, key=_goodness, reverse=True):
        partly = next((one for one in fitting if gpu.uuid in one.covers), None)
        if partly is not None:
            text = f"No build runs on all {len(gpus)} GPUs; it runs on the best one that any runs on, {gpu.name}."
            return partly, Reason(code="best_for_some", text=text, verdict="fits", gpu=gpu.index)
    cpu = next((one for one in found if one.cuda is None and one.verdict == "fits"), None)
    return cpu, _nearest(facts, found, gpus)


def _goodness(gpu: Gpu) -> tuple[tuple[int, ...], int, int]:
    return numbers(gpu.capability) or (), gpu.memory, -gpu.index


def _nearest(facts: HostFacts, found: Sequence[Assessment], gpus: Sequence[Gpu]) -> Reason:
    """Why no CUDA build was chosen: of all reasons the one that is nearest to being solved."""
    cuda = [one for one in found if one.cuda is not None]
    if not cuda:
        other = next((reason for one in found for reason in one.reasons if reason.verdict != "fits"), None)
        return other or Reason(code="cuda_not_offered", text="No CUDA build is offered.", verdict="no")
    nothing = no_gpu_reason(facts, gpus)
    if nothing is not None:
        return nothing
    flavor, reason = min(
        ((one.flavor, reason) for one in cuda for reason in one.reasons if reason.verdict != "fits"),
        key=lambda pair: _distance(next(one for one in cuda if one.flavor == pair[0]), pair[1]),
    )
    return reason.model_copy(update={"text": f"No CUDA build surely runs here. {flavor}: {reason.text}"})


def _distance(one: Assessment, reason: Reason) -> tuple[int, tuple[int, ...]]:
    """How far a build is from running, by one of its reasons: a newer driver is near, another GPU is far."""
    against = [other.code for other in one.reasons if other.verdict != "fits"]
    if against == ["driver_too_old"]:
        return 0, numbers(reason.need) or ()
    if one.verdict == "unknown":
        return 1, ()
    if reason.code in _SOLVABLE:
        return 2 + _SOLVABLE.index(reason.code), ()
    return 9 if "driver_too_old" not in against else 10, ()


def _remedies(
    facts: HostFacts, found: Sequence[Assessment], chosen: Assessment | None, gpus: Sequence[Gpu]
) -> Iterator[Remedy]:
    if chosen is not None and chosen.cuda is not None and chosen.verdict == "fits":
        return
    nothing = no_gpu_reason(facts, gpus)
    if any(one.cuda is not None for one in found):
        if nothing is not None and nothing.code == "gpus_hidden":
            yield Remedy(kind="show_gpus", text="Unset CUDA_VISIBLE_DEVICES, or name a GPU that is there.")
        elif nothing is not None:
            yield _repair(facts)
        else:
            yield from _drivers(found)
            yield from _builds(found, chosen, gpus)
    libc = [reason for one in found for reason in one.reasons if reason.code in {"glibc_too_old", "no_glibc"}]
    if libc:
        text = f"Use a Linux distribution with glibc {libc[0].need} or newer."
        yield Remedy(kind="newer_system", text=text)
    for one in found:
        if one.verdict == "fits" and one.cuda is None and one is not chosen:
            yield Remedy(kind="cpu", text="Install the CPU build: --flavor cpu.", flavor=one.flavor)


def _repair(facts: HostFacts) -> Remedy:
    """What gives programs a GPU: what the likeliest explanation says, if there is an NVIDIA GPU at all."""
    explained = next(iter(hints(facts)), None)
    if explained is None or explained.code in _OTHER_CARDS:
        return Remedy(kind="other_machine", text="A CUDA build needs a machine with an NVIDIA GPU and its driver.")
    return Remedy(kind="repair_driver", text=explained.todo)


def _drivers(found: Sequence[Assessment]) -> Iterator[Remedy]:
    """The lowest driver with which something runs that does not run now."""
    waiting: list[tuple[tuple[int, ...], Assessment, str]] = []
    for one in found:
        against = [reason for reason in one.reasons if reason.verdict != "fits"]
        if against and {reason.code for reason in against} == {"driver_too_old"} and against[0].need is not None:
            waiting.append((numbers(against[0].need) or (), one, against[0].need))
    if waiting:
        lowest = min(need for need, _, _ in waiting)
        need, one = next((text, one) for number, one, text in waiting if number == lowest)
        text = f"Update NVIDIA's driver to {need} or newer (better: the newest); then {one.flavor} runs."
        yield Remedy(kind="newer_driver", text=text, flavor=one.flavor, driver=need)
    for one in found:
        told = next((reason for reason in one.reasons if reason.code == "ptx_needs_newer_driver"), None)
        if told is not None and one.cuda is not None and not waiting:
            text = f"Update NVIDIA's driver to one for CUDA {one.cuda} or newer; then {one.flavor} may run."
            yield Remedy(kind="newer_driver", text=text, flavor=one.flavor)
            break


def _builds(found: Sequence[Assessment], chosen: Assessment | None, gpus: Sequence[Gpu]) -> Iterator[Remedy]:
    cuda = [one for one in found if one.cuda is not None]
    fitting = next((one for one in cuda if one.verdict == "fits"), None)
    if fitting is not None and fitting is not chosen:
        text = f"Take the toolkit that fits: --flavor {fitting.flavor}."
        yield Remedy(kind="other_toolkit", text=text, flavor=fitting.flavor)
        return
    unknown = next((one for one in cuda if one.verdict == "unknown"), None)
    if unknown is not None and unknown is not chosen:
        text = f"Try it: --flavor {unknown.flavor}, then `lading verify --require-gpu`."
        yield Remedy(kind="other_toolkit", text=text, flavor=unknown.flavor)
    if cuda and all(one.has("arch_unsupported") for one in cuda):
        missing = ", ".join(sorted({gpu.capability for gpu in gpus if gpu.capability is not None}))
        text = f"Ask the publisher for a build with code for compute capability {missing}."
        yield Remedy(kind="other_build", text=text)


def _notes(facts: HostFacts, gpus: Sequence[Gpu], devices: str | None) -> Iterator[str]:
    if facts.visible is not None and devices is None and facts.gpu.gpus:
        shown = f"{len(gpus)} of {len(facts.gpu.gpus)} GPUs"
        yield f"CUDA_VISIBLE_DEVICES is {facts.visible!r}: programs see {shown}."
        named = any(part.strip().isdigit() for part in facts.visible.split(","))
        if named and len({(gpu.name, gpu.capability) for gpu in facts.gpu.gpus}) > 1:
            yield "CUDA numbers unlike GPUs by speed unless CUDA_DEVICE_ORDER=PCI_BUS_ID; identifiers are sure."
    for gpu in gpus:
        if gpu.mig and gpu.instances:
            parts = ", ".join(part.name for part in gpu.instances)
            yield f"{gpu.name} is divided into {len(gpu.instances)} instances ({parts}); a program gets one."
        if gpu.virtual == "vgpu":
            yield f"{gpu.name} is a slice of a host's GPU (vGPU): it needs a licence to run at full speed."
    if facts.clues.wsl and facts.gpu.gpus:
        yield "This is Linux inside Windows: the driver is Windows' own and is updated there."
