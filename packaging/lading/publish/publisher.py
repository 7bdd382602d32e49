"""Publish packed releases to one or several destinations: objects first, signed metadata next, the timestamp last.

A client begins at the timestamp, so until that one file is replaced it sees a repository as it was. Run again after
any failure, it sends what is not there yet and ends in the same state; run again after success, it sends nothing.

With several destinations:
    1. Each is held by itself, and what each has is read.
    2. What must not be published stops everything before the first byte: a version or label with other content at any
       of them, an asset that one of them does not take, a file that is nowhere.
    3. The metadata is signed once for all (:mod:`lading.publish.union`), before anything is sent.
    4. One that has missed earlier releases gets their objects from another one.
    5. All are served at the same time; each ends whole by itself. One that fails ends none of the others, and gets
       what it lacks from the next publication that names it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path

from lading.cancel import stop_if
from lading.digest import sha256_bytes
from lading.errors import AssetTooLarge, FormatInvalid, LabelTaken, LadingError, NameForbidden, ReleaseTaken
from lading.manifest.base import read_record
from lading.manifest.layout import RELEASES
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.publish.berth import Berth, Heard, plan_errand
from lading.publish.destination import Destination
from lading.publish.outcome import Outcome, PublishResult, failure_of
from lading.publish.packed import Packed, read_packed, release_objects
from lading.publish.signing import check_follows, check_release, lacking, release_targets, signed_elsewhere
from lading.publish.union import Goal, Member, joined, leader, taken_over
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeyProvider
from lading.sign.repository import Lifetimes, Reader, State, folder_reader, load_state, updated

REFUSALS = (ReleaseTaken, LabelTaken, AssetTooLarge, NameForbidden, FormatInvalid)


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Where the signatures come from: keys, or a folder.

    Attributes:
        keys: Sign the metadata.
        folder: Has metadata that was signed elsewhere, for machines without keys.
        clock: What time it is.
        lifetimes: How long the signatures are good for.
    """

    keys: KeyProvider | None = None
    folder: Path | None = None
    clock: Clock = system_clock
    lifetimes: Lifetimes | None = None

    def __post_init__(self) -> None:
        if (self.keys is None) == (self.folder is None):
            message = "give either keys or a folder of signed metadata"
            raise TypeError(message)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a publication ended at one destination; exactly one of the two is there.

    Attributes:
        destination: Where.
        result: What was done.
        error: Why it does not have the releases.
    """

    destination: str
    result: PublishResult | None
    error: LadingError | None

    def record(self) -> Outcome:
        """The same for a report."""
        failure = None if self.error is None else failure_of(self.error)
        return Outcome(destination=self.destination, result=self.result, failure=failure)


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
    """Publish one release to one destination.

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
        AssetTooLarge, NameForbidden: The host would not take an asset; nothing was sent.
        DigestMismatch: A packed file is not what the release says; the release is not visible.
        SignatureInvalid: The destination's metadata is not ours to build upon; nothing was sent.
        Busy: Another publisher is at it.
        AccessDenied, DiskFull, Unavailable: The destination refuses; run again to go on.
    """
    signature = Signature(keys=keys, folder=signed, clock=clock, lifetimes=lifetimes)
    contents = (read_packed(packed, release_file),)
    (ended,) = publish_everywhere(contents, (destination,), signature, progress=progress)
    if ended.error is not None:
        raise ended.error
    assert ended.result is not None
    return ended.result


def publish_everywhere(
    contents: Sequence[Packed],
    destinations: Sequence[Destination],
    signature: Signature,
    *,
    progress: Progress | None = None,
    rollout: int | None = None,
) -> tuple[Ended, ...]:
    """Publish releases to several destinations.

    Args:
        contents: The releases; they become visible together.
        destinations: Where to, each once.
        signature: Keys, or metadata that was signed elsewhere.
        progress: Hears of bytes.
        rollout: Percentage of the installations that are offered the releases, if they are new; everybody when none.

    Returns:
        How it ended at each destination, in their order.

    Raises:
        ReleaseTaken, LabelTaken: A version or label names other content somewhere; nothing was sent.
        FormatInvalid: A file of a release is neither packed nor published; nothing was sent.
        AssetTooLarge, NameForbidden: A host would not take an asset; nothing was sent.
        KeyMissing, KeyUnusable: The keys are not at hand; nothing was sent.
        SignatureInvalid, MetadataExpired: What was signed elsewhere is not for these releases, or no longer good;
            nothing was sent.
    """
    berths = tuple(Berth(destination=destination) for destination in destinations)
    run = Publication(contents, berths, signature, rollout=rollout)
    with _ended(berths):
        run.enter(hold=True)
        run.plan()
        run.sign()
        run.carry_out(progress or Silent())
    return tuple(run.ended(berth) for berth in berths)


@contextmanager
def _ended(berths: Sequence[Berth]) -> Iterator[None]:
    """Let every destination go, whatever happens."""
    try:
        yield
    except BaseException as error:
        for berth in berths:
            if not berth.ended:
                berth.drop_out(error)
        raise


class Publication:
    """One run, step by step; a preview takes the first two only.

    Args:
        contents: The releases.
        berths: The destinations.
        signature: Where signatures come from; none for a preview that signs nothing.
        rollout: Percentage of the installations that are offered the releases.
    """

    def __init__(
        self,
        contents: Sequence[Packed],
        berths: Sequence[Berth],
        signature: Signature | None,
        *,
        rollout: int | None = None,
    ) -> None:
        self.contents = contents
        self.berths = berths
        self.goal: Goal | None = None
        self._signature = signature
        self._rollout = rollout
        self._base: tuple[Member, ...] = ()
        self._joined: State | None = None
        self._final: tuple[State, Reader] | None = None

    @property
    def live(self) -> tuple[Berth, ...]:
        """The destinations that have not dropped out."""
        return tuple(berth for berth in self.berths if berth.error is None)

    @property
    def members(self) -> tuple[Member, ...]:
        """What they have."""
        return tuple(berth.member for berth in self.live if berth.member is not None)

    def enter(self, *, hold: bool) -> None:
        """Read what each destination has."""
        keys = self._signature.keys if self._signature else None
        for berth in self.berths:
            berth.attempt(partial(berth.enter, keys, hold=hold))

    def plan(self) -> None:
        """Decide what is to be done, and refuse what must not be."""
        folder = self._signature.folder if self._signature else None
        if self._signature is not None and folder is not None:
            self._follow(folder, self._signature.clock())
        for member in self.members:
            for content in self.contents:
                check_release(content, member.state)
        while self.members and self._base != self.members:  # whoever drops out here is not built upon either
            self._base = self.members
            if folder is None and not self._decided():
                continue
            for berth in self.live:
                berth.attempt(partial(self._look, berth))
        for berth in self.live:
            others = [member.destination for member in self.members if member is not berth.member]
            berth.errand = berth.attempt(partial(plan_errand, berth, self.contents, others), passing=REFUSALS)

    def _decided(self) -> bool:
        """Decide what is to be listed; not when one of the destinations can be read no longer."""
        try:
            self.goal = self._wanted()
            self._joined = joined(self._base)
        except LadingError as error:
            gone = [berth for berth in self.live if berth.broken is error]
            if not gone:
                raise
            gone[0].drop_out(error)
            return False
        return True

    def _follow(self, folder: Path, now: datetime) -> None:
        """Take what was signed elsewhere."""
        state, read = signed_elsewhere(self.contents, folder, now), folder_reader(folder)
        for berth in self.live:
            if berth.member is not None:
                berth.attempt(partial(check_follows, state, read, berth.member.state))
        targets = state.targets.signed.targets if state.targets else {}
        digests = {path: file.hashes["sha256"] for path, file in targets.items()}
        self._final = state, read
        self.goal = Goal(targets=digests, new={}, read_file=read)

    def _wanted(self) -> Goal:
        """What all destinations are to list."""
        lead = leader(self._base)
        new = taken_over(self._base)
        for content in self.contents:
            new |= release_targets(content, lead.state, lead.read, new, rollout=self._rollout)
        digests = {path: sha256_bytes(data) for path, data in new.items()}
        old = lead.state.targets.signed.targets if lead.state.targets else {}
        known = {path: file.hashes["sha256"] for path, file in old.items()}
        return Goal(targets=known | digests, new=new, read_file=lead.read)

    def _look(self, berth: Berth) -> None:
        assert berth.member is not None
        assert self.goal is not None
        berth.look(self.contents, self._missed(self.goal, berth.member))

    def _missed(self, goal: Goal, member: Member) -> tuple[Packed, ...]:
        """The other releases that a destination is to list, and does not yet."""
        ours = {content.target for content in self.contents}
        paths = [path for path in sorted(goal.targets) if path.startswith(f"{RELEASES}/") and path not in ours]
        found = []
        for path in paths:
            if member.state.target_sha256(path) != goal.targets[path]:
                data = goal.read(path)
                release = read_record(Release, data, origin=path)
                found.append(Packed(release=release, data=data, target=path, objects=release_objects(release)))
        return tuple(found)

    def sign(self) -> None:
        """Sign once for all, and tell each destination's signed files."""
        if not self.live:
            return
        state, read = self._final or self._signed()
        self._final = state, read
        for berth in self.live:
            if berth.member is not None:
                files = berth.attempt(partial(lacking, state, read, berth.member.state, berth.member.read))
                berth.files = files or ()

    def _signed(self) -> tuple[State, Reader]:
        assert self.goal is not None
        assert self._signature is not None
        assert self._signature.keys is not None
        assert self._joined is not None
        lead, now = leader(self._base), self._signature.clock()
        update = updated(self._joined, self._signature.keys, self.goal.new, now, self._signature.lifetimes)
        new = dict(update.files)

        def read(path: str) -> bytes | None:
            return new[path] if path in new else lead.read(path)

        return load_state(read, None), read

    def carry_out(self, progress: Progress) -> None:
        """Serve all destinations."""
        self._catch_up(progress)
        live = self.live
        total = sum(item.size for berth in live if berth.errand for item in berth.errand.upload)
        stop = threading.Event()
        with progress.task("publishing", total) as task:

            def heard(amount: int) -> None:
                stop_if(stop)
                task.advance(amount)

            if len(live) == 1:
                live[0].attempt(partial(live[0].deliver, heard))
                live[0].finish()
            elif live:
                self._all_at_once(live, heard, stop, progress)

    def _catch_up(self, progress: Progress) -> None:
        behind = [berth for berth in self.live if berth.errand and berth.errand.fetch]
        total = sum(item.size for berth in behind if berth.errand for item, _ in berth.errand.fetch)
        if not behind:
            return
        with progress.task("catching up", total) as task:
            for berth in behind:
                berth.attempt(partial(berth.fetch, task.advance))

    def _all_at_once(self, live: Sequence[Berth], heard: Heard, stop: threading.Event, progress: Progress) -> None:
        with ThreadPoolExecutor(len(live), "lading-publish") as pool:
            running = {pool.submit(berth.deliver, heard): berth for berth in live}
            try:
                for future in as_completed(running):
                    berth = running[future]
                    berth.attempt(future.result)
                    berth.finish()
                    said = "everything is there" if berth.error is None else f"not published: {berth.error.what}"
                    progress.note(f"{berth.destination.name}: {said}")
            except BaseException:
                stop.set()
                raise

    def ended(self, berth: Berth) -> Ended:
        """How it ended at a destination."""
        result = None
        if berth.done and self._final is not None:
            result = berth.result(self.contents, self._final[0])
        return Ended(destination=berth.destination.name, result=result, error=berth.error)
