"""Which GPUs ``CUDA_VISIBLE_DEVICES`` leaves to a program, as CUDA reads it. Pure.

A list of numbers or identifiers (the beginning of one is enough), in which everything after the first entry that names
nothing is ignored; an empty value hides all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lading.host.record import Gpu


def visible_gpus(gpus: Sequence[Gpu], value: str | None) -> tuple[Gpu, ...]:
    """The GPUs that a program sees.

    Args:
        gpus: All GPUs.
        value: The variable's value; none when it is not set.

    Returns:
        The visible ones, in the order of the value. Of a divided GPU that is named by an instance, that instance alone.
    """
    if value is None:
        return tuple(gpus)
    found: list[Gpu] = []
    for entry in (part.strip() for part in value.split(",")):
        gpu = _named(gpus, entry)
        if gpu is None or any(gpu.index == other.index for other in found):  # of one GPU, CUDA takes one instance
            break
        found.append(gpu)
    return tuple(found)


def _named(gpus: Iterable[Gpu], entry: str) -> Gpu | None:
    if entry.isdigit():
        return next((gpu for gpu in gpus if gpu.index == int(entry)), None)
    if entry.startswith("GPU-"):
        fitting = [gpu for gpu in gpus if gpu.uuid.startswith(entry)]
        return fitting[0] if len(fitting) == 1 else None
    for gpu in gpus:
        parts = tuple(part for part in gpu.instances if entry and part.uuid.startswith(entry))
        if parts:
            return gpu.model_copy(update={"instances": parts[:1]})
    return None


def usable(gpu: Gpu) -> bool:
    """Whether programs can use it: a divided GPU only through its instances."""
    return not gpu.mig or bool(gpu.instances)


def device_id(gpu: Gpu) -> str:
    """What names the GPU in ``CUDA_VISIBLE_DEVICES``: of a divided one the largest instance."""
    if not gpu.mig or not gpu.instances:
        return gpu.uuid
    return max(gpu.instances, key=lambda part: part.memory).uuid
