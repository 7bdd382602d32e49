"""Who signs which role.

A :class:`KeyProvider` knows a repository's keys and answers with signers of securesystemslib, which exist for files,
the environment, KMS of three clouds, Vault and hardware tokens; the rest of the room does not care where a key lies,
or whether it is at hand. This module has the simplest providers: keys in memory, and development keys in a folder, made
on first use. Real keys are :mod:`lading.sign.keyring`'s.

It does not rotate keys, and it encrypts none: development keys protect nothing but a developer's own machine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from filelock import FileLock
from securesystemslib.signer import CryptoSigner, Key, Signer
from tuf.api.exceptions import UnsignedMetadataError
from tuf.api.metadata import Metadata

from lading.atomic import write_atomic
from lading.errors import FormatInvalid, KeyUnusable
from lading.manifest.base import Record, canonical_json, read_record

Role = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: tuple[Role, ...] = ("root", "targets", "snapshot", "timestamp")

PRIVATE = 0o600  # on Windows the folder's access list decides; there are no such bits
SHORT = 8  # hexadecimal digits of a key's identity in messages


class KeyProvider(Protocol):
    """A repository's keys, of which not all need be at hand."""

    @property
    def development(self) -> bool:
        """The keys are development keys; the root metadata says so to everybody."""

    @property
    def roots(self) -> Sequence[bytes]:
        """Root metadata that is signed already, from version 1 on; none when the first signing makes it."""

    def public_keys(self, role: Role) -> Sequence[Key]:
        """The keys of a role."""

    def threshold(self, role: Role) -> int:
        """How many of a role's keys must sign."""

    def at_hand(self, keyids: Collection[str]) -> frozenset[str]:
        """Those of the given keys that could sign now; opens none."""

    def signers(self, keyids: Collection[str]) -> Sequence[Signer]:
        """Open those of the given keys that are at hand."""

    def describe(self, keyid: str) -> str:
        """A key's name and whereabouts, for messages."""


def add_signature(metadata: Metadata[Any], signer: Signer) -> None:
    """Sign metadata with one more key.

    Raises:
        KeyUnusable: The signer cannot, or may not.
    """
    try:
        metadata.sign(signer, append=True)
    except UnsignedMetadataError as error:
        raise KeyUnusable(
            f"The key {signer.public_key.keyid[:SHORT]} did not sign: {error.__cause__ or error}.",
            usually="The place that has it cannot be reached, or does not allow it.",
            todo="Check the credentials for it, then run the same command again.",
        ) from error


@dataclass(frozen=True, kw_only=True)
class KeySet:
    """Keys in memory, all of them at hand.

    Attributes:
        by_role: The signers of every role.
        thresholds: Signatures that a role needs, where it is more than one.
        development: They are development keys.
        roots: Root metadata that is signed already.
    """

    by_role: Mapping[Role, tuple[Signer, ...]]
    thresholds: Mapping[Role, int]
    development: bool = False
    roots: Sequence[bytes] = field(default=())

    def public_keys(self, role: Role) -> Sequence[Key]:
        """The keys of a role."""
        return [signer.public_key for signer in self.by_role[role]]

    def threshold(self, role: Role) -> int:
        """How many of a role's keys must sign."""
        return self.thresholds.get(role, 1)

    def at_hand(self, keyids: Collection[str]) -> frozenset[str]:
        """All that are ours."""
        return frozenset(signer.public_key.keyid for signer in self.signers(keyids))

    def signers(self, keyids: Collection[str]) -> Sequence[Signer]:
        """The signers of the given keys."""
        ours = {signer.public_key.keyid: signer for signers in self.by_role.values() for signer in signers}
        return [signer for keyid, signer in ours.items() if keyid in keyids]

    def describe(self, keyid: str) -> str:
        """The beginning of its identity."""
        return keyid[:SHORT]


class KeyFile(Record):
    """A development key on disk.

    Attributes:
        development: Always true: whoever finds the file knows what it is worth.
        role: The one role that it signs.
        keyid: The key's identity in the metadata.
        private: The ed25519 private key, PKCS #8 in PEM.
    """

    schema_: Literal["lading/key/1"] = "lading/key/1"
    development: Literal[True] = True
    role: Role
    keyid: str
    private: str


def key_file_name(role: Role) -> str:
    """``development-root.key.json``."""
    return f"development-{role}.key.json"


def development_keys(folder: Path) -> KeySet:
    """Load a folder's development keys; make those that are not there yet.

    Args:
        folder: Where the keys lie, one file a role, readable by their owner only.

    Returns:
        The keys of all four roles.

    Raises:
        FormatInvalid: A key file is damaged, or belongs to another role.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # two first uses at once must agree on one key
        signers: dict[Role, tuple[Signer, ...]] = {role: (_load_or_make(folder, role),) for role in ROLES}
    return KeySet(by_role=signers, thresholds={}, development=True)


def _load_or_make(folder: Path, role: Role) -> CryptoSigner:
    path = folder / key_file_name(role)
    if path.exists():
        return _load(path, role)
    signer = CryptoSigner.generate_ed25519()
    key = KeyFile(role=role, keyid=signer.public_key.keyid, private=signer.private_bytes.decode())
    write_atomic(path, canonical_json(key), mode=PRIVATE)
    return signer


def _load(path: Path, role: Role) -> CryptoSigner:
    key = read_record(KeyFile, path.read_bytes(), origin=str(path))
    try:
        private = load_pem_private_key(key.private.encode(), password=None)
    except ValueError as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise _damaged(path, f"it holds a {type(private).__name__}, not an ed25519 key")
    signer = CryptoSigner(private)
    if (key.role, key.keyid) != (role, signer.public_key.keyid):
        raise _damaged(path, f"it says {key.role} {key.keyid[:8]}, but holds {role} {signer.public_key.keyid[:8]}")
    return signer


def _damaged(path: Path, why: str) -> FormatInvalid:
    return FormatInvalid(
        f"{path} is not a usable key file: {why}.",
        usually="It was edited or copied from elsewhere.",
        todo="Restore it; or, if nobody trusts its root yet, delete the folder's keys: new ones are made.",
    )
