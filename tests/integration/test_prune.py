"""Making room at a folder, a bucket and GitHub: what is kept can be installed, what goes is gone, whatever fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from tests.doubles.faults import Fault, Gateway
from tests.doubles.fixtures import MakePlace
from tests.doubles.github import Fault as GitHubFault
from tests.doubles.places import Place
from tests.integration.channel_sites import KINDS, LIBS, Publisher, Site, bucket_site, folder_site, site

from lading.errors import Busy, ConfigError, LadingError, ReleaseTaken, SignatureInvalid
from lading.publish.attempts import Patience
from lading.publish.channels import change_channels
from lading.publish.folder import FolderDestination
from lading.publish.listing import Which, promoted, restored, withdrawn
from lading.publish.prune import PrunedDestination, PruneReport, Wanted, preview_prune, prune
from lading.store.update import Overrides, update

ROOT = Path(__file__).resolve().parents[2]
GRACE = 1  # second
NOW = datetime.now(UTC)


@dataclass
class Clock:
    """The publisher's clock."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(params=KINDS)
def publisher(request: pytest.FixtureRequest, make_place: MakePlace, tmp_path: Path) -> Iterator[Publisher]:
    with site(request.param, make_place, tmp_path / "site") as place:
        yield Publisher(site=place, folder=tmp_path / "publisher")


@pytest.fixture
def here(tmp_path: Path) -> Publisher:
    """A publisher to a folder."""
    return Publisher(site=folder_site(tmp_path / "site"), folder=tmp_path / "publisher")


def pruned(publisher: Publisher, keep: int, grace: int = 0) -> PruneReport:
    return prune([publisher.site.open()], Wanted(keep=keep, grace=grace), publisher.signing)


def only(report: PruneReport) -> PrunedDestination:
    (one,) = report.destinations
    return one


def of(names: set[str], *versions: str) -> set[str]:
    return {name for name in names if any(version in name for version in versions)}


def test_the_last_versions_stay_whole_and_the_others_are_gone(publisher: Publisher, tmp_path: Path) -> None:
    publisher.release("0.1.0", libs=LIBS, label="cu126-v1")
    publisher.release("0.2.0", libs=LIBS, label="cu126-v1")
    publisher.release("0.3.0", libs=LIBS, label="cu126-v2")
    publisher.release("0.4.0", libs=LIBS, label="cu126-v3")
    publisher.release("0.4.0")
    change_channels(
        [publisher.site.open()],
        partial(promoted, which=Which(version="0.2.0"), into="lts"),
        publisher.signing,
    )
    before = publisher.site.assets()
    wanted = Wanted(keep=1, grace=0)
    plan = preview_prune([publisher.site.open()], wanted)
    assert publisher.site.assets() == before
    report = pruned(publisher, keep=1)
    assert report.unlisted == plan.unlisted
    assert only(report).removed == only(plan).removed
    assert {(one.channel, one.version) for one in report.unlisted} == {
        ("stable", "0.1.0"), ("stable", "0.2.0"), ("stable", "0.3.0"),
    }  # fmt: skip
    assert {one.version: one.size > 0 for one in report.unlisted} == {"0.1.0": True, "0.2.0": False, "0.3.0": True}
    after = publisher.site.assets()
    assert before - after == of(before, "0.1.0", "0.3.0", "cu126-v2")
    assert of(after, "cu126-v1")
    assert of(after, "cu126-v3")
    assert set(only(report).removed) == before - after
    assert (only(report).missing, only(report).waiting) == ((), ())
    for channel, version, flavor in (
        ("stable", "0.4.0", "cu126"), ("stable", "0.4.0", "cpu"), ("lts", "0.2.0", None),
    ):  # fmt: skip
        data = tmp_path / f"{channel}-{flavor}"
        assert publisher.install(data, channel=channel, flavor=flavor).version == version
    again = pruned(publisher, keep=1)
    assert (again.unlisted, only(again).removed, only(again).files) == ((), (), ())
    publisher.release("0.6.0")
    assert publisher.install(tmp_path / "new", flavor="cpu").version == "0.6.0"


def test_files_stay_for_the_grace_period_and_a_later_run_deletes_them(publisher: Publisher, tmp_path: Path) -> None:
    clock = Clock()
    publisher = replace(publisher, clock=clock)
    for version in ("0.1.0", "0.2.0"):
        publisher.release(version)
    before = publisher.site.assets()
    age(publisher.site, tmp_path)
    first = pruned(publisher, keep=1, grace=GRACE)
    assert [one.version for one in first.unlisted] == ["0.1.0"]
    assert publisher.site.assets() == before
    assert (only(first).removed, set(only(first).waiting)) == ((), of(before, "0.1.0"))
    assert publisher.install(tmp_path / "data").version == "0.2.0"
    with pytest.raises(ConfigError, match=r"no version 0\.1\.0"):
        publisher.install(tmp_path / "old", version="0.1.0")
    assert only(pruned(publisher, keep=1, grace=GRACE)).removed == ()
    clock.now += timedelta(seconds=GRACE)
    last = prune([publisher.site.open()], Wanted(keep=1, grace=GRACE), None, clock=clock)  # needs no keys any more
    assert set(only(last).removed) == of(before, "0.1.0")
    assert publisher.site.assets() == before - of(before, "0.1.0")
    assert publisher.install(tmp_path / "data").already_installed


def age(place: Site, folder: Path) -> None:
    """Let what lies there become older than the grace period, by the place's own clock."""
    if place.double is not None:
        place.double.skew += 60.0
    for path in (folder / "site/assets").rglob("*"):
        os.utime(path, (0, 0))
    if place.double is None and not (folder / "site").exists():
        time.sleep(GRACE + 2)  # a store's clock cannot be set, and it says whole seconds


def test_what_is_withdrawn_goes_and_those_who_have_it_still_hear_of_it(publisher: Publisher, tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        publisher.release(version)
    data = tmp_path / "data"
    publisher.install(data)
    bad = partial(withdrawn, which=Which(version="0.3.0"), reason="Bad.", now=1)
    change_channels([publisher.site.open()], bad, publisher.signing)
    report = pruned(publisher, keep=1)
    assert {(one.version, one.why) for one in report.unlisted} == {
        ("0.3.0", "withdrawn"), ("0.1.0", "not the newest"),
    }  # fmt: skip
    assert of(publisher.site.assets(), "0.1.0", "0.3.0") == set()
    done = update(data, overrides=Overrides(source=publisher.site.source())).variants[0]
    assert (done.outcome, done.newest) == ("updated", "0.2.0")
    assert done.withdrawn is not None
    with pytest.raises(ConfigError, match="files were deleted"):
        change_channels([publisher.site.open()], partial(restored, which=Which(version="0.3.0")), publisher.signing)


@pytest.mark.parametrize("publisher", ["folder", "github"], indirect=True)
def test_another_publisher_at_work_keeps_everything_as_it_is(publisher: Publisher) -> None:
    for version in ("0.1.0", "0.2.0"):
        publisher.release(version)
    before = publisher.site.assets(), publisher.site.read("metadata/timestamp.json")
    with publisher.site.open().hold(), pytest.raises(Busy):
        pruned(publisher, keep=1)
    assert (publisher.site.assets(), publisher.site.read("metadata/timestamp.json")) == before


# -- what must not happen


def test_nothing_is_deleted_when_a_kept_manifest_cannot_be_read(here: Publisher, tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        here.release(version)
    before = here.site.assets()
    next((tmp_path / "site/targets/releases/demo-app/0.2.0").iterdir()).unlink()
    with pytest.raises(SignatureInvalid, match=r"0\.2\.0"):
        pruned(here, keep=1)
    assert here.site.assets() == before


def test_what_a_kept_release_lacks_is_told(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    lost = next((tmp_path / "site/assets/core/0.1.0").glob("*.index.zst"))
    lost.unlink()
    assert only(pruned(here, keep=1)).missing == (lost.relative_to(tmp_path / "site").as_posix(),)


def test_what_a_killed_publisher_left_goes_after_the_grace_period_and_nothing_else(
    here: Publisher, tmp_path: Path
) -> None:
    here.release("0.1.0")
    store = tmp_path / "site"
    left = store / "assets/core/0.9.0/.part-x/demo"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x" * 100)
    foreign = [store / "index.html", store / "metadata/notes.txt", store / "targets/mine", tmp_path / "outside"]
    for path in foreign:
        path.write_text("keep")
    (store / "assets/link").symlink_to(tmp_path / "outside")
    assert only(preview_prune([here.site.open()], Wanted(keep=1))).removed == ()
    report = pruned(here, keep=1)
    assert set(only(report).removed) == {"assets/core/0.9.0/.part-x/demo", "assets/link"}
    assert not (store / "assets/link").is_symlink()
    assert not (store / "assets/core/0.9.0").exists()
    assert all(path.read_text() == "keep" for path in foreign)


def test_a_release_of_another_app_keeps_what_it_needs(here: Publisher, tmp_path: Path) -> None:
    """Apps share a repository: only one is pruned, and the files of all others are needed."""
    here.release("0.1.0")
    here.release("0.2.0")
    with pytest.raises(ConfigError, match="no other"):
        prune([here.site.open()], Wanted(app="other"), here.signing)
    assert here.install(tmp_path / "data").version == "0.2.0"


def test_only_assets_can_be_removed(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    destination = FolderDestination(tmp_path / "site")
    for name in ("metadata/timestamp.json", "assets/../metadata/timestamp.json", "../outside", "assets"):
        with pytest.raises(RuntimeError, match="no asset"):
            destination.remove([name])
    assert (tmp_path / "site/metadata/timestamp.json").exists()
    assert FolderDestination(tmp_path / "nothing").listing() == []


def test_several_destinations_are_pruned_alike(here: Publisher, tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        here.release(version)
    shutil.copytree(tmp_path / "site", tmp_path / "mirror")
    mirror = folder_site(tmp_path / "mirror")
    report = prune([here.site.open(), mirror.open()], Wanted(keep=1, grace=0), here.signing)
    assert [len(one.removed) > 0 for one in report.destinations] == [True, True]
    assert here.site.assets() == mirror.assets()
    assert here.site.read("metadata/timestamp.json") == mirror.read("metadata/timestamp.json")


# -- buckets


@pytest.mark.parametrize("kind", ["moto", "r2"])
def test_other_stores_list_and_delete_alike(make_place: MakePlace, kind: str) -> None:
    place = make_place(kind)  # type: ignore[arg-type]
    destination = place.open()
    paths = [f"assets/core/0.1.0/file-{number}" for number in range(3)]
    for path in (*paths, "metadata/1.root.json"):
        destination.put_bytes(path, b"x" * 7)
    listed = destination.listing()
    assert {(item.name, item.size) for item in listed} == {(path, 7) for path in paths}
    assert all(item.age < 60 for item in listed)
    with destination.hold():
        destination.remove([*paths[:2], paths[0], "assets/core/0.1.0/never"])
        with pytest.raises(RuntimeError, match="no asset"):
            destination.remove(["metadata/1.root.json"])
    assert set(place.contents()) == {paths[2], "metadata/1.root.json"}
    destination.close()


@pytest.mark.parametrize(("operation", "skip"), [("PutObject", 4), ("DeleteObject", 3), ("ListObjects", 3)])
def test_trouble_at_a_bucket_leaves_a_whole_repository_and_the_next_run_does_the_rest(
    swift_place: Place, between: Gateway, tmp_path: Path, operation: str, skip: int
) -> None:
    place = swift_place.through(between.url)
    where = replace(bucket_site(swift_place), open=place.open)
    publisher = Publisher(site=where, folder=tmp_path / "publisher")
    for version in ("0.1.0", "0.2.0"):
        publisher.release(version)
    before = where.assets()
    between.once(Fault(kind="reset"), operation, skip=skip, times=1000)
    impatient = replace(publisher, site=replace(where, open=lambda: place.open(patience=Patience(attempts=1))))
    with pytest.raises(LadingError):
        pruned(impatient, keep=1)
    assert of(where.assets(), "0.2.0") == of(before, "0.2.0")
    between.rules.clear()
    between.settle()
    assert publisher.install(tmp_path / "data").version == "0.2.0"
    pruned(publisher, keep=1)
    assert where.assets() == of(before, "0.2.0")
    assert publisher.install(tmp_path / "fresh").version == "0.2.0"
    assert swift_place.unfinished() == []


# -- GitHub


@pytest.fixture
def github(make_place: MakePlace, tmp_path: Path) -> Iterator[Publisher]:
    with site("github", make_place, tmp_path) as place:
        yield Publisher(site=place, folder=tmp_path / "publisher")


@pytest.mark.parametrize("immutable", [False, True])
def test_a_github_release_goes_whole_with_its_tag(github: Publisher, tmp_path: Path, *, immutable: bool) -> None:
    double = github.site.double
    assert double is not None
    repo = double.repos["owner/name"]
    repo.immutable = immutable
    repo.git.refs["refs/tags/v1"] = repo.git.refs["refs/heads/main"]
    for version in ("0.1.0", "0.2.0"):
        github.release(version)
    double.published()
    pruned(github, keep=1)
    kept = "demo-app-core-0.2.0-cpu-linux-x86_64"
    assert set(double.published()) == {kept}
    assert {ref for ref in repo.git.refs if ref.startswith("refs/tags/")} == {"refs/tags/v1", f"refs/tags/{kept}"}
    assert github.install(tmp_path / "data").version == "0.2.0"
    if immutable:
        with pytest.raises(ReleaseTaken, match="never takes that tag again"):
            github.release("0.1.0")
    else:
        github.release("0.1.0")
        assert github.install(tmp_path / "old", version="0.1.0").version == "0.1.0"


@pytest.mark.parametrize(
    ("method", "part"),
    [("PATCH", "/git/refs/heads/lading-metadata"), ("DELETE", "/releases/"), ("DELETE", "/git/refs/tags/")],
)
def test_trouble_at_github_is_made_good_by_the_next_run(
    github: Publisher, tmp_path: Path, method: str, part: str
) -> None:
    double = github.site.double
    assert double is not None
    for version in ("0.1.0", "0.2.0", "0.3.0"):
        github.release(version)
    double.faults.append(GitHubFault(method, part, "502", times=99))
    with pytest.raises(LadingError):
        pruned(github, keep=1)
    double.faults.clear()
    assert github.install(tmp_path / "data").version == "0.3.0"
    pruned(github, keep=1)
    assert set(double.published()) == {"demo-app-core-0.3.0-cpu-linux-x86_64"}
    tags = [ref for ref in double.repos["owner/name"].git.refs if ref.startswith("refs/tags/")]
    assert tags == ["refs/tags/demo-app-core-0.3.0-cpu-linux-x86_64"]


def test_releases_that_lading_did_not_make_are_left_alone(github: Publisher) -> None:
    double = github.site.double
    assert double is not None
    for version in ("0.1.0", "0.2.0"):
        github.release(version)
    releases = double.repos["owner/name"].releases
    foreign = next(release for release in releases.values() if "0.1.0" in release.tag)
    foreign.body = "by hand"
    pruned(github, keep=1)
    assert foreign.tag in double.published()


# -- killed


@pytest.mark.timeout(300)
def test_killed_at_any_change_of_the_disk_nothing_kept_is_missing_and_the_next_run_ends_right(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("forks")
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.prune_kill_points", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    print(figures)
    assert figures["problems"] == []
    assert figures["points"] > 60
    assert figures["listed_before"] > 5
    assert figures["listed_after"] > 5
