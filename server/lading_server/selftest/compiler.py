"""NVRTC called itself: compiles a kernel to PTX, which needs neither a GPU nor a driver.

Proves that the compiler of the tree loads, and finds its built-in functions, which are a library of their own.
"""

from __future__ import annotations

import ctypes
from typing import Any

from lading_server.selftest.libraries import find, tree_of
from lading_server.selftest.report import CheckFailedError, CheckSkippedError, Evidence

ARCHITECTURE = b"compute_75"  # compiles with every CUDA from 10 to 13
_SOURCE = b"""
extern "C" __global__ void scale(float *out, const float *in, float by) {
    out[threadIdx.x] = __expf(in[threadIdx.x]) * by + __shfl_down_sync(0xffffffffu, in[threadIdx.x], 1);
}
"""


def check_compiles(torch: Any) -> Evidence:
    """Compile a kernel.

    Raises:
        CheckFailedError: The library is missing, or the compiler says no; with its log.
    """
    if torch.version.cuda is None:
        raise CheckSkippedError(f"torch {torch.__version__} is built without CUDA")
    tree = tree_of(torch)
    library = next((library for library in find(tree) if library.stem == "nvrtc"), None)
    if library is None:
        raise CheckFailedError("nvrtc is not in the tree")
    assembly = _compile(ctypes.CDLL(str(library.path)))
    if b".entry scale" not in assembly:
        raise CheckFailedError("the compiled kernel has no entry 'scale'", {"head": assembly[:200].decode("ascii")})
    return {
        "path": library.path.relative_to(tree).as_posix(),
        "architecture": ARCHITECTURE.decode(),
        "bytes": len(assembly),
    }


def _compile(nvrtc: ctypes.CDLL) -> bytes:
    program = ctypes.c_void_p()
    _demand(nvrtc, nvrtc.nvrtcCreateProgram(ctypes.byref(program), _SOURCE, b"scale.cu", 0, None, None))
    try:
        options = (ctypes.c_char_p * 1)(b"--gpu-architecture=" + ARCHITECTURE)
        code = nvrtc.nvrtcCompileProgram(program, len(options), options)
        if code != 0:
            log = _read(nvrtc, nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            raise CheckFailedError(
                f"the compiler failed: {_message(nvrtc, code)}", {"log": log.decode("utf-8", "replace")}
            )
        return _read(nvrtc, nvrtc.nvrtcGetPTXSize, nvrtc.nvrtcGetPTX, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _read(nvrtc: ctypes.CDLL, measure: Any, copy: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _demand(nvrtc, measure(program, ctypes.byref(size)))
    text = ctypes.create_string_buffer(size.value)
    _demand(nvrtc, copy(program, text))
    return text.value


def _message(nvrtc: ctypes.CDLL, code: int) -> str:
    nvrtc.nvrtcGetErrorString.restype = ctypes.c_char_p
    text: bytes | None = nvrtc.nvrtcGetErrorString(code)
    return f"error {code}" if text is None else text.decode("ascii", "replace")


def _demand(nvrtc: ctypes.CDLL, code: int) -> None:
    if code != 0:
        raise CheckFailedError(f"nvrtc: {_message(nvrtc, code)}")
