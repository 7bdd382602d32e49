"""Make keys, and change who may sign: the next root, signed by those who may say so.

A root is good when enough keys of the root before it *and* enough of its own have signed it, so no single machine can
take over a repository, and clients of any older root can follow the chain. The keys that sign need not be in one place:
what is signed here is kept in ``root.pending.json``, which is carried to the next one, until there is enough.

Does not: touch a repository. The next signature of one (``lading publish``, ``lading keys refresh``) carries the new
root there and signs anew what the old keys had signed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from lading.atomic import write_atomic
from lading.errors import ConfigError, FormatInvalid, KeyMissing, KeyUnusable
from lading.manifest.base import Record
from lading.sign.keyring import PEM, PENDING, KeyEntry, KeyFolder, KeyRing, RingKeys, open_ring, role_keyids
from lading.sign.keys import PRIVATE, ROLES, SHORT, Role, add_signature
from lading.sign.repository import ROOT_EXPIRY
from lading.sign.schemes import scheme_warnings
from lading.sign.secret import Passphrases, encrypted


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """A key whose private half is made and kept by something else.

    Attributes:
        uri: Where, as securesystemslib names it.
        public: The public half, PEM.
    """

    uri: str
    public: bytes


@dataclass(frozen=True, kw_only=True)
class KeyPlan:
    """Which keys to make.

    Attributes:
        counts: Keys of a role, where it is more than one.
        thresholds: Signatures that a role needs, where it is more than one.
        elsewhere: Keys of a role that exist already; it gets these and none of ours.
        encrypt: Encrypt what is written.
        root_life: How long the first root is good for.
    """

    counts: Mapping[Role, int] = field(default_factory=dict)
    thresholds: Mapping[Role, int] = field(default_factory=dict)
    elsewhere: Mapping[Role, Sequence[Elsewhere]] = field(default_factory=dict)
    encrypt: bool = True
    root_life: timedelta = ROOT_EXPIRY


class RoleChange(Record):
    """A role as a root has it: the names or identities of its keys, and how many of them must sign."""

    role: Role
    keys: tuple[str, ...]
    threshold: int


class RootChange(Record):
    """How far a root has come.

    Attributes:
        version: Its version.
        expires: When it expires, ISO 8601.
        file: Where it lies now.
        complete: It has all signatures, and is in force.
        signed_by: The keys that have signed.
        missing: What is lacking: one line for each rule that is not fulfilled yet, with the keys that can.
        roles: What it says.
        warnings: What to know before clients meet it.
    """

    version: int
    expires: str
    file: str
    complete: bool
    signed_by: tuple[str, ...]
    missing: tuple[str, ...]
    roles: tuple[RoleChange, ...]
    warnings: tuple[str, ...] = ()


def make_keys(path: Path, plan: KeyPlan, passphrases: Passphrases, now: datetime) -> RootChange:
    """Make a folder of keys, and the first root.

    Args:
        path: The folder; it must not have keys.
        plan: Which keys.
        passphrases: The first passphrase encrypts the new keys.
        now: The present moment, in UTC.

    Returns:
        The first root.

    Raises:
        ConfigError: There are keys already, or a role has fewer keys than it needs signatures.
        KeyUnusable: There is no passphrase, or a key elsewhere cannot be used.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    folder = KeyFolder(path)
    if folder.exists or any(path.glob("development-*.key.json")):
        raise ConfigError(
            f"{path} has keys already.",
            usually="`lading keys init` was run before, or the folder is that of development keys.",
            todo="Choose another folder; to replace keys, use `lading keys rotate`.",
        )
    _check_plan(plan)
    passphrase = passphrases.new("the new keys") if plan.encrypt else None
    root = Root(consistent_snapshot=True, expires=now + plan.root_life)
    entries: list[KeyEntry] = []
    for role in ROLES:
        for number, found in enumerate(_keys_of(role, plan), start=1):
            entry = _add(path, f"{role}-{number}", found, passphrase)
            entries.append(entry)
            root.add_key(entry.key(), role)
        root.roles[role].threshold = plan.thresholds.get(role, 1)
    write_atomic(path / ".gitignore", b"*.pem\n.lock\n")  # the rest is public, and good to keep under version control
    folder.write_ring(KeyRing(keys=tuple(entries)))
    return _sign_and_keep(folder, Metadata(root), None, open_ring(path, passphrases))


def _check_plan(plan: KeyPlan) -> None:
    for role in ROLES:
        count = len(plan.elsewhere.get(role, ())) or plan.counts.get(role, 1)
        threshold = plan.thresholds.get(role, 1)
        if not 1 <= threshold <= count:
            raise ConfigError(
                f"The role {role} would have {count} keys and need {threshold} signatures.",
                usually="The number of keys was not given.",
                todo=f"Give at least {max(threshold, 1)} keys (--{role}-keys), and a threshold of 1 or more.",
            )


def _keys_of(role: Role, plan: KeyPlan) -> Sequence[CryptoSigner | Elsewhere]:
    given = plan.elsewhere.get(role, ())
    return given or [CryptoSigner.generate_ed25519() for _ in range(plan.counts.get(role, 1))]


def _add(path: Path, name: str, key: CryptoSigner | Elsewhere, passphrase: str | None) -> KeyEntry:
    if isinstance(key, Elsewhere):
        public = _public(key)
        return KeyEntry(name=name, keyid=public.keyid, public=public.to_dict(), uri=key.uri)
    file = path / f"{name}.pem"
    if file.exists():
        raise ConfigError(f"{file} exists already.", todo="Move it away; nothing was overwritten.")
    write_atomic(file, encrypted(key, passphrase), mode=PRIVATE)
    return KeyEntry(name=name, keyid=key.public_key.keyid, public=key.public_key.to_dict(), uri=f"{PEM}{name}.pem")


def _public(key: Elsewhere) -> Key:
    try:
        return SSlibKey.from_crypto(load_pem_public_key(key.public))
    except ValueError as error:
        raise KeyUnusable(
            f"The public key that was given for {key.uri} cannot be read: {error}.",
            todo="Give the public half as PEM, as the place that has the key exports it.",
        ) from error


@dataclass(frozen=True, kw_only=True)
class Rotation:
    """What to change in a role.

    Attributes:
        role: Which.
        new: It gets a new key.
        add: That key, when it exists elsewhere; one is made here when none.
        replace: Names of the keys to take out; the role's only one when none.
        threshold: Signatures that the role needs from now on; as before when none.
    """

    role: Role
    new: bool = True
    add: Elsewhere | None = None
    replace: tuple[str, ...] | None = None
    threshold: int | None = None


def changed_root(
    old: Root, role: Role, add: Sequence[Key], remove: Sequence[str], *, threshold: int | None, expires: datetime
) -> Root:
    """The root after another one: pure.

    Args:
        old: The root that is in force.
        role: The role to change.
        add, remove: Its new keys; the identities of those that go.
        threshold: Its new threshold; as before when none.
        expires: When the new root expires.

    Raises:
        ConfigError: The role would have fewer keys than it needs signatures.
    """
    new = deepcopy(old)
    new.version, new.expires = old.version + 1, expires
    for keyid in remove:
        new.revoke_key(keyid, role)
    for key in add:
        new.add_key(key, role)
    delegated = new.roles[role]
    delegated.threshold = threshold or delegated.threshold
    if len(delegated.keyids) < delegated.threshold:
        raise ConfigError(
            f"The role {role} would have {len(delegated.keyids)} keys and need {delegated.threshold} signatures.",
            todo="Replace one key at a time with --replace, or lower the threshold with --threshold.",
        )
    return new


def rotate(
    path: Path,
    rotation: Rotation | None,
    passphrases: Passphrases,
    now: datetime,
    *,
    root_life: timedelta = ROOT_EXPIRY,
) -> RootChange:
    """Make the next root: with another key, or with the same keys and a later expiry.

    Args:
        path: The folder of keys.
        rotation: What to change; none to only renew the root.
        passphrases: Open the keys that sign; the first one encrypts a new key.
        now: The present moment, in UTC.
        root_life: How long the next root is good for.

    Returns:
        How far it has come: in force when enough keys are at hand.

    Raises:
        ConfigError: Another root is waiting for signatures, or the change is impossible.
        KeyUnusable: A key cannot be opened.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    folder = KeyFolder(path)
    keys = open_ring(path, passphrases)
    old = keys.root
    if folder.pending.exists():
        raise ConfigError(
            f"{folder.pending} is waiting for signatures.",
            usually="An earlier rotation was not finished.",
            todo="Finish it with `lading keys sign`, or delete the file to drop it.",
        )
    expires = now + root_life
    if rotation is None:
        new = changed_root(old, "root", [], [], threshold=None, expires=expires)
        return _sign_and_keep(folder, Metadata(new), old, keys)
    role = rotation.role
    remove = _named(keys, role, rotation.replace)
    # Decided with a stand-in before anything is written: a change that is impossible leaves no new key behind.
    stand_in = CryptoSigner.generate_ed25519()
    added: list[Key] = [stand_in.public_key] if rotation.new else []
    new = changed_root(old, role, added, remove, threshold=rotation.threshold, expires=expires)
    if rotation.new:
        passphrase = passphrases.new("the new key") if rotation.add is None and _is_encrypted(keys) else None
        entry = _add(path, _free_name(keys.ring, role), rotation.add or stand_in, passphrase)
        new = changed_root(old, role, [entry.key()], remove, threshold=rotation.threshold, expires=expires)
        folder.write_ring(KeyRing(keys=(*keys.ring.keys, entry)))
    return _sign_and_keep(folder, Metadata(new), old, open_ring(path, passphrases, keys.environment))


def _is_encrypted(keys: RingKeys) -> bool:
    """A new key is written as the others are; a folder without key files gets an encrypted one."""
    files = [keys.folder / entry.uri.removeprefix(PEM) for entry in keys.ring.keys if entry.uri.startswith(PEM)]
    there = [file.read_bytes() for file in files if file.is_file()]
    return not there or any(b"ENCRYPTED" in data for data in there)


def _named(keys: RingKeys, role: Role, names: Sequence[str] | None) -> list[str]:
    current = role_keyids(keys.root, role)
    ours = {entry.name: entry.keyid for entry in keys.ring.keys if entry.keyid in current}
    if names is None and len(current) > 1:
        raise ConfigError(
            f"The role {role} has several keys: {', '.join(sorted(ours))}.",
            todo="Name the one to replace with --replace, or say --add.",
        )
    if names is None:
        return list(current)
    unknown = [name for name in names if name not in ours]
    if unknown:
        raise ConfigError(
            f"The role {role} has no key {', '.join(unknown)}; it has {', '.join(sorted(ours))}.",
            todo="Name one of these with --replace.",
        )
    return [ours[name] for name in names]


def _free_name(ring: KeyRing, role: Role) -> str:
    taken = {entry.name for entry in ring.keys}
    number = 1
    while f"{role}-{number}" in taken:
        number += 1
    return f"{role}-{number}"


def sign_root(file: Path, path: Path, passphrases: Passphrases, more: Sequence[Signer] = ()) -> RootChange:
    """Add the signatures that can be made here to a root that waits for them; put it in force when it has enough.

    Args:
        file: The waiting root; that of the folder, or one that was carried here.
        path: The folder of keys; it may be one that has some of the private keys only.
        passphrases: Open the keys.
        more: Further signers, such as of a single key file.

    Raises:
        FormatInvalid: The file is no root.
        KeyMissing: No key that could sign it is here.
        ConfigError: It does not follow the folder's newest root.
    """
    folder = KeyFolder(path)
    metadata = _read_root(file)
    signers = list(more)
    old: Root | None = None
    keys: RingKeys | None = None
    if folder.exists:
        keys = open_ring(path, passphrases)
        old = _before(metadata.signed, keys)
        signers += keys.signers(_wanted(metadata.signed, old))
    wanted = _wanted(metadata.signed, old)
    home = folder if folder.exists and file.absolute() == folder.pending.absolute() else None
    new = [signer for signer in signers if signer.public_key.keyid in wanted]
    if not new and (home is None or _missing(metadata, old, keys)):
        raise KeyMissing(
            f"No key is here that could sign root {metadata.signed.version}.",
            usually=f"It waits for: {', '.join(sorted(_describe(keys, keyid) for keyid in wanted))}.",
            todo="Run this where one of them is.",
        )
    for signer in new:
        add_signature(metadata, signer)
    return _keep(metadata, old, file, home, keys)


def _sign_and_keep(folder: KeyFolder, metadata: Metadata[Root], old: Root | None, keys: RingKeys) -> RootChange:
    for signer in keys.signers(_wanted(metadata.signed, old)):
        add_signature(metadata, signer)
    return _keep(metadata, old, folder.pending, folder, keys)


def _keep(
    metadata: Metadata[Root], old: Root | None, file: Path, folder: KeyFolder | None, keys: RingKeys | None
) -> RootChange:
    missing = _missing(metadata, old, keys)
    complete = not missing and folder is not None
    place = folder.root_file(metadata.signed.version) if folder is not None and complete else file
    write_atomic(place, metadata.to_bytes())
    if complete:
        file.unlink(missing_ok=True)
    return describe_root(metadata, place, complete=complete, missing=missing, keys=keys)


def describe_root(
    metadata: Metadata[Root], file: Path, *, complete: bool, missing: Sequence[str], keys: RingKeys | None
) -> RootChange:
    """Say what a root says, and who has signed it."""
    root = metadata.signed
    return RootChange(
        version=root.version,
        expires=root.expires.isoformat(),
        file=str(file),
        complete=complete,
        signed_by=tuple(_describe(keys, keyid) for keyid in metadata.signatures),
        missing=tuple(missing),
        roles=tuple(
            RoleChange(
                role=role,
                keys=tuple(_describe(keys, keyid) for keyid in role_keyids(root, role)),
                threshold=root.roles[role].threshold,
            )
            for role in ROLES
        ),
        warnings=scheme_warnings(root),
    )


def _missing(metadata: Metadata[Root], old: Root | None, keys: RingKeys | None) -> list[str]:
    lines: list[str] = []
    for root in ([old] if old is not None else []) + [metadata.signed]:
        result = root.get_verification_result("root", metadata.signed_bytes, metadata.signatures)
        if not result.verified:
            can = ", ".join(sorted(_describe(keys, keyid) for keyid in result.unsigned))
            lines.append(f"root {root.version} asks for {result.missing} more of: {can}")
    return lines


def _wanted(root: Root, old: Root | None) -> set[str]:
    before = role_keyids(old, "root") if old is not None else ()
    return {*role_keyids(root, "root"), *before}


def _before(root: Root, keys: RingKeys) -> Root | None:
    """The root that a waiting one follows."""
    if root.version == 1 and not keys.roots:
        return None
    newest = keys.root
    if root.version != newest.version + 1:
        raise ConfigError(
            f"The waiting root has version {root.version}; the newest root in {keys.folder} has {newest.version}.",
            usually="It is from an earlier rotation, or the folder is an older copy.",
            todo="Copy the newest *.root.json files into the folder; or drop the waiting root and rotate again.",
        )
    return newest


def _read_root(file: Path) -> Metadata[Root]:
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(file.read_bytes())
    except (DeserializationError, FileNotFoundError) as error:
        raise FormatInvalid(
            f"{file} is no root metadata: {error}.",
            usually=f"It is another file; what waits for signatures is called {PENDING}.",
            todo="Carry the file anew from where it was made.",
        ) from error
    if not isinstance(metadata.signed, Root):
        raise FormatInvalid(f"{file} is {metadata.signed.type} metadata, not a root.", todo=f"Give a {PENDING}.")
    return metadata


def _describe(keys: RingKeys | None, keyid: str) -> str:
    return keyid[:SHORT] if keys is None else keys.describe(keyid)
