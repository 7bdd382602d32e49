"""The CUDA libraries of this build: where each is, whether it can be loaded, and from where this process has them.

Works without a GPU: loading a library and asking its version needs no driver. Decides by file name, so it knows a
library also under the name that Windows gives it.
"""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading_server.selftest.report import CheckFailedError, CheckSkippedError, Evidence

# Without one of these a CUDA build of torch cannot do what it is for.
REQUIRED = ("cublas", "cublasLt", "cudart", "cudnn", "cufft", "curand", "cusolver", "cusparse", "nvrtc")
REQUIRED_LINUX = ("nccl",)  # not made for Windows
# Loaded by torch when they are there; which toolkit has which differs.
OPTIONAL = ("cupti", "cusparseLt", "nvJitLink", "nvrtc-builtins", "nvToolsExt")
_PARTS = "cudnn_"  # cuDNN loads its parts itself, when it needs them

_FOLDERS = ("nvidia/**/lib", "nvidia/**/bin", "torch/lib", "cusparselt/lib")  # and the tree's own top
_DECORATION = re.compile(r"(?:64)?(?:_\d+)*$|-[0-9a-f]{8}$")

_MAJOR, _MINOR, _PATCH = range(3)  # libraryPropertyType


@dataclass(frozen=True, kw_only=True)
class Library:
    """A CUDA library in the tree.

    Attributes:
        stem: Its name without prefix, version and suffix, the same on every system.
        path: The file.
    """

    stem: str
    path: Path


def stem_of(filename: str) -> str | None:
    """The name of a library without what systems and versions add to it; nothing for a file that is no library.

    ``libcublas.so.12``, ``cublas64_12.dll`` and ``libcublas-1a2b3c4d.so.12`` are all ``cublas``.
    """
    head, mark, _ = re.sub(r"\.dll$", ".so", filename, flags=re.IGNORECASE).partition(".so")
    if not mark:
        return None
    return _DECORATION.sub("", head.removeprefix("lib"))


def is_cuda_library(stem: str | None) -> bool:
    """Whether a name is that of a CUDA library that torch uses."""
    return stem is not None and (stem in {*REQUIRED, *REQUIRED_LINUX, *OPTIONAL} or stem.startswith(_PARTS))


def tree_of(torch: Any) -> Path:
    """The folder under which every library of this build lies: the frozen tree, or ``site-packages``."""
    return Path(torch.__file__).resolve().parent.parent


def find(tree: Path) -> list[Library]:
    """The CUDA libraries of a tree, each file once, sorted by name."""
    found: dict[Path, Library] = {}
    folders = [folder for pattern in _FOLDERS for folder in tree.glob(pattern) if folder.is_dir()]
    for path in (path for folder in (*folders, tree) for path in folder.iterdir()):
        stem = stem_of(path.name)
        if stem is not None and is_cuda_library(stem) and path.is_file():
            found.setdefault(path.resolve(), Library(stem=stem, path=path))
    return sorted(found.values(), key=lambda library: (library.stem, str(library.path)))


def _with_pointers(function: Any, count: int) -> str | None:
    numbers = [ctypes.c_int() for _ in range(count)]
    if function(*map(ctypes.byref, numbers)) != 0:
        return None
    return ".".join(str(number.value) for number in numbers)


def _property(function: Any) -> str | None:
    numbers = []
    for part in (_MAJOR, _MINOR, _PATCH):
        number = ctypes.c_int()
        if function(part, ctypes.byref(number)) != 0:
            return None
        numbers.append(str(number.value))
    return ".".join(numbers)


def _returned(function: Any) -> str:
    function.restype = ctypes.c_size_t
    return str(function())


# How a library is asked for its version: the only calls that need neither driver nor GPU.
_ASK = {
    "cublas": ("cublasGetProperty", _property),
    "cublasLt": ("cublasLtGetVersion", _returned),
    "cudart": ("cudaRuntimeGetVersion", lambda function: _with_pointers(function, 1)),
    "cudnn": ("cudnnGetVersion", _returned),
    "cufft": ("cufftGetVersion", lambda function: _with_pointers(function, 1)),
    "curand": ("curandGetVersion", lambda function: _with_pointers(function, 1)),
    "cusolver": ("cusolverGetVersion", lambda function: _with_pointers(function, 1)),
    "cusparse": ("cusparseGetProperty", _property),
    "nccl": ("ncclGetVersion", lambda function: _with_pointers(function, 1)),
    "nvJitLink": ("nvJitLinkVersion", lambda function: _with_pointers(function, 2)),
    "nvrtc": ("nvrtcVersion", lambda function: _with_pointers(function, 2)),
}


def load(library: Library, tree: Path) -> dict[str, Any]:
    """Load a library and ask it for its version.

    Returns:
        Its name, path in the tree and version, and an error when it cannot be loaded or does not answer.
    """
    facts: dict[str, Any] = {"name": library.stem, "path": library.path.relative_to(tree).as_posix()}
    try:
        handle = ctypes.CDLL(str(library.path))
        symbol, ask = _ASK.get(library.stem, ("", None))
        if ask is not None:
            facts["version"] = ask(getattr(handle, symbol))
            if facts["version"] is None:
                facts["error"] = f"{symbol} failed"
    except (OSError, AttributeError) as error:  # AttributeError: it has no such function
        facts["error"] = str(error)
    return facts


def check_loadable(torch: Any) -> Evidence:
    """Load every CUDA library of the tree.

    Raises:
        CheckFailedError: One that torch needs is not in the tree, or one cannot be loaded.
    """
    if torch.version.cuda is None:
        raise CheckSkippedError(f"torch {torch.__version__} is built without CUDA")
    tree = tree_of(torch)
    loaded = [load(library, tree) for library in find(tree)]
    wanted = REQUIRED + (() if sys.platform == "win32" else REQUIRED_LINUX)
    present = {facts["name"] for facts in loaded}
    wrong = [f"{name} is not in the tree" for name in wanted if name not in present]
    wrong += [f"{facts['path']}: {facts['error']}" for facts in loaded if "error" in facts]
    evidence = {"libraries": loaded}
    if wrong:
        raise CheckFailedError("; ".join(wrong), evidence)
    return evidence


def strangers(paths: Iterable[str], tree: Path) -> list[str]:
    """Of the files that a process has loaded, the CUDA libraries that are not the tree's own."""
    outside = []
    for text in paths:
        path = Path(text)
        if is_cuda_library(stem_of(path.name)) and not path.resolve().is_relative_to(tree):
            outside.append(text)
    return outside


def check_origin(torch: Any) -> Evidence:
    """Check that every CUDA library which this process has loaded by now is the tree's own.

    Raises:
        CheckFailedError: Naming those of another origin, such as a toolkit installed on the machine.
    """
    if torch.version.cuda is None:
        raise CheckSkippedError(f"torch {torch.__version__} is built without CUDA")
    tree = tree_of(torch)
    paths = loaded_files()
    own = [path for path in paths if is_cuda_library(stem_of(Path(path).name))]
    foreign = strangers(paths, tree)
    evidence = {"loaded": len(own), "foreign": foreign}
    if foreign:
        raise CheckFailedError(f"loaded from outside of this build: {', '.join(foreign)}", evidence)
    return evidence


if sys.platform == "win32":  # pragma: no cover (Windows)
    from ctypes import wintypes

    _MODULES = 4096  # more than any process here loads
    _PATH_LENGTH = 32_768  # the longest path that Windows has

    def loaded_files() -> list[str]:
        """The files that this process has mapped as programs and libraries."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.GetCurrentProcess.restype = wintypes.HANDLE
        process = wintypes.HANDLE(kernel.GetCurrentProcess())
        handles = (wintypes.HMODULE * _MODULES)()
        needed = wintypes.DWORD()
        if not kernel.K32EnumProcessModules(process, handles, ctypes.sizeof(handles), ctypes.byref(needed)):
            raise ctypes.WinError(ctypes.get_last_error())
        kernel.GetModuleFileNameW.argtypes = [wintypes.HMODULE, wintypes.LPWSTR, wintypes.DWORD]
        names = []
        for handle in handles[: needed.value // ctypes.sizeof(wintypes.HMODULE)]:
            name = ctypes.create_unicode_buffer(_PATH_LENGTH)
            if kernel.GetModuleFileNameW(handle, name, len(name)):
                names.append(name.value)
        return sorted(names)

else:
    _PATH_COLUMN = 5  # of /proc/self/maps, the last one; a path may contain blanks

    def loaded_files() -> list[str]:
        """The files that this process has mapped as programs and libraries."""
        with Path("/proc/self/maps").open(encoding="utf-8", errors="surrogateescape") as lines:
            rows = [line.rstrip("\n").split(maxsplit=_PATH_COLUMN) for line in lines]
        return sorted({row[_PATH_COLUMN] for row in rows if len(row) > _PATH_COLUMN and row[_PATH_COLUMN][0] == "/"})
