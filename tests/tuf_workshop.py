"""A real repository, made by the signing room, and everything that a thief of some of its keys could do to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, MetaFile

from lading.fetch.folder import FolderSource
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.sign.keys import ROLES, KeySet, Role
from lading.sign.repository import Lifetimes, sign_repository

FILES = {"targets/a.txt": b"one", "targets/b/c.txt": b"two"}
LIFE = timedelta(days=400)
LONG = Lifetimes(root=LIFE, targets=LIFE, snapshot=LIFE, timestamp=LIFE)

Change = Callable[[Any], None]


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def new_keys(counts: Mapping[Role, int] | None = None) -> dict[Role, list[CryptoSigner]]:
    return {role: [CryptoSigner.generate_ed25519() for _ in range((counts or {}).get(role, 1))] for role in ROLES}


def nothing(_signed: Any) -> None:
    """Change nothing."""


@dataclass
class Workshop:
    """A publisher.

    Attributes:
        folder: Everything of it.
        keys: The keys of every role.
        thresholds: Of the roles where it is more than one.
    """

    folder: Path
    keys: dict[Role, list[CryptoSigner]] = field(default_factory=new_keys)
    thresholds: dict[Role, int] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The repository."""
        return self.folder / "store"

    @property
    def trust_folder(self) -> Path:
        """What the client keeps."""
        return self.folder / "trust"

    @property
    def root(self) -> bytes:
        """What the client embeds."""
        return (self.folder / "embedded.json").read_bytes()

    @property
    def provider(self) -> KeySet:
        return KeySet(by_role={role: tuple(keys) for role, keys in self.keys.items()}, thresholds=self.thresholds)

    def publish(self, targets: Mapping[str, bytes] = FILES) -> None:
        sign_repository(self.store, self.provider, targets, now(), LONG)
        embedded = self.folder / "embedded.json"
        if not embedded.exists():
            embedded.write_bytes(self.path("root", 1).read_bytes())

    def client(self, source: Source | None = None, root: bytes | None = None) -> Trust:
        """Refresh, as a client that kept what it saw."""
        return Trust(source or FolderSource(self.store), self.root if root is None else root, self.trust_folder)

    def kept(self) -> dict[str, bytes]:
        """What the client keeps, by name."""
        found = (path for path in self.trust_folder.rglob("*") if path.is_file())
        return {path.relative_to(self.trust_folder).as_posix(): path.read_bytes() for path in found}

    # -- what is there

    def version(self, role: Role) -> int:
        return int(self.metadata(role).signed.version)

    def path(self, role: Role, version: int | None = None) -> Path:
        folder = self.store / "metadata"
        if role == "timestamp":
            return folder / "timestamp.json"
        numbers = [int(path.name.split(".")[0]) for path in folder.glob(f"*.{role}.json")]
        return folder / f"{version or max(numbers)}.{role}.json"

    def metadata(self, role: Role, version: int | None = None) -> Metadata[Any]:
        return Metadata.from_bytes(self.path(role, version).read_bytes())

    # -- what a thief does

    def forge(
        self,
        role: Role,
        change: Change = nothing,
        *,
        by: Sequence[CryptoSigner] | None = None,
        version: int | None = None,
        carry: Iterable[Role] = (),
        hashes: bool = True,
    ) -> None:
        """Put another version of a role's metadata in place, signed by whoever is asked.

        Args:
            role: Which.
            change: Done to the signed part; its version goes up by one before.
            by: The signers; the role's own when none, nobody when empty.
            version: The number in the file's name; the metadata's own when none.
            carry: Roles above it that are made to refer to it, with their own keys.
            hashes: The role above says its digest, as ours always do.
        """
        metadata = self.metadata(role)
        metadata.signed.version += 1
        change(metadata.signed)
        metadata.signatures.clear()
        for signer in self.keys[role] if by is None else by:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes()
        number = version or metadata.signed.version
        self.path(role, number).write_bytes(data)
        meta = MetaFile.from_data(number, data, ["sha256"]) if hashes else MetaFile(number)
        if role == "targets" and "snapshot" in carry:
            rest = set(carry) - {"snapshot"}
            self.forge("snapshot", lambda signed: signed.meta.update({"targets.json": meta}), carry=rest)
        if role == "snapshot" and "timestamp" in carry:
            self.forge("timestamp", lambda signed: setattr(signed, "snapshot_meta", meta))

    def next_root(
        self,
        change: Change = nothing,
        *,
        by: Sequence[CryptoSigner] | None = None,
        version: int | None = None,
    ) -> Path:
        """Put the next root in place."""
        self.forge("root", change, by=by, version=version)
        return self.path("root", version)

    def keep_copy(self) -> None:
        """Remember the repository as it is."""
        shutil.rmtree(self.folder / "copy", ignore_errors=True)
        shutil.copytree(self.store, self.folder / "copy")

    def restore(self) -> None:
        """Put the repository back as it was."""
        shutil.rmtree(self.store)
        shutil.copytree(self.folder / "copy", self.store)
