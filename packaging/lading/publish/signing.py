"""A release's TUF targets: its manifest, and its channel's index with the release in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lading.digest import sha256_bytes
from lading.errors import ConfigError, SignatureInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.layout import METADATA, channel_target, stored_target
from lading.manifest.release import Channel
from lading.publish.packed import Packed, read_packed
from lading.publish.plan import release_taken, with_release
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider
from lading.sign.repository import Lifetimes, Reader, SignedUpdate, State, folder_reader, load_state, sign_repository


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


def release_targets(content: Packed, state: State, read: Reader) -> dict[str, bytes]:
    """The targets that a repository must have for a release.

    Args:
        content: The release.
        state: The repository's verified metadata.
        read: Gives the repository's files.

    Returns:
        Bytes by TUF target path: the release manifest and the channel's index.

    Raises:
        SignatureInvalid: The published channel index is not the signed one.
    """
    release = content.release
    path = channel_target(release.app, release.channel)
    channel = with_release(_channel(content, path, state, read), release, content.target)
    return {content.target: content.data, path: canonical_json(channel)}


def _channel(content: Packed, path: str, state: State, read: Reader) -> Channel:
    release = content.release
    sha256 = state.target_sha256(path)
    if sha256 is None:
        return Channel(app=release.app, channel=release.channel, releases=())
    data = read(stored_target(path, sha256)) or b""
    if sha256_bytes(data) != sha256:
        raise SignatureInvalid(
            f"The published channel index {path} is not the one that was signed ({sha256}).",
            usually="A file of the repository was deleted or altered by hand.",
            todo="Restore the repository's targets folder from a copy.",
        )
    return read_record(Channel, data, origin=path)


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


def signed_elsewhere(content: Packed, folder: Path, there: State) -> SignedUpdate:
    """What a folder signed by :func:`sign_packed` holds beyond a destination.

    Args:
        content: The release that is being published.
        folder: Signed metadata and targets.
        there: The destination's metadata.

    Returns:
        The files to put, in order; none when the destination has this timestamp already.

    Raises:
        SignatureInvalid: The folder does not have this release, is of another root, or is older than the destination.
    """
    read = folder_reader(folder)
    state = load_state(read, None)
    if state.root is None or state.target_sha256(content.target) != sha256_bytes(content.data):
        raise _unusable(folder, f"it has no signature for {content.target} as it is packed here")
    if there.root is not None and not _same_root(read, there):
        raise _unusable(folder, "it grew from another root than the destination's")
    ours, theirs = (s.timestamp.signed.version if s.timestamp else 0 for s in (state, there))
    if ours < theirs:
        raise _unusable(folder, f"its timestamp has version {ours}, the destination's {theirs}")
    files = () if state.data == there.data else tuple(_files(state, read, there))
    return SignedUpdate(files=files, versions=state.versions())


def _same_root(read: Reader, there: State) -> bool:
    return there.root is not None and read(f"{METADATA}/{there.root.signed.version}.root.json") == there.data["root"]


def _files(state: State, read: Reader, there: State) -> Iterator[tuple[str, bytes]]:
    """Everything that the destination lacks: the timestamp last, and after it only roots that replace an older one."""
    targets = state.targets.signed.targets if state.targets else {}
    names = [stored_target(path, file.hashes["sha256"]) for path, file in sorted(targets.items())]
    versions = state.versions()
    roots = [f"{METADATA}/{number}.root.json" for number in range(1, versions["root"] + 1)]
    names += [] if there.root is not None else roots
    names += [f"{METADATA}/{versions[role]}.{role}.json" for role in ("targets", "snapshot")]
    for name in names:
        if not there.has(name):
            yield name, _needed(read, name)
    yield f"{METADATA}/timestamp.json", state.data["timestamp"]
    for name in roots if there.root is not None else ():
        if not there.has(name):  # the former key has signed the timestamp too, where it was at hand
            yield name, _needed(read, name)


def _needed(read: Reader, name: str) -> bytes:
    data = read(name)
    if data is None:
        raise _unusable(Path(name), "it is not there")
    return data


def _unusable(folder: Path, why: str) -> SignatureInvalid:
    return SignatureInvalid(
        f"The signed metadata in {folder} cannot be published: {why}.",
        usually="It was signed for another build, or before somebody else published.",
        todo="Copy the destination's metadata and targets afresh, sign again, then publish.",
    )
