"""What every destination can do, from a plain folder to an object store.

A destination never decides: it says what it has and what it could not take, takes what it has not, and replaces nothing
but ``timestamp.json``. What only reads may be called outside of :meth:`Destination.hold`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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


@dataclass(frozen=True, kw_only=True)
class Sized:
    """An object that is to be put somewhere.

    Attributes:
        path: Where it belongs.
        size: Bytes.
    """

    path: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Listed:
    """Something that a destination can give back: an object, or several that can only go together.

    Attributes:
        name: As the destination calls it; :meth:`Destination.lies_at` says what lies in it.
        size: Bytes of all of it.
        age: Seconds since it was put there, by the host's own clock.
    """

    name: str
    size: int
    age: float


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

    def close(self) -> None:
        """Let connections go that reading has opened; reading again opens them again."""

    def get_file(self, path: str, target: Path) -> Stored | None:
        """Write an object's bytes into a file, and say what they are; none when there is no such object."""

    def begun(self, path: str, stored: Stored) -> int:
        """Bytes of an object that an earlier run sent and that :meth:`put_file` will not send again."""

    def check(self, objects: Sequence[Sized]) -> None:
        """Make sure that the host takes objects of these names and sizes; asks nobody.

        Raises:
            AssetTooLarge: One is too large, or there are too many.
            NameForbidden: The host would store one under another name.
        """

    def calls(self, objects: Sequence[Sized], files: Sequence[str]) -> Mapping[str, int]:
        """The calls that change something at the host when these are put, by the host's own names; asks nobody.

        Args:
            objects: Assets.
            files: Paths of signed files.
        """

    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> int:
        """Create an object from a file, so that it appears whole and only if its bytes are the given ones.

        Returns:
            Bytes that were sent: fewer than the file has where an earlier run's are there.

        Raises:
            DigestMismatch: They are not; the destination is unchanged.
            AccessDenied, DiskFull, Unavailable: The host refuses.
        """

    def put_bytes(self, path: str, data: bytes) -> int:
        """Create, or for ``timestamp.json`` replace, a small object at once; gives the bytes that were sent."""

    def lies_at(self, path: str) -> str:
        """What has an asset, as :meth:`listing` calls it."""

    def listing(self) -> Sequence[Listed]:
        """All assets that are there, published or not."""

    def remove(self, names: Sequence[str]) -> None:
        """Delete assets, in order; those that are gone already count as deleted. Only within :meth:`hold`.

        Args:
            names: Some of :meth:`listing`.

        Raises:
            AccessDenied, Unavailable, ConfigError: The host refuses; what was deleted before stays so.
        """
