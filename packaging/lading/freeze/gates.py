"""What stops a broken build. Pure: each gate takes what was found and raises, or returns what is worth a note."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lading.errors import FrozenBroken, ImportMissing, LinkageBroken, StrangerInTree, WrongTorch, listed
from lading.freeze.settings import Contents
from lading.linkage import Linkage
from lading.manifest.app import App
from lading.manifest.base import Variant
from lading.manifest.buildinfo import OWNER_APP, OWNER_PYINSTALLER, OWNER_PYTHON, OWNER_SYSTEM
from lading.manifest.release import TorchBuild
from lading.manifest.toolkit import Toolkit

# "invalid" is a module that is there and cannot be compiled; it does not get into the tree either.
_MISSING = re.compile(r"^(missing|excluded|invalid) module named ('?)([\w.]+)'? - imported by (.+)$", re.MULTILINE)
_HOW = "top-level|conditional|delayed|optional"
# An importer is a module, or a script by its path, in which spaces, commas and brackets may be.
_IMPORTER = re.compile(rf"(.+?) \(((?:{_HOW})(?:, (?:{_HOW}))*)\)(?:, |$)")
_HIDDEN = re.compile(r"ERROR: Hidden import ['\"]([\w.]+)['\"] not found", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MissingImport:
    """A module that PyInstaller did not find.

    Attributes:
        module: Its name.
        attribute: Whether it may be an attribute: ``from pydantic import BaseModel`` is listed without quotes when no
            submodule has the name.
        importers: Who imports it (a module's name or a script's path), each with how: ``top-level``, ``delayed``,
            ``conditional``, ``optional``.
    """

    module: str
    attribute: bool
    importers: tuple[tuple[str, frozenset[str]], ...]


def parse_missing(warnings: str) -> tuple[MissingImport, ...]:
    """Read PyInstaller's list of missing modules (``warn-<name>.txt``)."""
    return tuple(
        MissingImport(
            module=module,
            attribute=kind == "missing" and "." in module and not quote,
            importers=tuple(
                (name.strip("'"), frozenset(part.strip() for part in how.split(",")))
                for name, how in _IMPORTER.findall(importers)
            ),
        )
        for kind, quote, module, importers in _MISSING.findall(warnings)
    )


def _is_own(importer: str, app: App, entry: Path) -> bool:
    return Path(importer) == entry or any(
        importer == package or importer.startswith(f"{package}.") for package in app.packages
    )


def _allowed(module: str, app: App, variant: Variant) -> bool:
    return any(
        rule.variant in {None, variant}
        and (module == rule.module or module.startswith(f"{rule.module.removesuffix('.*')}."))
        for rule in app.allowed_missing
    )


def check_imports(
    warnings: str, log: str, contents: Contents, app: App, *, variant: Variant, entry: Path
) -> tuple[str, ...]:
    """Stop a build that lacks a module which the program really needs.

    PyInstaller only warns. Most of its warnings are about other systems' modules and options of dependencies, so three
    things count: what the program's own code imports without a guard, what the manifest calls hidden imports, and what
    the manifest requires. What dependencies need at start is proven by running the frozen self-test.

    Args:
        warnings: PyInstaller's list of missing modules.
        log: PyInstaller's log.
        contents: The table of contents.
        app: The program.
        variant: Which build this is.
        entry: The entry script, which PyInstaller lists by its path.

    Returns:
        Hidden imports of other packages' hooks that were not found; for the log only.

    Raises:
        ImportMissing: Lists each missing module with who imports it.
    """
    present = modules_of(contents)
    lines = []
    for missing in sorted(parse_missing(warnings), key=lambda missing: missing.module):
        needed_by = [
            app.entry if Path(name) == entry else name
            for name, how in missing.importers
            if _is_own(name, app, entry) and how.isdisjoint({"optional", "conditional"})
        ]
        if missing.attribute and missing.module.rpartition(".")[0] in present:
            continue  # an attribute of a module that is there; should it be missing all the same, the self-test tells
        if needed_by and not _allowed(missing.module, app, variant):
            lines.append(f"{missing.module}: imported by {', '.join(needed_by)}")
    hidden = set(_HIDDEN.findall(log))
    lines += [f"{name}: a hidden import of manifests/app.yaml" for name in app.hidden_imports if name in hidden]
    lines += [f"{name}: required by manifests/app.yaml" for name in app.required_modules if name not in present]
    if lines:
        raise ImportMissing(
            f"{len(lines)} module(s) that the program needs are not in the tree:{listed(lines)}",
            usually="The lock lacks the package, the module's name is misspelt, or it has a syntax error.",
            todo="Add the package to the requirements and lock again; if the program can do without it, guard the "
            "import with try/except, or list it under allowed_missing with the reason.",
        )
    return tuple(sorted(hidden - set(app.hidden_imports)))


def modules_of(contents: Contents) -> frozenset[str]:
    """Names of all modules in the tree, loose, in the executable, or compiled."""
    names = {item.path for item in contents.pure}
    for item in contents.collected:
        path = item.path
        if path.endswith((".pyc", ".py")):
            dotted = path.rpartition(".")[0].replace("/", ".")
            names.add(dotted.removesuffix(".__init__"))
        elif item.typecode == "EXTENSION":
            folder, _, name = path.rpartition("/")
            # The standard library's lie in python3.11/lib-dynload; no other folder with a dot is a package.
            package = "" if folder.endswith("lib-dynload") else folder.replace("/", ".")
            names.add(f"{package}.{name.split('.')[0]}".lstrip("."))
    return frozenset(names)


def check_torch(torch: TorchBuild | None, toolkit: Toolkit) -> None:
    """Stop a CUDA build whose torch has no CUDA, or another CUDA or version than the toolkit says.

    Raises:
        WrongTorch: With both values.
    """
    wrong = None
    if torch is None:
        wrong = "The build environment has no torch"
    elif torch.cuda == "none":
        wrong = f"torch {torch.version} in the build environment has no CUDA"
    elif torch.cuda != toolkit.cuda:
        wrong = f"torch {torch.version} in the build environment is built with CUDA {torch.cuda}"
    elif torch.version.partition("+")[0] != toolkit.torch:
        wrong = f"The build environment has torch {torch.version}"
    if wrong is None:
        return
    raise WrongTorch(
        f"{wrong}; manifests/toolkits/{toolkit.name}.yaml says torch {toolkit.torch} with CUDA {toolkit.cuda}.",
        usually="The package index offers another build of torch under the same version (a CPU build, or the default "
        "CUDA of another release line), or --reuse-env was given in the wrong environment.",
        todo=f"Lock a torch {toolkit.torch} that is built for {toolkit.name}, or choose the toolkit that torch has.",
    )


def check_strangers(owners: Mapping[str, str], allowed: Collection[str]) -> None:
    """Stop a build with files of distributions that nothing asked for.

    Raises:
        StrangerInTree: Lists the distributions with an example each.
    """
    known = {*allowed, OWNER_APP, OWNER_PYTHON, OWNER_PYINSTALLER, OWNER_SYSTEM}
    strangers: dict[str, list[str]] = {}
    for path, owner in owners.items():
        if owner not in known:
            strangers.setdefault(owner, []).append(path)
    if strangers:
        lines = [f"{name}: {len(paths)} file(s), such as {paths[0]}" for name, paths in sorted(strangers.items())]
        raise StrangerInTree(
            f"{len(strangers)} distribution(s) that the requirements do not lead to got into the tree:{listed(lines)}",
            usually="They were installed beside the server and something imports them optionally; what is from "
            "elsewhere lies in a folder that a link (.pth) of the environment leads to, such as another project's.",
            todo="Add them to the requirements if the server needs them, or to excluded_modules with the reason.",
        )


def check_linkage(linkage: Linkage) -> tuple[str, ...]:
    """Stop a build in which a shared library needs another that nobody will have.

    Returns:
        Search path entries that leave the tree; for the log only, since they find nothing on a user's machine.

    Raises:
        LinkageBroken: Lists each library with what it lacks.
    """
    lines = [f"{item.importer}: {item.name}" for item in linkage.unresolved]
    lines += [f"{item.path}: {item.reason}" for item in linkage.unreadable]
    if lines:
        raise LinkageBroken(
            f"{len(lines)} shared librar{'y lacks' if len(lines) == 1 else 'ies lack'} what neither the tree nor "
            f"the list of system libraries has:{listed(lines)}",
            usually="An exclusion removed a library that another needs, or it comes from the build machine.",
            todo="Remove the exclusion, or add the package that has the library to the requirements.",
        )
    return tuple(f"{item.path}: {item.entry}" for item in linkage.escapes)


def check_untouched(paths: Iterable[str], made: Collection[str]) -> None:
    """Stop a program that writes into its own folder: installed versions are never modified, and may be read-only.

    Args:
        paths: The files of the tree after it was tried.
        made: The files that were put into it.

    Raises:
        FrozenBroken: Lists what was written.
    """
    written = sorted(set(paths) - set(made))
    if written:
        raise FrozenBroken(
            f"While it was tried the program wrote {len(written)} file(s) into its own folder:{listed(written)}",
            usually="It writes logs or caches into the current folder, or beside its executable.",
            todo="Let it write into the user's data or cache folder.",
        )


def unwanted_modules(
    distributions: Mapping[str, Sequence[str]], allowed: Collection[str], own: Iterable[str] = ()
) -> tuple[str, ...]:
    """Top-level modules of everything that is installed and not allowed in the tree.

    Args:
        distributions: Top-level modules by distribution.
        allowed: The distributions that may be in the tree.
        own: The program's own packages, which may be installed beside as a distribution too.

    Returns:
        Module names; never one that an allowed distribution has too (namespace packages), that the program has itself,
        or that the standard library has (a backport of it).
    """
    wanted = {module for name, modules in distributions.items() if name in allowed for module in modules}
    wanted |= {package.partition(".")[0] for package in own} | sys.stdlib_module_names
    unwanted = {module for name, modules in distributions.items() if name not in allowed for module in modules}
    return tuple(sorted(unwanted - wanted - {"PyInstaller", "_pyinstaller_hooks_contrib"}))


def allowed_distributions(pinned: Iterable[str], required: Iterable[str]) -> frozenset[str]:
    """What may be in the tree: what the program's lock pins, or, without a lock, what its requirements lead to."""
    pinned = frozenset(pinned)
    return pinned or frozenset(required)
