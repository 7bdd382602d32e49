"""Run PyInstaller: clean environment variables, fixed hash seed, fixed time; its log kept."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lading.errors import FreezeFailed, WrongInterpreter
from lading.freeze.environment import Environment
from lading.freeze.settings import Contents, read_contents
from lading.process import run, scrubbed_environment

TIMEOUT = 3600.0  # seconds; a CUDA torch takes about 100 s here, on a slow disk many times that
BUILDER = Path(__file__).parent / "inside" / "builder.py"
HASH_SEED = "0"  # any fixed number: base_library.zip is written in the order of a set


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """What PyInstaller left.

    Attributes:
        tree: The onedir tree.
        contents: The table of contents.
        warnings: Its list of missing modules.
        log: Its log.
    """

    tree: Path
    contents: Contents
    warnings: str
    log: str


def build_variables(epoch: int, modules: str) -> dict[str, str]:
    """Variables that make a build repeatable, and say how the module archive is stored."""
    variables = {
        "PYTHONHASHSEED": HASH_SEED,
        "SOURCE_DATE_EPOCH": str(epoch),
        "PYTHONNOUSERSITE": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONSAFEPATH": "1",  # PyInstaller runs in its work folder, whose folders are no packages to be imported
    }
    if modules == "stored":
        variables["PYINSTALLER_ZLIB_COMPRESSION_LEVEL"] = "0"
    return variables


def run_pyinstaller(
    environment: Environment, spec: Path, settings: dict[str, object], work: Path, *, epoch: int, log: Path
) -> Frozen:
    """Freeze.

    Args:
        environment: The build environment.
        spec: The spec.
        settings: What the spec is told (:func:`lading.freeze.settings.spec_settings`).
        work: PyInstaller's work folder; the tree is made in ``work/dist``.
        epoch: ``SOURCE_DATE_EPOCH``, seconds.
        log: Gets the log.

    Returns:
        The tree and all that PyInstaller said about it.

    Raises:
        WrongInterpreter: The interpreter has no shared library to put into the tree.
        FreezeFailed: PyInstaller failed for another reason; shows the end of its log.
    """
    # What it kept of an earlier run would be taken without a word: its log would no longer tell what is missing.
    for folder in ("build", "dist"):
        shutil.rmtree(work / folder, ignore_errors=True)
    work.mkdir(parents=True, exist_ok=True)
    settings_file = work / "settings.json"
    settings_file.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    argv: list[str | Path] = [environment.python, BUILDER, "freeze", "--noconfirm", "--log-level", "INFO"]
    argv += ["--workpath", work / "build", "--distpath", work / "dist", spec]
    variables = build_variables(epoch, str(settings["modules"])) | {
        "LADING_FREEZE_SETTINGS": str(settings_file),
        "PYINSTALLER_CONFIG_DIR": str(work / "cache"),
    }
    try:
        finished = run(argv, cwd=work, environment=scrubbed_environment(variables), timeout=TIMEOUT, log=log)
    except subprocess.TimeoutExpired as error:
        raise FreezeFailed(
            f"PyInstaller did not end within {TIMEOUT:.0f} s.",
            usually="A hook waits for the network, or the machine ran out of memory and swaps.",
            todo=f"Read the end of {log.name} in the work folder.",
        ) from error
    text = log.read_text(encoding="utf-8", errors="replace")
    if finished.returncode != 0:
        raise _failure(text, finished.returncode, log)
    name = str(settings["name"])
    warnings = work / "build" / spec.stem / f"warn-{spec.stem}.txt"
    return Frozen(
        tree=work / "dist" / name,
        contents=read_contents(Path(str(settings["contents"]))),
        warnings=warnings.read_text(encoding="utf-8", errors="replace") if warnings.is_file() else "",
        log=text,
    )


def _failure(text: str, status: int, log: Path) -> FreezeFailed | WrongInterpreter:
    tail = "\n  ".join(text.strip().splitlines()[-12:])
    if "PythonLibraryNotFound" in text or "Python library not found" in text:
        return WrongInterpreter(
            f"This Python has no shared library to put into the tree:\n  {tail}",
            usually="The interpreter was built without --enable-shared, or the system's libpython package is missing.",
            todo="Use a Python with a shared library (Debian: libpython3-dev; pyenv: "
            "PYTHON_CONFIGURE_OPTS=--enable-shared).",
        )
    return FreezeFailed(
        f"PyInstaller ended with status {status}:\n  {tail}",
        usually="A package cannot be imported in the build environment, or the disk is full.",
        todo=f"Read {log.name} in the work folder.",
    )
