"""One repository at several destinations: what its next metadata builds upon, so that all of them get the same bytes.

A client that knows several mirrors reads metadata from one and archives from another, and refuses to go back in
versions. So there is one signed state for all, and whoever publishes brings every destination that it names to it.

Rules:
    1. One destination leads: the one with the newest targets, then snapshot, then timestamp; of equals the one that
       was named first.
    2. A destination whose newest targets metadata the leader has, too, is behind. It gets what it lacks: signed files
       with the same bytes, and before them the assets of the releases that it missed.
    3. A destination whose newest targets metadata the leader has not went its own way: it was published to alone. What
       was added or changed there since they parted is taken over; where both changed the same entry of a channel, the
       leader's counts. The same version with other content at both is an error.
    4. A version number is higher than all that any of them has used for other bytes. Where the leader's metadata is
       good for all, nothing is signed.
    5. Roots are never replaced: a destination keeps the root that its clients embed, and gets those that follow.

Nothing is written here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tuf.api.metadata import Metadata, Targets

from lading.digest import sha256_bytes
from lading.errors import ReleaseTaken
from lading.manifest.base import canonical_json, read_record
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.layout import CHANNELS, METADATA
from lading.publish.catalog import target_bytes
from lading.publish.destination import Destination
from lading.publish.listing import newest_first
from lading.sign.keys import Role
from lading.sign.repository import Reader, State

Key = tuple[str, str, str]
_LED: tuple[Role, ...] = ("targets", "snapshot", "timestamp")


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One destination, and the signed state that it has.

    Attributes:
        destination: The destination.
        state: Its verified metadata.
        reader: Gives its files, where somebody wants to know of failures.
    """

    destination: Destination
    state: State
    reader: Reader | None = None

    @property
    def name(self) -> str:
        """For messages."""
        return self.destination.name

    @property
    def read(self) -> Reader:
        """Gives its files."""
        return self.reader or self.destination.read

    def version(self, role: Role) -> int:
        """The version of a role; 0 before the first."""
        return self.state.versions().get(role, 0)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What all destinations are to list.

    Attributes:
        targets: SHA-256 by TUF target path.
        new: Bytes of those targets that the leader has not.
        read_file: Gives the leader's files.
    """

    targets: Mapping[str, str]
    new: Mapping[str, bytes]
    read_file: Reader

    def read(self, path: str) -> bytes:
        """The bytes of a target.

        Raises:
            SignatureInvalid: What is published is not what was signed.
        """
        return self.new[path] if path in self.new else target_bytes(path, self.targets[path], self.read_file)


def leader(members: Sequence[Member]) -> Member:
    """The destination that the next metadata builds upon; rule 1."""
    return max(members, key=lambda member: [member.version(role) for role in _LED])


def joined(members: Sequence[Member]) -> State:
    """The state that the next metadata builds upon; rule 4."""
    lead = leader(members)
    others = [member for member in members if member is not lead]
    above: dict[Role, int] = {role: _above(role, lead, others) for role in _LED}
    return replace(lead.state, has=lambda path: any(member.state.has(path) for member in members), above=above)


def _above(role: Role, lead: Member, others: Sequence[Member]) -> int:
    """The highest version that another destination has used for other bytes than the leader; 0 for none."""
    own, found = lead.version(role), 0
    for other in others:
        theirs = other.version(role)
        if theirs > own or (theirs == own and other.state.data.get(role) != lead.state.data.get(role)):
            found = max(found, theirs)
        elif own and role != "timestamp":  # left under this name by a run that died there
            left = other.read(f"{METADATA}/{own}.{role}.json") if theirs < own else None
            found = found if left in {None, lead.state.data[role]} else max(found, own)
    return found


def taken_over(members: Sequence[Member]) -> dict[str, bytes]:
    """What destinations that went their own way have beyond the leader; rule 3.

    Returns:
        Bytes by TUF target path.

    Raises:
        ReleaseTaken: Two destinations have other releases under one version.
    """
    lead = leader(members)
    found: dict[str, bytes] = {}
    for other in members:
        if other is lead or other.state.targets is None:
            continue
        parted = _parting(lead, other)
        before = {} if parted is None else _digests(parted)
        if before != _digests(other.state.targets.signed):
            found |= _changes(lead, other, before, found)
    return found


def _parting(lead: Member, other: Member) -> Targets | None:
    """The newest targets metadata that both have had; none when they never had the same."""
    for number in range(min(lead.version("targets"), other.version("targets")), 0, -1):
        name = f"{METADATA}/{number}.targets.json"
        data = lead.read(name)
        if data is not None and data == other.read(name):
            return Metadata[Targets].from_bytes(data).signed
    return None


def _digests(targets: Targets) -> dict[str, str]:
    return {path: file.hashes["sha256"] for path, file in targets.targets.items()}


def _changes(lead: Member, other: Member, before: Mapping[str, str], found: Mapping[str, bytes]) -> dict[str, bytes]:
    assert other.state.targets is not None
    changes: dict[str, bytes] = {}
    for path, theirs in _digests(other.state.targets.signed).items():
        ours = sha256_bytes(found[path]) if path in found else lead.state.target_sha256(path)
        if theirs in {before.get(path), ours}:
            continue
        data = target_bytes(path, theirs, other.read)
        if ours is None or ours == before.get(path):
            changes[path] = data
        elif path.startswith(f"{CHANNELS}/"):
            mine = found[path] if path in found else target_bytes(path, ours, lead.read)
            base = target_bytes(path, before[path], lead.read) if path in before else None
            changes[path] = _merged_channel(path, base, mine, data)
        elif path.endswith(".release.json"):
            raise _two_contents(path, lead, other)
    return changes


def _merged_channel(path: str, before: bytes | None, ours: bytes, theirs: bytes) -> bytes:
    old = None if before is None else read_record(Channel, before, origin=path)
    mine, other = (read_record(Channel, data, origin=path) for data in (ours, theirs))
    merged = merged_entries(_by_key(old), _by_key(mine), _by_key(other))
    return canonical_json(mine.model_copy(update={"releases": newest_first(merged)}))


def _by_key(channel: Channel | None) -> dict[Key, ChannelEntry]:
    return {entry.key: entry for entry in channel.releases} if channel is not None else {}


def merged_entries(
    before: Mapping[Key, ChannelEntry], ours: Mapping[Key, ChannelEntry], theirs: Mapping[Key, ChannelEntry]
) -> list[ChannelEntry]:
    """A channel's entries after both sides changed them.

    Args:
        before: When they were the same.
        ours: The leader's; they count where both changed one entry.
        theirs: The other's.
    """
    merged = []
    for key in ours.keys() | theirs.keys():
        old, mine, other = before.get(key), ours.get(key), theirs.get(key)
        chosen = mine if other == old else other if mine == old else mine or other
        if chosen is not None:
            merged.append(chosen)
    return merged


def _two_contents(path: str, lead: Member, other: Member) -> ReleaseTaken:
    digests = [member.state.target_sha256(path) for member in (lead, other)]
    return ReleaseTaken(
        f"{path} is published with other content at two destinations: SHA-256 {digests[0]} at {lead.name}, "
        f"{digests[1]} at {other.name}.",
        usually="One version was built twice, and each build was published to one of them.",
        todo="Publish to one of them only, or begin a new repository at the other; then raise the version.",
    )
