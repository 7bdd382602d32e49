"""Why there is no GPU: asks the NVIDIA driver itself, below torch, which says only "not available".

Looks, decides and explains; installs and changes nothing.
"""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

_SUCCESS = 0
_NO_DEVICE = 100  # CUDA_ERROR_NO_DEVICE


@dataclass(frozen=True, kw_only=True)
class DriverFacts:
    """What the driver says.

    Attributes:
        load_error: Why its library cannot be loaded; nothing when it can.
        cuda: The newest CUDA version that it supports, such as ``(12, 6)``.
        init_code: What initialising it returned; 0 is success.
        init_name: The name of that code.
        devices: How many GPUs it shows to this process.
    """

    load_error: str | None = None
    cuda: tuple[int, int] | None = None
    init_code: int | None = None
    init_name: str = ""
    devices: int = 0


def _driver_version(driver: ctypes.CDLL) -> tuple[int, int] | None:
    version = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(version)) != _SUCCESS:
        return None
    return version.value // 1000, version.value % 1000 // 10


def _error_name(driver: ctypes.CDLL, code: int) -> str:
    name = ctypes.c_char_p()
    if driver.cuGetErrorName(code, ctypes.byref(name)) != _SUCCESS or name.value is None:
        return f"error {code}"
    return name.value.decode("ascii", "replace")


def load_problem(error: OSError) -> str:
    """What the system's loader said. A frozen program wraps that in a guess, which is wrong for a driver.

    Args:
        error: What loading raised.
    """
    said = error.__cause__ or error.__context__
    return str(said if isinstance(said, OSError) else error)


def probe_driver(library: str = LIBRARY) -> DriverFacts:
    """Ask the driver.

    Args:
        library: The driver's library.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        return DriverFacts(load_error=load_problem(error))
    version = _driver_version(driver)
    code = int(driver.cuInit(0))
    count = ctypes.c_int()
    if code == _SUCCESS:
        driver.cuDeviceGetCount(ctypes.byref(count))
    return DriverFacts(cuda=version, init_code=code, init_name=_error_name(driver, code), devices=count.value)


def explain(facts: DriverFacts, *, torch_cuda: str, visible: str | None) -> str:
    """Say why torch sees no GPU.

    Args:
        facts: What the driver said.
        torch_cuda: The CUDA version that torch was built for.
        visible: ``CUDA_VISIBLE_DEVICES``, when it is set.
    """
    if facts.load_error is not None:
        return f"no NVIDIA driver: {facts.load_error}"
    if facts.cuda is not None and facts.cuda[0] < int(torch_cuda.split(".", maxsplit=1)[0]):
        major, minor = facts.cuda
        return f"the NVIDIA driver is too old: it supports CUDA {major}.{minor}, torch is built for CUDA {torch_cuda}"
    hidden = "" if visible is None else f" (CUDA_VISIBLE_DEVICES is {visible!r})"
    if facts.init_code == _NO_DEVICE or (facts.init_code == _SUCCESS and not facts.devices):
        return f"the NVIDIA driver shows no GPU to this process{hidden}"
    if facts.init_code != _SUCCESS:
        return f"the NVIDIA driver cannot be initialised: {facts.init_name}{hidden}"
    return f"the NVIDIA driver shows {facts.devices} GPU(s), but torch cannot use any{hidden}"
