"""Why metadata was refused: a verifier's complaint, turned into what happened with the two values that disagree.

python-tuf decides; this module only explains. It looks at the bytes that led to the decision, never at the network, and
whatever it finds, the metadata stays refused.

One kind of failure, one class, one exit code:

    ================  ===================================================================================
    MetadataExpired   freeze: the newest metadata that this source has is past its date
    RollbackDetected  rollback: older than what was seen before
    MetadataMixed     mix-and-match: files that were signed, but not for one state of the repository
    SignatureInvalid  arbitrary installation: too few signatures by trusted keys
    DigestMismatch    altered: not the bytes whose digest was signed
    RootInvalid       a root that was given or offered as the next one cannot be trusted
    FormatTooNew      metadata of a later specification
    FormatInvalid     no metadata at all
    ================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tuf.api.exceptions import (
    BadVersionNumberError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    UnsignedMetadataError,
)
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization import DeserializationError

from lading.digest import sha256_bytes
from lading.errors import (
    DigestMismatch,
    FormatInvalid,
    FormatTooNew,
    LadingError,
    MetadataExpired,
    MetadataMixed,
    RollbackDetected,
    RootInvalid,
    SignatureInvalid,
)

CLOCK_DOUBT = timedelta(days=180)  # so long after the expiry, a wrong clock is likelier than a forgotten repository
_ROLES = ("root", "timestamp", "snapshot", "targets")
_UNCHANGED = "What is installed keeps running."


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What lay before the verifier.

    Attributes:
        base: The source's address, for messages.
        name: The metadata file that was fetched last, such as ``3.snapshot.json``; empty when none was.
        root: The newest root that is trusted.
        seen: The metadata kept from before, by role.
        fetched: The metadata fetched from this source, by role.
        offered: The source's own root of the version that is trusted here, when it has one.
        now: This machine's clock.
    """

    base: str
    name: str
    root: bytes
    seen: Mapping[str, bytes] = field(default_factory=dict)
    fetched: Mapping[str, bytes] = field(default_factory=dict)
    offered: bytes | None = None
    now: datetime

    @property
    def role(self) -> str:
        """The role of the file that was fetched last."""
        return self.name.removesuffix(".json").rpartition(".")[2]

    @property
    def data(self) -> bytes:
        """The bytes that were fetched last."""
        return self.fetched.get(self.role, b"")


def check_root(root: bytes) -> None:
    """Refuse root metadata that cannot be an anchor, before anything is asked of anybody.

    Raises:
        RootInvalid: It is damaged, something else, or not signed by enough of its own keys.
        FormatTooNew: It follows a later specification.
    """
    try:
        metadata: Metadata[Root] = Metadata.from_bytes(root)
    except DeserializationError as error:
        if newer := _newer_specification(error):
            raise _too_new("The root metadata that was given", newer) from error
        raise _bad_anchor(f"its {len(root)} bytes are no metadata") from error
    if not isinstance(metadata.signed, Root):
        raise _bad_anchor(f"it is {metadata.signed.type} metadata")
    try:
        metadata.signed.verify_delegate("root", metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError) as error:
        raise _bad_anchor(f"it is not signed by its own keys ({error})") from error


def explain(error: RepositoryError, evidence: Evidence) -> LadingError:
    """Turn a verifier's complaint about fetched metadata into one of our errors.

    Args:
        error: The complaint.
        evidence: What it is about.

    Returns:
        The error to raise.
    """
    if evidence.role == "root" and isinstance(error, UnsignedMetadataError | BadVersionNumberError):
        return _bad_rotation(evidence)
    for kind, tell in _TELLERS.items():
        if isinstance(error, kind):
            return tell(error, evidence)
    if (older := _older(evidence)) is not None:
        return _rollback(evidence, older)
    return _mixed(evidence, str(error))


def _expired(error: RepositoryError, evidence: Evidence) -> MetadataExpired:
    role = next((role for role in _ROLES if role in str(error)), evidence.role)
    expires = _expiry(_present(evidence, role))
    late = evidence.now - expires
    what = (
        f"The {role} metadata of {evidence.base} expired on {expires:%Y-%m-%d %H:%M} UTC; "
        f"this machine's clock says {evidence.now:%Y-%m-%d %H:%M} UTC."
    )
    if late > CLOCK_DOUBT:
        return MetadataExpired(
            what,
            usually=f"The two are {late.days} days apart: most likely this machine's clock is wrong.",
            todo=f"Check the clock (date, time, time zone), then run the same command again. {_UNCHANGED}",
        )
    return MetadataExpired(
        what,
        usually="Nobody has signed the repository anew in time, this machine's clock is wrong, or somebody holds back "
        "newer metadata.",
        todo=f"Check this machine's clock; then try another source, or tell the publisher. {_UNCHANGED}",
    )


def _unreadable(error: RepositoryError, evidence: Evidence) -> LadingError:
    if newer := _newer_specification(error):
        return _too_new(f"{evidence.name} of {evidence.base}", newer)
    return FormatInvalid(
        f"{evidence.name} of {evidence.base} is no metadata: {error}.",
        usually="A portal, proxy or cache answers in the server's place, or the file was damaged.",
        todo=f"Try another network or source. {_UNCHANGED}",
    )


def _altered(error: RepositoryError, evidence: Evidence) -> LadingError:
    metadata = _parsed(evidence.data)
    if metadata is not None and metadata.signed.type == evidence.role and _is_signed(metadata, evidence):
        return _mixed(
            evidence, f"it holds version {metadata.signed.version}, signed, with another digest than was promised"
        )
    return DigestMismatch(
        f"{evidence.name} of {evidence.base} is not the one that was signed: its {len(evidence.data)} bytes have "
        f"SHA-256 {sha256_bytes(evidence.data)[:16]}… ({error}).",
        usually="It was damaged or altered on the way.",
        todo=f"Run the same command again; if it stays, use another source. {_UNCHANGED}",
    )


def _unsigned(error: RepositoryError, evidence: Evidence) -> SignatureInvalid:
    trusted = _root(evidence.root)
    wanted = _keys(trusted, evidence.role)
    given = evidence.data and _parsed(evidence.data)
    by = _short(given.signatures) if given else "nobody"
    what = f"{evidence.name} of {evidence.base} is not signed as root {trusted.version} wants: {error}"
    offered = _parsed(evidence.offered) if evidence.offered and evidence.offered != evidence.root else None
    if offered is not None and isinstance(offered.signed, Root) and offered.signed != trusted:
        return SignatureInvalid(
            f"{what}; and its root {trusted.version} is another one than the trusted root: "
            f"keys {_keys(offered.signed, 'root')} instead of {_keys(trusted, 'root')}.",
            usually="The root.json that was given belongs to another repository, or somebody put a repository of "
            "their own in this one's place.",
            todo=f"Get root.json from the publisher by a way that you trust. {_UNCHANGED}",
        )
    return SignatureInvalid(
        f"{what}. Signed by {by}; trusted for {evidence.role}: {wanted}.",
        usually="The file was altered, or somebody without the publisher's keys made it.",
        todo=f"Use another source, and tell the publisher. {_UNCHANGED}",
    )


def _older(evidence: Evidence) -> str | None:
    """What goes backwards between the metadata seen before and the metadata fetched, or none."""
    before, after = (_parsed(given.get(evidence.role, b"")) for given in (evidence.seen, evidence.fetched))
    if before is None or after is None or before.signed.type != after.signed.type:
        return None
    old, new = before.signed, after.signed
    if evidence.role == "timestamp" and new.version < old.version:
        return f"it has version {new.version}; version {old.version} was seen before"
    pairs = [
        (name, meta, _listed(new).get(name))
        for name, meta in _listed(old).items()
        if name not in _listed(new) or _listed(new)[name] < meta
    ]
    if not pairs:
        return None
    name, had, has = pairs[0]
    return f"it refers to {name} of version {has or 'none'}; version {had} was seen before"


def _listed(signed: Any) -> dict[str, int]:
    """The versions of the metadata that a timestamp or snapshot refers to."""
    if signed.type == "timestamp":
        return {"snapshot": signed.snapshot_meta.version}
    return {name.removesuffix(".json"): meta.version for name, meta in getattr(signed, "meta", {}).items()}


def _rollback(evidence: Evidence, older: str) -> RollbackDetected:
    return RollbackDetected(
        f"{evidence.name} of {evidence.base} goes back: {older}.",
        usually="This source is behind the others, was restored from an old copy, or somebody wants you to run an "
        "older release.",
        todo=f"Use another source, or wait until this one has caught up. {_UNCHANGED}",
    )


def _mixed(evidence: Evidence, why: str) -> MetadataMixed:
    return MetadataMixed(
        f"{evidence.name} of {evidence.base} does not belong to the rest: {why}.",
        usually="The source was copied while it changed, a cache gave an older file, or somebody mixes states that "
        "never were.",
        todo=f"Run the same command again in a while, or use another source. {_UNCHANGED}",
    )


def _bad_rotation(evidence: Evidence) -> RootInvalid:
    trusted = _root(evidence.root)
    offered = _parsed(evidence.data)
    if offered is None or not isinstance(offered.signed, Root):
        why = "it is no root metadata"
    elif offered.signed.version != trusted.version + 1:
        why = f"it has version {offered.signed.version} where {trusted.version + 1} follows"
    else:
        old, new = (
            root.get_verification_result("root", offered.signed_bytes, offered.signatures)
            for root in (trusted, offered.signed)
        )
        why = (
            f"root {trusted.version} asks for {old.threshold} of its keys, {len(old.signed)} signed; "
            f"it asks itself for {new.threshold}, {len(new.signed)} signed"
        )
    return RootInvalid(
        f"{evidence.name} of {evidence.base} cannot follow the trusted root {trusted.version}: {why}.",
        usually="The root.json that was given belongs to another repository, or somebody wants to put in keys of "
        "their own.",
        todo=f"Get root.json from the publisher by a way that you trust. {_UNCHANGED}",
    )


def _bad_anchor(why: str) -> RootInvalid:
    return RootInvalid(
        f"The root metadata that was given cannot be used: {why}.",
        usually="It is another file, was cut off or altered.",
        todo="Get root.json from the publisher again, by a way that you trust.",
    )


def _too_new(what: str, specification: str) -> FormatTooNew:
    return FormatTooNew(
        f"{what} follows the specification {specification}; this Lading knows version 1.",
        usually="The repository was made with a newer Lading.",
        todo=f"Update Lading, or the program that embeds it. {_UNCHANGED}",
    )


def _newer_specification(error: BaseException) -> str | None:
    """The later version of the specification that metadata claims, when that is why it could not be read."""
    reason: BaseException | None = error
    while reason is not None:
        mark, text = "Unsupported spec_version ", str(reason)
        if text.startswith(mark):
            return text.removeprefix(mark)
        reason = reason.__cause__ or reason.__context__
    return None


def _present(evidence: Evidence, role: str) -> bytes:
    return evidence.root if role == "root" else evidence.fetched.get(role, evidence.seen.get(role, b""))


def _expiry(data: bytes) -> datetime:
    metadata = _parsed(data)
    return datetime.max.replace(tzinfo=UTC) if metadata is None else metadata.signed.expires


def _parsed(data: bytes | None) -> Metadata[Any] | None:
    try:
        return Metadata.from_bytes(data or b"")
    except DeserializationError:
        return None


def _root(data: bytes) -> Root:
    return Metadata[Root].from_bytes(data).signed


def _is_signed(metadata: Metadata[Any], evidence: Evidence) -> bool:
    try:
        _root(evidence.root).verify_delegate(evidence.role, metadata.signed_bytes, metadata.signatures)
    except (UnsignedMetadataError, ValueError):
        return False
    return True


def _keys(root: Root, role: str) -> str:
    delegated = root.roles[role]
    return f"{_short(delegated.keyids)} ({delegated.threshold} needed)"


def _short(keyids: Any) -> str:
    return ", ".join(sorted(keyid[:8] for keyid in keyids)) or "nobody"


_TELLERS: dict[type[RepositoryError], Callable[[RepositoryError, Evidence], LadingError]] = {
    ExpiredMetadataError: _expired,
    DeserializationError: _unreadable,
    LengthOrHashMismatchError: _altered,
    UnsignedMetadataError: _unsigned,
}
