"""Which variant this process is: decided by the executable's own name, by nothing that can be inherited.

Rule: ``cuda`` in the name of the executable (its last path component, upper or lower case) means ``cuda``; anything
else means ``cpu``. The environment variable is *overwritten* with the answer, so that a value inherited from a CUDA
server never makes a CPU server claim to be one. Run from source, the executable is a Python interpreter and the
variant is therefore ``cpu``, whatever torch is installed; what the engine really computes on is a separate fact of
``/health``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from typing import Literal

VARIABLE = "LADING_VARIANT"

Variant = Literal["cpu", "cuda"]


def variant_of(executable: str) -> Variant:
    """The variant that an executable's name stands for.

    Args:
        executable: A path of either system, or a bare name.
    """
    name = re.split(r"[/\\]", executable)[-1]
    return "cuda" if "cuda" in name.lower() else "cpu"


def settle(environment: MutableMapping[str, str], executable: str | None = None) -> Variant:
    """Decide this process's variant and write it into its environment, over whatever was there.

    Args:
        environment: The environment to correct; children inherit it.
        executable: The executable's path; this process's when none.

    Returns:
        The variant.
    """
    variant = variant_of(sys.executable if executable is None else executable)
    environment[VARIABLE] = variant
    return variant
