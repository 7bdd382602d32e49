"""One destination's part in a publication: held, planned, served, and ended well or not, whatever happens to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, LadingError, SourceUnreachable
from lading.publish.attempts import LOG
from lading.publish.destination import Destination, Sized, Stored
from lading.publish.outcome import Published, PublishedRelease, PublishResult
from lading.publish.packed import Packed, PackedObject
from lading.publish.plan import nowhere, plan_objects
from lading.publish.union import Member
from lading.sign.keys import KeyProvider
from lading.sign.repository import State, is_development, load_state

T = TypeVar("T")
Heard = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Errand:
    """What is to be done at one destination.

    Attributes:
        upload: Objects that are at hand, in order.
        fetch: Objects that another destination has, and which; they go first.
        skip: Objects that are there.
        wanted: Paths of the objects of the releases that are published; all others are caught up with.
    """

    upload: tuple[PackedObject, ...]
    fetch: tuple[tuple[PackedObject, Destination], ...]
    skip: tuple[PackedObject, ...]
    wanted: frozenset[str]

    @property
    def new(self) -> tuple[PackedObject, ...]:
        """All that is not there."""
        return (*(item for item, _ in self.fetch), *self.upload)


@dataclass(kw_only=True)
class Berth:
    """A destination while a publication runs.

    Attributes:
        destination: The destination.
        member: What it has, once that is known.
        missed: Releases that others have and this one has not.
        there: The objects of them and of what is published that are there, by path.
        errand: What is to be done.
        files: Signed files to put, in order.
        broken: The last failure to read it.
        error: Why it dropped out.
        done: It has everything.
        sent: Bytes that were sent for each object.
    """

    destination: Destination
    member: Member | None = None
    missed: tuple[Packed, ...] = ()
    there: dict[str, Stored] = field(default_factory=dict)
    errand: Errand | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    broken: LadingError | None = None
    error: LadingError | None = None
    done: bool = False
    sent: dict[str, int] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be done here."""
        return self.done or self.error is not None

    def attempt(self, step: Callable[[], T], *, passing: tuple[type[LadingError], ...] = ()) -> T | None:
        """Do a step; its failure ends this destination's part and no other's.

        Args:
            step: Does it.
            passing: Failures that are everybody's.
        """
        try:
            return step()
        except passing:
            raise
        except LadingError as error:
            self.drop_out(error)
            return None

    def enter(self, keys: KeyProvider | None, *, hold: bool) -> Member:
        """Keep other publishers out, and read what is there."""
        if hold:
            self.stack.enter_context(self.destination.hold())
        state = load_state(self.read, keys)
        self.member = Member(destination=self.destination, state=state, reader=self.read)
        return self.member

    def read(self, path: str) -> bytes | None:
        """A file of the destination, or none; a failure is remembered, because others read here, too."""
        try:
            return self.destination.read(path)
        except LadingError as error:
            self.broken = error
            raise

    def look(self, contents: Sequence[Packed], missed: Sequence[Packed]) -> None:
        """Find out which objects are there.

        Args:
            contents: The releases that are published.
            missed: Releases that others have and this one has not.
        """
        self.missed = tuple(missed)
        paths = dict.fromkeys(item.path for content in (*contents, *missed) for item in content.objects)
        self.there = {path: found for path in paths if (found := self.destination.stat(path)) is not None}

    def drop_out(self, error: BaseException) -> None:
        """End without having made anything visible."""
        if isinstance(error, LadingError):
            self.error = error
        try:
            self.stack.__exit__(type(error), error, error.__traceback__)
        except LadingError as second:  # the first one is told
            LOG.info("%s could not be let go: %s", self.destination.name, second.what)

    def finish(self) -> None:
        """End well, unless it dropped out: whatever waits for the end becomes visible now."""
        if self.error is not None:
            return
        try:
            self.stack.close()
        except LadingError as error:
            self.error = error
        else:
            self.done = True

    def fetch(self, heard: Heard) -> None:
        """Bring what another destination has."""
        assert self.errand is not None
        for item, holder in self.errand.fetch:
            with TemporaryDirectory(prefix="lading-") as folder:
                file = Path(folder) / item.path.rpartition("/")[2]
                stored = Stored(size=item.size, sha256=item.sha256)
                if (found := holder.get_file(item.path, file)) != stored:
                    raise _damaged(item, holder, found)
                self.sent[item.path] = self.destination.put_file(item.path, file, stored, heard)

    def deliver(self, heard: Heard) -> None:
        """Put everything, signed files last."""
        assert self.errand is not None
        for item in self.errand.upload:
            if item.source is not None:
                stored = Stored(size=item.size, sha256=item.sha256)
                self.sent[item.path] = self.destination.put_file(item.path, item.source, stored, heard)
            elif item.data is not None:
                self.sent[item.path] = self.destination.put_bytes(item.path, item.data)
                heard(item.size)
        for path, data in self.files:
            self.destination.put_bytes(path, data)

    def result(self, contents: Sequence[Packed], state: State) -> PublishResult:
        """What was done.

        Args:
            contents: The releases.
            state: The repository's state afterwards.
        """
        assert self.errand is not None
        assert self.member is not None
        new = [Published(path=item.path, size=item.size, sent=self.sent[item.path]) for item in self.errand.new]
        files = tuple(Published(path=path, size=len(data), sent=len(data)) for path, data in self.files)
        root = self._root(state)
        return PublishResult(
            destination=self.destination.name,
            releases=tuple(named(content) for content in contents),
            uploaded=tuple(item for item in new if item.path in self.errand.wanted),
            caught_up=tuple(item for item in new if item.path not in self.errand.wanted),
            skipped=tuple(Published(path=item.path, size=item.size, sent=0) for item in self.errand.skip),
            bytes_uploaded=sum(item.size for item in new),
            bytes_sent=sum(item.sent for item in new),
            bytes_skipped=sum(item.size for item in self.errand.skip),
            metadata=files,
            bytes_metadata=sum(item.size for item in files),
            versions=dict(state.versions()),
            root_sha256=sha256_bytes(root),
            development=is_development(root),
        )

    def _root(self, state: State) -> bytes:
        """The newest root that lies there."""
        assert self.member is not None
        own = self.member.state
        if own.root is not None and own.versions()["root"] >= state.versions()["root"]:
            return own.data["root"]
        return state.data["root"]


def plan_errand(berth: Berth, contents: Sequence[Packed], others: Sequence[Destination]) -> Errand:
    """Decide what is to be done at a destination.

    Args:
        berth: The destination, which was looked at.
        contents: The releases that are published.
        others: The other destinations.

    Raises:
        LabelTaken, ReleaseTaken: What is there has other content.
        AssetTooLarge, NameForbidden: The host would not take it.
        FormatInvalid: One of the published releases' files is nowhere.
        SourceUnreachable: One of the missed releases' files is nowhere.
    """
    plans = [(content, plan_objects(content, berth.there)) for content in (*contents, *berth.missed)]
    upload: dict[str, PackedObject] = {}
    for _, plan in plans:
        for item in plan.upload:
            upload.setdefault(item.path, item)
    fetch: dict[str, tuple[PackedObject, Destination]] = {}
    for content, plan in plans:
        for item in plan.absent:
            if item.path in upload or item.path in fetch:
                continue
            holder = next((other for other in others if _has(other, item)), None)
            if holder is None:
                if content in berth.missed:
                    raise _missed(berth, content, item)
                raise nowhere(content.release, plan.absent)
            fetch[item.path] = (item, holder)
    errand = Errand(
        upload=tuple(upload.values()),
        fetch=tuple(fetch.values()),
        skip=tuple({item.path: item for _, plan in plans for item in plan.skip}.values()),
        wanted=frozenset(item.path for content in contents for item in content.objects),
    )
    berth.destination.check([Sized(path=item.path, size=item.size) for item in errand.new])
    return errand


def _has(destination: Destination, item: PackedObject) -> bool:
    return destination.stat(item.path) == Stored(size=item.size, sha256=item.sha256)


def named(content: Packed) -> PublishedRelease:
    """Which release it is, for a report."""
    release = content.release
    return PublishedRelease(
        app=release.app,
        version=release.version,
        flavor=release.flavor,
        platform=release.platform,
        channel=release.channel,
        target=content.target,
    )


def _missed(berth: Berth, content: Packed, item: PackedObject) -> SourceUnreachable:
    release = content.release
    return SourceUnreachable(
        f"{berth.destination.name} has missed {release.app} {release.version} ({release.flavor}, {release.platform}), "
        f"and none of the destinations has its {item.path}.",
        usually="It was published to a destination that was not named this time, or its files were deleted there.",
        todo="Name the destination that has it, too; or publish that release's packed folder here first.",
    )


def _damaged(item: PackedObject, holder: Destination, found: Stored | None) -> DigestMismatch:
    has = "nothing" if found is None else f"{found.size} bytes with SHA-256 {found.sha256}"
    return DigestMismatch(
        f"{holder.name} has {has} for {item.path}; the release says {item.size} bytes with {item.sha256}.",
        usually="It was altered there after it was published.",
        todo="Look at it with `lading verify`, restore it, then publish again.",
    )
