"""Which libraries a process has loaded, and whether they come from where they should: level *provenance*.

A library of the same name from a system CUDA would be loaded silently, work by luck, and fail on the next machine;
only the process itself can say which file it took.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from lading.linkage.system import driver_library, system_reason
from lading.manifest.base import OperatingSystem

_CUDA = re.compile(
    r"^(?:lib)?(?:cu(?:blas|dart|dnn|fft|file|inj|pti|rand|solver|sparse|tensor|dss)|nv(?:rtc|jitlink|toolsext|fatbin|"
    r"blas|jpeg|perf|tx|shmem|comp|vm)|nccl|torch|c10|caffe2|triton|cupti|checkpoint|accinj|npp)",
    re.IGNORECASE,
)
_LIBRARY = re.compile(r"\.(?:so(?:\.[0-9.]+)?|dll|pyd)$", re.IGNORECASE)


def parse_maps(text: str) -> set[str]:
    """The files that are mapped in a process, from ``/proc/<pid>/maps``.

    Args:
        text: Lines ``address perms offset dev inode path``.
    """
    paths = set()
    for line in text.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5].startswith("/"):  # noqa: PLR2004 (the format's columns)
            paths.add(fields[5].removesuffix(" (deleted)"))
    return paths


def is_library(path: str) -> bool:
    """Whether a mapped file is a shared library by its name."""
    return _LIBRARY.search(path) is not None


def libraries_of(pid: int) -> set[str]:
    """Paths of the libraries that a process has loaded; empty when it has ended or may not be looked at."""
    try:
        if sys.platform == "linux":
            mapped = parse_maps(Path(f"/proc/{pid}/maps").read_text("utf-8", "surrogateescape"))
        else:
            mapped = {part.path for part in psutil.Process(pid).memory_maps()}
    except (OSError, psutil.Error):
        return set()  # a process ends whenever it likes
    return {path for path in mapped if is_library(path)}


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def libraries_below(executable: Path) -> set[str]:
    """Libraries of those descendants of this process that run an executable, and of their own descendants."""
    found: set[str] = set()
    wanted = str(executable.resolve())
    for child in psutil.Process().children(recursive=True):
        try:
            if Path(child.exe()).resolve() == Path(wanted):
                for pid in family(child.pid):
                    found |= libraries_of(pid)
        except (psutil.Error, OSError):
            continue  # it has just ended, or has not yet become the program
    return found


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Loaded libraries by where they come from; each a sorted list of paths.

    Attributes:
        cuda: CUDA and torch libraries inside the tree.
        strays: CUDA and torch libraries from elsewhere: always wrong.
        driver: The NVIDIA driver's own.
        system: Those on the short list of system libraries.
        other: Any other from outside the tree.
    """

    cuda: tuple[str, ...]
    strays: tuple[str, ...]
    driver: tuple[str, ...]
    system: tuple[str, ...]
    other: tuple[str, ...]


def sort_out(paths: Iterable[str], tree: str, *, system: OperatingSystem) -> Provenance:
    """Decide for each loaded library where it belongs. Pure.

    Args:
        paths: Absolute paths as the process has them.
        tree: The tree's real, absolute path.
        system: Whose rules.
    """
    windows = system == "windows"

    def plain(path: str) -> str:
        return path.replace("\\", "/").lower() if windows else path

    root = plain(tree).rstrip("/") + "/"
    kinds: dict[str, list[str]] = {name: [] for name in ("cuda", "strays", "driver", "system", "other")}
    for path in sorted(set(paths)):
        name = plain(path).rsplit("/", 1)[-1]
        if plain(path).startswith(root):
            if _CUDA.match(name):
                kinds["cuda"].append(path)
        elif driver_library(name):
            kinds["driver"].append(path)
        elif _CUDA.match(name):
            kinds["strays"].append(path)
        elif system_reason(name, system) is not None:
            kinds["system"].append(path)
        else:
            kinds["other"].append(path)
    return Provenance(**{name: tuple(found) for name, found in kinds.items()})
