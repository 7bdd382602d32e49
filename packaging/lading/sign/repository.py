"""A repository's TUF metadata: read it, verify it, and compute what to write so that it holds given targets.

:func:`load_state` and :func:`updated` do not write anything: the caller puts the files that :func:`updated` returns at
their place, in their order, and the repository is at every moment either the old one or the new one, because a client
begins at ``timestamp.json``, which comes last.

Invariants:
    * Nothing is built upon metadata that our own keys have not signed. After a rotation that may be the keys of the
      root just before; what they signed is signed anew.
    * A renewal that is merely due waits for the keys it needs; what is new or expired does not, and names them.
    * A version number is used once, even when an earlier run died before it wrote its timestamp.
    * Equal targets and no expiry in sight: no new file at all.
    * Every name but ``timestamp.json`` is written once and never again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.metadata import Role as Delegation
from tuf.api.serialization import DeserializationError

from lading.atomic import write_atomic
from lading.digest import sha256_bytes
from lading.errors import KeyMissing, MetadataExpired, SignatureInvalid
from lading.manifest.layout import METADATA, stored_target
from lading.sign.keys import ROLES, KeyProvider, Role, add_signature

ROOT_EXPIRY = timedelta(days=365)
"""The root's keys are offline and their holders meet rarely; a year forces a rehearsal of that ceremony."""
TARGETS_EXPIRY = timedelta(days=365)
"""Signed by a person at a release; a product may well go a year without one, and freshness is the timestamp's task."""
SNAPSHOT_EXPIRY = timedelta(days=90)
"""Signed by the same scheduled job as the timestamp, but less often: every client fetches each new one."""
TIMESTAMP_EXPIRY = timedelta(days=30)
"""For so long somebody can hold back updates unnoticed, and for so long may the scheduled job be broken: the job runs
weekly, so three of its runs in a row may fail before clients refuse to update."""
RENEW_AT = 0.5
"""Metadata is signed anew once this part of its life is over, so that a broken job has the other half to be noticed."""

DEVELOPMENT_FIELD = "x-lading-development"  # in the signed root: whoever trusts it learns what its keys are worth

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)
Reader = Callable[[str], bytes | None]


@dataclass(frozen=True, kw_only=True)
class Lifetimes:
    """How long a signature of each role is good for."""

    root: timedelta = ROOT_EXPIRY
    targets: timedelta = TARGETS_EXPIRY
    snapshot: timedelta = SNAPSHOT_EXPIRY
    timestamp: timedelta = TIMESTAMP_EXPIRY

    def of(self, role: Role) -> timedelta:
        """The lifetime of one role."""
        return {"root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp}[
            role
        ]


@dataclass(frozen=True, kw_only=True)
class State:
    """The metadata that is there; all of it verified, or none at all.

    Attributes:
        root: The newest root, or none in an empty repository.
        targets, snapshot, timestamp: What the timestamp refers to, or none before the first one.
        data: The bytes of each of them, exactly as they lie there.
        has: Says whether a path of the repository is used already.
        pending: Newer roots that the keys' folder has and the repository has not, in order.
        above: Versions that the next metadata of a role must exceed beside its own, because another destination of
            the same repository has used them.
    """

    root: Metadata[Root] | None
    targets: Metadata[Targets] | None
    snapshot: Metadata[Snapshot] | None
    timestamp: Metadata[Timestamp] | None
    data: Mapping[Role, bytes]
    has: Callable[[str], bool]
    pending: tuple[bytes, ...] = ()
    above: Mapping[Role, int] = field(default_factory=dict)

    def versions(self) -> dict[Role, int]:
        """The version of every role that is there."""
        held = {"root": self.root, "targets": self.targets, "snapshot": self.snapshot, "timestamp": self.timestamp}
        return {role: metadata.signed.version for role in ROLES if (metadata := held[role]) is not None}

    def target_sha256(self, path: str) -> str | None:
        """The digest of a target, or none when there is no such target."""
        found = self.targets.signed.targets.get(path) if self.targets else None
        return None if found is None else found.hashes["sha256"]


@dataclass(frozen=True, kw_only=True)
class SignedUpdate:
    """What to write.

    Attributes:
        files: Path relative to the repository and bytes, in the order in which they must be written.
        versions: The version of every role afterwards.
    """

    files: tuple[tuple[str, bytes], ...]
    versions: dict[Role, int] = field(default_factory=dict)


def load_state(read: Reader, keys: KeyProvider | None) -> State:
    """Read and verify a repository's metadata.

    Args:
        read: Gives a file's bytes by its path in the repository, or none when it is not there.
        keys: The keys that are about to sign; the repository must be theirs. None to read without signing.

    Returns:
        The state.

    Raises:
        SignatureInvalid: Metadata is missing, damaged, or signed by other keys.
    """

    def has(path: str) -> bool:
        return read(path) is not None

    data: dict[Role, bytes] = {}
    chain = _chain(read)
    pending = _pending(chain, keys)
    root = None
    if chain:
        data["root"] = chain[-1]
        root = _parsed(chain[-1], Root, "root")
    # Newest first. The one before the newest counts too: a rotation whose last step did not come to pass.
    roots = [_parsed(found, Root, "root").signed for found in reversed((*chain[-2:], *pending))]
    stamp = read(f"{METADATA}/timestamp.json")
    if root is None or stamp is None:
        return State(root=root, targets=None, snapshot=None, timestamp=None, data=data, has=has, pending=pending)
    data["timestamp"] = stamp
    timestamp = _verified(data, Timestamp, roots, "timestamp")
    data["snapshot"] = _needed(read, f"{timestamp.signed.snapshot_meta.version}.snapshot.json")
    snapshot = _verified(data, Snapshot, roots, "snapshot")
    data["targets"] = _needed(read, f"{snapshot.signed.meta['targets.json'].version}.targets.json")
    targets = _verified(data, Targets, roots, "targets")
    return State(
        root=root, targets=targets, snapshot=snapshot, timestamp=timestamp, data=data, has=has, pending=pending
    )


def updated(
    state: State,
    keys: KeyProvider,
    targets: Mapping[str, bytes],
    now: datetime,
    lifetimes: Lifetimes | None = None,
    *,
    anew: Collection[Role] = (),
    drop: Collection[str] = (),
) -> SignedUpdate:
    """Compute and sign what makes a repository hold the given targets, beside those that it has.

    Args:
        state: What is there.
        keys: Signs.
        targets: Bytes by TUF target path; added, or put in the place of an older one.
        now: The present moment, in UTC.
        lifetimes: How long the signatures are good for.
        anew: Roles that are signed anew however fresh they are.
        drop: TUF target paths that the repository shall have no longer; their files stay where they are.

    Returns:
        The files to write, none when nothing has changed.

    Raises:
        KeyMissing: A role must be signed, and too few of its keys are at hand.
        KeyUnusable: A key cannot be opened or does not sign.
        MetadataExpired: The root itself has expired.
    """
    return _Update(state, keys, now, lifetimes or Lifetimes(), frozenset(anew)).run(targets, drop)


def sign_repository(
    folder: Path, keys: KeyProvider, targets: Mapping[str, bytes], now: datetime, lifetimes: Lifetimes | None = None
) -> SignedUpdate:
    """Bring a repository in a folder to hold the given targets; see :func:`updated`.

    Raises:
        SignatureInvalid: The metadata there is damaged, or signed by other keys.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    update = updated(load_state(folder_reader(folder), keys), keys, targets, now, lifetimes)
    for path, data in update.files:
        write_atomic(folder / path, data)
    return update


def folder_reader(folder: Path) -> Reader:
    """Read a repository's files from a folder."""

    def read(path: str) -> bytes | None:
        try:
            return (folder / path).read_bytes()
        except FileNotFoundError:
            return None

    return read


def newest_root(read: Reader) -> bytes | None:
    """The bytes of the newest root metadata, which clients embed as their trust anchor."""
    chain = root_chain(read)
    return chain[-1] if chain else None


def root_chain(read: Reader) -> tuple[bytes, ...]:
    """The bytes of all root metadata, from version 1 on, as they lie there."""
    found: list[bytes] = []
    while (data := read(f"{METADATA}/{len(found) + 1}.root.json")) is not None:
        found.append(data)
    return tuple(found)


def is_development(root: bytes) -> bool:
    """Whether root metadata says that its keys are development keys."""
    return Metadata[Root].from_bytes(root).signed.unrecognized_fields.get(DEVELOPMENT_FIELD) is True


def next_version(state: State, role: Role) -> int:
    """The version that new metadata of a role gets.

    Args:
        state: What is there.
        role: Any but the root.
    """
    version = max(state.versions().get(role, 0), state.above.get(role, 0)) + 1
    while role != "timestamp" and state.has(f"{METADATA}/{version}.{role}.json"):
        version += 1  # left by a run that died before its timestamp; clients accept a gap
    return version


class _Update:
    """One computation of :func:`updated`; role by role, each made anew only when it must be."""

    def __init__(
        self, state: State, keys: KeyProvider, now: datetime, lifetimes: Lifetimes, anew: frozenset[Role]
    ) -> None:
        self.state = state
        self.keys = keys
        self.now = now
        self.lifetimes = lifetimes
        self.anew = anew
        self.data = dict(state.data)
        self.files: list[tuple[str, bytes]] = []

    def run(self, wanted: Mapping[str, bytes], drop: Collection[str] = ()) -> SignedUpdate:
        root = self.root = self._root()
        targets = self._targets(wanted, drop)
        snapshot = self._snapshot(targets)
        timestamp = self._timestamp(snapshot)
        self.files += self._late_roots()
        versions: dict[Role, int] = {
            "root": root.signed.version,
            "targets": targets.signed.version,
            "snapshot": snapshot.signed.version,
            "timestamp": timestamp.signed.version,
        }
        return SignedUpdate(files=tuple(self.files), versions=versions)

    def _stays(self, role: Role, old: Metadata[S] | None, *, changed: bool) -> bool:
        if old is None or changed or role in self.anew or not _is_valid(old, self.root.signed, role):
            return False
        if old.signed.version <= self.state.above.get(role, 0):
            return False
        fresh = old.signed.expires - self.now > self.lifetimes.of(role) * (1 - RENEW_AT)
        return fresh or (old.signed.expires > self.now and not self._can_sign(role))

    def _can_sign(self, role: Role) -> bool:
        delegated = self.root.signed.roles[role]
        return len(self.keys.at_hand(delegated.keyids)) >= delegated.threshold

    def _root(self) -> Metadata[Root]:
        old = self.state.root
        if self.state.pending:
            if old is None:  # nobody can follow a chain that begins in the middle
                self.files += [(_root_path(data), data) for data in self.state.pending]
            self.data["root"] = self.state.pending[-1]
            return self._unexpired(_parsed(self.state.pending[-1], Root, "root"))
        if old is not None:
            self.root = old
            if self.keys.roots:
                return self._unexpired(old)  # the next root of real keys is made by a ceremony, not by a release
            if self._stays("root", old, changed=False):
                return old
            renewed = Root.from_dict(old.signed.to_dict())
            renewed.version += 1
            return self._sign("root", renewed, by=renewed)
        root = Root(consistent_snapshot=True)
        if self.keys.development:
            root.unrecognized_fields[DEVELOPMENT_FIELD] = True
        for role in ROLES:
            for key in self.keys.public_keys(role):
                root.add_key(key, role)
            root.roles[role].threshold = self.keys.threshold(role)
        return self._sign("root", root, by=root)

    def _unexpired(self, root: Metadata[Root]) -> Metadata[Root]:
        if root.signed.expires <= self.now:
            raise MetadataExpired(
                f"Root {root.signed.version} expired on {root.signed.expires:%Y-%m-%d}; no client accepts it.",
                usually="Nobody has renewed it in time.",
                todo="Renew it with `lading keys renew` where its keys are, then run this again.",
            )
        return root

    def _late_roots(self) -> list[tuple[str, bytes]]:
        """New roots come after the timestamp.

        The timestamp before them is signed by the old key too, where that is at hand: then there is no moment at which
        a client would find a root and a timestamp that do not fit.
        """
        return [(_root_path(data), data) for data in self.state.pending if self.state.root is not None]

    def _targets(self, wanted: Mapping[str, bytes], drop: Collection[str]) -> Metadata[Targets]:
        old = self.state.targets
        gone = [path for path in drop if self.state.target_sha256(path) is not None]
        new = {path: data for path, data in wanted.items() if self.state.target_sha256(path) != sha256_bytes(data)}
        if old is not None and self._stays("targets", old, changed=bool(new or gone)):
            return old
        targets = Targets(targets=dict(old.signed.targets) if old else None)
        for path in gone:
            del targets.targets[path]
        for path, data in sorted(new.items()):
            targets.targets[path] = TargetFile.from_data(path, data, ["sha256"])
            self.files.append((stored_target(path, sha256_bytes(data)), data))
        targets.version = next_version(self.state, "targets")
        return self._sign("targets", targets, by=self.root.signed)

    def _snapshot(self, targets: Metadata[Targets]) -> Metadata[Snapshot]:
        old = self.state.snapshot
        if old is not None and self._stays("snapshot", old, changed=targets is not self.state.targets):
            return old
        snapshot = Snapshot(meta={"targets.json": self._described("targets", targets.signed.version)})
        snapshot.version = next_version(self.state, "snapshot")
        return self._sign("snapshot", snapshot, by=self.root.signed)

    def _timestamp(self, snapshot: Metadata[Snapshot]) -> Metadata[Timestamp]:
        old = self.state.timestamp
        if old is not None and self._stays("timestamp", old, changed=snapshot is not self.state.snapshot):
            return old
        timestamp = Timestamp(snapshot_meta=self._described("snapshot", snapshot.signed.version))
        timestamp.version = next_version(self.state, "timestamp")
        return self._sign("timestamp", timestamp, by=self.root.signed)

    def _sign(self, role: Role, signed: S, *, by: Root) -> Metadata[S]:
        signed.expires = self.now + self.lifetimes.of(role)
        metadata: Metadata[S] = Metadata(signed)
        delegated: Delegation = by.roles[role]
        if len(self.keys.at_hand(delegated.keyids)) < delegated.threshold:
            raise _key_missing(role, by, self.keys)
        for signer in self.keys.signers({*delegated.keyids, *self._former(role)}):
            add_signature(metadata, signer)
        _checked(metadata, by, role, f"new {role}")
        self.data[role] = metadata.to_bytes()
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.files.append((f"{METADATA}/{name}", self.data[role]))
        return metadata

    def _former(self, role: Role) -> Collection[str]:
        """The keys that a role had until now, while the new root is not there yet; see :meth:`_late_roots`."""
        old = self.state.root
        return old.signed.roles[role].keyids if old is not None and self.state.pending else ()

    def _described(self, role: Role, version: int) -> MetaFile:
        return MetaFile.from_data(version, self.data[role], ["sha256"])


def _root_path(data: bytes) -> str:
    return f"{METADATA}/{Metadata[Root].from_bytes(data).signed.version}.root.json"


def _chain(read: Reader) -> tuple[bytes, ...]:
    """The repository's roots, each of which follows from the one before."""
    chain = root_chain(read)
    roots = [_parsed(data, Root, "root") for data in chain]
    for number, root in enumerate(roots):
        _checked(root, root.signed, "root", "root")
        if number:
            _checked(root, roots[number - 1].signed, "root", "root")
        if root.signed.version != number + 1:
            raise _untrusted("root", f"{number + 1}.root.json has version {root.signed.version}")
    return chain


def _pending(chain: Sequence[bytes], keys: KeyProvider | None) -> tuple[bytes, ...]:
    """The roots that the keys have and the repository has not; the others must be the same."""
    if keys is None:
        return ()
    ours = tuple(keys.roots)
    if ours:
        for number, (theirs, mine) in enumerate(zip(chain, ours, strict=False), start=1):
            if theirs != mine:
                raise _strangers(f"The repository's root {number} is not the root {number} of the keys at hand.")
        return ours[len(chain) :]
    if chain:
        root = _parsed(chain[-1], Root, "root").signed
        for role in ROLES:
            known, given = set(root.roles[role].keyids), {key.keyid for key in keys.public_keys(role)}
            if not known & given:
                raise _strangers(
                    f"The repository's {role} role belongs to the keys {_short(known)}; at hand are {_short(given)}."
                )
    return ()


def _strangers(what: str) -> SignatureInvalid:
    return SignatureInvalid(
        what,
        usually="The repository was made with the keys of another machine.",
        todo="Use its keys, or publish to a destination of its own.",
    )


def _key_missing(role: Role, root: Root, keys: KeyProvider) -> KeyMissing:
    delegated = root.roles[role]
    there = keys.at_hand(delegated.keyids)
    able = ", ".join(keys.describe(keyid) for keyid in delegated.keyids)
    return KeyMissing(
        f"New {role} metadata needs {delegated.threshold} of the keys {able}; {len(there)} of them are at hand.",
        usually="The key is kept offline or on another machine, or its variable is not set here.",
        todo=f"Run this where it is, or give it in LADING_KEY_{role.upper()}; nothing was signed.",
    )


def _short(keyids: set[str]) -> str:
    return ", ".join(sorted(keyid[:8] for keyid in keyids)) or "none"


def _needed(read: Reader, name: str) -> bytes:
    data = read(f"{METADATA}/{name}")
    if data is None:
        raise SignatureInvalid(
            f"The repository's metadata refers to {METADATA}/{name}, which is not there.",
            usually="Files were deleted from the repository by hand.",
            todo="Restore the repository's metadata folder from a copy.",
        )
    return data


def _parsed(data: bytes, kind: type[S], name: str) -> Metadata[S]:
    try:
        metadata: Metadata[S] = Metadata.from_bytes(data)
    except DeserializationError as error:
        raise _untrusted(name, f"it cannot be read ({error})") from error
    if not isinstance(metadata.signed, kind):
        raise _untrusted(name, f"it is a {metadata.signed.type}")
    return metadata


def _checked(metadata: Metadata[S], root: Root, role: Role, name: str) -> None:
    try:
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
    except (RepositoryError, ValueError) as error:
        raise _untrusted(name, str(error)) from error


def _verified(data: Mapping[Role, bytes], kind: type[S], roots: Sequence[Root], role: Role) -> Metadata[S]:
    metadata = _parsed(data[role], kind, role)
    if not any(_is_valid(metadata, root, role) for root in roots):
        _checked(metadata, roots[0], role, role)
    return metadata


def _is_valid(metadata: Metadata[S], root: Root, role: Role) -> bool:
    return root.get_verification_result(role, metadata.signed_bytes, metadata.signatures).verified


def _untrusted(name: str, why: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The repository's {name} metadata cannot be built upon: {why}.",
        usually="It was altered at the destination, or signed with other keys.",
        todo="Restore the repository's metadata folder from a copy.",
    )
