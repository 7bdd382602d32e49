"""What every destination can do, from a plain folder to an object store.

A destination never decides: it says what it has, takes what it has not, and replaces nothing but ``timestamp.json``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Stored:
    """An object that a destination has.

    Attributes:
        size: Bytes.
        sha256: The digest that its host vouches for.
    """

    size: int
    sha256: str


class Destination(Protocol):
    """Where a release is published. Paths are those of :mod:`lading.manifest.layout`."""

    @property
    def name(self) -> str:
        """For messages, such as ``local``."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep other publishers out while the block runs, where the host can; raises ``Busy`` at once if one is in."""

    def stat(self, path: str) -> Stored | None:
        """What lies under a path, or none."""

    def read(self, path: str) -> bytes | None:
        """A small object's bytes, or none."""

    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> None:
        """Create an object from a file, so that it appears whole and only if its bytes are the given ones.

        Raises:
            DigestMismatch: They are not; the destination is unchanged.
            AccessDenied, DiskFull, Unavailable: The host refuses.
        """

    def put_bytes(self, path: str, data: bytes) -> None:
        """Create, or for ``timestamp.json`` replace, a small object at once."""
