"""What is signed for a release, here or elsewhere, and which signed files a destination lacks.

A release's TUF targets are its manifest, and its channel's index with the release in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from tuf.api.metadata import Metadata, Targets

from lading.digest import sha256_bytes
from lading.errors import ConfigError, MetadataExpired, SignatureInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.channel import Channel
from lading.manifest.layout import METADATA, RELEASES, channel_target, stored_target
from lading.publish.catalog import read_target
from lading.publish.listing import with_release
from lading.publish.packed import Packed, read_packed
from lading.publish.plan import release_taken
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider, Role
from lading.sign.repository import Lifetimes, Reader, SignedUpdate, State, folder_reader, load_state, sign_repository

_NUMBERED: tuple[Role, ...] = ("targets", "snapshot")  # roles whose every version has a name of its own


def check_release(content: Packed, state: State) -> None:
    """Refuse a release whose version already names another manifest.

    Raises:
        ReleaseTaken: It does.
    """
    found = state.target_sha256(content.target)
    wanted = sha256_bytes(content.data)
    if found not in {None, wanted}:
        detail = f"its published manifest has SHA-256 {found}, the packed one {wanted}."
        raise release_taken(content.release, detail)


def release_targets(
    content: Packed,
    state: State,
    read: Reader,
    new: Mapping[str, bytes] | None = None,
    *,
    rollout: int | None = None,
) -> dict[str, bytes]:
    """The targets that a repository must have for a release.

    Args:
        content: The release.
        state: The repository's verified metadata.
        read: Gives the repository's files.
        new: Targets that are to be signed with these, by path.
        rollout: Percentage of the installations that are offered it, if it is new; everybody when none.

    Returns:
        Bytes by TUF target path: the release manifest and the channel's index.

    Raises:
        SignatureInvalid: The published channel index is not the signed one.
    """
    release = content.release
    path = channel_target(release.app, release.channel)
    changed = (new or {}).get(path)
    known = read_target(Channel, path, state, read) if changed is None else read_record(Channel, changed, origin=path)
    channel = known or Channel(app=release.app, channel=release.channel, releases=())
    listed = with_release(channel, release, content.target, rollout=rollout)
    return {content.target: content.data, path: canonical_json(listed)}


def sign_packed(
    packed: Path,
    release_file: Path,
    repository: Path,
    keys: KeyProvider,
    clock: Clock = system_clock,
    *,
    lifetimes: Lifetimes | None = None,
) -> SignedUpdate:
    """Sign a release into a folder that holds a copy of a destination's metadata, without publishing anything.

    Args:
        packed, release_file: The packed folder and the release manifest in it.
        repository: A folder with ``metadata/`` and ``targets/``; empty for a new repository.
        keys: Sign.
        clock: What time it is.
        lifetimes: How long the signatures are good for.

    Returns:
        What was written.

    Raises:
        ConfigError: The folder is a whole repository, whose clients would see the release before its assets.
        ReleaseTaken: The version already names other content.
        SignatureInvalid: The metadata there is not ours to build upon.
    """
    if (repository / "assets").exists():
        raise ConfigError(
            f"{repository} is a whole repository with assets, not a copy of its metadata.",
            usually="Signing there would show clients a release whose assets are not published yet.",
            todo="Use `lading publish`, which signs last; or sign into a folder with only metadata and targets.",
        )
    content = read_packed(packed, release_file)
    read = folder_reader(repository)
    state = load_state(read, keys)
    check_release(content, state)
    return sign_repository(repository, keys, release_targets(content, state, read), clock(), lifetimes)


def signed_elsewhere(contents: Sequence[Packed], folder: Path, now: datetime) -> State:
    """What a folder signed by :func:`sign_packed` holds.

    Args:
        contents: The releases that are being published.
        folder: Signed metadata and targets.
        now: The present moment, in UTC.

    Raises:
        SignatureInvalid: The folder does not have one of the releases.
        MetadataExpired: No client would accept it any more.
    """
    state = load_state(folder_reader(folder), None)
    for content in contents:
        if state.root is None or state.target_sha256(content.target) != sha256_bytes(content.data):
            raise _unusable(f"in {folder}", f"it has no signature for {content.target} as it is packed here")
    held = {"root": state.root, "targets": state.targets, "snapshot": state.snapshot, "timestamp": state.timestamp}
    for role, metadata in held.items():
        if metadata is not None and metadata.signed.expires <= now:
            raise MetadataExpired(
                f"The {role} metadata in {folder} expired on {metadata.signed.expires:%Y-%m-%d}.",
                usually="It was signed long ago, or this machine's clock is wrong.",
                todo="Sign again, then publish; nothing was sent.",
            )
    return state


def signed_channels(folder: Path, there: State, at: Reader) -> tuple[SignedUpdate, State, Reader]:
    """What a folder in which only channels were changed holds beyond a destination.

    Args:
        folder: Signed metadata and targets.
        there: The destination's metadata.
        at: Gives the destination's files.

    Returns:
        The files to put, in order; the folder's state; and what gives its files.

    Raises:
        SignatureInvalid: The folder is of another root or older, or has releases that the destination has not.
    """
    read = folder_reader(folder)
    state = load_state(read, None)
    check_follows(state, read, there)
    number = there.versions().get("snapshot")
    if number and read(f"{METADATA}/{number}.snapshot.json") != there.data["snapshot"]:
        raise _unusable(f"in {folder}", "the destination has changed since its metadata was copied")
    targets = state.targets.signed.targets if state.targets else {}
    for path in targets:
        if path.startswith(f"{RELEASES}/") and there.target_sha256(path) != state.target_sha256(path):
            raise _unusable(f"in {folder}", f"it has {path}, whose files are not known to be at the destination")
    return SignedUpdate(files=lacking(state, read, there, at), versions=state.versions()), state, read


def check_follows(state: State, read: Reader, there: State) -> None:
    """Refuse metadata that a destination's clients would not accept after what they have.

    Args:
        state: What is to be published.
        read: Gives its files.
        there: What the destination has.

    Raises:
        SignatureInvalid: It grew from another root, or is older.
    """
    if there.root is None:
        return
    if read(f"{METADATA}/{there.root.signed.version}.root.json") != there.data["root"]:
        raise _unusable("for it", "it grew from another root than the destination's")
    ours, theirs = (s.timestamp.signed.version if s.timestamp else 0 for s in (state, there))
    if ours < theirs:
        raise _unusable("for it", f"its timestamp has version {ours}, the destination's {theirs}")


def lacking(state: State, read: Reader, there: State, at: Reader) -> tuple[tuple[str, bytes], ...]:
    """The signed files that a destination lacks of a repository's state, in the order in which they must be put.

    The timestamp is the last; after it come only roots that follow an older one there, because the keys before them
    have signed the timestamp too, where they were at hand. Metadata between the destination's and this one goes along:
    by it later publications see that the destination followed, and did not go its own way.

    Args:
        state: What is to be published.
        read: Gives its files.
        there: What the destination has.
        at: Gives the destination's files.

    Raises:
        SignatureInvalid: The destination has something else under a name that is needed.
    """
    return tuple(dict(_lacking(state, read, there, at)).items())


def _lacking(state: State, read: Reader, there: State, at: Reader) -> Iterator[tuple[str, bytes]]:
    for path, file in sorted(state.targets.signed.targets.items()) if state.targets else ():
        if there.target_sha256(path) != (sha256 := file.hashes["sha256"]):
            yield stored_target(path, sha256), _needed(read, stored_target(path, sha256))
    versions, theirs = state.versions(), there.versions()
    names = [f"{METADATA}/{number}.root.json" for number in range(theirs.get("root", 0) + 1, versions["root"] + 1)]
    roots = tuple((name, _needed(read, name)) for name in names)
    late = there.root is not None
    yield from () if late else roots
    yield from superseded(read, there, at, versions)
    for role in _NUMBERED:
        if there.data.get(role) != state.data[role]:
            yield from _final(f"{METADATA}/{versions[role]}.{role}.json", state.data[role], at)
    if there.data.get("timestamp") != state.data["timestamp"]:
        yield f"{METADATA}/timestamp.json", state.data["timestamp"]
    yield from roots if late else ()


def _final(name: str, data: bytes, at: Reader) -> Iterator[tuple[str, bytes]]:
    found = at(name)
    if found not in {None, data}:
        raise _unusable("for it", f"the destination has another {name}")
    if found is None:
        yield name, data


def superseded(read: Reader, there: State, at: Reader, below: Mapping[Role, int]) -> Iterator[tuple[str, bytes]]:
    """Metadata after what a destination has, with what it lists; gaps and what a run left that died are passed over.

    Args:
        read: Gives the repository's files.
        there: What the destination has.
        at: Gives the destination's files.
        below: The first version of each role that is not meant.
    """
    for role in _NUMBERED:
        for number in range(there.versions().get(role, 0) + 1, below[role]):
            name = f"{METADATA}/{number}.{role}.json"
            data = read(name)
            if data is None or at(name) is not None:
                continue
            if role == "targets":
                yield from _listed(data, read, there, at)
            yield name, data


def _listed(data: bytes, read: Reader, there: State, at: Reader) -> Iterator[tuple[str, bytes]]:
    """The targets of superseded metadata that a destination lacks, as far as they are still there."""
    for path, file in Metadata[Targets].from_bytes(data).signed.targets.items():
        if there.target_sha256(path) != (sha256 := file.hashes["sha256"]):
            name = stored_target(path, sha256)
            target = read(name)
            if target is not None and at(name) is None:
                yield name, target


def _needed(read: Reader, name: str) -> bytes:
    data = read(name)
    if data is None:
        raise _unusable("for it", f"{name} is not there")
    return data


def _unusable(where: str, why: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The signed metadata {where} cannot be published: {why}.",
        usually="It was signed for another build, or before somebody else published.",
        todo="Copy the destination's metadata and targets afresh, sign again, then publish.",
    )
