"""The options of the command line. Wrong ones are answered with the usage on standard error and exit status 2.

``--version`` and ``--worker`` are answered by :mod:`lading_server.entry` before this module is imported; here they only
have their place in ``--help``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

from lading_server import NAME, __version__

DEFAULT_HOST = "127.0.0.1"  # loopback: who wants to be reached from elsewhere says so
DEFAULT_PORT = 8765
MAX_PORT = 65_535
LOG_LEVELS = ("critical", "error", "warning", "info", "debug")


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line asked for.

    Attributes:
        host: The address to listen on.
        port: The port to listen on; 0 lets the system choose one.
        log_level: The least important kind of message that is logged.
        selftest: Run the self-test instead of serving.
        json: Say nothing but the self-test's report.
        require_gpu: The self-test fails where there is no usable GPU.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    log_level: str = "info"
    selftest: bool = False
    json: bool = False
    require_gpu: bool = False


def _port(text: str) -> int:
    value = int(text)
    if not 0 <= value <= MAX_PORT:
        raise ValueError
    return value


_port.__name__ = "port number from 0 to 65535"  # argparse names the type in its message


def _program() -> str:
    frozen = getattr(sys, "frozen", False)
    return Path(sys.executable).name if frozen else "python -m lading_server"


def parser() -> argparse.ArgumentParser:
    """The parser of the command line."""
    made = argparse.ArgumentParser(
        prog=_program(),
        description="The server: health, exact nearest neighbours on the GPU, and a self-test.",
        epilog="Example: serve on a port that the system chooses, with --port 0; it is printed.",
        allow_abbrev=False,
    )
    made.add_argument("--version", action="version", version=f"{NAME} {__version__}", help="print name and version")
    made.add_argument("--host", default=DEFAULT_HOST, help=f"address to listen on (default {DEFAULT_HOST})")
    made.add_argument("--port", type=_port, default=DEFAULT_PORT, help=f"port, 0 for any (default {DEFAULT_PORT})")
    made.add_argument("--log-level", choices=LOG_LEVELS, default="info", help="what is logged (default info)")
    made.add_argument("--selftest", action="store_true", help="check this build and machine, print a JSON report")
    made.add_argument("--json", action="store_true", help="with --selftest: nothing but the report, no progress")
    made.add_argument("--require-gpu", action="store_true", help="with --selftest: fail where no GPU is usable")
    return made


def parse(words: list[str]) -> Options:
    """Read the command line.

    Args:
        words: The words after the program's name.

    Raises:
        SystemExit: With status 2 and the usage on standard error when they are wrong; with 0 after ``--help``.
    """
    reader = parser()
    found = reader.parse_args(words)
    if not found.selftest and (found.json or found.require_gpu):
        reader.error("--json and --require-gpu go with --selftest")
    return Options(**vars(found))
