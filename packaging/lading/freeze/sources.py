"""What a frozen tree is made from, as values that can be compared: when is an older tree still right?

Three things are kept apart. Everything that only a full freeze can follow (environment, spec, hooks, manifests, entry
script, data) is one *base* digest. What PyInstaller took besides, because a hook or an import led to it, is kept file
by file. The program's own modules are kept one by one, each with its digest and the imports it makes, because a change
inside a module that imports what it imported before changes one ``.pyc`` and nothing else.
"""

from __future__ import annotations

import ast
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from lading.digest import sha256_bytes, sha256_file
from lading.freeze.environment import Environment
from lading.freeze.pyinstaller import HASH_SEED
from lading.freeze.settings import IRREPRODUCIBLE, Contents
from lading.manifest.base import Record, RelPath, Sha256
from lading.manifest.project import Project
from lading.manifest.toolkit import Toolkit

# In modules that import these, PyInstaller looks for calls with a literal name: libraries to load, metadata to take
# along, drawing backends to choose. It knows the functions by their own names, not by what they are imported as.
_SCANNED = ("ctypes", "importlib.metadata", "importlib_metadata", "pkg_resources", "matplotlib")
_BY_NAME = {
    "CDLL", "PyDLL", "WinDLL", "OleDLL", "LoadLibrary", "find_library", "use",
    "distribution", "files", "get_distribution", "metadata", "require", "requires", "version",
}  # fmt: skip
_IMPORTERS = {"import_module", "__import__"}
_LIBRARY_FOLDERS = {"cdll", "windll", "oledll", "pydll"}  # ctypes.cdll.name loads a library too


class SourceModule(Record):
    """One module of the program.

    Attributes:
        name: Dotted name.
        path: Its source, relative to the project.
        sha256: Digest of the source.
        imports: Digest of all imports and library loads in it, each with what surrounds it.
    """

    name: str
    path: str
    sha256: Sha256
    imports: Sha256


class SourceFile(Record):
    """Another file of the project that is in the tree.

    Attributes:
        path: Relative to the project.
        sha256: Its digest.
    """

    path: RelPath
    sha256: Sha256


class SourceState(Record):
    """What a tree was made from.

    Attributes:
        base: Digest of everything that only a full freeze can follow.
        modules: The program's own modules in order of their names; without the entry script, which is in ``base``.
        collected: What else of the project PyInstaller took; known only after a full freeze.
    """

    schema_: Literal["lading/freeze-state/2"] = "lading/freeze-state/2"
    base: Sha256
    modules: tuple[SourceModule, ...]
    collected: tuple[SourceFile, ...] = ()


def _places(node: ast.AST, around: tuple[str, ...] = ()) -> Iterator[tuple[ast.AST, str]]:
    """Every node with what decides whether PyInstaller calls an import there delayed, conditional or optional."""
    guards = ast.Try | ast.If | ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
    for child in ast.iter_child_nodes(node):
        yield child, "/".join(around)
        yield from _places(child, (*around, type(child).__name__) if isinstance(child, guards) else around)


def _imported(node: ast.AST) -> set[str]:
    match node:
        case ast.Import(names=names):
            return {alias.name for alias in names}
        case ast.ImportFrom(module=str(module), names=names, level=0):
            return {f"{module}.{alias.name}" for alias in names}
        case _:
            return set()


def _is_scanned(nodes: Iterable[ast.AST]) -> bool:
    names = {f"{name}." for node in nodes for name in _imported(node)}
    return any(name.startswith(f"{scanned}.") for name in names for scanned in _SCANNED)


def _leads_somewhere(node: ast.AST, *, scanned: bool) -> bool:
    match node:
        case ast.Import() | ast.ImportFrom():
            return True
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in _IMPORTERS or (scanned and name in _BY_NAME)
        case ast.Attribute(value=ast.Name(id=name) | ast.Attribute(attr=name)):
            return scanned and name in _LIBRARY_FOLDERS
        case _:
            return False


def import_signature(source: bytes) -> str:
    """Digest of what a module leads PyInstaller to; the same when only other code changed.

    Args:
        source: The module's source.

    Returns:
        64 hexadecimal digits. A source that cannot be parsed gets the digest of its bytes: the freeze will tell.
    """
    try:
        nodes = list(_places(ast.parse(source)))
    except (SyntaxError, ValueError):
        return sha256_bytes(source)
    scanned = _is_scanned(node for node, _ in nodes)
    lines = sorted(f"{around} {ast.dump(node)}" for node, around in nodes if _leads_somewhere(node, scanned=scanned))
    return sha256_bytes("\n".join(lines).encode())


def _module_name(root: Path, path: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package_files(project: Project) -> Iterator[tuple[Path, Path]]:
    """Every file of the program's own packages, with the import root that it is found from."""
    for import_root in project.app.import_roots:
        root = project.path(import_root)
        for package in project.app.packages:
            base = root.joinpath(*package.split("."))
            found = [base.with_name(f"{base.name}.py"), *sorted(base.rglob("*"))]
            yield from ((root, path) for path in found if path.is_file() and "__pycache__" not in path.parts)


def _own_modules(project: Project) -> Iterator[SourceModule]:
    entry = project.path(project.app.entry)
    for root, path in _package_files(project):
        if path.suffix == ".py" and path != entry:
            source = path.read_bytes()
            yield SourceModule(
                name=_module_name(root, path),
                path=path.relative_to(project.root).as_posix(),
                sha256=sha256_bytes(source),
                imports=import_signature(source),
            )


def _files(path: Path) -> list[Path]:
    return sorted(found for found in path.rglob("*") if found.is_file()) if path.is_dir() else [path]


def _base_files(project: Project) -> dict[str, list[object]]:
    """Digest and mode of each file that only a full freeze can follow."""
    app = project.app
    watched = [app.entry, app.spec, app.hooks, *app.library_hooks, *(data.source for data in app.data)]
    files = [file for relative in watched for file in _files(project.path(relative)) if file.is_file()]
    files += [path for _, path in _package_files(project) if path.suffix != ".py"]  # a hook may take them
    return {
        file.relative_to(project.root).as_posix(): [sha256_file(file), os.access(file, os.X_OK)]
        for file in files
        if file.suffix != ".pyc"
    }


def _importable(root: Path) -> list[str]:
    """What can be imported from a folder: an import that found nothing before may find something new."""
    found = root.iterdir() if root.is_dir() else ()
    return sorted(path.name for path in found if path.suffix == ".py" or (path / "__init__.py").is_file())


def source_state(
    project: Project, toolkit: Toolkit | None, environment: Environment, epoch: int | None = None
) -> SourceState:
    """Describe what a freeze would use.

    Args:
        project: The project.
        toolkit: The toolkit, or none for a CPU build.
        environment: The build environment.
        epoch: The build's time where it gets into the tree (Windows' executables).
    """
    app = project.app
    base = {
        "files": _base_files(project),
        "importable": [_importable(project.path(root)) for root in app.import_roots],
        # Budgets, labels and driver floors do not change a tree; what is collected and what is left out does.
        "app": app.model_dump(mode="json", exclude={"budgets", "channel", "patches", "version_from", "cpu_locks"}),
        "exclude": [rule.model_dump() for rule in (*(toolkit.exclude if toolkit else ()), *IRREPRODUCIBLE)],
        "flavor": toolkit.name if toolkit else "cpu",
        # A made environment is named after its locks, wherever the project lies; another one is known by its place.
        "python": [environment.version, environment.prefix.name if environment.locks else str(environment.prefix)],
        "locks": dict(environment.locks),
        "distributions": {name: item.version for name, item in sorted(environment.distributions.items())},
        "epoch": epoch,
        "seed": HASH_SEED,
    }
    return SourceState(
        base=sha256_bytes(json.dumps(base, sort_keys=True).encode()),
        modules=tuple(sorted(_own_modules(project), key=lambda module: module.name)),
    )


def collected_files(
    contents: Contents, project: Project, state: SourceState, outside: Iterable[Path]
) -> tuple[SourceFile, ...]:
    """The files of the project in a table of contents that a source state does not know of.

    Args:
        contents: PyInstaller's table of contents.
        project: The project.
        state: What is known.
        outside: Folders that are not the project's though they may lie in it: outputs, the environment.

    Returns:
        Files that the program imports from elsewhere than its packages, and data that hooks took.
    """
    own = {module.path for module in state.modules}
    away = tuple(outside)
    found: dict[str, Path] = {}
    for item in (*contents.collected, *contents.pure):
        for source in _candidates(item.path, item.source, project):
            if source.is_relative_to(project.root) and not any(source.is_relative_to(folder) for folder in away):
                found[source.relative_to(project.root).as_posix()] = source
    return tuple(
        SourceFile(path=path, sha256=sha256_file(source))
        for path, source in sorted(found.items())
        if path not in own and source.is_file()
    )


def _candidates(path: str, source: str, project: Project) -> Iterator[Path]:
    yield Path(source)
    if path.endswith(".pyc"):  # compiled in PyInstaller's work folder from a source of this name
        yield from (project.path(root) / path.removesuffix("c") for root in project.app.import_roots)


def still_collected(files: Iterable[SourceFile], project: Project) -> bool:
    """Whether files that a freeze took are as they were."""
    return all((source := project.path(file.path)).is_file() and sha256_file(source) == file.sha256 for file in files)


def changed_modules(new: SourceState, old: SourceState) -> tuple[SourceModule, ...] | None:
    """The modules to compile again, or none when only a full freeze will do. Pure.

    Args:
        new: What is there now.
        old: What the tree was made from.

    Returns:
        The changed modules, none of which imports anything else than before; empty when nothing changed.
    """
    before = {module.name: module for module in old.modules}
    if new.base != old.base or [m.name for m in new.modules] != [m.name for m in old.modules]:
        return None
    changed = tuple(module for module in new.modules if module.sha256 != before[module.name].sha256)
    if any(module.imports != before[module.name].imports for module in changed):
        return None
    return changed
