"""Which GPUs a build has code for: the architectures that torch lists, against a compute capability. Pure.

Rules (NVIDIA's binary and PTX compatibility):

    sm_XY          machine code: runs on X.z with z ≥ Y, within the same X
    sm_XYa         machine code for X.Y alone
    sm_XYf         machine code for the family: X.z with z ≥ Y
    compute_XY     PTX: the driver compiles it on the machine, for X.Y and everything later
    compute_XYa    PTX for X.Y alone
    compute_XYf    PTX for the family: X.z with z ≥ Y
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_ARCH = re.compile(r"^(sm|compute)_([0-9]+)([0-9])([af]?)$")
_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")

Code = Literal["sass", "ptx", "none", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Arch:
    """One entry of ``torch.cuda.get_arch_list()``.

    Attributes:
        ptx: PTX instead of machine code.
        major, minor: The compute capability that it is made for.
        only: How narrow it is: ``a`` for this capability alone, ``f`` for its family, or empty.
    """

    ptx: bool
    major: int
    minor: int
    only: str = ""

    def fits(self, capability: tuple[int, int]) -> bool:
        """Whether a GPU of that compute capability can run it, compiled by the driver if it is PTX."""
        if self.only == "a":
            return capability == (self.major, self.minor)
        if self.ptx and not self.only:
            return capability >= (self.major, self.minor)
        return capability[0] == self.major and capability[1] >= self.minor


def parse_arch(text: str) -> Arch | None:
    """Read an entry such as ``sm_86`` or ``compute_120``; none for one that we do not understand."""
    match = _ARCH.match(text)
    if match is None:
        return None
    return Arch(ptx=match[1] == "compute", major=int(match[2]), minor=int(match[3]), only=match[4])


def code_for(capability: str, archs: Sequence[str]) -> Code:
    """What a build has for a GPU.

    Args:
        capability: The GPU's compute capability, such as ``8.6``.
        archs: The build's list.

    Returns:
        Machine code before PTX; ``unknown`` when there is no list, or nothing fits but an entry is of a new kind.
    """
    major, _, minor = capability.partition(".")
    if not archs or not major.isdigit() or not minor.isdigit():
        return "unknown"
    parsed = [parse_arch(text) for text in archs]
    fitting = [arch for arch in parsed if arch is not None and arch.fits((int(major), int(minor)))]
    if any(not arch.ptx for arch in fitting):
        return "sass"
    if fitting:
        return "ptx"
    return "unknown" if None in parsed else "none"


def capabilities(archs: Sequence[str]) -> tuple[str, ...]:
    """A build's list for people: ``8.6``, ``9.0a``, ``PTX 12.0``; in the order of the list."""
    shown: list[str] = []
    for text in archs:
        arch = parse_arch(text)
        name = text if arch is None else f"{'PTX ' if arch.ptx else ''}{arch.major}.{arch.minor}{arch.only}"
        shown.append(name)
    return tuple(shown)


def numbers(version: str | None) -> tuple[int, ...] | None:
    """A version for comparison, number by number: ``580`` equals ``580.0`` and is less than ``580.65.06``.

    Args:
        version: Such as ``570.86.15`` or ``550.54.14-server``.

    Returns:
        Its numbers without zeros at the end; none when it does not begin with a number.
    """
    match = _NUMBERS.match(version or "")
    if match is None:
        return None
    found = [int(part) for part in match[0].split(".")]
    while found and found[-1] == 0:
        found.pop()
    return tuple(found)
