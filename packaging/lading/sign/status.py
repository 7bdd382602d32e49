"""Who signs what, until when, and what needs doing: the state of keys and metadata as one record. Reads only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Literal

from lading.manifest.base import Record
from lading.sign.keys import ROLES, SHORT, KeyProvider, Role
from lading.sign.repository import State
from lading.sign.schemes import scheme_warnings

SOON: Mapping[Role, int] = {"root": 45, "targets": 45, "snapshot": 10, "timestamp": 10}
"""Days before the expiry at which to warn: for the first two, people have to meet; for the others, a job is broken."""

Condition = Literal["good", "soon", "expired", "missing"]


class KeyState(Record):
    """One key of a role.

    Attributes:
        keyid: Its identity.
        name: Name and whereabouts; the beginning of the identity where nothing is known of them.
        at_hand: It could sign here.
    """

    keyid: str
    name: str
    at_hand: bool


class RoleState(Record):
    """One role.

    Attributes:
        role: Which.
        keys: Who may sign.
        threshold: How many of them must.
        version: The metadata's version; none before the first.
        expires: When the newest metadata expires, ISO 8601.
        days_left: Whole days until then; negative afterwards.
        condition: ``good``, ``soon`` when it expires soon, ``expired``, or ``missing``.
    """

    role: Role
    keys: tuple[KeyState, ...]
    threshold: int
    version: int | None = None
    expires: str | None = None
    days_left: int | None = None
    condition: Condition


class TrustStatus(Record):
    """The report of ``lading keys status``.

    Attributes:
        roles: In the order root, targets, snapshot, timestamp.
        development: They are development keys.
        warnings: What needs doing, one line each.
        condition: The worst of the roles.
    """

    roles: tuple[RoleState, ...]
    development: bool
    warnings: tuple[str, ...]
    condition: Condition


def trust_status(
    state: State, keys: KeyProvider | None, now: datetime, *, within: int | None = None, development: bool = False
) -> TrustStatus:
    """Look at all roles: pure.

    Args:
        state: A repository's verified metadata, or only the root of a folder of keys.
        keys: The keys, as far as they are known here.
        now: The present moment, in UTC.
        within: Days before an expiry at which to warn, for every role; each its own when none.
        development: The repository says that its keys are development keys.

    Returns:
        The status.
    """
    held: dict[Role, Any] = {
        "root": state.root, "targets": state.targets, "snapshot": state.snapshot, "timestamp": state.timestamp,
    }  # fmt: skip
    roles = tuple(_role(role, held[role], state, keys, now, within=within) for role in ROLES)
    order: tuple[Condition, ...] = ("good", "missing", "soon", "expired")
    return TrustStatus(
        roles=roles,
        development=development,
        warnings=tuple(_warnings(roles, state)),
        condition=max((item.condition for item in roles), key=order.index),
    )


def _role(
    role: Role, metadata: Any, state: State, keys: KeyProvider | None, now: datetime, *, within: int | None
) -> RoleState:
    root = state.root
    delegated = root.signed.roles[role] if root is not None else None
    keyids = list(delegated.keyids) if delegated is not None else []
    here = keys.at_hand(keyids) if keys is not None else frozenset()
    listed = tuple(
        KeyState(keyid=keyid, name=keys.describe(keyid) if keys else keyid[:SHORT], at_hand=keyid in here)
        for keyid in keyids
    )
    threshold = delegated.threshold if delegated is not None else 0
    if metadata is None:
        return RoleState(role=role, keys=listed, threshold=threshold, condition="missing")
    left = (metadata.signed.expires - now).days  # rounded down: -1 on the day after
    soon = SOON[role] if within is None else within
    condition: Condition = "expired" if metadata.signed.expires <= now else "soon" if left < soon else "good"
    return RoleState(
        role=role,
        keys=listed,
        threshold=threshold,
        version=metadata.signed.version,
        expires=metadata.signed.expires.isoformat(),
        days_left=left,
        condition=condition,
    )


def _warnings(roles: tuple[RoleState, ...], state: State) -> Iterator[str]:
    for item in roles:
        how = "lading keys renew" if item.role == "root" else f"lading keys refresh --role {item.role}"
        if item.condition == "expired":
            yield f"{item.role} has expired, and clients refuse to update: {how}"
        elif item.condition == "soon":
            yield f"{item.role} expires in {item.days_left} days: {how}"
        if item.role == "root" and item.threshold == 1 and len(item.keys) == 1 and item.keys[0].at_hand:
            yield "root is one key, and it is here: who gets this machine gets every client"
    if state.root is not None:
        yield from scheme_warnings(state.root.signed)
    if state.pending:
        yield f"{len(state.pending)} new root metadata not in the repository yet: lading keys refresh"
