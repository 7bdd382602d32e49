"""What a channel offers, and to whom: the signed index that every update reads.

It stays small, because it is fetched by every client that has something new to learn: which releases there are, which
of them are withdrawn, and how far each is rolled out. Everything else about a release is in its own manifest.

The rules by which a client chooses are in :mod:`lading.store.choice`, those by which a publisher changes an index in
:mod:`lading.publish.listing`.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from lading.manifest.base import Name, Platform, Record, RelPath, Sha256, Version, disagrees

EVERYBODY = 100  # percent


class Withdrawal(Record):
    """The publisher's word that a release is not to be used.

    Attributes:
        reason: Why, in one line, for those who have it.
        at: When, seconds since 1970.
    """

    reason: str = Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=300)
    at: int = Field(ge=0)


class ChannelEntry(Record):
    """One release in a channel.

    Attributes:
        version, platform, flavor: Which release.
        target: The release manifest's TUF target path; none once a withdrawn release was deleted.
        rollout: Percentage of all installations that are offered it; all of them when none.
        withdrawn: That it is withdrawn, and why.
    """

    version: Version
    platform: Platform
    flavor: Name
    target: RelPath | None = None
    rollout: int | None = Field(default=None, ge=0, lt=EVERYBODY)
    withdrawn: Withdrawal | None = None

    @model_validator(mode="after")
    def _has_files_or_is_withdrawn(self) -> ChannelEntry:
        if self.target is None and self.withdrawn is None:
            raise disagrees("target", "a release without a target can only be one that was withdrawn")
        return self

    @property
    def key(self) -> tuple[str, str, str]:
        """Which release it is, among those of an app."""
        return self.version, self.platform, self.flavor

    @property
    def for_everybody(self) -> bool:
        """Whether every installation may take it."""
        return self.withdrawn is None and self.rollout is None


class Channel(Record):
    """The channel index, a TUF target: the releases of a channel, newest first."""

    schema_: Literal["lading/channel/1"] = Field(default="lading/channel/1", alias="schema")
    app: Name
    channel: Name
    releases: tuple[ChannelEntry, ...]

    def entry(self, version: str, platform: Platform, flavor: str) -> ChannelEntry | None:
        """The entry of one release, or none."""
        wanted = (version, platform, flavor)
        return next((entry for entry in self.releases if entry.key == wanted), None)


class RetiredRelease(Record):
    """A release that no channel lists any more.

    Attributes:
        target: The TUF target path that its manifest had.
        sha256: The manifest's digest.
        at: When it was taken off the last channel, seconds since 1970.
    """

    target: RelPath
    sha256: Sha256
    at: int = Field(ge=0)


class Retired(Record):
    """Releases that were taken off a short while ago, a TUF target for publishers: clients may still fetch them."""

    schema_: Literal["lading/retired/1"] = Field(default="lading/retired/1", alias="schema")
    releases: tuple[RetiredRelease, ...] = ()
