"""What a publication would do, without doing it: reads, takes no lease, needs no keys, writes nothing.

What is signed anew has no size before it is signed. Renewals that are due at the time of a publication, though nothing
new is listed, are not foreseen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lading.errors import LadingError
from lading.manifest.base import Record
from lading.manifest.layout import METADATA, stored_target
from lading.publish.berth import Berth, named
from lading.publish.destination import Destination, Sized, Stored
from lading.publish.outcome import Failure, PublishedRelease, failure_of
from lading.publish.packed import Packed, PackedObject
from lading.publish.publisher import Publication, Signature
from lading.publish.signing import superseded
from lading.publish.union import Member, joined, leader
from lading.sign.keys import Role
from lading.sign.repository import State, next_version

_ROLES: tuple[Role, ...] = ("targets", "snapshot", "timestamp")


class PlannedObject(Record):
    """One object that would be put.

    Attributes:
        path: Where.
        size: Bytes.
        begun: How many of them an earlier run has sent already.
        holder: The destination that it would be taken from; none of what is packed.
    """

    path: str
    size: int
    begun: int
    holder: str | None = None


class PlannedFile(Record):
    """One signed file that would be written.

    Attributes:
        path: Where.
        size: Bytes; none when it would be signed anew.
    """

    path: str
    size: int | None


class Planned(Record):
    """What would be done at one destination.

    Attributes:
        destination: Where.
        releases: What would be published.
        upload: Objects that are not there, those that were missed by earlier publications included.
        skip: Paths of those that are there.
        files: Signed files that would be written, in no order.
        calls: The calls that would change something, by the host's own names.
        bytes_upload, bytes_begun, bytes_skip: Sizes of what is not there; how much of that was sent already; what is.
    """

    destination: str
    releases: tuple[PublishedRelease, ...]
    upload: tuple[PlannedObject, ...]
    skip: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    calls: dict[str, int]
    bytes_upload: int
    bytes_begun: int
    bytes_skip: int

    @property
    def bytes_to_send(self) -> int:
        """What would travel, signed files not counted."""
        return self.bytes_upload - self.bytes_begun


class PlannedOutcome(Record):
    """What would be done at one destination, or why that cannot be told.

    Attributes:
        destination: Where.
        planned: What would be done.
        failure: Why the destination cannot be read.
    """

    destination: str
    planned: Planned | None = None
    failure: Failure | None = None


def preview(
    contents: Sequence[Packed], destinations: Sequence[Destination], *, signed: Path | None = None
) -> tuple[tuple[PlannedOutcome, LadingError | None], ...]:
    """Say what a publication would do.

    Args:
        contents: The releases.
        destinations: Where to.
        signed: A folder with metadata that was signed elsewhere.

    Returns:
        What would be done at each destination, and the failure of those that cannot be read.

    Raises:
        ReleaseTaken, LabelTaken, FormatInvalid, AssetTooLarge, NameForbidden: As a publication would.
        SignatureInvalid, MetadataExpired: What was signed elsewhere is not for these releases, or no longer good.
    """
    berths = tuple(Berth(destination=destination) for destination in destinations)
    run = Publication(contents, berths, None if signed is None else Signature(folder=signed))
    try:
        run.enter(hold=False)
        run.plan()
        if signed is not None:
            run.sign()
        return tuple(_outcome(run, berth, contents) for berth in berths)
    finally:
        for destination in destinations:
            destination.close()


def _outcome(run: Publication, berth: Berth, contents: Sequence[Packed]) -> tuple[PlannedOutcome, LadingError | None]:
    planned = berth.attempt(lambda: _planned(run, berth, contents)) if berth.error is None else None
    failure = None if berth.error is None else failure_of(berth.error)
    return PlannedOutcome(destination=berth.destination.name, planned=planned, failure=failure), berth.error


def _planned(run: Publication, berth: Berth, contents: Sequence[Packed]) -> Planned:
    assert berth.errand is not None
    assert berth.member is not None
    destination, errand = berth.destination, berth.errand
    upload = [
        *(_object(destination, item, holder.name) for item, holder in errand.fetch),
        *(_object(destination, item) for item in errand.upload),
    ]
    files = tuple(PlannedFile(path=path, size=len(data)) for path, data in berth.files)
    files = files or tuple({file.path: file for file in _files(run, berth.member)}.values())
    new = [Sized(path=item.path, size=item.size) for item in errand.new]
    return Planned(
        destination=destination.name,
        releases=tuple(named(content) for content in contents),
        upload=tuple(upload),
        skip=tuple(item.path for item in errand.skip),
        files=files,
        calls=dict(destination.calls(new, [file.path for file in files])),
        bytes_upload=sum(item.size for item in upload),
        bytes_begun=sum(item.begun for item in upload),
        bytes_skip=sum(item.size for item in errand.skip),
    )


def _object(destination: Destination, item: PackedObject, holder: str | None = None) -> PlannedObject:
    begun = destination.begun(item.path, Stored(size=item.size, sha256=item.sha256))
    return PlannedObject(path=item.path, size=item.size, begun=begun, holder=holder)


def _files(run: Publication, member: Member) -> Iterator[PlannedFile]:
    """The signed files that a destination would get, as far as they can be told without keys."""
    goal = run.goal
    assert goal is not None
    for path, sha256 in sorted(goal.targets.items()):
        if member.state.target_sha256(path) != sha256:
            yield PlannedFile(path=stored_target(path, sha256), size=len(goal.read(path)))
    base, lead = joined(run.members), leader(run.members)
    if base.root is None:
        yield PlannedFile(path=f"{METADATA}/1.root.json", size=None)
    else:
        yield from _roots(lead, member)
    signs = _signs(base, changed=any(lead.state.target_sha256(path) != digest for path, digest in goal.targets.items()))
    below: dict[Role, int] = {role: lead.version(role) + 1 for role in _ROLES}
    for path, data in superseded(lead.read, member.state, member.read, below):
        yield PlannedFile(path=path, size=len(data))
    for role in _ROLES[:2]:
        if role in signs:
            yield PlannedFile(path=f"{METADATA}/{next_version(base, role)}.{role}.json", size=None)
    if "timestamp" in signs:
        yield PlannedFile(path=f"{METADATA}/timestamp.json", size=None)
    elif member.state.data.get("timestamp") != base.data.get("timestamp"):
        yield PlannedFile(path=f"{METADATA}/timestamp.json", size=len(base.data["timestamp"]))


def _roots(lead: Member, member: Member) -> Iterator[PlannedFile]:
    for number in range(member.version("root") + 1, lead.version("root") + 1):
        path = f"{METADATA}/{number}.root.json"
        yield PlannedFile(path=path, size=len(lead.read(path) or b""))


def _signs(base: State, *, changed: bool) -> frozenset[Role]:
    """The roles that would be signed: each drags those after it along."""
    found: set[Role] = set()
    for role in _ROLES:
        version = base.versions().get(role, 0)
        if changed or found or version <= base.above.get(role, 0):
            found.add(role)
    return frozenset(found)
