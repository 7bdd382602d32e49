"""GitHub releases, each made as a draft and published whole.

Invariants:
    * A published release is never changed: no asset is added, replaced or deleted.
    * A draft is published after its assets were listed again and every one has the right name, size and digest.
    * An asset that is there with the right bytes is not sent again, whoever sent it and whatever became of the answer.
    * Only drafts that carry our mark are changed or deleted; and of published releases, only whole ones are deleted
      that carry it and have a name that we give.

Drafts are found in the list of releases: GitHub hides them from a search by tag, and allows several of one tag.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from math import inf
from pathlib import Path

from lading.errors import AssetTooLarge, ConfigError, DigestMismatch, NameForbidden, ReleaseTaken, Unavailable
from lading.manifest.github_layout import ASSETS_LIMIT, BODY_LIMIT, AssetPlace, is_our_tag, keeps_its_name
from lading.publish.destination import Listed, Stored
from lading.publish.github_api import Answer, GitHubApi, Unanswered
from lading.publish.github_errors import NOT_FOUND, UNPROCESSABLE, error_of, refusal_of
from lading.publish.limits import check_count, too_many

MARK = "<!-- made by lading -->"  # in the text of every release that we make
CREATED = 201
Blocks = Callable[[], Iterator[bytes]]


class AssetAnswer(Answer):
    """An asset; ``state`` is ``starter`` where an upload broke off, ``digest`` is null on old servers."""

    id: int
    name: str
    size: int
    state: str
    digest: str | None = None


class ReleaseAnswer(Answer):
    """A release."""

    id: int
    tag_name: str
    draft: bool
    upload_url: str
    body: str | None = None
    published_at: datetime | None = None
    assets: tuple[AssetAnswer, ...] = ()

    @property
    def is_ours(self) -> bool:
        """Whether we made it."""
        return MARK in (self.body or "") and is_our_tag(self.tag_name)


class TagAnswer(Answer):
    """A tag, as a reference: ``refs/tags/NAME``."""

    ref: str


@dataclass(kw_only=True)
class _Draft:
    """A release that is being made.

    Attributes:
        release: What GitHub has.
        assets: Its assets by name, as listed last.
        wanted: What it must have when it is published.
    """

    release: ReleaseAnswer
    assets: dict[str, AssetAnswer]
    wanted: dict[str, Stored] = field(default_factory=dict)


class Releases:
    """The releases of one repository, as one publisher sees them.

    Args:
        api: Sends requests.
        commit: What new tags point to; the default branch when none.
        notes: Put into the text of new releases.
    """

    def __init__(self, api: GitHubApi, *, commit: str | None = None, notes: str = "") -> None:
        self._api = api
        self._commit = commit
        self._notes = notes
        self._published: dict[str, ReleaseAnswer] = {}
        self._drafts: dict[str, list[ReleaseAnswer]] = {}
        self._assets: dict[int, dict[str, AssetAnswer]] = {}
        self._open: dict[str, _Draft] = {}
        self._read_back: dict[int, Stored] = {}  # by the asset's id, which no other asset ever gets

    def check(self) -> None:
        """Ask for the least there is: whether we are known and the repository is there is told before any change.

        Raises:
            CredentialsRefused, DestinationMissing: It is not so.
        """
        self._api.call("GET", "/releases", doing="looking at it", params={"per_page": 1})

    def load(self) -> None:
        """Look at what is there."""
        self._published, self._drafts, self._assets, self._open = {}, {}, {}, {}
        for release in self._api.listed(ReleaseAnswer, "/releases", doing="listing the releases"):
            if release.draft:
                self._drafts.setdefault(release.tag_name, []).append(release)
            else:
                self._published[release.tag_name] = release

    def stat(self, place: AssetPlace) -> Stored | None:
        """What a published release has; a draft's assets are not published, whatever they are."""
        asset = self._published_asset(place)
        return None if asset is None else self._stored(asset)

    def fetch(self, place: AssetPlace, target: Path) -> Stored | None:
        """Download a published asset into a file."""
        asset = self._published_asset(place)
        if asset is None:
            return None
        return self._api.digest(f"/releases/assets/{asset.id}", doing=f"reading {asset.name}", target=target)

    def is_drafted(self, place: AssetPlace, stored: Stored) -> bool:
        """Whether an asset lies in a draft of ours already."""
        drafts = sorted(self._drafts.get(place.tag, ()), key=lambda release: release.id)
        if not drafts or MARK not in (drafts[0].body or ""):
            return False
        asset = self._listed(drafts[0]).get(place.name)
        return asset is not None and self._is(asset, stored)

    def put(self, place: AssetPlace, stored: Stored, blocks: Blocks) -> bool:
        """Bring an asset into its release's draft.

        Args:
            place: Which asset.
            stored: What its bytes must be.
            blocks: Gives them; called anew for each attempt.

        Returns:
            Whether it was sent; not when it was there.

        Raises:
            ReleaseTaken: The release is published without it.
            AssetTooLarge, NameForbidden: GitHub does not take it.
            DigestMismatch: GitHub stored something else.
        """
        draft = self._draft(place.tag)
        check_release(place.tag, {*draft.assets, *draft.wanted, place.name})
        there = self._is_there(draft, place.name, stored)
        if not there:
            self._send(draft, place.name, stored, blocks)
        draft.wanted[place.name] = stored
        return not there

    def publish(self) -> tuple[str, ...]:
        """Publish every draft that assets were put into, libs first: nothing refers to what is not there yet.

        Returns:
            Their tags.

        Raises:
            DigestMismatch: A draft does not have what was put into it; it stays a draft.
            ReleaseTaken: Another release of this tag was published meanwhile.
        """
        tags = sorted(self._open, key=lambda tag: ("-libs-" not in tag, tag))
        for tag in tags:
            draft = self._open[tag]
            self._verify(draft)
            self._undraft(draft)
            self._delete_others(draft)
            del self._open[tag]
            self._published[tag] = draft.release
        return tuple(tags)

    # -- giving back

    def listing(self) -> tuple[Listed, ...]:
        """Our published releases; also the tags of releases that were deleted by a run that was killed then."""
        now = self._api.now
        published = [release for release in self._published.values() if release.is_ours]
        tags = {release.tag_name for group in (published, *self._drafts.values()) for release in group}
        answers = self._api.listed(TagAnswer, "/git/matching-refs/tags", doing="listing the tags")
        alone = {answer.ref.removeprefix("refs/tags/") for answer in answers} - tags - self._published.keys()
        return (
            *(
                Listed(
                    name=release.tag_name,
                    size=sum(asset.size for asset in release.assets),
                    age=now - release.published_at.timestamp() if release.published_at else 0.0,
                )
                for release in published
            ),
            *(Listed(name=tag, size=0, age=inf) for tag in sorted(alone) if is_our_tag(tag)),
        )

    def remove(self, tag: str) -> None:
        """Delete a release of ours and its tag.

        The release goes first: as long as an immutable one is there, its tag is locked. GitHub never lets the tag of
        such a release be used again.
        """
        release = self._published.get(tag)
        if not is_our_tag(tag) or (release is not None and not release.is_ours):
            message = f"{tag} is no release of ours"
            raise RuntimeError(message)
        if release is not None:
            path, doing = f"/releases/{release.id}", f"deleting the release {tag}"
            self._api.call("DELETE", path, doing=doing, also=frozenset({NOT_FOUND}))
            del self._published[tag]
            self._assets.pop(release.id, None)
        gone = frozenset({NOT_FOUND, UNPROCESSABLE})
        self._api.call("DELETE", f"/git/refs/tags/{tag}", doing=f"deleting the tag {tag}", also=gone)

    # -- drafts

    def _draft(self, tag: str) -> _Draft:
        if tag not in self._open:
            if tag in self._published:
                raise ReleaseTaken(
                    f"The release {tag} is published on {self._api.repository.page}, and lacks assets.",
                    usually="Assets were deleted there by hand, or the release was not made by Lading.",
                    todo="A published release is never changed: delete it and its tag there, then publish again; "
                    "or raise the version.",
                )
            release = self._ours(tag) or self._create(tag)
            self._open[tag] = _Draft(release=release, assets=self._list(release))
        return self._open[tag]

    def _ours(self, tag: str) -> ReleaseAnswer | None:
        """The oldest draft of a tag, so that everybody takes the same."""
        drafts = sorted(self._drafts.get(tag, ()), key=lambda release: release.id)
        if foreign := [draft for draft in drafts if MARK not in (draft.body or "")]:
            raise ConfigError(
                f"{self._api.repository.page} has a draft for {tag} that Lading did not make (id {foreign[0].id}).",
                usually="Somebody drafted a release of that name by hand.",
                todo="Delete that draft there, then publish again.",
            )
        return drafts[0] if drafts else None

    def _create(self, tag: str) -> ReleaseAnswer:
        doing = f"creating a draft for {tag}"
        wanted = {"tag_name": tag, "name": tag, "body": release_text(tag, self._notes), "draft": True}
        if self._commit:
            wanted["target_commitish"] = self._commit

        def attempt() -> ReleaseAnswer:
            return self._api.parsed(
                ReleaseAnswer, self._api.call("POST", "/releases", doing=doing, json=wanted, again=False)
            )

        def look() -> ReleaseAnswer | None:
            found = self._api.listed(ReleaseAnswer, "/releases", doing="listing the releases")
            self._drafts[tag] = [release for release in found if release.draft and release.tag_name == tag]
            return self._ours(tag)

        created = self._api.settled(attempt, look)
        self._drafts[tag] = [*self._drafts.get(tag, ()), created]
        return created

    def _undraft(self, draft: _Draft) -> None:
        release = draft.release
        doing = f"publishing the release {release.tag_name}"
        latest = "false" if "-libs-" in release.tag_name else "legacy"
        path = f"/releases/{release.id}"

        def attempt() -> ReleaseAnswer:
            answer = self._api.call(
                "PATCH", path, doing=doing, json={"draft": False, "make_latest": latest}, again=False,
                also=frozenset({UNPROCESSABLE}),
            )  # fmt: skip
            if answer.status_code == UNPROCESSABLE:
                refusal = refusal_of(UNPROCESSABLE, answer.json())
                if refusal.has("already_exists"):
                    raise _taken(release.tag_name, self._api)
                if "used by an immutable release" in refusal.said:
                    raise _spent(release.tag_name, self._api)
                raise self._api.refused(answer, doing, writing=True)
            return self._api.parsed(ReleaseAnswer, answer)

        def look() -> ReleaseAnswer | None:
            found = self._api.get(ReleaseAnswer, path, doing=f"looking at the release {release.tag_name}")
            return found if found is not None and not found.draft else None

        found = self._api.settled(attempt, look)
        if found.draft or found.tag_name != release.tag_name:
            raise Unavailable(f"{self._api.repository.page} published {release.tag_name} as {found.tag_name!r}.")
        draft.release = found

    def _delete_others(self, draft: _Draft) -> None:
        """Drafts of the same tag that were made twice because an answer got lost."""
        for other in self._drafts.pop(draft.release.tag_name, ()):
            if other.id != draft.release.id and MARK in (other.body or ""):
                doing = f"deleting a second draft for {other.tag_name}"
                self._api.call("DELETE", f"/releases/{other.id}", doing=doing, also=frozenset({NOT_FOUND}))

    # -- assets

    def _published_asset(self, place: AssetPlace) -> AssetAnswer | None:
        release = self._published.get(place.tag)
        asset = None if release is None else self._listed(release).get(place.name)
        return asset if asset is not None and asset.state == "uploaded" else None

    def _listed(self, release: ReleaseAnswer) -> dict[str, AssetAnswer]:
        """The assets of a release that nobody changes meanwhile; asked for once."""
        if release.id not in self._assets:
            self._assets[release.id] = self._list(release)
        return self._assets[release.id]

    def _list(self, release: ReleaseAnswer) -> dict[str, AssetAnswer]:
        doing = f"listing the assets of {release.tag_name}"
        return {
            asset.name: asset for asset in self._api.listed(AssetAnswer, f"/releases/{release.id}/assets", doing=doing)
        }

    def _stored(self, asset: AssetAnswer) -> Stored:
        algorithm, _, digest = (asset.digest or "").partition(":")
        if algorithm == "sha256":
            return Stored(size=asset.size, sha256=digest)
        if asset.id not in self._read_back:
            doing = f"reading {asset.name} back"
            self._read_back[asset.id] = self._api.digest(f"/releases/assets/{asset.id}", doing=doing)
        return self._read_back[asset.id]

    def _is(self, asset: AssetAnswer, stored: Stored) -> bool:
        return asset.state == "uploaded" and asset.size == stored.size and self._stored(asset) == stored

    def _is_there(self, draft: _Draft, name: str, stored: Stored) -> bool:
        """Whether a draft has an asset already; what has its name and is something else is deleted."""
        asset = draft.assets.get(name)
        if asset is None:
            return False
        if self._is(asset, stored):
            return True
        self._delete(draft, asset)
        return False

    def _send(self, draft: _Draft, name: str, stored: Stored, blocks: Blocks) -> None:
        doing = f"sending {name}"
        release = draft.release

        def look() -> AssetAnswer | None:
            draft.assets = self._list(release)
            return draft.assets[name] if self._is_there(draft, name, stored) else None

        def attempt() -> AssetAnswer:
            try:
                answer = self._api.upload(release.upload_url, name, stored.size, blocks, doing=doing)
            except DigestMismatch:
                look()  # the upload was broken off on purpose: nothing of it stays
                raise
            if answer.status_code == CREATED:
                return self._api.parsed(AssetAnswer, answer)
            raise self._not_taken(answer.status_code, answer.json() if answer.content else {}, name)

        asset = self._api.settled(attempt, look)
        draft.assets[asset.name] = asset
        if asset.name != name or not self._is(asset, stored):
            self._delete(draft, asset)
            raise _stored_wrongly(name, stored, asset)

    def _not_taken(self, status: int, body: object, name: str) -> Exception:
        refusal = refusal_of(status, body)
        if refusal.has("already_exists"):  # somebody sent it in between, or an answer got lost: look, then decide
            return Unanswered(f"{self._api.repository.page} has an asset {name} that was not there a moment ago.")
        if refusal.has("file_count") or "file_count" in refusal.said:
            return too_many(f"A GitHub release takes at most {ASSETS_LIMIT:,} assets; it is full before {name}.")
        if "size must be less" in refusal.said:
            return _too_large(name, refusal.said)
        if "immutable" in refusal.said.lower():
            return _taken(name, self._api)
        return error_of(refusal, self._api.repository, f"sending {name}", writing=True)

    def _delete(self, draft: _Draft, asset: AssetAnswer) -> None:
        assert draft.release.draft
        doing = f"deleting what is left of {asset.name}"
        self._api.call("DELETE", f"/releases/assets/{asset.id}", doing=doing, also=frozenset({NOT_FOUND}))
        draft.assets.pop(asset.name, None)

    def _verify(self, draft: _Draft) -> None:
        draft.assets = self._list(draft.release)
        for other in [asset for name, asset in draft.assets.items() if name not in draft.wanted]:
            self._delete(draft, other)  # of an earlier run with another build of this version
        for name, stored in draft.wanted.items():
            asset = draft.assets.get(name)
            if asset is None or not self._is(asset, stored):
                raise _stored_wrongly(name, stored, asset)


def release_text(tag: str, notes: str = "") -> str:
    """A release's text; longer notes than GitHub takes are cut.

    Args:
        tag: The release's.
        notes: What the publisher wants to say.
    """
    about = (
        f"{MARK}\nFiles of `{tag}` for `lading install`. They are trusted through the signed release manifest; "
        "the `.sha256` files are for people: `sha256sum -c`.\n"
    )
    room = BODY_LIMIT - len(about) - 1
    if len(notes) > room:
        ending = "\n\n… (cut: longer than GitHub takes)"
        notes = notes[: room - len(ending)] + ending
    return f"{about}\n{notes}" if notes else about


def check_release(tag: str, names: Collection[str]) -> None:
    """Refuse what GitHub would not take into one release.

    Args:
        tag: The release's.
        names: Of all its assets.

    Raises:
        AssetTooLarge: There are too many.
        NameForbidden: GitHub would store one under another name.
    """
    check_count(len(names), ASSETS_LIMIT, f"A GitHub release ({tag})")
    for name in names:
        if not keeps_its_name(name):
            raise NameForbidden(
                f"GitHub would store {name!r} under another name.",
                usually="The name has characters other than letters, digits, '-', '_' and inner dots.",
                todo="Rename the app or the version.",
            )


def _too_large(name: str, why: str) -> AssetTooLarge:
    return AssetTooLarge(
        f"{name} is too large for a GitHub release: {why}.",
        usually="It was packed for a destination with a higher limit.",
        todo="Lower `asset_limit` of the destination to 2 GB, pack again, then publish.",
    )


def _taken(name: str, api: GitHubApi) -> ReleaseTaken:
    return ReleaseTaken(
        f"{api.repository.page} has published another release for {name} meanwhile.",
        usually="Two jobs publish the same version at the same time.",
        todo="Run the same command again: the same bytes are not sent twice, other bytes are refused.",
    )


def _spent(tag: str, api: GitHubApi) -> ReleaseTaken:
    return ReleaseTaken(
        f"{api.repository.page} had an immutable release {tag} that was deleted: GitHub never takes that tag again.",
        usually="`lading prune` made room, and the same version or libs label is published once more.",
        todo="Raise the version, or the libs label; what nobody uses any more of the draft can be deleted there.",
    )


def _stored_wrongly(name: str, stored: Stored, asset: AssetAnswer | None) -> DigestMismatch:
    found = "nothing" if asset is None else f"{asset.name} with {asset.size} bytes, {asset.digest}, {asset.state}"
    return DigestMismatch(
        f"GitHub has {found} where {name} with {stored.size} bytes, sha256:{stored.sha256} was sent.",
        usually="A proxy altered the upload, or GitHub had a bad moment; the release is not visible.",
        todo="Run the same command again: only what is wrong is sent again.",
    )
