"""Requirements files as values: what a lock pins, what a ``.in`` file asks for, and what is wrong with them.

Reads the part of pip's format that hash locks have. Does not resolve anything and asks no index.

Invariants:
    * A lock pins each requirement to one version with ``==`` and at least one hash.
    * A lock names no address, neither as an option nor in a requirement nor in a comment: it installs from whatever
      index the machine is set up with, and shows nobody's private one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from lading.manifest.problem import Problem

_HASH = re.compile(r"\s--hash[=\s](\S+)")
_GOOD_HASH = re.compile(r"^sha(?:256:[0-9a-f]{64}|384:[0-9a-f]{96}|512:[0-9a-f]{128})$")
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_INCLUDE = re.compile(r"^(?:-r|--requirement)[\s=]*(\S+)$")


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A requirement as somebody wrote it.

    Attributes:
        name: The distribution's normalised name.
        requirement: Name, versions, marker.
        file, line: Where it stands.
        hashes: Allowed digests, such as ``sha256:…``.
    """

    name: str
    requirement: Requirement
    file: str
    line: int
    hashes: tuple[str, ...] = ()

    @property
    def pin(self) -> Version | None:
        """The one version that it allows, or none when it allows several."""
        specifiers = list(self.requirement.specifier)
        if len(specifiers) != 1 or specifiers[0].operator != "==":
            return None
        try:
            return Version(specifiers[0].version)
        except InvalidVersion:  # such as ==2.*
            return None


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """A requirements file.

    Attributes:
        file: Its name in messages.
        wanted: Its requirements, in the file's order; those of included files too.
        problems: What is wrong with it.
    """

    file: str
    wanted: tuple[Wanted, ...]
    problems: tuple[Problem, ...]

    def of(self, name: str) -> tuple[Wanted, ...]:
        """All lines about one distribution; several with markers are normal."""
        return tuple(line for line in self.wanted if line.name == canonicalize_name(name))


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with continuations joined and comments cut, each with the number of its first line."""
    begin, joined = 0, ""
    for number, raw in enumerate(text.splitlines(), start=1):
        begin = begin if joined else number
        line = re.sub(r"(?:^|\s)#.*$", "", raw).rstrip()
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        if whole := (joined + line).strip():
            yield begin, whole
        joined = ""
    if joined.strip():
        yield begin, joined.strip()


def _parse_line(line: str, number: int, file: str) -> Wanted | Problem:
    text = _HASH.split(f"{line} ")[0].strip()
    try:
        requirement = Requirement(text)
    except InvalidRequirement as error:
        found = str(error).splitlines()[0]
        return Problem(file=file, line=number, key=text, what="this is not a requirement", found=found)
    hashes = tuple(_HASH.findall(f" {line}"))
    name = canonicalize_name(requirement.name)
    return Wanted(name=name, requirement=requirement, file=file, line=number, hashes=hashes)


def parse_lock(text: str, file: str) -> Requirements:
    """Read a hash lock.

    Args:
        text: The file's content.
        file: Its name in messages.

    Returns:
        Its pins, and everything that keeps it from being a hash lock.
    """
    wanted: list[Wanted] = []
    problems = list(_address_problems(text, file))
    told = {problem.line for problem in problems}
    for number, line in _logical_lines(text):
        if line.startswith("-"):
            found, allowed = line.split()[0], "requirements with --hash, and nothing else"
            what, hint = "an option in a lock", "Lock again with --no-emit-index-url."
            if number not in told:
                problems.append(Problem(file=file, line=number, what=what, found=found, allowed=allowed, hint=hint))
            continue
        outcome = _parse_line(line, number, file)
        if isinstance(outcome, Problem):
            problems.append(outcome)
            continue
        wanted.append(outcome)
        problems += _pin_problems(outcome)
    return Requirements(file=file, wanted=tuple(wanted), problems=tuple(problems))


def _address_problems(text: str, file: str) -> Iterator[Problem]:
    for number, line in enumerate(text.splitlines(), start=1):
        if match := _ADDRESS.search(line):
            yield Problem(
                file=file,
                line=number,
                column=match.start() + 1,
                what="an address in a lock",
                found=f"{match[0]}…",
                allowed="no addresses, so that the lock serves with any index and shows no private one",
                hint="Lock again with --no-emit-index-url; a package without an index belongs into one.",
            )


def _pin_problems(wanted: Wanted) -> Iterator[Problem]:
    place = {"file": wanted.file, "line": wanted.line, "key": wanted.name}
    if wanted.pin is None and wanted.requirement.url is None:
        found = str(wanted.requirement.specifier) or "no version"
        yield Problem.model_validate(
            place | {"what": "not pinned to one version", "found": found, "allowed": f"{wanted.name}==<version>"}
        )
    if not wanted.hashes:
        hint = "Lock again with --generate-hashes."
        yield Problem.model_validate(
            place | {"what": "a requirement without a hash", "allowed": "--hash=sha256:… on each", "hint": hint}
        )
    for digest in wanted.hashes:
        if not _GOOD_HASH.match(digest):
            allowed = "sha256: and 64 hexadecimal digits"
            yield Problem.model_validate(
                place | {"what": "not a digest that pip accepts", "found": digest, "allowed": allowed}
            )


def read_requirements(root: Path, file: str, *, seen: frozenset[str] = frozenset()) -> Requirements:
    """Read a ``.in`` file with the files that it includes.

    Args:
        root: The project's folder.
        file: The file, relative to it.
        seen: Files that are being read already.

    Returns:
        Everything that it asks for, and what is wrong with it.

    Raises:
        OSError, UnicodeDecodeError: The file itself cannot be read.
    """
    text = (root / file).read_text(encoding="utf-8-sig")
    wanted: list[Wanted] = []
    problems: list[Problem] = []
    for number, line in _logical_lines(text):
        if include := _INCLUDE.match(line):
            inner = _read_included(root, file, include[1], number, seen | {file})
            wanted += inner.wanted
            problems += inner.problems
        elif line.startswith("-"):
            continue  # such as -c: it says nothing about what is wanted
        else:
            outcome = _parse_line(line, number, file)
            if isinstance(outcome, Problem):
                problems.append(outcome)
            else:
                wanted.append(outcome)
    return Requirements(file=file, wanted=tuple(wanted), problems=tuple(problems))


def _read_included(root: Path, file: str, name: str, number: int, seen: frozenset[str]) -> Requirements:
    base = root.resolve()
    path = (base / file).parent.joinpath(name).resolve()
    what = None
    if not path.is_relative_to(base):
        what = "the included file lies outside of the project"
    elif not path.is_file():
        what = "the included file does not exist"
    elif path.relative_to(base).as_posix() in seen:
        what = "the files include each other"
    if what is not None:
        return Requirements(file=file, wanted=(), problems=(Problem(file=file, line=number, what=what, found=name),))
    return read_requirements(base, path.relative_to(base).as_posix(), seen=seen)
