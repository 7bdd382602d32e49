"""What an installed executable says of itself: ``--version``, run in its own folder, within a bound.

The installed version is what the program answers, not what a record beside it claims; a program that does not answer
cannot be started either. Decides nothing: whoever asks compares.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from lading.errors import ConfigError
from lading.launch.child import server_environment
from lading.manifest.base import Record
from lading.process import run
from lading.store.installed import Installed
from lading.store.status import Status

VARIABLE = "LADING_PROBE_TIMEOUT"
PATIENCE = 30.0  # seconds
PATIENCE_WINDOWS = 90.0  # seconds: on the first start a virus scanner reads gigabytes of libraries
_SHOWN = 200  # characters of what a program printed instead


class Said(Record):
    """What a probe found.

    Attributes:
        version: The version that the program says, without a leading ``v``; none when it said none.
        why: Why there is none.
        seconds: How long it took.
    """

    version: str | None = None
    why: str | None = None
    seconds: float


class ProbedStatus(Status):
    """A status, with what each version's executable said, by the version's name."""

    probes: dict[str, Said]


def probe_patience(environment: Mapping[str, str] | None = None, system: str = os.name) -> float:
    """How long a probe may take: as the variable says, else as the system needs.

    Args:
        environment: Where :data:`VARIABLE` is looked up.
        system: As ``os.name`` says it.

    Returns:
        Seconds.

    Raises:
        ConfigError: The variable is no positive number.
    """
    text = (os.environ if environment is None else environment).get(VARIABLE)
    if text is None:
        return PATIENCE_WINDOWS if system == "nt" else PATIENCE
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(
            f"{VARIABLE} is {text!r}; it must be a number of seconds above 0.",
            todo=f"Unset it, or set it to something like {PATIENCE:g}.",
        )
    return seconds


def plain_version(text: str) -> str:
    """A version as it is compared: without surroundings and a leading ``v``."""
    return text.strip().removeprefix("v")


def read_answer(stdout: str, stderr: str, status: int) -> tuple[str | None, str | None]:
    """What a program answered to ``--version``.

    Args:
        stdout, stderr: What it printed.
        status: Its exit status.

    Returns:
        Its version without a leading ``v``, or none and why.
    """
    words = stdout.split()
    if status:
        return None, f"--version ended with status {status}: {(stderr or stdout).strip()[-_SHOWN:]}"
    if len(words) != 2:  # noqa: PLR2004 (name and version)
        return None, f"--version printed {stdout[:_SHOWN]!r}, not a name and a version"
    return plain_version(words[1]), None


def said_version(tree: Path, entry: str, *, patience: float) -> Said:
    """Ask an executable for its version.

    Args:
        tree: The folder that it is started in.
        entry: The executable, relative to it.
        patience: Seconds until it is killed with all its children.

    Returns:
        Its answer; a program that fails, hangs or answers something else is an answer too.
    """
    began = time.monotonic()
    version, why = None, None
    try:
        done = run([tree / entry, "--version"], cwd=tree, environment=server_environment("probe"), timeout=patience)
    except subprocess.TimeoutExpired:
        why = f"it did not answer --version in {patience:g} s"
    except OSError as error:
        why = f"it cannot be started: {error.strerror or error}"
    else:
        version, why = read_answer(done.stdout, done.stderr, done.returncode)
    return Said(version=version, why=why, seconds=round(time.monotonic() - began, 3))


def probe(version: Installed, *, patience: float | None = None) -> Said:
    """Ask an installed version's executable.

    Args:
        version: The version.
        patience: Seconds; :func:`probe_patience` when none.

    Returns:
        What it says. One that says another version than it was installed as has a reason as well.
    """
    said = said_version(version.tree, version.marker.entry, patience=patience or probe_patience())
    if said.version is not None and said.version != plain_version(version.marker.version):
        why = f"it says {said.version}, and was installed as {version.marker.version}"
        return said.model_copy(update={"why": why})
    return said
