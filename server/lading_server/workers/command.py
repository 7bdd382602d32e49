"""The command line that starts a worker process, and the options that its start needs on each system.

A frozen program has no ``python -m``: its executable runs only its own entry script. A worker is therefore the same
executable again, with the hidden argument ``--worker``. Starting, watching and stopping the process is not done here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TypedDict

from lading_server.entry import WORKER_FLAG

_MODULE = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*")


class PopenOptions(TypedDict):
    """Keyword arguments of ``subprocess.Popen``."""

    creationflags: int


def is_module_name(name: str) -> bool:
    """Whether a text is a dotted module name."""
    return _MODULE.fullmatch(name) is not None


def worker_command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module's ``main`` as a worker of this very program.

    Args:
        module: A dotted module name; in a frozen build one that was frozen in.
        arguments: What its ``main`` gets, such as the variant of the model to load.

    Raises:
        TypeError: ``module`` is no module name; caught here rather than in a process that dies at once.
    """
    if not is_module_name(module):
        raise TypeError(f"a worker's module must be a dotted name, found {module!r}")
    frozen = getattr(sys, "frozen", False)
    program = [sys.executable] if frozen else [sys.executable, "-m", "lading_server"]
    return [*program, WORKER_FLAG, module, *arguments]


def popen_options(platform: str = sys.platform) -> PopenOptions:
    """What ``Popen`` needs beside the command: on Windows, that no console window opens.

    Args:
        platform: As ``sys.platform``.
    """
    # The constant exists only on Windows; its value is part of the Windows interface.
    return {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0x0800_0000) if platform == "win32" else 0}
