"""Ask NVML, the driver's management library, for everything at once; print one JSON object.

Run by its path in a process of its own (:mod:`lading.host.gpu`), because a call into a hung driver cannot be
interrupted and a broken library may crash: neither must take the caller along. So it imports nothing but the standard
library and NVIDIA's bindings, whose folder is its one argument.

Does not: decide anything, or load CUDA.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
import pynvml

WSL_LIBRARY = Path("/usr/lib/wsl/lib/libnvidia-ml.so.1")  # where Windows puts it; not every distribution looks there
VIRTUAL = {1: "passthrough", 2: "vgpu"}


def read() -> dict[str, object]:
    """The driver, and its GPUs or why there are none, in the form of :class:`lading.host.record.GpuFacts`."""
    if WSL_LIBRARY.exists():
        with suppress(OSError):
            ctypes.CDLL(str(WSL_LIBRARY))  # a library that is loaded already is found by its name
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return _failure(error)
    try:
        return _facts()
    except pynvml.NVMLError as error:
        return _failure(error)
    finally:
        pynvml.nvmlShutdown()


def _failure(error: Exception) -> dict[str, object]:
    reasons = {
        pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "no_driver",
        pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
        pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver_mismatch",
        pynvml.NVML_ERROR_NO_PERMISSION: "no_permission",
        pynvml.NVML_ERROR_TIMEOUT: "no_answer",
    }
    reason = reasons.get(getattr(error, "value", -1), "driver_error")
    return {"source": "none", "reason": reason, "detail": f"NVML: {error}"}


def _facts() -> dict[str, object]:
    driver = _text(pynvml.nvmlSystemGetDriverVersion())
    gpus: list[dict[str, object]] = []
    troubles: list[str] = []
    for index in range(pynvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_gpu(index))
        except pynvml.NVMLError as error:  # one lost or locked GPU says nothing about the others
            troubles.append(f"NVML: GPU {index}: {error}")
    found: dict[str, object] = {"source": "nvml", "driver": driver, "gpus": gpus, "detail": "; ".join(troubles)}
    version = _optional(pynvml.nvmlSystemGetCudaDriverVersion_v2)
    if isinstance(version, int):
        found["cuda"] = f"{version // 1000}.{version % 1000 // 10}"
    if not gpus:
        found["reason"] = "driver_error" if troubles else "no_device"
        found["detail"] = found["detail"] or f"driver {driver} knows no GPU"
    return found


def _gpu(index: int) -> dict[str, object]:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    capability = _optional(lambda: pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    mode = _optional(lambda: pynvml.nvmlDeviceGetMigMode(handle))
    divided = isinstance(mode, list) and mode[0] == 1
    virtual = _optional(lambda: pynvml.nvmlDeviceGetVirtualizationMode(handle))
    return {
        "index": index,
        "name": _text(pynvml.nvmlDeviceGetName(handle)),
        "uuid": _text(pynvml.nvmlDeviceGetUUID(handle)),
        "capability": "{}.{}".format(*capability) if isinstance(capability, tuple | list) else None,
        "memory": _memory(handle),
        "mig": divided,
        "instances": _instances(handle) if divided else [],
        "virtual": VIRTUAL.get(virtual) if isinstance(virtual, int) else None,
    }


def _instances(handle: object) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(pynvml.NVMLError):  # numbers without an instance are errors
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, number)
            name, uuid = _text(pynvml.nvmlDeviceGetName(part)), _text(pynvml.nvmlDeviceGetUUID(part))
            found.append({"name": name, "uuid": uuid, "memory": _memory(part)})
    return found


def _memory(handle: object) -> int:
    told = _optional(lambda: pynvml.nvmlDeviceGetMemoryInfo(handle))
    return int(getattr(told, "total", 0))


def _optional(ask: Callable[[], object]) -> object:
    """An answer that some drivers and cards do not give."""
    try:
        return ask()
    except pynvml.NVMLError:
        return None


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


if __name__ == "__main__":
    print(json.dumps(read()))
