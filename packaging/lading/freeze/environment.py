"""The environment that a server is frozen from: made new from hash locks, or the one that runs Lading.

A made environment holds exactly what the locks name. It is kept under a key of the locks' bytes and the interpreter,
and its marker is written last: without the marker it is made again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from lading.atomic import write_atomic
from lading.digest import sha256_bytes, sha256_file
from lading.errors import FreezeFailed, LockMismatch, LockMissing, ToolMissing, WrongInterpreter, listed
from lading.manifest.lockfile import parse_lock
from lading.manifest.release import TorchBuild
from lading.process import run, scrubbed_environment
from lading.progress import Progress

_MARKER = ".lading-env.json"
# What uv and pip say of a package with other bytes than the lock's.
_HASHES_DIFFER = re.compile(r"hash(?:es)? mismatch|do not match the hashes|doesn't match the hash", re.IGNORECASE)
_INSIDE = Path(__file__).parent / "inside"
INSTALL_TIMEOUT = 3600.0  # seconds: 3 GB of wheels over a slow line
DESCRIBE_TIMEOUT = 600.0  # seconds: the first import of torch from a cold disk


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One distribution of the environment.

    Attributes:
        name: Normalised name.
        version: Its version.
        requires: Its requirements, as written.
        files: Its files, absolute.
        modules: Its top-level modules and packages.
    """

    name: str
    version: str
    requires: tuple[str, ...]
    files: tuple[str, ...]
    modules: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A Python environment.

    Attributes:
        python: Its interpreter.
        version: The interpreter's version.
        stdlib, base_prefix, prefix: Where the interpreter lives.
        site: Its site-packages folders.
        distributions: By normalised name.
        torch: The torch build, when there is one.
        locks: Digest of each lock by its name in the project; empty for a reused environment.
        reused: Whether it was there already.
    """

    python: Path
    version: str
    stdlib: Path
    base_prefix: Path
    prefix: Path
    site: tuple[Path, ...]
    distributions: Mapping[str, Installed]
    torch: TorchBuild | None
    locks: Mapping[str, str]
    reused: bool


def check_interpreter(version: str, allowed: str) -> None:
    """Refuse an interpreter that the app does not allow.

    Raises:
        WrongInterpreter: With both versions.
    """
    if not SpecifierSet(allowed).contains(version, prereleases=True):
        raise WrongInterpreter(
            f"This is Python {version}; manifests/app.yaml allows {allowed}.",
            usually="Another python is first in PATH than the one that the project uses.",
            todo="Run Lading with a Python of the allowed versions (a new virtual environment made with it).",
        )


def pins(lock: str, file: str = "the lock", environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The versions that a lock pins where its markers hold. Pure.

    Args:
        lock: The lock's text.
        file: Its name in messages.
        environment: Marker values to judge by; this interpreter's when none.

    Returns:
        Version by normalised name.

    Raises:
        LockMismatch: It is no hash lock; lists the lines.
    """
    read = parse_lock(lock, file)
    if read.problems:
        raise LockMismatch(
            f"{file} is no hash lock:{listed([problem.text() for problem in read.problems])}",
            usually="It was edited by hand, or made without hashes.",
            todo="Make it again with 'nox -s lock'.",
        )
    found: dict[str, str] = {}
    for wanted in read.wanted:
        marker = wanted.requirement.marker
        if marker is None or marker.evaluate(dict(environment) if environment else None):
            found[wanted.name] = str(wanted.pin)
    return found


def _read_locks(root: Path, locks: Sequence[str]) -> dict[str, str]:
    texts = {}
    for lock in locks:
        path = root / lock
        if not path.is_file():
            raise LockMissing(
                f"The lock {lock} does not exist.",
                usually="It has not been made yet, or was not committed.",
                todo="Run 'nox -s lock' to make it.",
            )
        texts[lock] = path.read_text(encoding="utf-8")
    _check_agreement(texts)
    return texts


def _check_agreement(locks: Mapping[str, str]) -> None:
    seen: dict[str, tuple[str, str]] = {}
    for lock, text in locks.items():
        for name, version in pins(text, lock).items():
            other, theirs = seen.setdefault(name, (lock, version))
            if theirs != version:
                raise LockMismatch(
                    f"{lock} pins {name} {version}; {other} pins {name} {theirs}.",
                    usually="One lock was made again and the other was not.",
                    todo="Make both again with 'nox -s lock'.",
                )


def find_uv() -> list[str] | None:
    """The command that runs uv: from PATH, or the module beside this interpreter; none when there is no uv."""
    if path := shutil.which("uv"):
        return [path]
    beside = Path(sys.executable).with_name("uv.exe" if os.name == "nt" else "uv")
    return [str(beside)] if beside.is_file() else None


def _interpreter_in(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _install(folder: Path, locks: Sequence[Path], log: Path) -> None:
    uv = find_uv()
    python = _interpreter_in(folder)
    files = [word for lock in locks for word in ("-r", str(lock))]
    if uv:
        steps = [
            [*uv, "venv", "--quiet", "--clear", "--no-project", "--python", sys.executable, str(folder)],
            [*uv, "pip", "install", "--quiet", "--python", str(python), "--require-hashes", "--no-deps", *files],
        ]
    else:
        install = ["-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--require-hashes", "--no-deps"]
        steps = [
            [sys.executable, "-m", "venv", "--clear", str(folder)],
            [str(python), *install, *files],
        ]
    for step in steps:
        # pip's and uv's own settings (index, proxy, certificates) come through; what leaks into builds does not.
        try:
            finished = run(step, environment=scrubbed_environment(), timeout=INSTALL_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            raise _too_slow("Making the build environment", INSTALL_TIMEOUT) from error
        if finished.returncode != 0:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(finished.stdout + finished.stderr, encoding="utf-8")
            raise _not_installed(finished.stderr or finished.stdout, log)


def _too_slow(what: str, seconds: float) -> FreezeFailed:
    return FreezeFailed(
        f"{what} did not end within {seconds:.0f} s.",
        usually="The package index or the disk is too slow, or something in the environment waits for the network.",
        todo="Run the same command again: packages that were downloaded are not downloaded twice.",
    )


def _not_installed(output: str, log: Path) -> FreezeFailed | LockMismatch | ToolMissing:
    tail = "\n  ".join(output.strip().splitlines()[-8:])
    if _HASHES_DIFFER.search(output):
        return LockMismatch(
            f"A downloaded package is not the one that the lock names:\n  {tail}",
            usually="The index offers other files than when the lock was made, or a download was altered.",
            todo="Make the lock again with 'nox -s lock' if you trust the index; do not remove the hashes.",
        )
    if "No module named pip" in output or "ensurepip is not available" in output:
        return ToolMissing(
            f"This Python cannot make virtual environments:\n  {tail}",
            usually="The system's python3-venv package is missing.",
            todo="Install python3-venv (Debian, Ubuntu), or install uv: python3 -m pip install uv",
        )
    return FreezeFailed(
        f"The build environment could not be made:\n  {tail}",
        usually="The package index cannot be reached, or has no wheel for this Python and platform.",
        todo=f"Read {log.name} beside the environment, then run the same command again.",
    )


def describe(python: Path, *, with_torch: bool) -> dict[str, Any]:
    """Run ``inside/describe.py`` in an environment.

    Raises:
        FreezeFailed: It fails, such as when torch cannot be imported there.
    """
    argv: list[str | Path] = [python, "-I", _INSIDE / "describe.py", *(["--torch"] if with_torch else [])]
    try:
        finished = run(argv, environment=scrubbed_environment(), timeout=DESCRIBE_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise _too_slow("Looking into the build environment", DESCRIBE_TIMEOUT) from error
    if finished.returncode != 0:
        tail = "\n  ".join(finished.stderr.strip().splitlines()[-6:])
        raise FreezeFailed(
            f"The build environment does not work: looking into it ended with status {finished.returncode}:\n  {tail}",
            usually="A package in it is broken, or its shared libraries do not fit this machine.",
            todo="Delete the environment under out/env and run the same command again.",
        )
    description: dict[str, Any] = json.loads(finished.stdout)
    return description


def _environment(python: Path, found: dict[str, Any], locks: Mapping[str, str], *, reused: bool) -> Environment:
    torch = found["torch"]
    return Environment(
        python=python,
        version=found["python"],
        stdlib=Path(found["stdlib"]),
        base_prefix=Path(found["base_prefix"]),
        prefix=Path(found["prefix"]),
        site=tuple(dict.fromkeys(Path(site) for site in found["site"])),
        distributions={
            item["name"]: Installed(
                name=item["name"],
                version=item["version"],
                requires=tuple(item["requires"]),
                files=tuple(item["files"]),
                modules=tuple(item["modules"]),
            )
            for item in found["distributions"]
        },
        torch=TorchBuild.model_validate({**torch, "cuda": torch["cuda"] or "none"}) if torch else None,
        locks=dict(locks),
        reused=reused,
    )


def _remove_others(folder: Path, keep: Path, flavor: str) -> None:
    """Remove the flavor's older environments, of 5 GB each; only folders with our marker."""
    for other in folder.glob(f"{flavor}-*"):
        if other != keep and (other / _MARKER).is_file():
            shutil.rmtree(other)


def make_environment(
    root: Path, locks: Sequence[str], folder: Path, *, flavor: str, allowed: str, with_torch: bool, progress: Progress
) -> Environment:
    """Make an environment from locks, or take the one that was made from the same locks.

    Args:
        root: The project.
        locks: Lock files, relative to the project.
        folder: Where environments are kept.
        flavor: First part of the environment's name; older environments of the flavor are removed.
        allowed: The Python versions that the app allows.
        with_torch: Whether torch is to be looked into.
        progress: Where to report.

    Raises:
        WrongInterpreter, LockMissing, LockMismatch, ToolMissing, FreezeFailed: It cannot be made.
    """
    version = ".".join(str(part) for part in sys.version_info[:3])
    check_interpreter(version, allowed)
    texts = _read_locks(root, locks)
    digests = {lock: sha256_file(root / lock) for lock in locks}
    key = sha256_bytes(json.dumps([digests, version, sys.base_prefix], sort_keys=True).encode())[:12]
    home = folder / f"{flavor}-{key}"
    marker = home / _MARKER
    reused = marker.is_file()
    if not reused:
        count = sum(len(pins(text, lock)) for lock, text in texts.items())
        with progress.task("installing packages", count, unit="packages") as task:
            try:
                _install(home, [root / lock for lock in locks], folder / f"{home.name}.log")
            except BaseException:
                shutil.rmtree(home, ignore_errors=True)  # without the marker nobody would ever remove its gigabytes
                raise
            task.advance(count)
    found: dict[str, Any] = json.loads(marker.read_text(encoding="utf-8")) if reused else {}
    if found.get("prefix") != str(home):  # new, or the project has been moved: owners are found by these paths
        found = describe(_interpreter_in(home), with_torch=with_torch)
        write_atomic(marker, json.dumps(found).encode())
        _remove_others(folder, home, flavor)
    return _environment(_interpreter_in(home), found, digests, reused=reused)


def running_environment(*, allowed: str, with_torch: bool) -> Environment:
    """The environment that runs Lading, for runners that have everything installed and no network.

    Raises:
        WrongInterpreter: The app does not allow this Python.
        ToolMissing: PyInstaller is not installed in it.
        FreezeFailed: It does not work.
    """
    python = Path(sys.executable)
    found = describe(python, with_torch=with_torch)
    check_interpreter(found["python"], allowed)
    environment = _environment(python, found, {}, reused=True)
    if "pyinstaller" not in environment.distributions:
        raise ToolMissing(
            f"PyInstaller is not installed beside {python.name} in {environment.prefix.name}.",
            usually="--reuse-env freezes with the environment that runs Lading, which has no PyInstaller.",
            todo="Install pyinstaller there, or leave --reuse-env out to build an environment from the lock.",
        )
    return environment


def closure(roots: Sequence[str], distributions: Mapping[str, Installed]) -> frozenset[str]:
    """All distributions that some requirements lead to. Pure.

    Args:
        roots: Requirements, such as ``torch==2.7.1`` or ``uvicorn[standard]``.
        distributions: What is installed.

    Returns:
        Normalised names; requirements whose markers do not hold here are not followed.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [root for root in map(Requirement, roots) if root.marker is None or root.marker.evaluate()]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen or name not in distributions:
                continue
            seen.add((name, extra))
            for text in distributions[name].requires:
                inner = Requirement(text)
                if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                    waiting.append(inner)
    return frozenset(name for name, _ in seen)
