"""A project: its folder, its manifests and its version, read together. What every other room starts from.

Does not look at what the manifests refer to (locks, spec, hooks): :mod:`lading.manifest.check` does, and a command
that needs such a file says so itself.

Invariants:
    * A :class:`Project` is complete and agrees with itself: a toolkit's file has its name, no two toolkits have one
      label, and the default toolkit exists.
    * The version is read from the one file that has it, without importing or running it.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from lading.errors import LockMissing, ManifestInvalid
from lading.manifest.app import App
from lading.manifest.base import Platform, R, Version
from lading.manifest.destination import Destination, Destinations, FolderDestination
from lading.manifest.document import Document
from lading.manifest.loader import Loaded, try_record
from lading.manifest.problem import Problem, near_miss, one_of, refuse
from lading.manifest.toolkit import Toolkit

APP_FILE = "manifests/app.yaml"
TOOLKITS_FOLDER = "manifests/toolkits"
DESTINATIONS_FILE = "manifests/destinations.yaml"

_LOCAL_ONLY = Destinations(
    schema="lading/destinations/1", destinations={"local": FolderDestination(kind="folder", path="out/store")}
)


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project whose manifests are valid.

    Attributes:
        root: Its folder, absolute.
        app: The program.
        version: The program's version, such as 0.1.0.
        toolkits: By name, in order of their names; empty for a project that is built for the CPU alone.
        destinations: By name; only ``local`` when the project names none.
        documents: Where each manifest says what, by file.
    """

    root: Path
    app: App
    version: str
    toolkits: Mapping[str, Toolkit]
    destinations: Mapping[str, Destination]
    documents: Mapping[str, Document] = field(default_factory=dict, repr=False, compare=False)

    def path(self, relative: str) -> Path:
        """A file of the project, absolute."""
        return self.root / relative

    def toolkit(self, name: str | None = None) -> Toolkit:
        """A toolkit by name; without one, the app's default or the only one.

        Raises:
            ManifestInvalid: There is no such toolkit; hints at near-misses.
        """
        if name is None:
            name = self.app.default_toolkit or (next(iter(self.toolkits)) if len(self.toolkits) == 1 else None)
        if name is not None and name in self.toolkits:
            return self.toolkits[name]
        raise _unknown("toolkit", name, self.toolkits, f"a file {TOOLKITS_FOLDER}/{name or '<name>'}.yaml")

    def destination(self, name: str) -> Destination:
        """A destination by name.

        Raises:
            ManifestInvalid: There is no such destination; hints at near-misses.
        """
        if name in self.destinations:
            return self.destinations[name]
        raise _unknown("destination", name, self.destinations, f"an entry '{name}' in {DESTINATIONS_FILE}")

    def lock(self, flavor: str, platform: Platform) -> Path:
        """The hash lock of a flavor (``cpu`` or a toolkit's name) on a platform.

        Raises:
            ManifestInvalid: There is no such toolkit.
            LockMissing: The manifest names no lock for the platform, or the named file does not exist.
        """
        locks = self.app.cpu_locks if flavor == "cpu" else self.toolkit(flavor).locks
        relative = locks.get(platform)
        if relative is None:
            raise LockMissing(
                f"No lock is named for {flavor} on {platform}; there are locks for {one_of(locks) or 'no platform'}.",
                usually="The package index has no such build of torch, or nobody has locked this platform yet.",
                todo=f"Make a hash lock and name it under '{'cpu_locks' if flavor == 'cpu' else 'locks'}' in "
                f"{_flavor_file(flavor)}.",
            )
        if not self.path(relative).is_file():
            raise LockMissing(
                f"The lock {relative}, which {_flavor_file(flavor)} names for {platform}, does not exist.",
                usually="It has not been made yet, or was not committed.",
                todo="Run 'nox -s lock' to make it.",
            )
        return self.path(relative)


def _flavor_file(flavor: str) -> str:
    return APP_FILE if flavor == "cpu" else f"{TOOLKITS_FOLDER}/{flavor}.yaml"


def _unknown(what: str, name: str | None, known: Mapping[str, object], where: str) -> ManifestInvalid:
    names = one_of(known) or "none"
    if name is None:
        return ManifestInvalid(
            f"No {what} was named, and there is no default; there are: {names}.", todo=f"Name a {what}."
        )
    hint = near_miss(name, known)
    return ManifestInvalid(
        f"There is no {what} {name!r}; there are: {names}.",
        usually=f"D{hint[1:]}" if hint else "",
        todo=f"Name one of these, or write {where}.",
    )


def read_version(root: Path, relative: str) -> tuple[str, int, int]:
    """Read ``__version__ = "…"`` from a Python file without running it.

    Args:
        root: The project's folder.
        relative: The file.

    Returns:
        The version, and the line and column where it stands.

    Raises:
        OSError: The file cannot be read.
        SyntaxError: It is not Python.
        LookupError: It has no such line, or the value is not a literal text.
    """
    source = (root / relative).read_bytes()
    for statement in ast.parse(source, filename=relative).body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id="__version__")], value=ast.Constant(value=str(text)))
                | ast.AnnAssign(target=ast.Name(id="__version__"), value=ast.Constant(value=str(text)))
            ):
                return text, statement.lineno, statement.col_offset + 1
            case _:
                continue
    raise LookupError(relative)


def _try_version(root: Path, app: Loaded[App]) -> str | Problem:
    relative = app.record.version_from
    allowed = 'a Python file with a line __version__ = "1.2.3"'
    try:
        text, line, column = read_version(root, relative)
    except OSError as error:
        found = f"{relative} ({error.strerror})"
        return app.document.problem(("version_from",), "the version cannot be read", found=found, allowed=allowed)
    except (SyntaxError, ValueError) as error:
        found = f"{relative} is not Python ({error})"
        return app.document.problem(("version_from",), "the version cannot be read", found=found, allowed=allowed)
    except LookupError:
        found = f"{relative} has no such line"
        return app.document.problem(("version_from",), "the version cannot be read", found=found, allowed=allowed)
    try:
        TypeAdapter(Version).validate_python(text)
    except ValidationError:
        place = {"file": relative, "line": line, "column": column, "key": "__version__", "found": repr(text)}
        return Problem.model_validate(place | {"what": "wrong form", "allowed": "a release number such as 0.1.0"})
    return text


@dataclass(kw_only=True)
class _Reading:
    """The manifests of one folder as far as they could be read."""

    root: Path
    problems: list[Problem] = field(default_factory=list)
    documents: dict[str, Document] = field(default_factory=dict)

    def read(self, kind: type[R], file: str) -> Loaded[R] | None:
        outcome = try_record(kind, self.root / file, file)
        if isinstance(outcome, tuple):
            self.problems += outcome
            return None
        self.documents[file] = outcome.document
        return outcome

    def version(self, app: Loaded[App]) -> str:
        outcome = _try_version(self.root, app)
        if isinstance(outcome, Problem):
            self.problems.append(outcome)
            return ""
        return outcome

    def toolkits(self) -> dict[str, Loaded[Toolkit]]:
        """All toolkits by file stem."""
        loaded = {}
        for file in _toolkit_files(self.root):
            stem, dot, ending = file.rpartition("/")[2].rpartition(".")
            if dot + ending != ".yaml":
                what = "a toolkit's file must be named <name>.yaml"
                self.problems.append(Problem(file=file, what=what, found=file.rpartition("/")[2]))
            elif toolkit := self.read(Toolkit, file):
                loaded[stem] = toolkit
        return loaded


def _toolkit_files(root: Path) -> list[str]:
    folder = root / TOOLKITS_FOLDER
    found = sorted(path.name for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []
    return [f"{TOOLKITS_FOLDER}/{name}" for name in found if not name.startswith(".")]


def _toolkit_disagreements(toolkits: Mapping[str, Loaded[Toolkit]]) -> Iterator[Problem]:
    labels: dict[str, Document] = {}
    for stem, toolkit in toolkits.items():
        name, label, document = toolkit.record.name, toolkit.record.label, toolkit.document
        if name != stem:
            hint = f"Rename the file to {name}.yaml, or correct the name."
            yield document.problem(
                ("name",), "the file has another name", found=repr(name), allowed=repr(stem), hint=hint
            )
        if label in labels:
            line, column = labels[label].place(("label",))
            yield document.problem(
                ("label",),
                "two toolkits have the same label",
                found=f"{label!r}, also in {labels[label].file}:{line}:{column}",
                allowed="a label that no other toolkit has",
                hint=f"A label names one content for ever; this toolkit's begins with '{stem}-v'.",
            )
        labels.setdefault(label, document)


def _default_disagreement(app: Loaded[App], names: Collection[str]) -> Iterator[Problem]:
    default = app.record.default_toolkit
    if default is not None and default not in names:
        yield app.document.problem(
            ("default_toolkit",),
            "unknown toolkit",
            found=repr(default),
            allowed=one_of(names) or f"no toolkit exists in {TOOLKITS_FOLDER}/",
            hint=near_miss(default, names),
        )


def read_project(root: Path) -> Project | tuple[Problem, ...]:
    """Read all manifests of a folder.

    Args:
        root: The project's folder.

    Returns:
        The project, or everything that is wrong with its manifests.
    """
    reading = _Reading(root=root.absolute())
    app = reading.read(App, APP_FILE)
    version = reading.version(app) if app else ""
    toolkits = reading.toolkits()
    has_destinations = (root / DESTINATIONS_FILE).exists()
    destinations = reading.read(Destinations, DESTINATIONS_FILE) if has_destinations else None
    reading.problems += _toolkit_disagreements(toolkits)
    if app:
        stems = [file.rpartition("/")[2].rpartition(".")[0] for file in _toolkit_files(root)]
        reading.problems += _default_disagreement(app, stems)
    if app is None or reading.problems:
        return tuple(reading.problems)
    return Project(
        root=reading.root,
        app=app.record,
        version=version,
        toolkits={stem: toolkit.record for stem, toolkit in toolkits.items()},
        destinations=(destinations.record if destinations else _LOCAL_ONLY).destinations,
        documents=reading.documents,
    )


def load_project(root: Path) -> Project:
    """Read all manifests of a folder, which must be right.

    Args:
        root: The project's folder, which has ``manifests/app.yaml``.

    Returns:
        The project.

    Raises:
        ManifestInvalid: They are not; all problems of all files are told at once.
    """
    if not (root / APP_FILE).exists():
        raise ManifestInvalid(
            f"{root.absolute()} has no {APP_FILE}.",
            usually="This is not a project's folder.",
            todo="Go to the project's folder, or name it with --project.",
        )
    outcome = read_project(root)
    if isinstance(outcome, tuple):
        raise refuse(outcome)
    return outcome
