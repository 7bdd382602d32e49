"""What a repository lists, as its signed metadata says: apps, their channels, releases, and what was taken off.

Every file that is read here is compared with its signed digest. Knows nothing of assets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from lading.digest import sha256_bytes
from lading.errors import ConfigError, SignatureInvalid
from lading.manifest.base import Record, read_record
from lading.manifest.channel import Channel, Retired
from lading.manifest.layout import CHANNELS, RELEASES, RETIRED, stored_target
from lading.manifest.release import Release
from lading.publish.destination import Destination
from lading.sign.repository import Reader, State

R = TypeVar("R", bound=Record)


def read_target(kind: type[R], path: str, state: State, read: Reader, *, sha256: str | None = None) -> R | None:
    """Read a TUF target of the repository.

    Args:
        kind: Its record's class.
        path: Its target path.
        state: The repository's verified metadata.
        read: Gives the repository's files.
        sha256: The digest of one that is not listed any more.

    Returns:
        The record; none when there is no such target.

    Raises:
        SignatureInvalid: What is published is not what was signed.
        FormatInvalid: It is no such record.
    """
    wanted = sha256 or state.target_sha256(path)
    if wanted is None:
        return None
    return read_record(kind, target_bytes(path, wanted, read), origin=path)


def target_bytes(path: str, sha256: str, read: Reader) -> bytes:
    """Read the bytes of a TUF target.

    Args:
        path: Its target path.
        sha256: Its signed digest.
        read: Gives the repository's files.

    Raises:
        SignatureInvalid: What is published is not what was signed.
    """
    data = read(stored_target(path, sha256)) or b""
    if sha256_bytes(data) != sha256:
        raise SignatureInvalid(
            f"The published {path} is not the one that was signed ({sha256}).",
            usually="A file of the repository was deleted or altered by hand.",
            todo="Restore the repository's targets folder from a copy.",
        )
    return data


def targets_of(state: State) -> tuple[str, ...]:
    """All TUF target paths, in order."""
    return tuple(sorted(state.targets.signed.targets)) if state.targets else ()


def the_app(state: State, app: str | None, destination: Destination) -> str:
    """The app that is meant: the one that was named, or the only one there is.

    Raises:
        ConfigError: There is no such app, or there are several and none was named.
    """
    there = sorted({path.split("/")[1] for path in targets_of(state) if path.startswith(f"{CHANNELS}/")})
    if app in there or (app is None and len(there) == 1):
        return app or there[0]
    if not there:
        raise ConfigError(
            f"{destination.name} has no channels.",
            usually="Nothing was published there yet, or the destination is another one.",
            todo="Publish a release first.",
        )
    raise ConfigError(
        f"{destination.name} has {', '.join(there)}{f' and no {app}' if app else ''}.",
        usually="Several apps share this repository." if app is None else "The name is mistyped.",
        todo="Name one of them with --app.",
    )


def read_channels(state: State, read: Reader, app: str) -> dict[str, Channel]:
    """All channels of an app, by their names.

    Raises:
        SignatureInvalid, FormatInvalid: As :func:`read_target`.
    """
    found: dict[str, Channel] = {}
    for path in targets_of(state):
        folder, _, name = path.rpartition("/")
        if folder == f"{CHANNELS}/{app}" and (channel := read_target(Channel, path, state, read)) is not None:
            found[name.removesuffix(".json")] = channel
    return found


def release_paths(state: State, app: str | None = None) -> tuple[str, ...]:
    """The TUF target paths of all releases, or of one app's."""
    folder = f"{RELEASES}/{app}/" if app else f"{RELEASES}/"
    return tuple(path for path in targets_of(state) if path.startswith(folder))


def read_releases(state: State, read: Reader, paths: tuple[str, ...]) -> Iterator[tuple[str, Release]]:
    """The manifests of releases that are listed.

    Raises:
        SignatureInvalid, FormatInvalid: As :func:`read_target`.
    """
    for path in paths:
        release = read_target(Release, path, state, read)
        if release is not None:
            yield path, release


def read_retired(state: State, read: Reader) -> Retired:
    """What was taken off a short while ago.

    Raises:
        SignatureInvalid, FormatInvalid: As :func:`read_target`.
    """
    return read_target(Retired, RETIRED, state, read) or Retired()
