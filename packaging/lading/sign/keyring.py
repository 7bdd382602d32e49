"""A folder with a product's real keys: which there are, and where the private half of each lies.

::

    keys.json            the keys, public halves only, and where each private half is
    1.root.json, …       signed root metadata: who may sign what; clients carry one of these
    root.pending.json    the next root while it waits for signatures
    root-1.pem, …        private keys, encrypted; take away those that are to be kept offline

Which key signs which role is written in the newest root and nowhere else. A key whose private half is not here is not
at hand, and nothing is wrong with that: a release needs the keys of targets, snapshot and timestamp, a scheduled
renewal the last two, and the root's keys can lie in a safe.

Places of private halves: ``pem:NAME`` a file of this folder; ``env:NAME`` a variable; anything else is a signer of
securesystemslib (``awskms:``, ``gcpkms:``, ``azurekms:``, ``hv:``, ``hsm:``, ``tkey:``, ``gnupg:``, ``file2:``).
Whatever the place, a variable ``LADING_KEY_<ROLE>`` goes first: that is how a CI job gets one key and no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field, JsonValue
from securesystemslib.exceptions import UnsupportedLibraryError
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Metadata, Root

from lading.atomic import write_atomic
from lading.errors import ConfigError, KeyUnusable, LadingError, ToolMissing
from lading.manifest.base import Record, read_record
from lading.sign.keys import ROLES, SHORT, KeyProvider, Role, development_keys
from lading.sign.secret import Passphrases, open_file, open_text

RING = "keys.json"
PENDING = "root.pending.json"
PEM, ENV = "pem:", "env:"


class KeyEntry(Record):
    """One key.

    Attributes:
        name: For people, such as ``root-1``.
        keyid: Its identity in the metadata.
        public: The public half, as in the metadata.
        uri: Where the private half lies.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    keyid: str
    public: dict[str, JsonValue]
    uri: str

    def key(self) -> Key:
        """The public key."""
        return Key.from_dict(self.keyid, dict(self.public))


class KeyRing(Record):
    """All keys that a product has or had."""

    schema_: Literal["lading/keys/1"] = Field(default="lading/keys/1", alias="schema")
    keys: tuple[KeyEntry, ...]


@dataclass(frozen=True)
class KeyFolder:
    """The folder, without any secret.

    Attributes:
        path: Where it lies.
    """

    path: Path

    @property
    def exists(self) -> bool:
        """Whether there are keys."""
        return (self.path / RING).is_file()

    @property
    def pending(self) -> Path:
        """The next root while it waits for signatures."""
        return self.path / PENDING

    def ring(self) -> KeyRing:
        """The keys.

        Raises:
            ConfigError: There are none.
            FormatInvalid: The record is damaged.
        """
        file = self.path / RING
        if not file.is_file():
            raise ConfigError(
                f"There is no {file}.",
                usually="The folder is another one, or keys were never made.",
                todo="Name the folder with --keys, or make keys with `lading keys init`.",
            )
        return read_record(KeyRing, file.read_bytes(), origin=str(file))

    def write_ring(self, ring: KeyRing) -> None:
        """Write the record so that people can read it too."""
        data = ring.model_dump(mode="json", by_alias=True)
        write_atomic(self.path / RING, json.dumps(data, indent=2, sort_keys=True).encode() + b"\n")

    def root_file(self, version: int) -> Path:
        """``3.root.json``."""
        return self.path / f"{version}.root.json"

    def roots(self) -> tuple[bytes, ...]:
        """The signed roots, from version 1 on."""
        found: list[bytes] = []
        while (file := self.root_file(len(found) + 1)).is_file():
            found.append(file.read_bytes())
        return tuple(found)


def role_keyids(root: Root, role: Role) -> tuple[str, ...]:
    """The identities of a role's keys."""
    return tuple(root.roles[role].keyids)


@dataclass(frozen=True, kw_only=True)
class RingKeys:
    """The keys of a folder, opened when they are to sign and not before; a :class:`lading.sign.keys.KeyProvider`.

    Attributes:
        folder: Where they lie.
        ring: The keys.
        roots: The signed roots.
        passphrases: What opens key files.
        environment: Variables.
    """

    folder: Path
    ring: KeyRing
    roots: Sequence[bytes]
    passphrases: Passphrases
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    development: bool = False
    _opened: dict[str, Signer] = field(default_factory=dict, repr=False, compare=False)

    @property
    def root(self) -> Root:
        """The newest signed root.

        Raises:
            ConfigError: The first root is not signed yet.
        """
        if not self.roots:
            raise ConfigError(
                f"{self.folder} has keys, but no signed root yet.",
                usually=f"{PENDING} waits for signatures of keys that are kept elsewhere.",
                todo=f"Run `lading keys sign {self.folder / PENDING}` where they are.",
            )
        return Metadata[Root].from_bytes(self.roots[-1]).signed

    def public_keys(self, role: Role) -> Sequence[Key]:
        """The keys that the newest root gives a role."""
        root = self.root
        return [root.keys[keyid] for keyid in role_keyids(root, role)]

    def threshold(self, role: Role) -> int:
        """How many of a role's keys must sign."""
        return self.root.roles[role].threshold

    def at_hand(self, keyids: Collection[str]) -> frozenset[str]:
        """Those whose private half is here, in a variable, or at a place that is asked when it is to sign."""
        return frozenset(entry.keyid for entry in self.ring.keys if entry.keyid in keyids and self._is_here(entry))

    def signers(self, keyids: Collection[str]) -> Sequence[Signer]:
        """Open those of the given keys that are at hand.

        Raises:
            KeyUnusable: One of them cannot be opened, or is another key than it should be.
            ToolMissing: Its kind of place needs a package that is not installed.
        """
        there = self.at_hand(keyids)
        return [self._signer(entry) for entry in self.ring.keys if entry.keyid in there]

    def describe(self, keyid: str) -> str:
        """Its name and identity, and its place unless that is the file of its name."""
        entry = next((entry for entry in self.ring.keys if entry.keyid == keyid), None)
        if entry is None:
            return keyid[:SHORT]
        place = "" if entry.uri == f"{PEM}{entry.name}.pem" else f", {entry.uri}"
        return f"{entry.name} ({keyid[:SHORT]}{place})"

    def variable(self, entry: KeyEntry) -> str | None:
        """The variable that has a key, or none.

        ``LADING_KEY_<ROLE>`` is meant for a role. Where the role has one key, that is the one, and signing will tell
        if it is not; where it has several, the key is opened to see which it is.
        """
        if entry.uri.startswith(ENV) and self.environment.get(entry.uri.removeprefix(ENV)):
            return entry.uri.removeprefix(ENV)
        for role in ROLES if self.roots else ():
            name, keyids = f"LADING_KEY_{role.upper()}", role_keyids(self.root, role)
            if entry.keyid not in keyids or not self.environment.get(name):
                continue
            if len(keyids) == 1 or self._from_variable(name).public_key.keyid == entry.keyid:
                return name
        return None

    def _from_variable(self, name: str) -> Signer:
        if name not in self._opened:
            self._opened[name] = open_text(self.environment[name], f"the variable {name}", self.passphrases)
        return self._opened[name]

    def _is_here(self, entry: KeyEntry) -> bool:
        if entry.uri.startswith(PEM):
            return (self.folder / entry.uri.removeprefix(PEM)).is_file() or self.variable(entry) is not None
        return not entry.uri.startswith(ENV) or self.variable(entry) is not None

    def _signer(self, entry: KeyEntry) -> Signer:
        name = self.variable(entry)
        if name is None and entry.keyid not in self._opened:
            self._opened[entry.keyid] = self._open(entry)
        signer = self._opened[entry.keyid] if name is None else self._from_variable(name)
        if signer.public_key.keyid != entry.keyid:
            origin = f"the variable {name}" if name else entry.uri
            raise _other_key(origin, signer.public_key.keyid, [self.describe(entry.keyid)])
        return signer

    def _open(self, entry: KeyEntry) -> Signer:
        if entry.uri.startswith(PEM):
            return open_file(self.folder / entry.uri.removeprefix(PEM), self.passphrases)
        return self._from_elsewhere(entry)

    def _from_elsewhere(self, entry: KeyEntry) -> Signer:
        try:
            return Signer.from_priv_key_uri(entry.uri, entry.key(), self._secret)
        except UnsupportedLibraryError as error:
            raise ToolMissing(
                f"The key {entry.name} lies at {entry.uri}, and what reads it is not installed: {error}.",
                usually="securesystemslib needs one more package for each kind of place.",
                todo="Install what its documentation names for this kind, such as `securesystemslib[awskms]`.",
            ) from error
        except LadingError:
            raise
        except Exception as error:  # each kind of place has errors of its own, documented as "any"
            raise KeyUnusable(
                f"The key {entry.name} at {entry.uri} cannot be used: {error}.",
                usually="The place cannot be reached, refuses, or has another key.",
                todo="Check its address and the credentials for it.",
            ) from error

    def _secret(self, name: str) -> str:
        """What a place asks for, such as a token's PIN."""
        return self.passphrases.new(name)


def open_ring(folder: Path, passphrases: Passphrases, environment: Mapping[str, str] | None = None) -> RingKeys:
    """Open a folder of keys.

    Raises:
        ConfigError, FormatInvalid: There are no keys, or the record is damaged.
    """
    keys = KeyFolder(folder)
    ring, roots = keys.ring(), keys.roots()
    return RingKeys(
        folder=folder,
        ring=KeyRing(keys=(*ring.keys, *_unlisted(ring, roots))),
        roots=roots,
        passphrases=passphrases,
        environment=os.environ if environment is None else environment,
    )


def _unlisted(ring: KeyRing, roots: Sequence[bytes]) -> Iterator[KeyEntry]:
    """The keys of the newest root that an older record does not know yet: they can only come from variables."""
    if not roots:
        return
    known = {entry.keyid for entry in ring.keys}
    root = Metadata[Root].from_bytes(roots[-1]).signed
    for role in ROLES:
        for keyid in set(role_keyids(root, role)) - known:
            public = root.keys[keyid].to_dict()
            yield KeyEntry(
                name=f"{role}-{keyid[:SHORT]}", keyid=keyid, public=public, uri=f"{ENV}LADING_KEY_{role.upper()}"
            )


def open_keys(folder: Path, passphrases: Passphrases) -> KeyProvider:
    """Open whatever keys a folder has; development keys are made where there are none at all.

    Raises:
        FormatInvalid: A record or key file is damaged.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    return open_ring(folder, passphrases) if KeyFolder(folder).exists else development_keys(folder)


def _other_key(origin: str, found: str, wanted: Sequence[str]) -> KeyUnusable:
    return KeyUnusable(
        f"The key in {origin} is {found[:SHORT]}; the root knows {', '.join(wanted)}.",
        usually="It was replaced by a rotation, or belongs to another repository or role.",
        todo="Give the key that the newest root names; `lading keys status` lists them.",
    )
