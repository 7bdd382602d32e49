"""What ``--worker <module> [argument …]`` does: import the module and run its ``main``.

Exit status 2, with a line on standard error, when there is nothing to run; otherwise whatever the worker returns.
A worker that raises ends with Python's own traceback on standard error and status 1.
"""

from __future__ import annotations

import importlib
import os
import sys

from lading_server.entry import EXIT_USAGE, WORKER_FLAG
from lading_server.variant import settle
from lading_server.workers.command import is_module_name


def _refuse(reason: str) -> int:
    usage = f"usage: {WORKER_FLAG} <module> [argument ...]; the module has a function main(arguments) -> int"
    print(f"{usage}\nerror: {reason}", file=sys.stderr)
    return EXIT_USAGE


def dispatch(words: list[str]) -> int:
    """Run a worker in this process until it ends.

    Args:
        words: The module's name and the arguments for it.

    Returns:
        The exit status.
    """
    if not words:
        return _refuse("no module is named")
    name, arguments = words[0], words[1:]
    if not is_module_name(name):
        return _refuse(f"{name!r} is not a module name")
    settle(os.environ)
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        return _refuse(f"{name} cannot be imported: {error}")
    run = getattr(module, "main", None)
    if not callable(run):
        return _refuse(f"{name} has no function main")
    return int(run(arguments) or 0)
