"""Going back to a version that was in use before: one pointer, no network.

What is left is remembered: an update by itself does not bring it back, but waits for something newer.
"""

from __future__ import annotations

from pathlib import Path

from lading.errors import NotInstalled
from lading.manifest.base import Record, Variant
from lading.store.home import Home
from lading.store.installed import Installed, hold_installed, installed_versions, named_version, remove_leftovers
from lading.store.pointer import read_pointer, write_pointer
from lading.store.state import State, read_state, write_state
from lading.store.trials import lift


class RollbackResult(Record):
    """A roll back.

    Attributes:
        variant: Which variant.
        left, current: The folders' names of the version that was in use and of the one that is now.
        entry: The executable now in use.
        held: The release that ``update`` does not install again by itself; none after going forward.
    """

    variant: Variant
    left: str | None
    current: str
    entry: str
    held: str | None = None


def rollback(data: Path, variant: Variant, *, to: str | None = None) -> RollbackResult:
    """Go back to the version that was in use before.

    Args:
        data: The data directory.
        variant: Which variant.
        to: A version's folder name or release number, instead of the one before.

    Returns:
        What is in use now.

    Raises:
        NotInstalled: There is no such version, or it is not whole.
        Busy: Another process changes this data directory.
        AccessDenied, DiskFull: The pointer cannot be replaced; the version in use stays in use.
    """
    home = Home(data, variant)
    with hold_installed(home, "rolling back"):
        remove_leftovers(home)
        state = read_state(home.state)
        left = read_pointer(home.current)
        target = named_version(home, to) if to else _before(home, state, left)
        _needed_whole(target)
        after = state.rolled_back(target.name, left=_release_of(home, left), to=target.marker.version)
        write_state(home.state, after)  # before the pointer: killed in between, what is left is not brought back
        write_pointer(home.current, target.name)
        lift(home, target.name)  # whoever goes back to a version wants it tried
    return RollbackResult(variant=variant, left=left, current=target.name, entry=str(target.entry), held=after.held)


def _before(home: Home, state: State, current: str | None) -> Installed:
    versions = {version.name: version for version in installed_versions(home)}
    name = state.previous(current, frozenset(versions))
    if name is None:
        raise NotInstalled(
            f"There is no whole version before the current one of the {home.variant} variant to go back to.",
            usually=f"Installed are: {', '.join(sorted(versions)) or 'none'}.",
            todo="`lading status` lists what is there; `lading install --version` fetches an earlier one.",
        )
    return versions[name]


def _needed_whole(version: Installed) -> None:
    damage = version.damage()
    if damage is None or damage:
        wrong = "its own records are damaged" if damage is None else f"{damage[0].path} is {damage[0].how}"
        raise NotInstalled(
            f"{version.name} is no whole version to go back to: {wrong}.",
            usually="Somebody or a cleaning program changed it, or the disk is failing.",
            todo=f"`lading install --version {version.marker.version}` fetches what is wrong and makes it current.",
        )


def _release_of(home: Home, name: str | None) -> str | None:
    found = (version.marker.version for version in installed_versions(home) if version.name == name)
    return next(found, None)
