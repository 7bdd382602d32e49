"""One started server process: in its own folder and process group, told everything by its environment.

Invariants:
    * The working folder is the tree, so that no library is picked up from where the user happens to be.
    * Secrets and the instance id travel in the environment, never in arguments that every user can list.
    * Whatever ends a server ends its whole group: workers never outlive it.

Does not: decide whether the server is healthy (health) or which one to start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lading.atomic import as_host_error
from lading.errors import ServerUnhealthy
from lading.process import kill_group, scrubbed_environment

INSTANCE_VARIABLE = "LADING_INSTANCE"
PASSED_ON = ("CUDA_VISIBLE_DEVICES",)  # scrubbed from builds, but here it is the user's choice of a GPU
FROZEN_PARENT = ("_PYI_", "_MEI")  # PyInstaller's notes from a frozen parent to itself; poison for another program


def server_environment(instance: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a server.

    Args:
        instance: The identity that its ``/health`` must show.
        extra: Secrets and settings.

    Returns:
        The caller's environment without what changes which libraries are loaded, and the given variables.
    """
    kept = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    environment = scrubbed_environment({**kept, **(extra or {}), INSTANCE_VARIABLE: instance})
    return {name: value for name, value in environment.items() if not name.startswith(FROZEN_PARENT)}


def _group_options() -> dict[str, object]:
    if sys.platform == "win32":  # pragma: no cover (Windows)
        # With a console of its own (CREATE_NO_WINDOW) the child could not receive CTRL_BREAK from us.
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def start(
    tree: Path, entry: str, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> subprocess.Popen[bytes]:
    """Start an executable of a tree.

    Args:
        tree: Its folder.
        entry: The executable, relative to the tree.
        arguments: Its arguments.
        environment: Its whole environment.
        log: Gets what it prints; begun anew.

    Raises:
        ServerUnhealthy: The system cannot run it.
        DiskFull, AccessDenied: The log cannot be written.
    """
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        sink = log.open("wb")
    except OSError as error:
        raise as_host_error(error, f"opening the log {log}") from error
    with sink:
        try:
            process: subprocess.Popen[bytes] = subprocess.Popen(
                [str(tree / entry), *arguments],
                cwd=tree,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                **_group_options(),  # type: ignore[call-overload]
            )
        except OSError as error:
            raise ServerUnhealthy(
                f"{tree / entry} cannot be started: {error.strerror or error}",
                usually="The installation is incomplete, or was made for another system.",
                todo="Run `lading verify` on it, and install again if it fails.",
            ) from error
    return process


def ask_to_end(process: subprocess.Popen[bytes]) -> None:
    """Ask a server to end in order: SIGTERM, or CTRL_BREAK on Windows."""
    # A process that has just ended, or a launcher without a console, cannot be asked; it is killed later all the same.
    with suppress(ProcessLookupError, PermissionError, OSError):
        if sys.platform == "win32":  # pragma: no cover (Windows)
            process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            process.terminate()


def end(process: subprocess.Popen[bytes], *, patience: float) -> int:
    """End a server and everything that it started; done twice does no harm.

    Args:
        process: The server.
        patience: Seconds that it may take to end in order.

    Returns:
        Its exit status.
    """
    try:
        if process.poll() is None:
            ask_to_end(process)
            with suppress(subprocess.TimeoutExpired):
                process.wait(patience)
    finally:
        kill_group(process)  # also when it ended by itself: its workers may not have
    return process.wait()
