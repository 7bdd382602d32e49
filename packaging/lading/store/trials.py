"""How a version did on this machine: it passed its probe, or it is set aside with the reason.

One small file a version, so that whoever writes never has to read first: a launcher sets a version aside while an
install may be running. A note counts only for the very installation that it was made about; a passed probe only under
the driver and with the GPUs that it was made with, and a failed one no longer when the driver is another one, which is
what most reasons ask for.

Nothing here is needed to run what is installed: without a note a version is probed again.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from lading.atomic import as_host_error, write_atomic
from lading.errors import FormatInvalid
from lading.manifest.base import Record, canonical_json, read_record
from lading.store.home import Home
from lading.store.installed import Installed
from lading.store.marker import VERSION_MARKER


class Machine(Record):
    """What a probe's answer depends on besides the version.

    Attributes:
        driver: The driver's version; none without one.
        gpus: Identifiers of the GPUs.
    """

    driver: str | None = None
    gpus: tuple[str, ...] = ()


class Trial(Record):
    """A note about a version.

    Attributes:
        version: Its folder's name.
        installed: When it was installed, as its marker's file says, nanoseconds.
        outcome: ``passed`` its probe, or ``failed`` in any way: it is not started again by itself.
        reason: Why it failed, in words.
        machine: What it was tried on.
        at: When, seconds since 1970.
    """

    schema_: Literal["lading/trial/1"] = "lading/trial/1"
    version: str
    installed: int
    outcome: Literal["passed", "failed"]
    reason: str = ""
    machine: Machine = Machine()
    at: int = 0

    def counts(self, machine: Machine | None) -> bool:
        """Whether it still says something.

        Args:
            machine: The machine as it is now; not compared when none.
        """
        if machine is None or machine == self.machine:
            return True
        known = (self.machine.driver, machine.driver)
        return self.outcome == "failed" and (None in known or known[0] == known[1])


def trial_of(version: Installed, outcome: Literal["passed", "failed"], machine: Machine, *, reason: str = "") -> Trial:
    """Make a note about an installed version, as of now."""
    return Trial(
        version=version.name,
        installed=_installed_at(version),
        outcome=outcome,
        reason=reason,
        machine=machine,
        at=int(time.time()),
    )


def read_trial(home: Home, version: Installed, machine: Machine | None = None) -> Trial | None:
    """The note about a version, if there is one that counts.

    Args:
        home: The variant.
        version: The version.
        machine: As for :meth:`Trial.counts`.
    """
    path = _file(home, version.name)
    try:
        trial = read_record(Trial, path.read_bytes(), origin=str(path))
    except (OSError, FormatInvalid):
        return None
    return trial if trial.installed == _installed_at(version) and trial.counts(machine) else None


def write_trial(home: Home, trial: Trial) -> None:
    """Keep a note, in place of an earlier one about that version.

    Raises:
        AccessDenied, DiskFull: The system refuses.
    """
    write_atomic(_file(home, trial.version), canonical_json(trial), durable=False)


def lift(home: Home, *names: str) -> tuple[str, ...]:
    """Forget the notes about some versions, or about all.

    Args:
        home: The variant.
        names: Folders' names; all when none are given.

    Returns:
        The versions that were set aside until now.

    Raises:
        AccessDenied: The system refuses.
    """
    lifted = []
    try:
        for path in sorted(home.trials.glob("*.json")):
            if names and path.stem not in names:
                continue
            failed = b'"failed"' in path.read_bytes()
            path.unlink(missing_ok=True)
            if failed:
                lifted.append(path.stem)
    except OSError as error:
        raise as_host_error(error, f"deleting from {home.trials}") from error
    return tuple(lifted)


def remove_trials(home: Home) -> None:
    """Delete all notes about a variant, with what a killed process left of one.

    Raises:
        OSError: The system refuses.
    """
    lift(home)
    for path in home.trials.glob(".*.json.*.tmp"):  # of atomic writes whose process was killed
        path.unlink(missing_ok=True)
    if home.trials.is_dir() and not any(home.trials.iterdir()):
        home.trials.rmdir()


def _file(home: Home, name: str) -> Path:
    return home.trials / f"{name}.json"


def _installed_at(version: Installed) -> int:
    return (version.folder / VERSION_MARKER).stat().st_mtime_ns
