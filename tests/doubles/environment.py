"""Programs that tests need and that must not share the environment of the product: made once a machine, then reused."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from platformdirs import user_cache_path

MINUTES = 10


def environment(name: str, lock: Path) -> Path:
    """The interpreter of an environment with what a lock says; made when it is not there yet.

    Args:
        name: What the environment is for.
        lock: Hash-locked requirements.

    Returns:
        The interpreter.
    """
    told = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = user_cache_path("lading-tests") / f"{name}-{told}"
    python = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    ready = folder / ".ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not ready.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            _make(folder, python, lock)
            ready.touch()
    return python


def _make(folder: Path, python: Path, lock: Path) -> None:
    words = ("--require-hashes", "--no-deps", "-r", str(lock))
    uv = shutil.which("uv")
    commands = (
        ([uv, "venv", "--quiet", "--python", sys.executable, str(folder)],
         [uv, "pip", "install", "--quiet", "--python", str(python), *words])
        if uv
        else ([sys.executable, "-m", "venv", str(folder)],
              [str(python), "-m", "pip", "install", "--quiet", *words])
    )  # fmt: skip
    for command in commands:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=60 * MINUTES, check=False, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            pytest.skip(f"NOT TESTED: {lock.name} could not be installed: {done.stderr.strip()[-400:]}")
