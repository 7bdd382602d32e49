"""The one place that runs other programs: shown first, bounded in time, killed with their children."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

LEAKS = (
    # Variables of the caller that change what a build collects or a frozen program loads (PyInstaller #8269).
    "LD_LIBRARY_PATH", "LD_PRELOAD", "LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_INSERT_LIBRARIES",
    "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP", "PYTHONOPTIMIZE", "PYTHONDONTWRITEBYTECODE", "PYTHONUSERBASE",
    "PYTHONINSPECT", "PYTHONDEBUG", "PYTHONSAFEPATH", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONWARNINGS",
    "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE", "PYTHONCASEOK", "PYTHONVERBOSE", "PYTHONNOUSERSITE",
    "PYINSTALLER_CONFIG_DIR", "PYINSTALLER_FORCE_UPX", "PYINSTALLER_RESET_ENVIRONMENT",
    "PYINSTALLER_STRICT_COLLECT_MODE", "PYINSTALLER_ZLIB_COMPRESSION_LEVEL",
    "_PYI_APPLICATION_HOME_DIR", "_PYI_ARCHIVE_FILE", "_PYI_PARENT_PROCESS_LEVEL",
    "VIRTUAL_ENV", "CONDA_PREFIX", "CUDA_HOME", "CUDA_PATH", "CUDA_VISIBLE_DEVICES", "CUDNN_PATH", "TORCH_HOME",
)  # fmt: skip


_LAST_WORDS = 5.0  # seconds to read what a killed program had still written


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that has ended.

    Attributes:
        argv: The command.
        returncode: Its exit status; negative for a signal on POSIX.
        stdout, stderr: What it printed, decoded as UTF-8 with replacement.
    """

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


def scrubbed_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment without what leaks into builds and frozen programs.

    Args:
        extra: Variables to set on top.
    """
    environment = {name: value for name, value in os.environ.items() if name not in LEAKS}
    environment.update(extra or {})
    return environment


def show(argv: Sequence[str]) -> str:
    """A command as one would type it."""
    return "+ " + shlex.join(argv)


def kill_group(process: subprocess.Popen[bytes] | subprocess.Popen[str]) -> None:
    """Kill a process that was started in a group of its own, and all its descendants."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    else:  # pragma: no cover (Windows)
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], check=False, capture_output=True)  # noqa: S607
    with suppress(ProcessLookupError):
        process.kill()


def group_options() -> dict[str, object]:
    """Arguments for ``Popen`` that put a child into a group of its own, without a console window on Windows."""
    if sys.platform == "win32":  # pragma: no cover (Windows)
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float | None = None,
    log: Path | None = None,
) -> Finished:
    """Run a program to its end.

    Args:
        argv: The command, never a shell line.
        cwd: Where to run it.
        environment: Its whole environment; the caller's when none.
        timeout: Seconds after which it and its children are killed.
        log: A file that gets standard output and error together; they are then not returned.

    Returns:
        How it ended; any exit status is returned, not raised.

    Raises:
        FileNotFoundError, PermissionError: It cannot be started.
        subprocess.TimeoutExpired: It was killed after ``timeout`` seconds; carries what it had printed.
    """
    words = tuple(str(word) for word in argv)
    sink = log.open("wb") if log is not None else None
    try:
        process = subprocess.Popen(
            words,
            cwd=cwd,
            env=None if environment is None else dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=sink or subprocess.PIPE,
            stderr=subprocess.STDOUT if sink else subprocess.PIPE,
            **group_options(),  # type: ignore[call-overload]
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
        except BaseException:
            kill_group(process)
            with process, suppress(subprocess.TimeoutExpired):  # a descendant outside of the group may hold the pipes
                process.communicate(timeout=_LAST_WORDS)
            raise
    finally:
        if sink is not None:
            sink.close()
    return Finished(
        argv=words,
        returncode=process.returncode,
        stdout=(stdout or b"").decode("utf-8", "replace"),
        stderr=(stderr or b"").decode("utf-8", "replace"),
    )
