"""Which versions are kept, and the removal of the others.

Rules:
    1. The version in use and the one before it never go.
    2. A version whose marker cannot be read goes: nothing can be done with it.
    3. Of several folders of one release, such as a damaged one and the sound one that took its place, one stays.
    4. Of the rest the latest used stay, until as many are kept as were asked for.
    5. A version that a program runs from stays until the next time.
    6. Without a version in use nothing goes: something is wrong, and every version may be wanted yet.

Only folders with our marker are looked at. What cannot be deleted now (Windows: a file of it is in use) stays whole,
for the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lading.errors import FormatInvalid, LadingError
from lading.manifest.base import read_record
from lading.progress import Progress, Silent
from lading.store.diskuse import disk_use
from lading.store.home import Home
from lading.store.marker import VERSION_MARKER, VersionMarker, is_ours, remove_version
from lading.store.pointer import read_pointer
from lading.store.running import Running, running_from
from lading.store.state import State, read_state

KEEP = 2  # the version in use and the one before


@dataclass(frozen=True, kw_only=True)
class Shelved:
    """A version's folder.

    Attributes:
        name: Its name.
        tree: Which release it is, by its tree's digest; none when its marker cannot be read.
    """

    name: str
    tree: str | None


@dataclass(frozen=True, kw_only=True)
class Collected:
    """What was removed.

    Attributes:
        removed: Names of versions.
        left: Names of versions that should have gone, but are in use by a program.
        bytes_freed: What the disk got back.
    """

    removed: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    bytes_freed: int = 0


def what_to_collect(
    shelf: Sequence[Shelved], current: str | None, state: State, *, keep: int = KEEP
) -> tuple[str, ...]:
    """Decide which versions may go, by the rules above.

    Args:
        shelf: All folders with our marker.
        current: The name of the version in use.
        state: Which versions were in use before.
        keep: How many to keep, the one in use and the one before included.

    Returns:
        Names, the least wanted first.
    """
    readable = frozenset(version.name for version in shelf if version.tree is not None)
    if current is None or current not in readable:
        return ()
    previous = state.previous(current, readable)
    ranked = _ranked(shelf, [current, *([previous] if previous else ()), *reversed(state.history)])
    kept: list[Shelved] = []
    going: list[str] = []
    for version in ranked:
        superseded = any(version.tree == other.tree for other in kept)
        if version.name in {current, previous}:
            kept.append(version)
        elif version.tree is None or superseded or len(kept) >= keep:
            going.append(version.name)
        else:
            kept.append(version)
    return tuple(reversed(going))


def _ranked(shelf: Sequence[Shelved], wanted: Sequence[str]) -> list[Shelved]:
    """The most wanted first; what was never in use comes last."""
    places: dict[str, int] = {}
    for name in wanted:
        places.setdefault(name, len(places))
    by_name = sorted(shelf, key=lambda version: version.name, reverse=True)
    return sorted(by_name, key=lambda version: places.get(version.name, len(places)))


def shelf_of(home: Home) -> tuple[Shelved, ...]:
    """All folders with our marker."""
    return tuple(
        Shelved(name=folder.name, tree=_tree(folder)) for folder in sorted(home.versions.glob("*")) if is_ours(folder)
    )


def _tree(folder: Path) -> str | None:
    path = folder / VERSION_MARKER
    try:
        return read_record(VersionMarker, path.read_bytes(), origin=str(path)).tree
    except (OSError, FormatInvalid):
        return None


def collect(
    home: Home,
    *,
    keep: int = KEEP,
    running: Callable[[Iterable[Path]], Sequence[Running]] = running_from,
    progress: Progress | None = None,
) -> Collected:
    """Remove the versions that need not be kept; the caller holds the lock.

    Args:
        home: The variant.
        keep: How many versions to keep.
        running: Finds the programs that run from folders.
        progress: Hears why something stays that should have gone.

    Returns:
        What was removed and what could not be: that is no failure, because the next run tries again.
    """
    talk = progress or Silent()
    try:
        names = what_to_collect(shelf_of(home), read_pointer(home.current), read_state(home.state), keep=keep)
        busy = {found.folder.name: found for found in running([home.versions / name for name in names])}
    except OSError as error:
        talk.note(f"older versions stay for now: {error}")
        return Collected()
    removed: list[str] = []
    freed = 0
    for name in names:
        if name in busy:
            talk.note(f"{name} stays for now: process {busy[name].pid} ({busy[name].name}) runs from it")
            continue
        try:
            freed += remove_measured(home.versions / name, home.partial)
        except (LadingError, OSError) as error:
            talk.note(f"{name} stays for now: {error}")
            continue
        removed.append(name)
    left = tuple(name for name in names if name not in removed)
    return Collected(removed=tuple(removed), left=left, bytes_freed=freed)


def remove_measured(folder: Path, partial: Path) -> int:
    """Delete a version.

    Returns:
        The bytes that the disk got back: files that other versions share are still there.

    Raises:
        AccessDenied: The system refuses.
    """
    freed = disk_use([folder]).own
    remove_version(folder, partial)
    return freed
