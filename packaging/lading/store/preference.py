"""Which backend the user wants: kept in the data directory, for every start from now on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from lading.atomic import write_atomic
from lading.errors import ConfigError, FormatInvalid
from lading.manifest.base import Record, canonical_json, read_record
from lading.store.home import choice_file

Backend = Literal["auto", "cpu", "cuda"]

FORCE_CPU = "FORCE_CPU"
_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"", "0", "false", "no", "off"})


class Preference(Record):
    """The choice.

    Attributes:
        backend: ``auto`` for CUDA where it runs and CPU elsewhere; ``cpu``; or ``cuda``, also where it is not known to
            run.
    """

    schema_: Literal["lading/choice/1"] = "lading/choice/1"
    backend: Backend = "auto"


def read_preference(data: Path) -> Backend:
    """What was chosen; ``auto`` when nothing was, or what was written cannot be read."""
    path = choice_file(data)
    try:
        return read_record(Preference, path.read_bytes(), origin=str(path)).backend
    except (OSError, FormatInvalid):
        return "auto"


def write_preference(data: Path, backend: Backend) -> None:
    """Keep a choice.

    Raises:
        AccessDenied, DiskFull: The system refuses; the earlier choice stays.
    """
    write_atomic(choice_file(data), canonical_json(Preference(backend=backend)))


def cpu_is_forced(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment says that only the CPU build may run.

    Args:
        environment: The environment; this process's when none.

    Raises:
        ConfigError: The variable has a value that is neither yes nor no.
    """
    text = (os.environ if environment is None else environment).get(FORCE_CPU, "").strip().lower()
    if text not in _YES | _NO:
        raise ConfigError(
            f"{FORCE_CPU} is {text!r}; it must be one of 1, true, yes, on, or 0, false, no, off.",
            todo="Unset it, or set it to 1 to run the CPU build whatever is installed.",
        )
    return text in _YES
