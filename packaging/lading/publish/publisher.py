"""Publish a packed release: objects first, signed metadata next, the timestamp last.

A client begins at the timestamp, so until that one file is replaced it sees the repository as it was. Run again after
any failure, it sends what is not there yet and ends in the same state; run again after success, it sends nothing.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from lading.digest import sha256_bytes
from lading.manifest.base import Record
from lading.progress import Progress, Silent
from lading.publish.destination import Destination, Stored
from lading.publish.packed import Packed, PackedObject, read_packed
from lading.publish.plan import PublishPlan, plan_objects
from lading.publish.signing import check_release, release_targets, signed_elsewhere
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider
from lading.sign.repository import Lifetimes, SignedUpdate, State, is_development, load_state, newest_root, updated


class Published(Record):
    """One object: where it lies and how large it is."""

    path: str
    size: int


class PublishResult(Record):
    """What a publication did.

    Attributes:
        destination: Where to.
        app, version, flavor, platform, channel: Which release.
        target: The release manifest's TUF target path.
        uploaded, skipped: Objects that were sent, and those that were there already.
        bytes_uploaded, bytes_skipped: Their sums, without metadata.
        metadata: Signed files that were written, in order; empty when nothing changed.
        bytes_metadata: Their sum.
        versions: The version of every TUF role.
        root_sha256: Digest of the newest root metadata, which clients embed.
        development: The repository is signed with development keys.
    """

    destination: str
    app: str
    version: str
    flavor: str
    platform: str
    channel: str
    target: str
    uploaded: tuple[Published, ...]
    skipped: tuple[Published, ...]
    bytes_uploaded: int
    bytes_skipped: int
    metadata: tuple[Published, ...]
    bytes_metadata: int
    versions: dict[str, int]
    root_sha256: str
    development: bool


def publish(
    packed: Path,
    release_file: Path,
    destination: Destination,
    keys: KeyProvider | None,
    clock: Clock = system_clock,
    *,
    progress: Progress | None = None,
    signed: Path | None = None,
    lifetimes: Lifetimes | None = None,
) -> PublishResult:
    """Publish one release.

    Args:
        packed: The packed folder.
        release_file: The release manifest in it.
        destination: Where to.
        keys: Sign the metadata; none when ``signed`` has it.
        clock: What time it is.
        progress: Hears of bytes.
        signed: A folder with metadata that :func:`sign_packed` made elsewhere, for machines without keys.
        lifetimes: How long the signatures are good for.

    Returns:
        What was done.

    Raises:
        ReleaseTaken, LabelTaken: The version or label names other content; nothing was sent.
        FormatInvalid: The packed folder is incomplete; nothing was sent.
        DigestMismatch: A packed file is not what the release says; the release is not visible.
        SignatureInvalid: The destination's metadata is not ours to build upon; nothing was sent.
        Busy: Another publisher is at it.
        AccessDenied, DiskFull, Unavailable: The destination refuses; run again to go on.
    """
    if (keys is None) == (signed is None):
        message = "give either keys or a folder of signed metadata"
        raise TypeError(message)
    content = read_packed(packed, release_file)
    with destination.hold():
        state = load_state(destination.read, keys)
        check_release(content, state)
        there = {item.path: found for item in content.objects if (found := destination.stat(item.path)) is not None}
        plan = plan_objects(content, there)
        prepared = None if signed is None else signed_elsewhere(content, signed, state)
        _upload(plan.upload, destination, progress or Silent())
        update = prepared or _signed_now(content, destination, state, keys=keys, now=clock(), lifetimes=lifetimes)
        for path, data in update.files:
            destination.put_bytes(path, data)
        return _result(content, destination, plan, update)


def _signed_now(
    content: Packed,
    destination: Destination,
    state: State,
    *,
    keys: KeyProvider | None,
    now: datetime,
    lifetimes: Lifetimes | None,
) -> SignedUpdate:
    assert keys is not None  # publish() has refused to go on without keys and without a signed folder
    return updated(state, keys, release_targets(content, state, destination.read), now, lifetimes)


def _upload(objects: tuple[PackedObject, ...], destination: Destination, progress: Progress) -> None:
    with progress.task("publishing", sum(item.size for item in objects)) as task:
        for item in objects:
            if item.source is not None:
                stored = Stored(size=item.size, sha256=item.sha256)
                destination.put_file(item.path, item.source, stored, task.advance)
            elif item.data is not None:
                destination.put_bytes(item.path, item.data)
                task.advance(item.size)


def _result(content: Packed, destination: Destination, plan: PublishPlan, update: SignedUpdate) -> PublishResult:
    release = content.release
    root = newest_root(destination.read) or b""
    uploaded, skipped, metadata = (
        tuple(Published(path=item.path, size=item.size) for item in plan.upload),
        tuple(Published(path=item.path, size=item.size) for item in plan.skip),
        tuple(Published(path=path, size=len(data)) for path, data in update.files),
    )
    return PublishResult(
        destination=destination.name,
        app=release.app,
        version=release.version,
        flavor=release.flavor,
        platform=release.platform,
        channel=release.channel,
        target=content.target,
        uploaded=uploaded,
        skipped=skipped,
        bytes_uploaded=sum(item.size for item in uploaded),
        bytes_skipped=sum(item.size for item in skipped),
        metadata=metadata,
        bytes_metadata=sum(item.size for item in metadata),
        versions=dict(update.versions),
        root_sha256=sha256_bytes(root),
        development=is_development(root),
    )
