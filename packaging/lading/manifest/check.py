"""Checks that need more than one file: what the manifests refer to, and whether it fits.

The manifests themselves are read and judged by :mod:`lading.manifest.project`; here it is known that they are valid.
Nothing is changed, run or imported.

What is checked, in this order:
    1. Every file and folder that a manifest names exists and lies in the project, symbolic links followed.
    2. The program's own packages are under the import roots; module lists do not contradict each other.
    3. Names can be file names on every system, sizes make sense, no archive needs more volumes than can be named.
    4. Locks: :mod:`lading.manifest.lockcheck`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from packaging.specifiers import SpecifierSet

from lading.errors import LockMismatch, LockMissing, ManifestInvalid
from lading.manifest.app import App, Budgets
from lading.manifest.destination import CDN_CACHE_LIMIT, S3Destination
from lading.manifest.document import Document, Loc
from lading.manifest.lockcheck import lock_problems
from lading.manifest.pathcheck import path_problems
from lading.manifest.problem import Problem, in_reading_order, near_miss
from lading.manifest.project import APP_FILE, DESTINATIONS_FILE, TOOLKITS_FOLDER, Project, read_project

SUPPORTED_PYTHONS = ("3.11", "3.12", "3.13")
MAX_VOLUMES = 999  # a volume's number has three digits
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}


def check_folder(root: Path) -> tuple[Problem, ...]:
    """Check a project's manifests and everything they name.

    Args:
        root: The project's folder.

    Returns:
        All problems and notes in reading order; empty when there is nothing to say.
    """
    outcome = read_project(root)
    return in_reading_order(check_project(outcome) if isinstance(outcome, Project) else outcome)


def exit_code(problems: Iterable[Problem]) -> int:
    """The exit code for what was found: 0 for notes alone, a lock's own code when only locks are wrong."""
    kinds = {problem.kind for problem in problems if problem.level == "error"}
    codes = {kind.__name__: kind.exit_code for kind in (ManifestInvalid, LockMissing, LockMismatch)}
    return next((code for name, code in codes.items() if name in kinds), 0)


def check_project(project: Project) -> tuple[Problem, ...]:
    """Check what valid manifests refer to; see the module's list."""
    app = project.documents[APP_FILE]
    problems = [
        *_path_problems(project, app),
        *_package_problems(project, app),
        *_module_problems(project.app, app),
        *_name_problems(project.app, app),
        *_budget_problems(project.app.budgets, app, mine=("core", "core_unpacked"), other="the toolkits' manifests"),
        *_destination_problems(project),
        *lock_problems(project),
    ]
    for name, toolkit in project.toolkits.items():
        document = project.documents[f"{TOOLKITS_FOLDER}/{name}.yaml"]
        problems += _budget_problems(toolkit.budgets, document, mine=("libs", "libs_unpacked"), other=APP_FILE)
    return in_reading_order(problems)


# 1. paths


def _path_problems(project: Project, document: Document) -> Iterator[Problem]:
    app = project.app
    files = {
        "version_from": app.version_from,
        "entry": app.entry,
        "spec": app.spec,
        "requirements": app.requirements,
    }
    for key, relative in files.items():
        yield from path_problems(project.root, document, (key,), relative, wanted="a file")
    yield from path_problems(project.root, document, ("hooks",), app.hooks, wanted="a folder")
    for number, relative in enumerate(app.library_hooks):
        yield from path_problems(project.root, document, ("library_hooks", number), relative, wanted="a folder")
    for number, relative in enumerate(app.import_roots):
        yield from path_problems(project.root, document, ("import_roots", number), relative, wanted="a folder")
    for number, data in enumerate(app.data):
        yield from path_problems(
            project.root, document, ("data", number, "source"), data.source, wanted="a file or folder"
        )


# 2. modules


def _module_problems(app: App, document: Document) -> Iterator[Problem]:
    excluded = {item.module: number for number, item in enumerate(app.excluded_modules)}
    for key, modules in (("required_modules", app.required_modules), ("hidden_imports", app.hidden_imports)):
        for number, module in enumerate(modules):
            if rule := next((rule for rule in excluded if _covers(rule, module)), None):
                line, _ = document.place(("excluded_modules", excluded[rule]))
                found = f"{module!r}, which 'excluded_modules' keeps out in line {line}"
                yield document.problem((key, number), "two lists contradict each other", found=found)
    for number, item in enumerate(app.allowed_missing):
        if item.module in app.required_modules:
            found = f"{item.module!r}, which 'required_modules' has too"
            yield document.problem(("allowed_missing", number), "two lists contradict each other", found=found)


def _covers(rule: str, module: str) -> bool:
    stem = rule.removesuffix(".*")
    return module.startswith(f"{stem}.") or (module == rule)


def _package_problems(project: Project, document: Document) -> Iterator[Problem]:
    for number, package in enumerate(project.app.packages):
        inside = package.replace(".", "/")
        places = [project.root / root / inside for root in project.app.import_roots]
        if not any((place / "__init__.py").is_file() or place.with_suffix(".py").is_file() for place in places):
            roots = [entry.name for root in project.app.import_roots for entry in _entries(project.root / root)]
            yield document.problem(
                ("packages", number),
                "no such package under the import roots",
                found=repr(package),
                allowed=f"a folder with __init__.py in {', '.join(project.app.import_roots)}",
                hint=near_miss(package, roots),
            )


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


# 3. names and sizes


def _name_problems(app: App, document: Document) -> Iterator[Problem]:
    named: list[tuple[Loc, str]] = [
        (("name",), app.name),
        (("executable", "cpu"), app.executable.cpu),
        (("executable", "cuda"), app.executable.cuda),
    ]
    for loc, name in named:
        if name in _RESERVED:
            yield document.problem(loc, "Windows cannot have a file of this name", found=repr(name))
    allowed = SpecifierSet(app.python)
    if not any(allowed.contains(f"{python}.0") or allowed.contains(f"{python}.99") for python in SUPPORTED_PYTHONS):
        supported = ", ".join(SUPPORTED_PYTHONS)
        yield document.problem(
            ("python",), "no supported Python is in this range", found=repr(app.python), allowed=supported
        )


def _budget_problems(budgets: Budgets, document: Document, *, mine: tuple[str, str], other: str) -> Iterator[Problem]:
    values: Mapping[str, int | None] = budgets.model_dump()
    for key, value in values.items():
        if value is None:
            continue
        if key not in mine:
            hint = f"It is set in {other}."
            yield document.problem(
                ("budgets", key), "this budget has no effect here", allowed=" and ".join(mine), hint=hint
            )
        elif value == 0:
            yield document.problem(("budgets", key), "no build fits into this budget", found="0")
    packed, unpacked = values[mine[0]], values[mine[1]]
    if packed and unpacked and packed > unpacked:
        yield document.problem(
            ("budgets", mine[0]),
            "the packed budget is larger than the unpacked one",
            found=f"{packed:,} bytes, and {mine[1]} has {unpacked:,}",
        )


def _destination_problems(project: Project) -> Iterator[Problem]:
    document = project.documents.get(DESTINATIONS_FILE)
    if document is None:
        return
    for name, destination in project.destinations.items():
        loc: Loc = ("destinations", name, "asset_limit")
        for toolkit in project.toolkits.values():
            count = -(-(toolkit.budgets.libs or 0) // destination.asset_limit)
            if count > MAX_VOLUMES:
                found = f"{destination.asset_limit:,} bytes, {count:,} volumes for the libs of {toolkit.name}"
                yield document.problem(loc, "too many volumes", found=found, allowed=f"at most {MAX_VOLUMES} volumes")
        if (
            isinstance(destination, S3Destination)
            and destination.preset == "r2"
            and destination.asset_limit > CDN_CACHE_LIMIT
        ):
            yield document.problem(
                loc,
                "the CDN in front of this destination caches no asset as large as that",
                found=f"{destination.asset_limit:,} bytes",
                allowed=f"{CDN_CACHE_LIMIT:,} bytes for cached downloads",
                level="note",
            )
