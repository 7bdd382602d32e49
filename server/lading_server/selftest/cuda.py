"""What a GPU must show: right numbers from every CUDA library that torch uses, and a memory that comes back.

cuBLAS, cuDNN, cuFFT, cuSPARSE and cuSOLVER are reached through torch's ordinary operations; cuRAND is called itself,
because torch has its own generators; NVRTC by a kernel that is compiled on the spot.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from lading_server.selftest.libraries import find, tree_of
from lading_server.selftest.numerics import (
    BF16,
    FP16,
    FP32,
    SAMPLES,
    TF32,
    TorchNumerics,
    relative_error,
    uniform_statistics,
    within,
)
from lading_server.selftest.report import Check, CheckFailedError, CheckSkippedError, Evidence

DEVICE = "cuda:0"
AMPERE = (8, 0)  # the first compute capability with TF32 and bfloat16
MEMORY_BYTES = 256 * 2**20
_CURAND_DEFAULT = 100  # CURAND_RNG_PSEUDO_DEFAULT


def checks(torch: Any, random: np.random.Generator) -> list[Check]:
    """The checks that need a GPU, on the first one."""
    numerics = TorchNumerics(torch, DEVICE, random)
    works: dict[str, Callable[[], Evidence]] = {
        "cublas.fp32": lambda: numerics.matmul("float32", FP32),
        "cublas.tf32": lambda: _tensor_float(torch, numerics),
        "cublas.fp16": lambda: numerics.matmul("float16", FP16),
        "cublas.bf16": lambda: _brain_float(torch, numerics),
        "cudnn": lambda: _cudnn(torch, numerics),
        "cufft": numerics.fourier,
        "cusparse": numerics.sparse,
        "cusolver": lambda: _cusolver(torch, numerics),
        "curand": lambda: _curand(torch, random),
        "nccl": lambda: _nccl(torch, random),
        "nvrtc.kernel": lambda: _kernel(torch, random),
        "memory": lambda: _memory(torch),
    }
    return [Check(name=f"cuda.{name}", work=_settled(torch, work)) for name, work in works.items()]


def _settled(torch: Any, work: Callable[[], Evidence]) -> Callable[[], Evidence]:
    """Do a check in full single precision, and wait for the GPU: an error that comes late belongs to its own check."""

    def done() -> Evidence:
        with _precision(torch, tf32=False):
            evidence = work()
            torch.cuda.synchronize(DEVICE)
            return evidence

    return done


@contextmanager
def _precision(torch: Any, *, tf32: bool) -> Iterator[None]:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def _need_ampere(torch: Any, what: str) -> None:
    capability = torch.cuda.get_device_capability(DEVICE)
    if capability < AMPERE:
        raise CheckSkippedError(f"{what} needs compute capability 8.0, this GPU has {capability[0]}.{capability[1]}")


def _tensor_float(torch: Any, numerics: TorchNumerics) -> Evidence:
    _need_ampere(torch, "TF32")
    with _precision(torch, tf32=True):
        return numerics.matmul("float32", TF32)


def _brain_float(torch: Any, numerics: TorchNumerics) -> Evidence:
    _need_ampere(torch, "bfloat16")
    return numerics.matmul("bfloat16", BF16)


def _cudnn(torch: Any, numerics: TorchNumerics) -> Evidence:
    if not torch.backends.cudnn.is_available():
        raise CheckFailedError("torch has no cuDNN that it can use")
    # Without cuDNN, torch would convolve by other means and the check would prove nothing.
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        return {**numerics.convolution(), "version": torch.backends.cudnn.version()}


def _cusolver(torch: Any, numerics: TorchNumerics) -> Evidence:
    prefer = torch.backends.cuda.preferred_linalg_library
    before = prefer()
    prefer("cusolver")
    try:
        return numerics.linear_algebra()
    finally:
        prefer(before)


def _curand(torch: Any, random: np.random.Generator) -> Evidence:
    library = next((library for library in find(tree_of(torch)) if library.stem == "curand"), None)
    if library is None:
        raise CheckFailedError("curand is not in the tree")
    curand = ctypes.CDLL(str(library.path))
    sample = torch.zeros(SAMPLES, dtype=torch.float32, device=DEVICE)
    torch.cuda.synchronize(DEVICE)  # curand works in its own stream
    generator = ctypes.c_void_p()
    _demand("curandCreateGenerator", curand.curandCreateGenerator(ctypes.byref(generator), _CURAND_DEFAULT))
    try:
        seed = ctypes.c_ulonglong(int(random.integers(2**63)))
        _demand("seed", curand.curandSetPseudoRandomGeneratorSeed(generator, seed))
        pointer, count = ctypes.c_void_p(sample.data_ptr()), ctypes.c_size_t(SAMPLES)
        _demand("curandGenerateUniform", curand.curandGenerateUniform(generator, pointer, count))
        torch.cuda.synchronize(DEVICE)
    finally:
        curand.curandDestroyGenerator(generator)
    return uniform_statistics(sample.cpu().numpy().astype(np.float64))


def _demand(what: str, code: int) -> None:
    if code != 0:
        raise CheckFailedError(f"{what} failed with status {code}")


def _nccl(torch: Any, random: np.random.Generator) -> Evidence:
    if not (torch.distributed.is_available() and torch.distributed.is_nccl_available()):
        raise CheckSkippedError("this torch has no NCCL, as on Windows")
    values = random.standard_normal(1 << 16, dtype=np.float32)
    given = torch.from_numpy(values).to(DEVICE)
    summed = torch.zeros_like(given)
    torch.cuda.nccl.all_reduce([given], [summed])
    torch.cuda.synchronize(DEVICE)
    version = ".".join(map(str, torch.cuda.nccl.version()))
    return within({"all_reduce": relative_error(summed.cpu().numpy(), values)}, 0.0, ranks=1, version=version)


def _kernel(torch: Any, random: np.random.Generator) -> Evidence:
    from torch.cuda.jiterator import _create_jit_fn  # noqa: PLC0415 (torch's only way to NVRTC without a compiler)

    # A constant that no earlier run used, so that no cached kernel can answer.
    factor = f"{random.random():.9f}"
    source = f"template <typename T> T selftest(T x, T y) {{ return x * y * T({factor}) + x; }}"
    left = random.standard_normal(4096, dtype=np.float32)
    right = random.standard_normal(4096, dtype=np.float32)
    out = _create_jit_fn(source)(torch.from_numpy(left).to(DEVICE), torch.from_numpy(right).to(DEVICE))
    wide = left.astype(np.float64), right.astype(np.float64)
    error = relative_error(out.cpu().numpy(), wide[0] * wide[1] * float(factor) + wide[0])
    return within({"compiled kernel": error}, FP32, cache=os.environ.get("USE_PYTORCH_KERNEL_CACHE"))


def _memory(torch: Any) -> Evidence:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(DEVICE)
    block = torch.ones(MEMORY_BYTES, dtype=torch.uint8, device=DEVICE)
    total = int(block.sum(dtype=torch.int64).item())
    held = torch.cuda.memory_reserved(DEVICE)
    del block
    torch.cuda.empty_cache()
    after = torch.cuda.memory_reserved(DEVICE)
    evidence = {"before": before, "held": held, "after": after, "asked": MEMORY_BYTES}
    if total != MEMORY_BYTES:
        raise CheckFailedError(f"{MEMORY_BYTES} ones in GPU memory add up to {total}", evidence)
    if held - before < MEMORY_BYTES or after > before:
        raise CheckFailedError(f"GPU memory did not come back: {before} bytes before, {after} after", evidence)
    return evidence
