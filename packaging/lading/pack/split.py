"""Which component a file belongs to: by its owner first, by its name only where nobody owns it. Pure.

The rules, in order; the first that applies decides:
    1. A link goes where its target goes.
    2. A file whose owner matches ``libs.distributions`` goes to libs.
    3. A shared library whose name matches ``libs.patterns`` goes to libs: for files without an owner, and for wheels of
       other distributions that carry NVIDIA's libraries themselves.
    4. A file without an owner that lies in a folder named in ``libs.folders`` (any segment of its path) goes to libs,
       unless it is one of ``libs.stubs``, Python files that only carry NVIDIA's names.
    5. Everything else is core.

The parts are disjoint and their union is the tree, because each entry gets exactly one answer.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from lading.errors import NoNvidiaFiles
from lading.manifest.base import Component
from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.toolkit import LibsRule, Toolkit

NO_OWNER = ""
_SHARED_LIBRARY = re.compile(r"(?:\.so(?:\.[0-9]+)*|\.dll|\.dylib)$", re.IGNORECASE)
_NVIDIA_FOLDER = "nvidia"
_TORCH = re.compile(
    r"^(?:lib)?(?:torch|c10)_", re.IGNORECASE
)  # torch's own CUDA libraries, which the patterns name too


def is_shared_library(path: str) -> bool:
    """Whether a name is a shared library's: ``libcublas.so.12``, ``cublas64_12.dll``, ``libx.so``."""
    return _SHARED_LIBRARY.search(posixpath.basename(path)) is not None


def _matches_name(path: str, rule: LibsRule) -> bool:
    name = posixpath.basename(path).lower()
    return is_shared_library(path) and any(fnmatchcase(name, pattern.lower()) for pattern in rule.patterns)


def classify(path: str, owner: str, rule: LibsRule) -> Component:
    """Decide about one file (rules 2 to 5).

    Args:
        path: Relative to the tree.
        owner: Its distribution, or :data:`NO_OWNER`.
        rule: The toolkit's rule.
    """
    if any(fnmatchcase(owner, pattern) for pattern in rule.distributions):
        return "libs"
    if _matches_name(path, rule):
        return "libs"
    *folders, name = path.split("/")
    if owner == NO_OWNER and name not in rule.stubs and not set(folders).isdisjoint(rule.folders):
        return "libs"
    return "core"


def is_nvidia(path: str, owner: str, rule: LibsRule) -> bool:
    """Whether a file is one of NVIDIA's own (torch's are not): what a CUDA build cannot be without."""
    *folders, name = path.split("/")
    in_folder = owner == NO_OWNER and _NVIDIA_FOLDER in folders
    by_name = _matches_name(path, rule) and _TORCH.match(name) is None
    return owner.startswith("nvidia-") or in_folder or by_name


def _landing(entry: OwnedEntry) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(entry.path), entry.target or ""))


def split(files: Sequence[OwnedEntry], toolkit: Toolkit | None) -> dict[Component, tuple[OwnedEntry, ...]]:
    """Divide a tree into core and libs.

    Args:
        files: All entries of the tree.
        toolkit: The toolkit of a CUDA build; none for a CPU build, which has no libs.

    Returns:
        ``core`` and, for a CUDA build, ``libs``; each in path order.

    Raises:
        NoNvidiaFiles: A CUDA build has no file of NVIDIA's.
    """
    if toolkit is None:
        return {"core": tuple(files)}
    rule = toolkit.libs
    if not any(is_nvidia(entry.path, entry.owner, rule) for entry in files if entry.type == "file"):
        raise NoNvidiaFiles(
            f"None of the {len(files)} files of the tree is a file of {toolkit.name}'s NVIDIA libraries.",
            usually="The environment had a CPU build of torch, or the CUDA packages were excluded.",
            todo=f"Check that the lock of {toolkit.name} pins torch's CUDA build, then freeze again; "
            "for a build without CUDA use --cpu.",
        )
    answers: dict[str, Component] = {
        entry.path: classify(entry.path, entry.owner, rule) for entry in files if entry.type == "file"
    }
    links = {entry.path: _landing(entry) for entry in files if entry.type == "link"}

    def component(path: str) -> Component:
        seen = set()
        while path in links and path not in seen:
            seen.add(path)
            path = links[path]
        # A link to a folder goes where the folder's files go when they agree, else to core, which is always there.
        below = {answer for known, answer in answers.items() if known.startswith(path + "/")}
        return answers.get(path) or (below.pop() if len(below) == 1 else "core")

    parts: dict[Component, list[OwnedEntry]] = {"core": [], "libs": []}
    for entry in files:
        parts[answers.get(entry.path) or component(entry.path)].append(entry)
    return {name: tuple(entries) for name, entries in parts.items()}
