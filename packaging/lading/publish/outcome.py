"""What a publication did, as records."""

from __future__ import annotations

from lading.errors import LadingError
from lading.manifest.base import Record


class Published(Record):
    """One object: where it lies, how large it is, and how much of it travelled.

    Attributes:
        path: Where.
        size: Bytes.
        sent: Bytes that were sent for it in this run; fewer where an earlier run's were there, none of a link.
    """

    path: str
    size: int
    sent: int


class PublishedRelease(Record):
    """Which release.

    Attributes:
        app, version, flavor, platform, channel: Which.
        target: The release manifest's TUF target path.
    """

    app: str
    version: str
    flavor: str
    platform: str
    channel: str
    target: str


class PublishResult(Record):
    """What a publication did at one destination.

    Attributes:
        destination: Where to.
        releases: Which releases.
        uploaded: Their objects that were not there before.
        caught_up: Objects of other releases that this destination had missed.
        skipped: Objects that were there already.
        bytes_uploaded: The sizes of what was not there, caught up included.
        bytes_sent: How much of that travelled in this run.
        bytes_skipped: The sizes of what was there.
        metadata: Signed files that were written, in order; empty when nothing changed.
        bytes_metadata: Their sum.
        versions: The version of every TUF role.
        root_sha256: Digest of the newest root metadata, which clients embed.
        development: The repository is signed with development keys.
    """

    destination: str
    releases: tuple[PublishedRelease, ...]
    uploaded: tuple[Published, ...]
    caught_up: tuple[Published, ...]
    skipped: tuple[Published, ...]
    bytes_uploaded: int
    bytes_sent: int
    bytes_skipped: int
    metadata: tuple[Published, ...]
    bytes_metadata: int
    versions: dict[str, int]
    root_sha256: str
    development: bool

    @property
    def bytes_reused(self) -> int:
        """Bytes of new objects that did not travel: sent by an earlier run, or linked."""
        return self.bytes_uploaded - self.bytes_sent


class Failure(Record):
    """Why a destination does not have the release.

    Attributes:
        error: The failure's class.
        exit_code: Its exit code.
        what, usually, todo: Its texts.
    """

    error: str
    exit_code: int
    what: str
    usually: str
    todo: str


class Outcome(Record):
    """How a publication ended at one destination: with a result, or with a failure.

    Attributes:
        destination: Where.
        result: What was done.
        failure: Why it does not have the release.
    """

    destination: str
    result: PublishResult | None = None
    failure: Failure | None = None


def failure_of(error: LadingError) -> Failure:
    """A failure as a record."""
    return Failure(error=error.kind, exit_code=error.exit_code, what=error.what, usually=error.usually, todo=error.todo)
