"""Publishing to GitHub: whole or not there, never changed, resumable; against a double that keeps state."""

from __future__ import annotations

import copy
import itertools
import logging
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import httpx
import pytest
from tests.doubles.github import Asset, Fault, GitHubDouble, Rate, Release, Repo, Token, running
from tests.doubles.github_http import Reply
from tests.integration.publish_race import race
from tests.packed_release import APP, ENTRY, Files, Shop, program, write_packed

from lading.digest import sha256_file
from lading.errors import (
    AssetTooLarge,
    Busy,
    ClockSkewed,
    ConfigError,
    CredentialsRefused,
    DestinationMissing,
    DigestMismatch,
    FormatInvalid,
    LabelTaken,
    LadingError,
    PermissionMissing,
    RateLimited,
    ReleaseTaken,
    SignatureInvalid,
    Unavailable,
)
from lading.fetch.github import GitHubSource
from lading.manifest.base import canonical_json, read_record
from lading.manifest.destination import GitHubDestination as GitHubRecord
from lading.manifest.github_layout import BRANCH, LOCK_BRANCH, GitHubRepository, parse_address
from lading.manifest.release import Release as Manifest
from lading.publish.destination import Stored
from lading.publish.github import GitHubDestination, open_github
from lading.publish.github_lock import LEASE
from lading.publish.outcome import PublishResult
from lading.publish.packed import read_packed
from lading.publish.preview import preview
from lading.publish.publisher import publish
from lading.publish.signing import sign_packed
from lading.sign.keys import development_keys
from lading.store.install import install

NAME = "owner/name"
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 30_000}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(60_000)}
CORE_TAG = f"{APP}-core-0.1.0-cu126-linux-x86_64"
CPU_TAG = f"{APP}-core-0.1.0-cpu-linux-x86_64"
LIBS_TAG = f"{APP}-libs-cu126-v1-linux-x86_64"
ASSETS = 12  # of a release with core and libs in one volume each
KILLS = 40


@dataclass
class Stand:
    """A publisher with its keys, a double of GitHub, and what the publisher waited for.

    Attributes:
        waits: Seconds that were waited, instead of waiting.
    """

    double: GitHubDouble
    shop: Shop
    name: str = NAME
    waits: list[float] = field(default_factory=list)

    @property
    def repo(self) -> Repo:
        return self.double.repos[self.name]

    @property
    def root(self) -> bytes:
        found = self.repo.git.file(BRANCH, "metadata/1.root.json")
        assert found is not None
        return found

    def destination(self, token: str | None = "t0ken") -> GitHubDestination:
        return GitHubDestination(GitHubRepository(name=self.name, web=self.double.web), token, sleep=self.waits.append)

    def packed(self, version: str, core: Files, libs: Files | None = None, label: str = "cu126-v1") -> Path:
        folder = self.shop.packed(version)
        return write_packed(folder, version, core, libs, volume=self.shop.volume, label=label)

    def publish(self, file: Path, token: str | None = "t0ken") -> PublishResult:
        return publish(file.parent, file, self.destination(token), self.shop.keys)

    def release(self, version: str, core: Files, libs: Files | None = None, label: str = "cu126-v1") -> PublishResult:
        return self.publish(self.packed(version, core, libs, label))

    def installed(self, data: Path, flavor: str | None = None) -> str:
        """What a client gets that knows nothing yet."""
        repository = parse_address(self.destination().public)
        assert repository is not None
        return install(GitHubSource(repository), self.root, data, app=APP, flavor=flavor).version

    def state(self) -> object:
        """All that anybody can see."""
        git = self.repo.git
        return self.double.published(self.name), dict(git.refs), git.file(BRANCH, "metadata/timestamp.json")


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    with running() as double:
        double.add_repo(NAME)
        yield Stand(double, Shop(tmp_path / "shop", volume=10**9))


def visible(stand: Stand) -> set[str]:
    return set(stand.double.published(stand.name))


# -- what a publication gives


def test_a_release_is_laid_out_as_documented_and_checks_itself(stand: Stand, tmp_path: Path) -> None:
    stand.shop = replace(stand.shop, volume=25_000)
    result = stand.release("0.1.0", CORE, LIBS)
    assert visible(stand) == {CORE_TAG, LIBS_TAG}
    assert f"{LIBS_TAG}.tar.zst.003" in stand.double.published()[LIBS_TAG]
    assert stand.double.drafts() == []
    for tag, assets in stand.double.published().items():
        folder = tmp_path / tag
        folder.mkdir()
        for name in assets:
            address = f"{stand.double.web}/{NAME}/releases/download/{tag}/{name}"
            (folder / name).write_bytes(httpx.get(address, follow_redirects=True).raise_for_status().content)
        names = sorted(path.name for path in folder.glob("*.sha256"))
        assert 2 * len(names) == len(assets)
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", *names], cwd=folder, check=True)
    for item in result.metadata:
        address = f"{stand.double.web}/{NAME}/raw/{BRANCH}/{item.path}"
        assert len(httpx.get(address).raise_for_status().content) == item.size
    assert stand.installed(tmp_path / "data") == "0.1.0"


def test_everything_signed_becomes_visible_by_one_commit(stand: Stand) -> None:
    for version in ("0.1.0", "0.2.0"):
        stand.release(version, {**CORE, "v": version.encode()}, LIBS)
    assert [ref for ref, _ in stand.repo.git.moves].count(f"refs/heads/{BRANCH}") == 2
    assert f"refs/heads/{LOCK_BRANCH}" not in stand.repo.git.refs


def test_publishing_again_sends_nothing_and_changes_nothing(stand: Stand) -> None:
    stand.release("0.1.0", CORE, LIBS)
    before, sent = stand.state(), stand.double.sent
    result = stand.release("0.1.0", CORE, LIBS)
    assert (result.uploaded, result.metadata, result.bytes_uploaded) == ((), (), 0)
    assert len(result.skipped) == ASSETS
    assert (stand.state(), stand.double.sent) == (before, sent)


def test_an_app_release_sends_only_the_core_because_libs_are_there(stand: Stand, tmp_path: Path) -> None:
    stand.release("0.1.0", CORE, LIBS)
    before = stand.double.published()
    result = stand.release("0.1.1", {**CORE, ENTRY: program("two")}, LIBS)
    assert all(item.path.startswith("assets/core/0.1.1/") for item in result.uploaded)
    after = stand.double.published()
    assert {tag: after[tag] for tag in before} == before
    assert after.keys() - before.keys() == {f"{APP}-core-0.1.1-cu126-linux-x86_64"}
    assert stand.installed(tmp_path / "data") == "0.1.1"


def test_libs_need_not_be_packed_again_when_they_are_published(stand: Stand) -> None:
    stand.release("0.1.0", CORE, LIBS)
    file = stand.packed("0.1.1", {**CORE, "new": b"n"}, LIBS)
    for path in file.parent.glob("*-libs-*"):
        path.unlink()
    assert all("/core/" in item.path for item in stand.publish(file).uploaded)


def test_a_repository_with_immutable_releases_takes_every_release_whole(stand: Stand, tmp_path: Path) -> None:
    stand.repo.immutable = True
    stand.release("0.1.0", CORE, LIBS)
    stand.release("0.2.0", {**CORE, "v": b"2"}, LIBS)
    shutil.rmtree(stand.shop.packed("0.2.0"))
    cpu = stand.release("0.2.0", CORE)  # another flavor of a version that is published already
    assert all(release.immutable for release in stand.repo.releases.values())
    assert len(cpu.uploaded) == ASSETS // 2
    for flavor in ("cpu", "cu126"):
        assert stand.installed(tmp_path / flavor, flavor) == "0.2.0"


def test_signed_on_one_machine_and_published_from_another_without_keys(stand: Stand, tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        file = stand.packed(version, {**CORE, "v": version.encode()}, LIBS)
        update = sign_packed(file.parent, file, tmp_path / "signed", stand.shop.keys)
        result = publish(file.parent, file, stand.destination(), None, signed=tmp_path / "signed")
        assert {item.path for item in result.metadata} == {path for path, _ in update.files}
    assert stand.installed(tmp_path / "data") == "0.2.0"


def test_the_manifest_and_the_environment_say_where_and_who(stand: Stand) -> None:
    record = GitHubRecord(kind="github", repository=NAME, api=stand.double.api)
    sha = stand.repo.git.refs["refs/heads/main"]
    environment = {"GITHUB_TOKEN": " t0ken\n", "GITHUB_REPOSITORY": "Owner/Name", "GITHUB_SHA": sha}
    file = stand.packed("0.1.0", CORE)
    destination = open_github(record, name="ours", notes="n" * 200_000, environment=environment)
    publish(file.parent, file, destination, stand.shop.keys)
    (release,) = stand.repo.releases.values()
    assert (release.target, destination.name) == (sha, f"ours ({stand.double.web}/{NAME})")
    assert len(release.body) <= 125_000
    assert destination.budget is not None
    assert destination.budget.remaining == 5000 - destination.requests


# -- what is refused, with everything as it was


@pytest.mark.parametrize(
    ("core", "libs", "error"),
    [
        pytest.param({**CORE, "more": b"m"}, LIBS, ReleaseTaken, id="version"),
        pytest.param(CORE, {"_internal/nvidia/lib.so": b"other"}, LabelTaken, id="label"),
    ],
)
def test_other_content_under_a_published_name_is_refused(
    stand: Stand, core: Files, libs: Files, error: type[Exception]
) -> None:
    stand.release("0.1.0", CORE, LIBS)
    before = stand.state()
    version = "0.1.0" if error is ReleaseTaken else "0.2.0"
    shutil.rmtree(stand.shop.packed(version), ignore_errors=True)
    with pytest.raises(error, match="already names other content"):
        stand.release(version, core, libs)
    assert (stand.state(), stand.double.drafts()) == (before, [])


@pytest.mark.proves("S0-23")
def test_a_packed_file_that_was_damaged_is_never_stored(stand: Stand, tmp_path: Path) -> None:
    stand.release("0.1.0", CORE, LIBS)
    before = stand.state()
    for keep, more in ((-1, b"\0"), (-1, b""), (None, b"\0")):
        shutil.rmtree(stand.shop.packed("0.2.0"), ignore_errors=True)
        file = stand.packed("0.2.0", CORE, LIBS, label="cu126-v2")
        archive = next(file.parent.glob("*-libs-*.tar.zst"))
        archive.write_bytes(archive.read_bytes()[:keep] + more)
        with pytest.raises(DigestMismatch, match=archive.name):
            stand.publish(file)
        assert stand.state() == before
        kept = [
            asset for draft in stand.double.drafts() for asset in draft.assets.values() if asset.state == "uploaded"
        ]
        assert archive.name not in {asset.name for asset in kept}
    assert stand.installed(tmp_path / "data") == "0.1.0"


def test_an_incomplete_packed_folder_sends_nothing(stand: Stand) -> None:
    file = stand.packed("0.1.0", CORE, LIBS)
    next(file.parent.glob("*-libs-*.index.zst")).unlink()
    before = stand.state()
    with pytest.raises(FormatInvalid, match="neither packed nor published"):
        stand.publish(file)
    assert (stand.state(), stand.double.sent) == (before, 0)


def test_a_repository_signed_with_other_keys_is_left_alone(stand: Stand, tmp_path: Path) -> None:
    stand.release("0.1.0", CORE)
    before = stand.state()
    file = stand.packed("0.2.0", CORE)
    with pytest.raises(SignatureInvalid):
        publish(file.parent, file, stand.destination(), development_keys(tmp_path / "others"))
    assert (stand.state(), stand.double.drafts()) == (before, [])


Change = Callable[[Stand], None]


def _token(token: Token) -> Change:
    return lambda stand: stand.double.tokens.update(t0ken=token)


def _repo(**settings: bool) -> Change:
    def change(stand: Stand) -> None:
        for name, value in settings.items():
            setattr(stand.repo, name, value)

    return change


def _skewed(seconds: float) -> Change:
    return lambda stand: setattr(stand.double, "skew", float(seconds))


def _emptied(stand: Stand) -> None:
    stand.double.add_repo(NAME, empty=True)


def _foreign_draft(stand: Stand) -> None:
    stand.repo.releases[7] = Release(7, CPU_TAG, "", "by hand", True, "main")


def _foreign_release(stand: Stand) -> None:
    stand.repo.releases[7] = Release(7, CPU_TAG, "", "by hand", False, "main")


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        pytest.param(lambda stand: stand.double.tokens.clear(), CredentialsRefused, "Bad credentials", id="bad-token"),
        pytest.param(_token(Token(write=False)), PermissionMissing, "does not let", id="read-only"),
        pytest.param(_token(Token(write=False, hides=True)), PermissionMissing, "does not let", id="read-only-hidden"),
        pytest.param(lambda stand: stand.double.repos.clear(), DestinationMissing, "no repository", id="missing"),
        pytest.param(_skewed(-3 * 86_400), ClockSkewed, "72 h later here", id="clock-ahead"),
        pytest.param(_skewed(3 * 86_400), ClockSkewed, "72 h earlier here", id="clock-behind"),
        pytest.param(_repo(archived=True), PermissionMissing, "archived", id="archived"),
        pytest.param(_repo(renamed=True), ConfigError, "has moved", id="renamed"),
        pytest.param(_emptied, ConfigError, "no commit yet", id="empty"),
        pytest.param(_repo(protected=True), Unavailable, "Rule violations", id="protected-tags"),
        pytest.param(_foreign_draft, ConfigError, "did not make", id="draft-by-hand"),
        pytest.param(_foreign_release, ReleaseTaken, "lacks assets", id="release-by-hand"),
    ],
)
def test_what_github_does_not_allow_is_told_in_plain_words_and_leaves_no_trace(
    stand: Stand, change: Change, error: type[LadingError], match: str
) -> None:
    change(stand)
    releases = dict(stand.repo.releases) if NAME in stand.double.repos else {}
    with pytest.raises(error, match=match) as caught:
        stand.release("0.1.0", CORE)
    assert type(caught.value) is error
    assert caught.value.todo
    assert "t0ken" not in str(caught.value)
    if NAME in stand.double.repos:
        assert not [release for release in stand.repo.releases.values() if not release.draft and release.id != 7]
        assert all(stand.repo.releases[number] is release for number, release in releases.items())
        assert f"refs/heads/{BRANCH}" not in stand.repo.git.refs
        assert f"refs/heads/{LOCK_BRANCH}" not in stand.repo.git.refs


@pytest.mark.parametrize("token", [None, "", "two words", "line\nbreak", "ünicode"])
def test_a_token_that_cannot_be_one_is_never_sent(stand: Stand, token: str | None) -> None:
    file = stand.packed("0.1.0", CORE)
    with pytest.raises(CredentialsRefused):
        stand.publish(file, token)
    assert stand.double.requests == []


def test_the_token_goes_to_the_api_alone_and_is_never_shown(
    stand: Stand, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    stand.double.digests = False  # so that assets are read back over a redirect to the storage, which refuses tokens
    stand.double.faults.append(Fault("POST", "/releases", "502-done"))
    stand.release("0.1.0", CORE, LIBS)
    stand.double.tokens.clear()
    with pytest.raises(CredentialsRefused) as caught:
        stand.release("0.1.0", CORE, LIBS)
    shown = caplog.text + "".join(capfd.readouterr()) + repr(caught.value) + repr(vars(stand.destination()))
    assert "t0ken" not in shown


def test_an_asset_over_the_limit_is_refused_before_a_byte_of_it_is_sent(stand: Stand, tmp_path: Path) -> None:
    large = tmp_path / "large"
    with large.open("wb") as stream:
        stream.truncate(2**31 + 1)
    destination = stand.destination()
    path, stored = f"assets/core/0.1.0/{CORE_TAG}.tar.zst", Stored(size=2**31 + 1, sha256="0" * 64)
    with destination.hold(), pytest.raises(AssetTooLarge, match="2,147,483,649"):
        destination.put_file(path, large, stored, lambda _: None)
    assert stand.double.sent == 0


def test_more_assets_than_a_release_may_have_are_refused(stand: Stand) -> None:
    stand.release("0.0.9", CORE)
    assets = {
        f"x{number}": Asset(10**6 + number, f"x{number}", 1, "uploaded", "0" * 64, b"x") for number in range(1000)
    }
    stand.repo.releases[7] = Release(7, CORE_TAG, "", "<!-- made by lading -->", True, "main", assets=assets)
    with pytest.raises(AssetTooLarge, match="1,000"):
        stand.release("0.1.0", CORE, LIBS)
    assert CORE_TAG not in visible(stand)


# -- moments that pass


FAULTS = [
    ("GET", "/releases", "502"),
    ("POST", "/git/trees", "lost"),
    ("POST", "/git/commits", "502-done"),
    ("POST", "/git/refs", "502"),
    ("POST", "/git/refs", "lost"),
    ("POST", "/releases", "502"),
    ("POST", "/releases", "lost"),
    ("POST", "/releases", "502-done"),
    ("GET", "/assets", "lost"),
    ("POST", "/assets", "502"),
    ("POST", "/assets", "502-done"),
    ("POST", "/assets", "lost"),
    ("POST", "/assets", "starter"),
    ("POST", "/assets", "cut"),
    ("PATCH", "/releases/", "502"),
    ("PATCH", "/releases/", "lost"),
    ("PATCH", "/releases/", "502-done"),
    ("DELETE", "/git/refs", "502"),
]


@pytest.mark.proves("S0-23")
@pytest.mark.parametrize("kind", FAULTS, ids=["-".join(fault) for fault in FAULTS])
@pytest.mark.parametrize("after", [0, 1])
def test_a_request_that_fails_or_whose_answer_gets_lost_is_made_good(
    stand: Stand, tmp_path: Path, kind: tuple[str, str, str], after: int
) -> None:
    method, part, how = kind
    fault = Fault(method, part, how, after=after)
    stand.double.faults.append(fault)
    file = stand.packed("0.1.0", CORE, LIBS)
    stand.publish(file)
    assert fault.times == 0 or (after and stand.double.asked(method, part) == 1), "the fault never happened"
    assert visible(stand) == {CORE_TAG, LIBS_TAG}
    assert stand.double.drafts() == []
    assert set(stand.double.uploads.values()) == {1}
    assert len(stand.double.uploads) == ASSETS
    assert stand.installed(tmp_path / "data") == "0.1.0"


@pytest.mark.parametrize(
    ("method", "part", "times"),
    [("POST", "/assets", 9), ("PATCH", "/releases/", 9), ("POST", "/git/refs", 9), ("GET", "/releases", 9)],
)
def test_trouble_that_does_not_pass_is_told_and_the_next_run_goes_on(
    stand: Stand, tmp_path: Path, method: str, part: str, times: int
) -> None:
    stand.double.faults.append(Fault(method, part, "502", times=times))
    file = stand.packed("0.1.0", CORE, LIBS)
    with pytest.raises(Unavailable, match="502") as caught:
        stand.publish(file)
    assert (caught.value.kind, caught.value.exit_code) == ("DestinationUnreachable", 24)
    assert BRANCH not in str(stand.repo.git.refs)
    stand.double.faults.clear()
    stand.publish(file)
    assert set(stand.double.uploads.values()) == {1}
    assert stand.installed(tmp_path / "data") == "0.1.0"


@pytest.mark.parametrize("how", ["renamed", "altered"])
def test_an_asset_that_github_stores_otherwise_is_never_published(stand: Stand, how: str) -> None:
    stand.double.faults.append(Fault("POST", "/assets", how, after=3))
    file = stand.packed("0.1.0", CORE, LIBS)
    with pytest.raises(DigestMismatch, match="GitHub has"):
        stand.publish(file)
    assert visible(stand) == set()
    assert f"refs/heads/{BRANCH}" not in stand.repo.git.refs
    stand.publish(file)
    assert visible(stand) == {CORE_TAG, LIBS_TAG}


def test_servers_that_know_no_digests_are_read_back(stand: Stand, tmp_path: Path) -> None:
    stand.double.digests = False
    stand.double.faults.append(Fault("POST", "/assets", "altered", after=3))
    file = stand.packed("0.1.0", CORE, LIBS)
    with pytest.raises(DigestMismatch):
        stand.publish(file)
    stand.publish(file)
    assert stand.publish(file).uploaded == ()
    assert stand.installed(tmp_path / "data") == "0.1.0"


def test_an_asset_that_vanishes_before_its_release_is_published_keeps_it_a_draft(stand: Stand) -> None:
    destination = stand.destination()
    path = f"assets/core/0.1.0/{CORE_TAG}.json"
    with pytest.raises(DigestMismatch, match="nothing"), destination.hold():  # noqa: PT012 (what raises is its end)
        destination.put_bytes(path, b"{}")
        stand.double.drafts()[0].assets.clear()
    assert visible(stand) == set()


# -- what earlier runs left


def test_drafts_of_an_earlier_run_are_found_by_listing_and_gone_on_with(stand: Stand) -> None:
    for number in range(250):  # pages of other releases
        stand.repo.releases[10_000 + number] = Release(10_000 + number, f"v{number}", "", "", False, "main")
    stand.double.faults.append(Fault("PATCH", "/releases/", "502", times=9))
    file = stand.packed("0.1.0", CORE, LIBS)
    with pytest.raises(Unavailable):
        stand.publish(file)
    assert sum(len(draft.assets) for draft in stand.double.drafts()) == ASSETS
    stand.double.faults.clear()
    sent = stand.double.sent
    ((told, _),) = preview([read_packed(file.parent, file)], [stand.destination()])
    result = stand.publish(file)
    assert (stand.double.sent, stand.double.drafts()) == (sent, [])
    assert (len(result.uploaded), result.bytes_sent, result.bytes_reused) == (ASSETS, 0, result.bytes_uploaded)
    assert told.planned is not None
    assert (told.planned.bytes_begun, told.planned.bytes_to_send) == (result.bytes_uploaded, 0)
    assert {CORE_TAG, LIBS_TAG} <= visible(stand)


def test_a_draft_with_another_build_of_the_version_is_replaced(stand: Stand, tmp_path: Path) -> None:
    stand.double.faults.append(Fault("PATCH", "/releases/", "502", times=9))
    with pytest.raises(Unavailable):
        stand.publish(write_packed(tmp_path / "old", "0.1.0", {**CORE, "old": os.urandom(30_000)}, volume=25_000))
    stand.double.faults.clear()
    (draft,) = stand.double.drafts()
    assert f"{APP}-core-0.1.0-cpu-linux-x86_64.tar.zst.001" in draft.assets
    stand.publish(write_packed(tmp_path / "new", "0.1.0", CORE))
    (assets,) = stand.double.published().values()
    assert not [name for name in assets if ".tar.zst.0" in name]
    assert stand.installed(tmp_path / "data") == "0.1.0"


def test_leftovers_and_second_drafts_are_cleared_away(stand: Stand) -> None:
    for number in (7, 8):
        release = Release(number, CORE_TAG, "", "<!-- made by lading -->", True, "main")
        name = f"{CORE_TAG}.tar.zst"
        release.assets[name] = Asset(100 + number, name, 0, "starter", None, None)
        stand.repo.releases[number] = release
    stand.release("0.1.0", CORE, LIBS)
    assert stand.double.drafts() == []
    assert {release.id for release in stand.repo.releases.values() if release.tag == CORE_TAG} == {7}


# -- rate limits


def test_limits_are_waited_for_as_github_asks(stand: Stand) -> None:
    stand.double.skew = 43_200.0  # the server's clock counts, not ours
    stand.double.rate = Rate(limit=5000, remaining=7, reset=stand.double.now + 120)
    stand.double.secondary = [
        Reply(403, b'{"message": "You have exceeded a secondary rate limit."}', {"Retry-After": "17"}),
        Reply(429, b'{"message": "Too many requests"}'),
        Reply(429, b'{"message": "Too many requests"}'),
    ]
    file = stand.packed("0.1.0", CORE)
    destination = stand.destination()

    def sleep(seconds: float) -> None:
        stand.waits.append(seconds)
        stand.double.skew += seconds

    destination._api._sleep = sleep
    publish(file.parent, file, destination, stand.shop.keys)
    assert stand.waits[:3] == [17.0, 120.0, 240.0]  # as asked; a minute, doubled with each wait
    assert len(visible(stand)) == 1


def test_the_hourly_limit_is_waited_for_until_its_reset(stand: Stand) -> None:
    stand.double.rate = Rate(limit=5000, remaining=7, reset=stand.double.now + 120)
    destination, file = stand.destination(), stand.packed("0.1.0", CORE)

    def sleep(seconds: float) -> None:
        stand.waits.append(seconds)
        stand.double.skew += seconds

    destination._api._sleep = sleep
    publish(file.parent, file, destination, stand.shop.keys)
    (waited,) = stand.waits
    assert 118 <= waited <= 122
    assert len(visible(stand)) == 1


def test_a_limit_beyond_our_patience_is_told_with_the_budget(stand: Stand) -> None:
    stand.double.rate = Rate(limit=5000, remaining=9, reset=stand.double.now + 3000)
    with pytest.raises(RateLimited, match="0 of 5000 requests left"):
        stand.release("0.1.0", CORE)
    assert stand.waits == []
    assert visible(stand) == set()


def test_the_command_shows_the_budget_that_is_left_when_it_is_asked_to_say_more(
    stand: Stand, tmp_path: Path, root: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(root / "manifests", project / "manifests")
    version = Path("server/lading_server/_version.py")
    (project / version).parent.mkdir(parents=True)
    shutil.copy(root / version, project / version)
    (project / "manifests/destinations.yaml").write_text(
        "schema: lading/destinations/1\ndestinations:\n"
        f"  github:\n    kind: github\n    repository: {NAME}\n    api: {stand.double.api}\n"
    )
    packed = stand.packed("0.1.0", CORE).parent
    words: list[str | Path] = [sys.executable, "-m", "lading", "publish", packed, "--to", "github", "-v"]
    words += ["--project", project, "--keys", tmp_path / "keys"]
    environment = {**os.environ, "GH_TOKEN": "t0ken"}
    for more, says in ((["--dry-run"], "would put 6 objects"), ([], "6 new objects")):
        done = subprocess.run([*words, *more], env=environment, capture_output=True, text=True, check=True)
        assert f"{stand.double.rate.remaining} of 5000 requests left until" in done.stderr
        assert says in done.stdout
        assert bool(visible(stand)) == (not more)


# -- two publishers


def test_a_second_publisher_is_told_at_once_and_by_whom(stand: Stand) -> None:
    stand.release("0.1.0", CORE)
    file = stand.packed("0.2.0", CORE)
    before = stand.double.published()
    with stand.destination().hold(), pytest.raises(Busy, match=rf"alice \(process {os.getpid()}"):
        stand.publish(file)
    assert stand.double.published() == before
    stand.publish(file)


def test_the_lock_of_a_publisher_without_a_sign_of_life_is_taken_over(stand: Stand) -> None:
    first = stand.destination()
    file = stand.packed("0.2.0", CORE)
    with pytest.raises(Busy, match="taken over"), first.hold():  # noqa: PT012 (a second one within)
        stand.double.skew += LEASE + 60
        stand.publish(file)
        first._lock._renewed -= LEASE
        with stand.destination().hold():
            first.put_bytes(f"assets/core/0.1.0/{CORE_TAG}.json", b"{}")
    assert visible(stand) == {f"{APP}-core-0.2.0-cpu-linux-x86_64"}
    assert f"refs/heads/{LOCK_BRANCH}" not in stand.repo.git.refs


def test_a_branch_of_the_locks_name_that_is_not_ours_is_never_touched(stand: Stand) -> None:
    main = stand.repo.git.refs["refs/heads/main"]
    stand.repo.git.refs[f"refs/heads/{LOCK_BRANCH}"] = main
    stand.double.skew += LEASE * 10
    with pytest.raises(Busy, match="did not make"):
        stand.release("0.1.0", CORE)
    assert stand.repo.git.refs[f"refs/heads/{LOCK_BRANCH}"] == main


def test_without_the_lock_one_of_two_publishers_still_wins_and_the_other_says_so(stand: Stand, tmp_path: Path) -> None:
    """The lock was deleted by hand: the branch moves only from the state that a publisher has read."""
    stand.release("0.1.0", CORE)
    first = stand.destination()
    with pytest.raises(Busy, match="has changed the branch"), first.hold():  # noqa: PT012 (what raises is its end)
        del stand.repo.git.refs[f"refs/heads/{LOCK_BRANCH}"]
        stand.release("0.2.0", {**CORE, "v": b"2"})
        first.put_bytes("metadata/timestamp.json", b"{}")
    assert stand.installed(tmp_path / "data") == "0.2.0"


def test_two_publishers_at_once_make_one_sound_repository(stand: Stand, tmp_path: Path) -> None:
    stand.release("0.1.0", CORE)
    done = race(lambda version: stand.release(version, {**CORE, "v": version.encode()}), "0.2.0", "0.3.0")
    assert stand.installed(tmp_path / "data") == max(done)


# -- clients


def test_clients_follow_signed_addresses_that_expire(stand: Stand, tmp_path: Path) -> None:
    stand.release("0.1.0", CORE, LIBS)
    lives = iter([-10.0, 300.0] * 50)
    signed = stand.double._signed

    def expiring(asset: Asset) -> str:
        stand.double.url_life = next(lives)  # every second address has expired when it is used
        return signed(asset)

    stand.double._signed = expiring  # type: ignore[method-assign]
    assert stand.installed(tmp_path / "data") == "0.1.0"


def test_a_client_that_is_given_older_metadata_by_a_cache_installs_the_older_release(
    stand: Stand, tmp_path: Path
) -> None:
    stand.release("0.1.0", CORE, LIBS)
    stand.double.raw_cache = 300.0
    assert stand.installed(tmp_path / "one") == "0.1.0"
    stand.release("0.2.0", {**CORE, "v": b"2"}, LIBS)
    assert stand.installed(tmp_path / "two") == "0.1.0"
    stand.double.skew += 301
    assert stand.installed(tmp_path / "three") == "0.2.0"


@pytest.mark.proves("S0-23")
def test_a_client_that_polls_never_sees_a_release_that_it_cannot_install_whole(stand: Stand, tmp_path: Path) -> None:
    """A new client installs before every request of a publication, in the midst of every upload, and after each."""
    stand.release("0.1.0", CORE, LIBS)
    file = stand.packed("0.2.0", {**CORE, ENTRY: program("two")}, {**LIBS, "more": b"m"}, label="cu126-v2")
    seen: list[str | BaseException] = []

    def poll() -> None:
        try:
            seen.append(stand.installed(tmp_path / "data"))
        except LadingError as error:
            seen.append(error)
        shutil.rmtree(tmp_path / "data", ignore_errors=True)

    stand.double.moment = poll
    stand.publish(file)
    older, newer = seen.count("0.1.0"), seen.count("0.2.0")
    print(f"{len(seen)} clients, {older} of them got the older release and {newer} the newer one")
    assert seen == ["0.1.0"] * older + ["0.2.0"] * newer
    assert older > 50
    assert newer > 0


# -- killed


def _killed_at(stand: Stand, packed: Path, moment: int) -> bool:
    """Publish in a process of its own and kill it at a moment; whether it lived until then."""
    words = [stand.double.web, stand.name, str(packed), str(stand.shop.folder / "keys")]
    program_file = Path(__file__).with_name("github_publisher.py")
    process = subprocess.Popen([sys.executable, str(program_file), *words], stdout=subprocess.DEVNULL)
    left = iter(range(moment, -1, -1))

    def count() -> None:
        if next(left, None) == 0:
            process.kill()
            process.wait()

    stand.double.moment = count
    try:
        return process.wait() != 0
    finally:
        stand.double.moment = lambda: None


@pytest.mark.proves("S0-23")
def test_killed_at_random_moments_and_repeated_it_ends_the_same_and_every_asset_is_stored_once(
    stand: Stand, tmp_path: Path
) -> None:
    first = stand.packed("0.1.0", CORE, LIBS)
    second = stand.packed("0.2.0", {**CORE, ENTRY: program("two")}, {**LIBS, "more": b"m"}, label="cu126-v2")
    stand.publish(first)
    before = stand.repo

    def again(name: str) -> Stand:
        """The repository as it was after the first release, under another name."""
        stand.double.repos[name] = replace(copy.deepcopy(before), name=name)
        return replace(stand, name=name)

    moments = _counted(again("owner/whole"), second)
    wanted = stand.double.published("owner/whole")
    draw, seen = random.Random(4), set[tuple[str, int]]()
    for kill in range(KILLS):
        here = again(f"owner/r{kill}")
        assert _killed_at(here, second.parent, draw.randrange(moments)), "it ended before it was killed"
        visible = here.installed(tmp_path / "after-kill")
        assert visible in {"0.1.0", "0.2.0"}
        seen.add((visible, len(stand.double.drafts(here.name))))
        here.publish(second)
        assert stand.double.published(here.name) == wanted
        assert stand.double.drafts(here.name) == []
        assert f"refs/heads/{LOCK_BRANCH}" not in here.repo.git.refs
        stored = {key: times for key, times in stand.double.uploads.items() if key[0] == here.name}
        assert len(stored) == ASSETS
        assert set(stored.values()) == {1}
        assert here.installed(tmp_path / "after") == "0.2.0"
        for name in ("after-kill", "after"):
            shutil.rmtree(tmp_path / name)
    assert {visible for visible, _ in seen} == {"0.1.0", "0.2.0"}
    assert {drafts for _, drafts in seen} >= {0, 1, 2}, "the moments are not spread over the publication"
    print(f"{KILLS} kills at {moments} moments; met (version, drafts): {sorted(seen)}")


def _counted(stand: Stand, file: Path) -> int:
    """How many moments a publication has."""
    moments = itertools.count()
    stand.double.moment = lambda: next(moments)
    try:
        stand.publish(file)
    finally:
        stand.double.moment = lambda: None
    return next(moments)


def test_memory_stays_small_however_large_an_asset_is(stand: Stand) -> None:
    file = stand.packed("0.1.0", CORE)
    archive = next(file.parent.glob("*.tar.zst"))
    with archive.open("r+b") as stream:
        stream.truncate(400_000_000)
    digest = sha256_file(archive)
    release = read_record(Manifest, file.read_bytes(), origin="test")
    (component,) = release.components
    (volume,) = component.volumes
    grown = volume.model_copy(update={"size": 400_000_000, "sha256": digest})
    component = component.model_copy(update={"volumes": (grown,), "size": 400_000_000, "sha256": digest})
    for path in file.parent.glob("*"):
        if path not in {file, archive} and ".index." not in path.name:
            path.unlink()
    file.write_bytes(canonical_json(release.model_copy(update={"components": (component,)})))
    words = [stand.double.web, stand.name, str(file.parent), str(stand.shop.folder / "keys")]
    program_file = Path(__file__).with_name("github_publisher.py")
    stand.shop.keys  # noqa: B018 (made here, so that both processes have the same)
    done = subprocess.run([sys.executable, str(program_file), *words], capture_output=True, text=True, check=True)
    peak = int(done.stdout) * 1024
    print(f"peak {peak / 1e6:.0f} MB for an asset of 400 MB")
    assert peak <= 200_000_000
    assert any(sha == digest for assets in stand.double.published().values() for sha in assets.values())
