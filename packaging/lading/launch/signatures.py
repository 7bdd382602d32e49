r"""What a server printed before it died, turned into advice. Pure.

A table of known last words: the first line that matches, from the end of the log, decides. The words are those of the
programs that print them, and each row names where they come from:

* CUDA runtime: ``cudaGetErrorString`` (CUDA Runtime API, "Error Handling"); torch prints them after ``CUDA error:``.
* torch: ``c10/cuda/CUDACachingAllocator.cpp`` (out of memory), ``torch/cuda/__init__.py`` (driver too old).
* glibc: ``elf/dl-load.c``, ``elf/dl-version.c``, ``elf/dl-execstacks.c``. Windows: the loader's ``DLL load failed``.
* Linux: ``strerror`` of ENOSPC, ENOMEM, EADDRINUSE, EACCES; the kernel's out-of-memory killer sends SIGKILL.
* PyInstaller's boot loader: ``Failed to load Python shared library``, ``LOADER:``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Sign = Literal[
    "gpu_out_of_memory", "no_kernel_image", "driver_too_old", "driver_mismatch", "no_gpu", "gpu_failed",
    "glibc_too_old", "missing_library", "not_executable", "blocked", "incomplete", "port_taken", "disk_full",
    "out_of_memory", "killed", "crashed", "wrong_machine",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What known last words mean.

    Attributes:
        sign: For programs; stable.
        usually: What they usually mean.
        todo: What to do.
        host: Another build would not do better.
    """

    sign: Sign
    usually: str
    todo: str
    host: bool = False


_NEWER_DRIVER = "Update NVIDIA's driver; `lading doctor` says which one is needed."
_DOCTOR = "`lading doctor` says which build runs here."
_REPAIR = "`lading install --repair` puts it in order."

_TABLE: tuple[tuple[tuple[str, ...], Advice], ...] = (
    (
        (
            r"CUDA out of memory|CUDA error: out of memory|cudaErrorMemoryAllocation|CUBLAS_STATUS_ALLOC_FAILED",
            r"CUDNN_STATUS_ALLOC_FAILED",
        ),
        Advice(
            sign="gpu_out_of_memory",
            usually="The GPU's memory is full: another program uses it, or the GPU is too small.",
            todo="End other programs that use the GPU, then start again with --retry.",
        ),
    ),
    (
        (
            r"no kernel image is available|cudaErrorNoKernelImageForDevice|device kernel image is invalid",
            r"cudaErrorInvalidKernelImage",
        ),
        Advice(
            sign="no_kernel_image",
            usually="The build has no code for this GPU, or a driver that is too old cannot read it.",
            todo=_DOCTOR,
        ),
    ),
    (
        (
            r"driver version is insufficient|cudaErrorInsufficientDriver|NVIDIA driver on your system is too old",
            r"unsupported toolchain|cudaErrorUnsupportedPtxVersion",
        ),
        Advice(sign="driver_too_old", usually="NVIDIA's driver is older than this build needs.", todo=_NEWER_DRIVER),
    ),
    (
        (r"Driver/library version mismatch|cudaErrorSystemDriverMismatch|system has unsupported display driver",),
        Advice(
            sign="driver_mismatch",
            usually="The driver was updated, and the one before still runs.",
            todo="Restart this machine.",
        ),
    ),
    (
        (
            r"no CUDA-capable device|cudaErrorNoDevice|Found no NVIDIA driver|CUDA unknown error",
            r"CUDA driver initialization failed|cudaErrorInitializationError",
        ),
        Advice(sign="no_gpu", usually="Programs cannot use a GPU on this machine.", todo=_DOCTOR),
    ),
    (
        (
            r"an illegal memory access|device-side assert|unspecified launch failure|CUDA error: |uncorrectable ECC",
            r"GPU is lost|fallen off the bus",
        ),
        Advice(
            sign="gpu_failed",
            usually="A computation on the GPU failed; only a new process can go on.",
            todo="If it happens again, look for Xid messages in the system's log.",
        ),
    ),
    (
        (r"version `GLIBC(?:XX)?_[0-9.]+' not found|GLIBC_[0-9.]+ not found",),
        Advice(
            sign="glibc_too_old",
            usually="The build was made for a newer Linux than this one.",
            todo="Use a newer distribution, or ask the publisher for a build for this one.",
        ),
    ),
    (
        (r"cannot enable executable stack|failed to map segment from shared object|[Oo]peration not permitted.*\.so",),
        Advice(
            sign="not_executable",
            usually="The data directory's file system is mounted with noexec, or a security module forbids running it.",
            todo="Choose a data directory on another file system with --data.",
        ),
    ),
    (
        (
            r"WinError 1260|WinError 225|contains a virus|[Bb]locked by (?:group policy|your administrator)",
            r"Application Control policy|apparmor=.?DENIED|avc: +denied",
        ),
        Advice(
            sign="blocked",
            usually="A virus scanner or a policy of this machine keeps the program from running.",
            todo="Allow the data directory there, or ask who manages this machine.",
        ),
    ),
    (
        (r"Failed to load Python shared library|PYI-\d+:ERROR|Could not load PyInstaller|LOADER: ",),
        Advice(sign="incomplete", usually="Files of the installation are missing or damaged.", todo=_REPAIR),
    ),
    (
        (
            r"cannot open shared object file|DLL load failed|The specified module could not be found|undefined symbol",
            r"image not found",
        ),
        Advice(
            sign="missing_library",
            usually="A library is missing: files of the installation, or one that the system should have.",
            todo=f"{_REPAIR} `lading verify` names libraries that the system lacks.",
        ),
    ),
    (
        (r"[Aa]ddress already in use|EADDRINUSE|WinError 10048|WinError 10013|is already in use",),
        Advice(
            sign="port_taken",
            usually="Another program uses the port.",
            todo="Stop that program, or choose another port with --port (0 for any free one).",
            host=True,
        ),
    ),
    (
        (r"No space left on device|Disk quota exceeded|WinError 112",),
        Advice(
            sign="disk_full", usually="The disk or quota is full.", todo="Free some space, then start again.", host=True
        ),
    ),
    (
        (
            r"^MemoryError|Cannot allocate memory|std::bad_alloc|paging file is too small",
            r"DefaultCPUAllocator: not enough",
            r"WinError 1455",
        ),
        Advice(
            sign="out_of_memory",
            usually="This machine's main memory is full.",
            todo="End other programs, or give this machine more memory or swap.",
        ),
    ),
    (
        (r"Exec format error|not a valid Win32 application|WinError 193|cannot execute binary file",),
        Advice(
            sign="wrong_machine",
            usually="The build is for another system or processor, or its executable is damaged.",
            todo=_REPAIR,
        ),
    ),
)
_PATTERNS = tuple((re.compile("|".join(words)), advice) for words, advice in _TABLE)

_SIGKILL, _SIGILL, _CRASHES = 9, 4, frozenset({6, 7, 8, 11})
_BY_SIGNAL = Advice(
    sign="killed",
    usually="Somebody killed it; mostly the system itself, because its memory was full.",
    todo="Look for 'out of memory' in the system's log (`dmesg`).",
)
_BY_INSTRUCTION = Advice(
    sign="wrong_machine",
    usually="The build uses instructions that this processor does not have.",
    todo="Ask the publisher for a build for older processors.",
)
_BY_CRASH = Advice(
    sign="crashed",
    usually="A library crashed: the driver, the build, or damaged files.",
    todo="`lading verify` tells whether its files are whole; if they are, report it with the log.",
)


def advice_for(last_words: str, status: int | None = None) -> Advice | None:
    """What a program's end means.

    Args:
        last_words: The end of what it printed.
        status: Its exit status, negative for a signal; none when it did not end.

    Returns:
        The advice of the last line that is known, else what the status alone says, else none.
    """
    for line in reversed(last_words.splitlines()):
        for pattern, advice in _PATTERNS:
            if pattern.search(line):
                return advice
    if status is None or status >= 0:
        return None
    if -status == _SIGILL:
        return _BY_INSTRUCTION
    if -status == _SIGKILL:
        return _BY_SIGNAL
    return _BY_CRASH if -status in _CRASHES else None
