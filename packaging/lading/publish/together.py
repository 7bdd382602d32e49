"""Sign once, and write to several destinations of one repository: for changes that send no archives.

All destinations are held, their states read, and the newest of them leads, as it does for a publication
(:mod:`lading.publish.union`). One that is merely behind in signed files gets them. One that has releases which another
one lacks is refused: only a publication can bring their archives there.

Run again after a failure at one of several, the change is there already, and the others get what they lack.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lading.errors import ConfigError
from lading.publish.catalog import release_paths
from lading.publish.destination import Destination
from lading.publish.signing import lacking
from lading.publish.union import Member, joined, leader, taken_over
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider, Role
from lading.sign.repository import Lifetimes, load_state, updated

Files = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, kw_only=True)
class Signing:
    """With what a change is signed.

    Attributes:
        keys: Sign.
        clock: What time it is.
        lifetimes: How long the signatures are good for.
    """

    keys: KeyProvider
    clock: Clock = system_clock
    lifetimes: Lifetimes | None = None


@contextmanager
def looked_at(destinations: Sequence[Destination]) -> Iterator[tuple[Member, ...]]:
    """What each destination has; nobody is kept out, and nothing may be written.

    Raises:
        SignatureInvalid: Metadata is damaged, or not signed by the keys at hand.
        ConfigError: The destinations do not have the same releases.
    """
    try:
        yield _read_all(destinations, None)
    finally:
        for destination in destinations:
            destination.close()


@contextmanager
def held(destinations: Sequence[Destination], keys: KeyProvider | None) -> Iterator[tuple[Member, ...]]:
    """Keep other publishers out of all destinations while the block runs.

    Raises:
        Busy: Another publisher is at one of them; none was changed.
        LadingError: As :func:`looked_at`.
    """
    with ExitStack() as stack:
        for destination in destinations:
            stack.enter_context(destination.hold())
        yield _read_all(destinations, keys)


def write_all(
    members: Sequence[Member], signing: Signing | None, targets: Mapping[str, bytes], drop: Collection[str] = ()
) -> tuple[dict[Role, int], Mapping[str, Files]]:
    """Bring all destinations to have the same targets, the timestamp last; only within :func:`held`.

    Args:
        members: The destinations and what they have.
        signing: Keys; none when nothing is changed.
        targets: Bytes by TUF target path; added, or put in the place of older ones.
        drop: TUF target paths that are listed no longer.

    Returns:
        The version of every role afterwards, and what was written to each destination, by its name.
    """
    lead = leader(members)
    new: dict[str, bytes] = {}
    if signing is not None and (targets or drop):
        new = dict(updated(joined(members), signing.keys, targets, signing.clock(), signing.lifetimes, drop=drop).files)

    def read(path: str) -> bytes | None:
        return new[path] if path in new else lead.read(path)

    final = load_state(read, None)
    written: dict[str, Files] = {}
    for member in members:
        files = lacking(final, read, member.state, member.read)
        for path, data in files:
            member.destination.put_bytes(path, data)
        written[member.name] = files
    return final.versions(), written


def _read_all(destinations: Sequence[Destination], keys: KeyProvider | None) -> tuple[Member, ...]:
    if not destinations:
        message = "name at least one destination"
        raise TypeError(message)
    members = tuple(Member(destination=one, state=load_state(one.read, keys)) for one in destinations)
    _check_alike(members)
    return members


def _check_alike(members: Sequence[Member]) -> None:
    """Refuse destinations of which one lists releases that another one has not."""
    lead = leader(members)
    for member in members:
        for path in release_paths(lead.state):
            if member.state.target_sha256(path) != lead.state.target_sha256(path):
                raise _differ(lead, member, f"{lead.name} lists {path}, {member.name} does not")
    if taken_over(members):
        names = ", ".join(member.name for member in members)
        raise _differ(lead, members[-1], f"{names} were published to one by one, and differ")


def _differ(lead: Member, member: Member, why: str) -> ConfigError:
    return ConfigError(
        f"The destinations do not have the same releases: {why}.",
        usually="The last publication named only some of them, or did not end well at one.",
        todo=f"Publish once more to all of them (`lading publish --to` for {lead.name} and {member.name}), then run "
        "this again.",
    )
