"""Whether the locks fit the manifests.

What is checked:
    * Every named lock exists, is a hash lock, and names no address.
    * A toolkit's lock pins the torch that the toolkit names, with its CUDA runtime; the freezing tools' lock has
      PyInstaller.
    * Every direct requirement is in every lock, at a version that it allows.

Whether a lock is complete is decided by the installer, which refuses what has no hash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from lading.manifest.base import Platform
from lading.manifest.document import Document, Loc
from lading.manifest.lockfile import Requirements, Wanted, parse_lock, read_requirements
from lading.manifest.pathcheck import path_problems, similar_name
from lading.manifest.problem import Problem, near_miss
from lading.manifest.project import APP_FILE, TOOLKITS_FOLDER, Project
from lading.manifest.toolkit import Toolkit


def lock_problems(project: Project) -> Iterator[Problem]:
    """Check every lock of a project.

    Yields:
        Problems of kind ``LockMissing`` and ``LockMismatch``, and a note for each flavor without any lock.
    """
    yield from _requirement_problems(project)
    app = project.documents[APP_FILE]
    yield from _flavor_problems(project, None, app, project.app.cpu_locks)
    for name, toolkit in project.toolkits.items():
        document = project.documents[f"{TOOLKITS_FOLDER}/{name}.yaml"]
        yield from _flavor_problems(project, toolkit, document, toolkit.locks)


def _flavor_problems(
    project: Project, toolkit: Toolkit | None, document: Document, locks: Mapping[Platform, str]
) -> Iterator[Problem]:
    loc: Loc = ("cpu_locks",) if toolkit is None else ("locks",)
    if not locks:
        what = f"no lock is named: {toolkit.name if toolkit else 'the CPU build'} can only be built with --reuse-env"
        hint = "Name a lock for each platform that is built from one." if toolkit is None else toolkit.notes or None
        yield document.problem(loc, what, hint=hint, level="note")
    for platform, relative in locks.items():
        here: Loc = (*loc, platform)
        if problem := _missing_lock(project, document, here, relative):
            yield problem
        else:
            yield from _one_lock(project, toolkit, document, here, relative)


def _missing_lock(project: Project, document: Document, loc: Loc, relative: str) -> Problem | None:
    path = project.root / relative
    if path.is_file():
        return next(path_problems(project.root, document, loc, relative, wanted="a file"), None)
    hint = similar_name(path) or "Run 'nox -s lock' to make it."
    what, allowed = "this lock does not exist", "a hash lock"
    return document.problem(loc, what, found=repr(relative), allowed=allowed, hint=hint, kind="LockMissing")


def _requirement_problems(project: Project) -> Iterator[Problem]:
    """What is wrong with the direct requirements and with the lock of the freezing tools."""
    if (project.root / project.app.requirements).is_file():
        try:
            yield from read_requirements(project.root, project.app.requirements).problems
        except (OSError, UnicodeDecodeError) as error:
            yield Problem(file=project.app.requirements, what="the file cannot be read", found=str(error))
    document = project.documents[APP_FILE]
    if problem := _missing_lock(project, document, ("freeze_lock",), project.app.freeze_lock):
        yield problem
    else:
        yield from _freeze_lock_problems(project, document)


def _freeze_lock_problems(project: Project, document: Document) -> Iterator[Problem]:
    lock = _read_lock(project.root, project.app.freeze_lock)
    yield from (problem.model_copy(update={"kind": "LockMismatch"}) for problem in lock.problems)
    if lock.wanted and not lock.of("pyinstaller"):
        found = f"{lock.file} without pyinstaller"
        yield document.problem(("freeze_lock",), "the lock has no PyInstaller", found=found, kind="LockMismatch")


def _read_lock(root: Path, relative: str) -> Requirements:
    try:
        return parse_lock((root / relative).read_text(encoding="utf-8-sig"), relative)
    except (OSError, UnicodeDecodeError) as error:
        problem = Problem(file=relative, what="the lock cannot be read", found=str(error))
        return Requirements(file=relative, wanted=(), problems=(problem,))


def _one_lock(
    project: Project, toolkit: Toolkit | None, document: Document, loc: Loc, relative: str
) -> Iterator[Problem]:
    lock = _read_lock(project.root, relative)
    for problem in lock.problems:
        yield problem.model_copy(update={"kind": "LockMismatch"})
    if not lock.wanted:
        what = "the lock is empty" if not lock.problems else "nothing of the lock could be read"
        yield document.problem(loc, what, found=repr(relative), kind="LockMismatch")
        return
    if toolkit is not None:
        yield from _torch_problems(toolkit, document, loc, lock)
        yield from _cuda_problems(toolkit, document, lock)
    yield from _direct_problems(project, lock)


def _torch_problems(toolkit: Toolkit, document: Document, loc: Loc, lock: Requirements) -> Iterator[Problem]:
    line, column = document.place(("torch",))
    says = f"{document.file}:{line}:{column} says {toolkit.torch}"
    pins = lock.of("torch")
    if not pins:
        hint = "Lock again from a .in file that has torch in it."
        yield document.problem(
            loc,
            "the lock has no torch",
            found=f"{lock.file} without torch",
            allowed=says,
            hint=hint,
            kind="LockMismatch",
        )
    for wanted in pins:
        pin = wanted.pin
        if pin is None:
            continue  # told already: not pinned
        if pin.public != toolkit.torch or pin.local not in (None, toolkit.name):
            yield Problem(
                file=lock.file,
                line=wanted.line,
                key="torch",
                what=f"the lock pins another torch than toolkit {toolkit.name}",
                found=str(pin),
                allowed=f"{toolkit.torch} or {toolkit.torch}+{toolkit.name}: {says}",
                hint="Correct the manifest, or the .in file and lock again with 'nox -s lock'.",
                kind="LockMismatch",
            )


def _cuda_problems(toolkit: Toolkit, document: Document, lock: Requirements) -> Iterator[Problem]:
    """The CUDA runtime in the lock is of the toolkit's release: the same torch version has builds for several."""
    line, column = document.place(("cuda",))
    for wanted in lock.wanted:
        pin = wanted.pin
        if not wanted.name.startswith("nvidia-cuda-runtime") or pin is None:
            continue
        if f"{pin.major}.{pin.minor}" != toolkit.cuda:
            yield Problem(
                file=lock.file,
                line=wanted.line,
                key=wanted.name,
                what=f"the lock is for another CUDA than toolkit {toolkit.name}",
                found=str(pin),
                allowed=f"{toolkit.cuda}.*: {document.file}:{line}:{column} says CUDA {toolkit.cuda}",
                hint=f"The index gave a torch {toolkit.torch} that is built for CUDA {pin.major}.{pin.minor}.",
                kind="LockMismatch",
            )


def _direct_problems(project: Project, lock: Requirements) -> Iterator[Problem]:
    try:
        direct = read_requirements(project.root, project.app.requirements)
    except (OSError, UnicodeDecodeError):
        return  # the missing file is told where it is named
    for wanted in direct.wanted:
        pins = lock.of(wanted.name)
        where = f"{wanted.file}:{wanted.line} asks for {wanted.requirement}"
        if not pins:
            yield Problem(
                file=lock.file,
                key=wanted.name,
                what="a direct requirement is not in the lock",
                allowed=where,
                hint=near_miss(wanted.name, {line.name for line in lock.wanted}) or "Run 'nox -s lock'.",
                kind="LockMismatch",
            )
        yield from _unfit_pins(wanted, pins, where)


def _unfit_pins(wanted: Wanted, pins: tuple[Wanted, ...], where: str) -> Iterator[Problem]:
    for pin in pins:
        if pin.pin is not None and not wanted.requirement.specifier.contains(pin.pin, prereleases=True):
            yield Problem(
                file=pin.file,
                line=pin.line,
                key=pin.name,
                what="the lock pins a version that is not asked for",
                found=str(pin.pin),
                allowed=where,
                hint="Run 'nox -s lock'.",
                kind="LockMismatch",
            )
