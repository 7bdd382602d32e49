"""Sign a repository's timestamp anew, and its snapshot when that is due, without touching anything else.

This is the scheduled job that keeps a repository alive between releases. It needs the keys of these two roles and no
other; after a rotation it also carries the new root there, and then needs the keys of every role that changed hands.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from lading.errors import ConfigError
from lading.manifest.base import Record
from lading.publish.destination import Destination
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider, Role
from lading.sign.repository import Lifetimes, load_state, updated

DAILY: tuple[Role, ...] = ("timestamp",)


class RefreshResult(Record):
    """What was signed anew.

    Attributes:
        destination: Where.
        files: What was written, in order.
        versions: The version of every role afterwards.
        expires: When each role expires, ISO 8601.
    """

    destination: str
    files: tuple[str, ...]
    versions: dict[str, int]
    expires: dict[str, str]


def refresh(
    destination: Destination,
    keys: KeyProvider,
    clock: Clock = system_clock,
    *,
    days: int | None = None,
    anew: Collection[Role] = DAILY,
) -> RefreshResult:
    """Sign the timestamp anew.

    Args:
        destination: The repository.
        keys: Sign.
        clock: What time it is.
        days: How long the timestamp is good for; as usual when none.
        anew: The roles that are signed even if they are fresh.

    Returns:
        What was done.

    Raises:
        ConfigError: Nothing was published there yet.
        KeyMissing, KeyUnusable: The keys are not at hand.
        SignatureInvalid: The metadata there is not ours to build upon; nothing was written.
        Busy: A publisher is at it.
        AccessDenied, DiskFull, Unavailable: The destination refuses.
    """
    with destination.hold():
        state = load_state(destination.read, keys)
        if state.timestamp is None:
            raise ConfigError(
                f"{destination.name} has no metadata that could be signed anew.",
                usually="Nothing was published there yet, or the destination is another one.",
                todo="Publish a release first.",
            )
        lifetimes = Lifetimes()
        if days is not None:
            lifetimes = replace(lifetimes, timestamp=timedelta(days=days))
        update = updated(state, keys, {}, clock(), lifetimes, anew=anew)
        for path, data in update.files:
            destination.put_bytes(path, data)
        after = load_state(destination.read, None)
    held = {"root": after.root, "targets": after.targets, "snapshot": after.snapshot, "timestamp": after.timestamp}
    return RefreshResult(
        destination=destination.name,
        files=tuple(path for path, _ in update.files),
        versions=dict(update.versions),
        expires={role: found.signed.expires.isoformat() for role, found in held.items() if found is not None},
    )
