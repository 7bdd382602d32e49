"""Who owns each file of a frozen tree: from PyInstaller's table of contents and the distributions' records. Pure.

The source of a file decides, in this order: a distribution that lists it; the program's own folders; PyInstaller's;
the interpreter's; else the operating system of the build machine. A compiled module (``.pyc``) is made by PyInstaller
in its work folder, so its source is looked up by its name: ``torch/nn/__init__.pyc`` comes from its ``.py``. So is
that of a copy without symbols that a hook made there.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from lading.freeze.environment import Environment
from lading.freeze.settings import Collected, Contents
from lading.hooks import COPIES
from lading.manifest.buildinfo import OWNER_APP, OWNER_PYINSTALLER, OWNER_PYTHON, OWNER_SYSTEM

ELSEWHERE = "elsewhere"  # a module from a folder that is nobody's; a gate stops it
_SHARED_PREFIXES = {Path("/usr"), Path("/usr/local")}  # an interpreter that lives there shares them with everybody
_LIBPYTHON = re.compile(r"(?:lib)?python3?[0-9._]*(?:\.so[0-9.]*|\.dll)", re.IGNORECASE)
_FREEZERS = {"pyinstaller", "pyinstaller-hooks-contrib"}  # what they put into a tree is run-time support


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where files may come from.

    Attributes:
        by_path: Owner of each file of the installed distributions, by absolute path.
        by_module: Owner of each Python source, by its path relative to site-packages.
        import_roots: The program's own import roots.
        packages: The program's own packages.
        project: The project's folder.
        stdlib, base_prefix: The interpreter.
    """

    by_path: Mapping[str, str]
    by_module: Mapping[str, str]
    import_roots: tuple[Path, ...]
    packages: tuple[str, ...]
    project: Path
    stdlib: Path
    base_prefix: Path


def sources(
    environment: Environment, project: Path, import_roots: tuple[Path, ...], packages: tuple[str, ...]
) -> Sources:
    """Index an environment's files by owner."""
    by_path: dict[str, str] = {}
    by_module: dict[str, str] = {}
    roots = [f"{site}{os.sep}" for site in environment.site]
    for name, installed in environment.distributions.items():
        owner = OWNER_PYINSTALLER if name in _FREEZERS else name
        for file in installed.files:
            by_path[file] = owner
            for root in roots:
                if file.startswith(root):
                    by_module[Path(file.removeprefix(root)).as_posix()] = owner
    return Sources(
        by_path=by_path,
        by_module=by_module,
        import_roots=import_roots,
        packages=packages,
        project=project,
        stdlib=environment.stdlib,
        base_prefix=environment.base_prefix,
    )


def _inside(path: str, folder: Path) -> bool:
    return Path(path).is_relative_to(folder)


def _is_of_interpreter(source: str, known: Sources) -> bool:
    if _inside(source, known.stdlib) or _LIBPYTHON.fullmatch(Path(source).name):
        return True
    return known.base_prefix not in _SHARED_PREFIXES and _inside(source, known.base_prefix)


def _by_source(source: str, known: Sources) -> str:
    if owner := known.by_path.get(source):
        return owner
    if _is_of_interpreter(source, known) and not _inside(source, known.project):
        return OWNER_PYTHON
    if any(_inside(source, root) for root in known.import_roots) or _inside(source, known.project):
        return OWNER_APP
    return OWNER_SYSTEM


def _by_module(path: str, known: Sources, exists: Callable[[Path], bool]) -> str:
    """The owner of a compiled module, by the name of its source."""
    source = path.removesuffix("c")
    if source.split("/")[0].removesuffix(".py") in known.packages:
        return OWNER_APP
    if owner := known.by_module.get(source) or known.by_module.get(path):
        return owner
    if exists(known.stdlib / source):
        return OWNER_PYTHON
    if any(exists(root / source) for root in known.import_roots):
        return OWNER_APP
    return known.by_module.get(f"PyInstaller/fake-modules/{source}", ELSEWHERE)


def owner_of(item: Collected, known: Sources, exists: Callable[[Path], bool] = Path.exists) -> str:
    """The owner of one file that is not a link.

    Args:
        item: The file.
        known: Where files may come from.
        exists: Whether a path exists; given by tests.
    """
    if item.typecode == "EXECUTABLE":
        return OWNER_APP
    if item.path.endswith(".pyc") and not known.by_path.get(item.source):
        return _by_module(item.path, known, exists)
    if item.path == "base_library.zip":
        return OWNER_PYTHON
    if COPIES in Path(item.source).parts and (owner := known.by_module.get(item.path)):
        return owner
    return _by_source(item.source, known)


def owners(contents: Contents, known: Sources, payload: str) -> dict[str, str]:
    """The owner of every entry of the tree.

    Args:
        contents: PyInstaller's table of contents.
        known: Where files may come from.
        payload: The payload folder's name.

    Returns:
        Owner by path relative to the tree; a link has its target's owner.
    """
    found: dict[str, str] = {}
    links: dict[str, str] = {}
    for item in contents.collected:
        path = item.path if item.typecode == "EXECUTABLE" else f"{payload}/{item.path}"
        if item.typecode == "SYMLINK":
            links[path] = posixpath.normpath(posixpath.join(posixpath.dirname(path), item.source))
        else:
            found[path] = owner_of(item, known)
    return found | {link: found.get(_end(link, links), OWNER_SYSTEM) for link in links}


def _end(link: str, links: Mapping[str, str]) -> str:
    """Where a chain of links ends; a circle ends where it began."""
    seen = {link}
    end = links[link]
    while end in links and end not in seen:
        seen.add(end)
        end = links[end]
    return end
