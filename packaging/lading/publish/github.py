"""GitHub as a destination: releases for assets, a branch for signed metadata (:mod:`lading.manifest.github_layout`).

Within :meth:`GitHubDestination.hold` assets go into drafts and metadata is kept here. At the end of the block, and only
if it ended well, every draft is verified and published, then all metadata becomes visible by one commit. Killed at any
moment, clients see the repository as it was; the next run goes on with the drafts that are there. GitHub has no uploads
in parts, so an asset whose upload was cut is sent again from its beginning.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from lading.atomic import as_host_error
from lading.digest import sha256_bytes
from lading.errors import ClockSkewed, DigestMismatch
from lading.manifest.destination import GitHubDestination as GitHubRecord
from lading.manifest.github_layout import ASSET_LIMIT, AssetPlace, GitHubRepository, asset_place, repository_at
from lading.publish.attempts import LOG
from lading.publish.destination import Listed, Sized, Stored
from lading.publish.github_api import BLOCK, GitHubApi
from lading.publish.github_branch import MetadataBranch
from lading.publish.github_limits import Budget
from lading.publish.github_lock import RemoteLock, this_holder
from lading.publish.github_releases import Releases, check_release
from lading.publish.limits import check_sizes

MOST_APART = 86_400.0  # seconds between GitHub's clock and ours
TOKENS = ("GH_TOKEN", "GITHUB_TOKEN")  # in this order, as GitHub's own command line has it


class GitHubDestination:
    """Publishes to a repository on github.com or an Enterprise server.

    Args:
        repository: Which one.
        token: May write its contents; without one, whatever needs GitHub says so.
        name: For messages.
        api: The API's base address, when it is not the usual one.
        commit: What new tags point to; the default branch when none.
        notes: Put into the text of new releases.
        asset_limit: Bytes of the largest asset.
        sleep: Waits for a number of seconds.
        clock: Tells seconds.
    """

    def __init__(
        self,
        repository: GitHubRepository,
        token: str | None,
        *,
        name: str = "github",
        api: str | None = None,
        commit: str | None = None,
        notes: str = "",
        asset_limit: int = ASSET_LIMIT,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.repository = repository
        self._name = name
        self._asset_limit = min(asset_limit, ASSET_LIMIT)
        self._api = GitHubApi(repository, token, api=api, sleep=sleep)
        self._releases = Releases(self._api, commit=commit, notes=notes)
        self._branch = MetadataBranch(self._api)
        self._lock = RemoteLock(self._api, this_holder(), clock=clock)
        self._loaded = False
        self._held = False

    @property
    def name(self) -> str:
        """For messages."""
        return f"{self._name} ({self.repository.page})"

    @property
    def public(self) -> str:
        """What clients write as their source."""
        return self.repository.address

    @property
    def budget(self) -> Budget | None:
        """What the rate limit left after the last request."""
        return self._api.budget

    @property
    def requests(self) -> int:
        """API requests made so far, uploads included."""
        return self._api.requests

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other publishers out while the block runs, and make visible what was put, if it ends well.

        Raises:
            Busy: Another publisher is in, or was faster.
            CredentialsRefused, PermissionMissing, DestinationMissing: GitHub does not let us.
            ClockSkewed: What is signed here would expire at the wrong time.
            DigestMismatch: GitHub stored other bytes; nothing is visible.
        """
        try:
            self._releases.check()
            self._check_clock()
            with self._lock.hold():
                self._load()
                self._held = True
                yield
                published = self._releases.publish()
                self._branch.commit(_message(published))
        finally:
            self._held = False
            self.close()

    def stat(self, path: str) -> Stored | None:
        """What is published under a path; drafts are not."""
        self._load_once()
        place = asset_place(path)
        if place is not None:
            return self._releases.stat(place)
        data = self._branch.read(path)
        return None if data is None else Stored(size=len(data), sha256=sha256_bytes(data))

    def read(self, path: str) -> bytes | None:
        """A small object's bytes, or none; assets are not read from here."""
        self._load_once()
        return self._branch.read(path)

    def close(self) -> None:
        """Let the connections go, and forget what was read."""
        self._loaded = False
        self._api.close()
        if self.budget:
            LOG.info("GitHub's API: %d requests made, %s", self.requests, self.budget)

    def get_file(self, path: str, target: Path) -> Stored | None:
        """Download a published asset into a file, and say what it is."""
        self._load_once()
        return self._releases.fetch(_placed(path), target)

    def begun(self, path: str, stored: Stored) -> int:
        """All bytes of an asset that lies in a draft; GitHub keeps no parts."""
        self._load_once()
        return stored.size if self._releases.is_drafted(_placed(path), stored) else 0

    def check(self, objects: Sequence[Sized]) -> None:
        """Refuse what a release would not take: assets that are too large or too many, names that would be changed."""
        check_sizes(objects, self._asset_limit, self.name)
        for tag, names in _by_tag(objects).items():
            check_release(tag, names)

    def calls(self, objects: Sequence[Sized], files: Sequence[str]) -> Mapping[str, int]:
        """Without those that only read, and without those for the lock."""
        tags = len(_by_tag(objects))
        moved = 1 if files else 0
        return {
            "create release": tags, "upload asset": len(objects), "publish release": tags,
            "create tree": moved, "create commit": moved, "update reference": moved,
        }  # fmt: skip

    def put_file(self, path: str, source: Path, stored: Stored, advance: Callable[[int], None]) -> int:
        """Send an asset into its release's draft, unless it is there.

        Returns:
            Bytes that were sent: none when it was there.

        Raises:
            DigestMismatch: The file's bytes are not the given ones; nothing of it stays.
            AccessDenied: The file cannot be read.
            ReleaseTaken, AssetTooLarge, NameForbidden: GitHub will not have it.
        """
        return self._put(path, stored, lambda: _file_blocks(source, stored), advance)

    def put_bytes(self, path: str, data: bytes) -> int:
        """Send a small asset, or keep a signed file for the commit at the end."""
        if asset_place(path) is None:
            self._check_held()
            self._branch.stage(path, data)
            return len(data)
        stored = Stored(size=len(data), sha256=sha256_bytes(data))
        return self._put(path, stored, lambda: iter((data,)), lambda _: None)

    def lies_at(self, path: str) -> str:
        """Assets lie in releases, each of which can only go as a whole."""
        return _placed(path).tag

    def listing(self) -> Sequence[Listed]:
        """Our published releases, by their tags."""
        self._load_once()
        return self._releases.listing()

    def remove(self, names: Sequence[str]) -> None:
        """Delete releases with their tags.

        Raises:
            PermissionMissing, RateLimited, Unavailable: GitHub does not let us; run again to go on.
            Busy: Another publisher has taken over meanwhile.
        """
        self._check_held()
        for name in names:
            self._lock.renew()
            self._releases.remove(name)

    def _put(
        self, path: str, stored: Stored, blocks: Callable[[], Iterator[bytes]], advance: Callable[[int], None]
    ) -> int:
        self._check_held()
        check_sizes([Sized(path=path, size=stored.size)], self._asset_limit, self.name)
        self._lock.renew()
        ahead = _Ahead(advance)
        try:
            sent = self._releases.put(_placed(path), stored, lambda: self._watched(blocks(), ahead))
        except OSError as error:
            raise as_host_error(error, f"reading what is published as {path}") from error
        ahead.reach(stored.size)
        return stored.size if sent else 0

    def _watched(self, blocks: Iterator[bytes], ahead: _Ahead) -> Iterator[bytes]:
        position = 0
        for block in blocks:
            yield block
            position += len(block)
            ahead.reach(position)
            self._lock.renew()

    def _check_clock(self) -> None:
        """GitHub itself does not mind; but signatures say until when they are good, by this machine's clock."""
        apart = time.time() - self._api.now
        if abs(apart) > MOST_APART:
            raise ClockSkewed(
                f"It is {datetime.fromtimestamp(self._api.now, UTC):%Y-%m-%d %H:%M} UTC at {self.repository.page}, and "
                f"{abs(apart) / 3600:.0f} h {'later' if apart > 0 else 'earlier'} here.",
                usually="This machine's clock is wrong; what it signs would expire too early or too late.",
                todo="Set the clock (or let it be set by NTP), then run the same command again.",
            )

    def _check_held(self) -> None:
        if not self._held:
            message = "put nothing outside of hold()"
            raise RuntimeError(message)

    def _load_once(self) -> None:
        if not self._loaded:
            self._load()

    def _load(self) -> None:
        self._releases.load()
        self._branch.load()
        self._loaded = True


class _Ahead:
    """Reports how far an upload is; a second attempt is silent until it is further than the first."""

    def __init__(self, advance: Callable[[int], None]) -> None:
        self._advance = advance
        self._told = 0

    def reach(self, position: int) -> None:
        if position > self._told:
            self._advance(position - self._told)
            self._told = position


def open_github(
    record: GitHubRecord, *, name: str, notes: str = "", environment: Mapping[str, str] = os.environ
) -> GitHubDestination:
    """Open the destination of a manifest, with the token of the environment.

    Args:
        record: From the manifest.
        name: What the manifest calls it.
        notes: Put into the text of new releases.
        environment: Has the token; in a workflow of the same repository also the commit that tags point to.
    """
    here = environment.get("GITHUB_REPOSITORY", "").lower() == record.repository.lower()
    return GitHubDestination(
        repository_at(record.api, record.repository),
        next((token for variable in TOKENS if (token := environment.get(variable, "").strip())), None),
        name=name,
        api=record.api,
        commit=environment.get("GITHUB_SHA") if here else None,
        notes=notes,
        asset_limit=record.asset_limit,
    )


def _by_tag(objects: Sequence[Sized]) -> Mapping[str, tuple[str, ...]]:
    """The names of assets, by the tag of their release."""
    found: dict[str, tuple[str, ...]] = {}
    for item in objects:
        place = _placed(item.path)
        found[place.tag] = (*found.get(place.tag, ()), place.name)
    return found


def _placed(path: str) -> AssetPlace:
    place = asset_place(path)
    if place is None:
        message = f"{path} is no asset"
        raise TypeError(message)
    return place


def _file_blocks(source: Path, stored: Stored) -> Iterator[bytes]:
    """A file's bytes, whose last block is given only if all of them are the right ones."""
    digest, position = hashlib.sha256(), 0
    with source.open("rb") as stream:
        while True:
            block = stream.read(BLOCK)
            digest.update(block)
            position += len(block)
            if position >= stored.size or not block:
                if stream.read(1) or position != stored.size or digest.hexdigest() != stored.sha256:
                    raise _damaged(source, stored)
                yield block
                return
            yield block


def _damaged(source: Path, stored: Stored) -> DigestMismatch:
    return DigestMismatch(
        f"{source} has not the {stored.size} bytes with SHA-256 {stored.sha256} that the release says.",
        usually="The file was changed or cut off after it was packed.",
        todo="Pack again, then publish; nothing of this release is visible yet.",
    )


def _message(published: tuple[str, ...]) -> str:
    return "\n".join(["Publish " + (published[-1] if published else "signed metadata"), "", *published]).rstrip() + "\n"
