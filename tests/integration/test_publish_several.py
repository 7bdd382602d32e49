"""Publishing to several destinations: one repository at all of them, whichever failed, lagged or went its own way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.doubles.fixtures import MakePlace
from tests.doubles.github import GitHubDouble, running
from tests.integration.publish_folders import CORE, LIBS, OBJECTS, SIGNED, Breaking, contents
from tests.packed_release import APP, ENTRY, Files, program, write_packed
from typing_extensions import override

from lading.errors import (
    AccessDenied,
    AssetTooLarge,
    Busy,
    DestinationUnreachable,
    FormatInvalid,
    LadingError,
    ReleaseTaken,
    SignatureInvalid,
    SourceUnreachable,
)
from lading.fetch.github import GitHubSource
from lading.fetch.mirrors import MirrorSource
from lading.manifest.base import read_record
from lading.manifest.channel import Channel
from lading.manifest.github_layout import GitHubRepository
from lading.progress import Events, ProgressEvent
from lading.publish.destination import Destination
from lading.publish.folder import FolderDestination
from lading.publish.github import GitHubDestination
from lading.publish.packed import Packed, read_packed
from lading.publish.preview import preview
from lading.publish.publisher import Ended, Signature, publish_everywhere
from lading.publish.signing import sign_packed
from lading.sign.clock import system_clock
from lading.sign.keys import development_keys
from lading.sign.repository import folder_reader, load_state
from lading.store.install import install


@dataclass
class Works:
    """A publisher with its keys and packed folders."""

    folder: Path
    made: dict[str, Packed] = field(default_factory=dict)

    def pack(self, version: str, libs: Files | None = LIBS, *, label: str = "cu126-v1", **more: bytes) -> Packed:
        core = {**CORE, ENTRY: program(version), **{f"_internal/{name}": data for name, data in more.items()}}
        packed = self.folder / f"packed-{version}-{len(self.made)}"
        file = write_packed(packed, version, core, libs, label=label)
        self.made[packed.name] = read_packed(packed, file)
        return self.made[packed.name]

    @property
    def signature(self) -> Signature:
        return Signature(keys=development_keys(self.folder / "keys"))

    def publish(self, content: Packed, *to: Path | Destination) -> tuple[Ended, ...]:
        destinations = [FolderDestination(one) if isinstance(one, Path) else one for one in to]
        return publish_everywhere([content], destinations, self.signature)

    def store(self, name: str) -> Path:
        return self.folder / name

    def version(self, where: Path | str | Sequence[str], root: Path, name: str) -> str:
        """What a new client gets."""
        data = self.folder / f"data-{name}"
        source = str(where) if isinstance(where, Path) else where
        try:
            return install(source, (root / "metadata/1.root.json").read_bytes(), data, app=APP).version
        finally:
            shutil.rmtree(data, ignore_errors=True)


@pytest.fixture
def works(tmp_path: Path) -> Works:
    return Works(tmp_path)


def good(ended: Sequence[Ended]) -> None:
    for one in ended:
        if one.error is not None:
            raise one.error
        assert one.result is not None


def listed(store: Path) -> list[str]:
    read = folder_reader(store)
    state = load_state(read, None)
    sha256 = state.target_sha256(f"channels/{APP}/stable.json")
    data = (store / f"targets/channels/{APP}/{sha256}.stable.json").read_bytes()
    return [entry.version for entry in read_record(Channel, data, origin="test").releases]


# -- all well


def test_all_destinations_get_the_same_bytes_and_each_says_what_it_got(works: Works) -> None:
    stores = [works.store(name) for name in "abc"]
    ended = works.publish(works.pack("0.1.0"), *stores)
    good(ended)
    assert contents(stores[0]) == contents(stores[1]) == contents(stores[2])
    for one in ended:
        assert one.result is not None
        assert (len(one.result.uploaded), one.result.caught_up, one.result.skipped) == (OBJECTS, (), ())
    again = works.publish(works.pack("0.1.0"), *stores)
    assert [one.result and (one.result.bytes_sent, one.result.metadata) for one in again] == [(0, ())] * 3
    source = ",".join(str(store) for store in stores)
    assert works.version([str(store) for store in stores], stores[0], "mirrors") == "0.1.0", source


def test_several_releases_of_a_packed_folder_become_visible_together(works: Works, tmp_path: Path) -> None:
    cuda, cpu = works.pack("0.1.0"), works.pack("0.1.0", None)
    stores = [works.store(name) for name in "ab"]
    good(publish_everywhere([cuda, cpu], [FolderDestination(store) for store in stores], works.signature))
    assert contents(stores[0]) == contents(stores[1])
    assert (stores[0] / "metadata/1.targets.json").exists()
    assert not (stores[0] / "metadata/2.targets.json").exists()
    assert listed(stores[0]) == ["0.1.0", "0.1.0"]


def test_progress_counts_the_bytes_of_all_destinations(works: Works) -> None:
    heard: list[ProgressEvent] = []
    content = works.pack("0.1.0")
    stores = [FolderDestination(works.store(name)) for name in "ab"]
    good(publish_everywhere([content], stores, works.signature, progress=Events(heard.append, interval=0)))
    size = sum(item.size for item in content.objects)
    phases = [event for event in heard if event.phase == "publishing"]
    assert (phases[0].total, phases[-1].kind, phases[-1].done) == (2 * size, "end", 2 * size)
    assert [event.message.split(": ")[1] for event in heard if event.kind == "note"] == ["everything is there"] * 2


# -- one fails


@pytest.mark.proves("S0-23")
def test_one_that_fails_at_any_point_stops_no_other_and_the_next_run_brings_it_to_the_same_bytes(works: Works) -> None:
    base = [works.store(name) for name in "ab"]
    good(works.publish(works.pack("0.1.0"), *base))
    content = works.pack("0.2.0", label="cu126-v2")
    points = 0
    while True:
        a, b = (works.store(f"{path.name}{points}") for path in base)
        for old, new in zip(base, (a, b), strict=True):
            shutil.copytree(old, new)
        first, second = works.publish(content, a, Breaking(b, points))
        assert first.error is None
        assert works.version(a, base[0], "a") == "0.2.0"
        if second.error is None:
            break
        assert isinstance(second.error, DestinationUnreachable)
        assert works.version(b, base[0], "b") == "0.1.0"
        before = contents(a)
        again = works.publish(content, a, b)
        good(again)
        assert again[0].result is not None
        assert (again[0].result.uploaded, again[0].result.metadata) == ((), ()), (
            "the first has all, and nothing is signed"
        )
        assert contents(a) == before == contents(b)
        for store in (a, b):
            shutil.rmtree(store)
        points += 1
    assert points == OBJECTS + SIGNED


def test_a_destination_that_missed_a_release_gets_it_from_another_one_when_its_packed_folder_is_gone(
    works: Works,
) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    missed = works.pack("0.2.0", label="cu126-v2")
    first, second = works.publish(missed, a, Breaking(b, 3))
    assert (first.error, type(second.error)) == (None, DestinationUnreachable)
    shutil.rmtree(works.folder / next(name for name in works.made if "0.2.0" in name))
    first, second = works.publish(works.pack("0.3.0", label="cu126-v2"), a, b)
    good((first, second))
    assert first.result is not None
    assert second.result is not None
    assert first.result.caught_up == ()
    assert {item.path.split("/")[2] for item in second.result.caught_up} == {"0.2.0"}
    assert contents(a) == contents(b)
    assert listed(b) == ["0.3.0", "0.2.0", "0.1.0"]
    root = (b / "metadata/1.root.json").read_bytes()
    assert install(str(b), root, works.folder / "old", app=APP, version="0.2.0").version == "0.2.0"


def test_a_destination_that_is_added_later_becomes_a_whole_mirror(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    for version in ("0.1.0", "0.2.0"):
        good(works.publish(works.pack(version), a))
    shutil.rmtree(works.folder / "packed-0.1.0-0")
    _, second = works.publish(works.pack("0.3.0"), a, b)
    assert second.result is not None
    assert {item.path.split("/")[2] for item in second.result.caught_up} == {"0.1.0", "0.2.0"}
    assert contents(a) == contents(b)


def test_libs_that_were_not_packed_come_from_the_destination_that_has_them(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a))
    content = works.pack("0.2.0")
    for path in (works.folder / "packed-0.2.0-1").glob("*-libs-*"):
        path.unlink()
    good(works.publish(content, b, a))
    assert contents(a) == contents(b)


def test_what_no_destination_has_ends_only_the_one_that_lacks_it(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    good(works.publish(works.pack("0.2.0"), a))
    (gone,) = (a / "assets/core/0.2.0").glob("*.tar.zst")
    gone.unlink()
    before = contents(b)
    first, second = works.publish(works.pack("0.3.0"), a, b)
    assert first.error is None
    assert isinstance(second.error, SourceUnreachable)
    assert gone.name in second.error.what
    assert contents(b) == before


def test_an_asset_that_was_damaged_at_the_other_destination_is_not_copied(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    good(works.publish(works.pack("0.2.0"), a))
    shutil.rmtree(works.folder / "packed-0.2.0-1")
    (volume,) = (a / "assets/core/0.2.0").glob("*.tar.zst")
    data = volume.read_bytes()
    volume.unlink()
    volume.write_bytes(data[:-1] + b"\0")
    before = contents(b)
    first, second = works.publish(works.pack("0.3.0"), a, b)
    assert first.error is None
    assert second.error is not None
    assert second.error.kind == "DigestMismatch"
    assert contents(b) == before


def test_one_that_is_held_by_another_publisher_is_left_out(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    with FolderDestination(b).hold():
        first, second = works.publish(works.pack("0.1.0"), a, b)
    assert (first.error, type(second.error)) == (None, Busy)
    good(works.publish(works.pack("0.1.0"), a, b))
    assert contents(a) == contents(b)


@pytest.mark.parametrize("how", [{"reads": False}, {"unread": "targets/channels"}, {"unread": "metadata/1.targets"}])
def test_when_the_leading_one_drops_out_the_others_build_upon_what_they_have(works: Works, how: dict[str, Any]) -> None:
    a, b, c = (works.store(name) for name in "abc")
    good(works.publish(works.pack("0.1.0"), a, b, c))
    good(works.publish(works.pack("0.2.0"), a))
    leading, *others = works.publish(works.pack("0.3.0"), Breaking(a, 0, **how), b, c)
    assert isinstance(leading.error, DestinationUnreachable)
    good(others)
    assert contents(b) == contents(c)
    assert listed(b) == ["0.3.0", "0.1.0"]
    good(works.publish(works.pack("0.4.0"), a, b, c))
    assert listed(a) == listed(b) == listed(c) == ["0.4.0", "0.3.0", "0.2.0", "0.1.0"]


def test_whoever_hears_of_progress_may_end_it_and_every_destination_is_let_go(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    content = works.pack("0.2.0", label="cu126-v2")

    def stop(event: ProgressEvent) -> None:
        if event.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        publish_everywhere(
            [content],
            [FolderDestination(a), FolderDestination(b)],
            works.signature,
            progress=Events(stop, interval=0),
        )
    assert listed(a) == listed(b) == ["0.1.0"]
    good(works.publish(content, a, b))
    assert contents(a) == contents(b)


# -- they went their own ways


def test_destinations_that_were_published_to_alone_are_joined_and_no_client_is_led_back(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    for version in ("0.2.0", "0.2.1"):
        good(works.publish(works.pack(version, label=f"cu126-v2{version[-1]}"), a))
    good(works.publish(works.pack("0.3.0"), b))
    root = (a / "metadata/1.root.json").read_bytes()
    data = {store: works.folder / f"client-{store.name}" for store in (a, b)}
    assert install(str(a), root, data[a], app=APP).version == "0.2.1"
    assert install(str(b), root, data[b], app=APP).version == "0.3.0"
    first, second = works.publish(works.pack("0.4.0"), a, b)
    good((first, second))
    assert first.result is not None
    assert second.result is not None
    assert {item.path.split("/")[2] for item in first.result.caught_up} == {"0.3.0"}
    assert {item.path.split("/")[2] for item in second.result.caught_up} == {"0.2.0", "0.2.1", "cu126-v20", "cu126-v21"}
    assert listed(a) == listed(b) == ["0.4.0", "0.3.0", "0.2.1", "0.2.0", "0.1.0"]
    newest = [f"metadata/{first.result.versions[role]}.{role}.json" for role in ("targets", "snapshot")]
    for name in (*newest, "metadata/timestamp.json"):
        assert (a / name).read_bytes() == (b / name).read_bytes()
    for store, other in ((a, b), (b, a)):
        assert install(str(other), root, data[store], app=APP).version == "0.4.0"
    good(works.publish(works.pack("0.5.0"), b, a))
    assert works.version(a, a, "last") == works.version(b, a, "last") == "0.5.0"


def test_the_same_release_published_to_each_alone_needs_nothing_but_a_signature(works: Works) -> None:
    """Development keys make a root of their own at each destination; roots are never replaced."""
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a))
    earlier = replace(works.signature, clock=lambda: system_clock() - timedelta(days=1))
    good(publish_everywhere([works.pack("0.1.0")], [FolderDestination(b)], earlier))
    assert contents(a) != contents(b), "signed twice, at two times"
    roots = [(store / "metadata/1.root.json").read_bytes() for store in (a, b)]
    for one in works.publish(works.pack("0.1.0"), a, b):
        assert one.result is not None
        assert (one.result.uploaded, one.result.caught_up) == ((), ())
        assert [item.path for item in one.result.metadata] == [
            "metadata/2.targets.json", "metadata/2.snapshot.json", "metadata/timestamp.json",
        ]  # fmt: skip
    assert [(store / "metadata/1.root.json").read_bytes() for store in (a, b)] == roots
    assert (a / "metadata/timestamp.json").read_bytes() == (b / "metadata/timestamp.json").read_bytes()
    for store in (a, b):
        for other in (a, b):
            assert works.version(store, other, "cross") == "0.1.0"


def test_one_version_with_two_contents_at_two_destinations_stops_everything(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0", more=b"1"), a))
    good(works.publish(works.pack("0.1.0", more=b"2"), b))
    before = contents(a), contents(b)
    with pytest.raises(ReleaseTaken, match="two destinations"):
        works.publish(works.pack("0.2.0"), a, b)
    assert (contents(a), contents(b)) == before


def test_files_that_a_run_left_that_died_are_never_written_over(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    (died,) = works.publish(works.pack("0.2.0", label="cu126-v2"), Breaking(b, OBJECTS + SIGNED - 1))
    assert died.error is not None
    left = (b / "metadata/2.targets.json").read_bytes()
    good(works.publish(works.pack("0.3.0"), a))
    good(works.publish(works.pack("0.3.0"), a, b))
    assert (b / "metadata/2.targets.json").read_bytes() == left
    assert (a / "metadata/timestamp.json").read_bytes() == (b / "metadata/timestamp.json").read_bytes()
    assert works.version(b, a, "b") == works.version(a, a, "a") == "0.3.0"


# -- refused before the first byte


@pytest.mark.proves("S0-21")
def test_an_asset_that_one_host_would_not_take_is_sent_nowhere(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    content = works.pack("0.1.0")
    large = max(content.objects, key=lambda item: item.size)
    with pytest.raises(AssetTooLarge) as caught:
        works.publish(content, a, FolderDestination(b, asset_limit=large.size - 1))
    assert caught.value.exit_code == 64
    for told in (large.path.rpartition("/")[2], f"{large.size:,}", f"{large.size - 1:,}"):
        assert told in caught.value.what
    assert "--volume-limit" in caught.value.todo
    assert contents(a) == contents(b) == {}
    works.publish(content, a, FolderDestination(b, asset_limit=large.size))
    assert contents(a) == contents(b) != {}


def test_a_manifest_that_names_a_missing_asset_is_published_nowhere(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    content = works.pack("0.1.0")
    next((works.folder / "packed-0.1.0-0").glob("*-libs-*.index.zst")).unlink()
    with pytest.raises(FormatInvalid, match="neither packed nor published"):
        works.publish(content, a, b)
    assert contents(a) == contents(b) == {}


def test_a_version_that_is_taken_at_one_of_them_is_published_to_none(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0", more=b"1"), b))
    before = contents(b)
    with pytest.raises(ReleaseTaken):
        works.publish(works.pack("0.1.0", more=b"2"), a, b)
    assert (contents(a), contents(b)) == ({}, before)


# -- signed elsewhere


def test_what_was_signed_elsewhere_goes_to_all_and_brings_up_those_that_lag(works: Works, tmp_path: Path) -> None:
    a, b, signed = works.store("a"), works.store("b"), tmp_path / "signed"
    keys = development_keys(works.folder / "keys")
    for number, version in enumerate(("0.1.0", "0.2.0")):
        content = works.pack(version)
        packed = works.folder / f"packed-{version}-{number}"
        sign_packed(packed, next(packed.glob("*.release.json")), signed, keys)
        stores = [FolderDestination(store) for store in ((a,) if number == 0 else (a, b))]
        good(publish_everywhere([content], stores, Signature(folder=signed)))
    assert contents(a) == contents(b)
    with pytest.raises(SignatureInvalid, match="no signature"):
        publish_everywhere([works.pack("0.3.0")], [FolderDestination(a)], Signature(folder=signed))
    assert contents(a) == contents(b)


# -- previews


def test_a_preview_tells_what_a_publication_then_does_and_changes_nothing(works: Works) -> None:
    a, b = works.store("a"), works.store("b")
    good(works.publish(works.pack("0.1.0"), a, b))
    good(works.publish(works.pack("0.2.0"), a))
    before = contents(a), contents(b)
    content = works.pack("0.3.0", label="cu126-v2")
    with FolderDestination(a).hold():
        told = preview([content], [FolderDestination(a), FolderDestination(b)])
    assert (contents(a), contents(b)) == before
    done = works.publish(content, a, b)
    for (outcome, error), ended in zip(told, done, strict=True):
        assert error is None
        assert outcome.planned is not None
        assert ended.result is not None
        new = {item.path for item in (*ended.result.uploaded, *ended.result.caught_up)}
        assert {item.path for item in outcome.planned.upload} == new
        assert set(outcome.planned.skip) == {item.path for item in ended.result.skipped}
        assert {file.path for file in outcome.planned.files} == {item.path for item in ended.result.metadata}
        sizes = {item.path: item.size for item in ended.result.metadata}
        assert all(file.size in {None, sizes[file.path]} for file in outcome.planned.files)
    assert {item.holder for item in told[1][0].planned.upload if item.holder} == {f"folder ({a})"}  # type: ignore[union-attr]


def test_a_preview_of_an_empty_destination_and_of_nothing_new(works: Works) -> None:
    a = works.store("a")
    content = works.pack("0.1.0")
    ((first, _),) = preview([content], [FolderDestination(a)])
    assert not a.exists()
    assert first.planned is not None
    (ended,) = works.publish(content, a)
    assert ended.result is not None
    assert {file.path for file in first.planned.files} == {item.path for item in ended.result.metadata}
    assert first.planned.calls == {"link or copy": OBJECTS, "write": len(ended.result.metadata)}
    ((second, _),) = preview([content], [FolderDestination(a)])
    assert second.planned is not None
    assert (second.planned.upload, second.planned.files, len(second.planned.skip)) == ((), (), OBJECTS)


# -- all three hosts


def test_a_bucket_github_and_a_folder_are_one_repository(works: Works, make_place: MakePlace) -> None:
    place = make_place("swift")
    with running() as double:
        double.add_repo("owner/name")
        repository = GitHubRepository(name="owner/name", web=double.web)
        folder = works.store("a")

        def destinations() -> list[Destination]:
            return [FolderDestination(folder), place.open(), GitHubDestination(repository, "t0ken")]

        good(publish_everywhere([works.pack("0.1.0")], destinations(), works.signature))
        good(publish_everywhere([works.pack("0.2.0")], destinations()[:1], works.signature))
        shutil.rmtree(works.folder / "packed-0.2.0-1")
        told = preview([works.pack("0.3.0")], destinations())
        assert [error for _, error in told] == [None] * 3
        requests = [method for method, _, _ in double.requests]
        good(publish_everywhere([works.pack("0.3.0")], destinations(), works.signature))
        there = contents(folder)
        assert place.contents() == there
        assert _on_github(double) == there
        assert place.unfinished() == []
        assert double.drafts() == []
        assert set(double.uploads.values()) == {1}
        assert "PATCH" in requests
        root = there["metadata/1.root.json"]
        bucket = f"{place.public}/repo"
        for number, source in enumerate((str(folder), bucket)):
            assert install(source, root, works.folder / f"client{number}", app=APP).version == "0.3.0"
        assert install(GitHubSource(repository), root, works.folder / "client", app=APP).version == "0.3.0"
        _metadata_here_archives_there(works, double, repository, bucket, root)


def _metadata_here_archives_there(
    works: Works, double: GitHubDouble, repository: GitHubRepository, bucket: str, root: bytes
) -> None:
    """GitHub's assets are gone: a client reads its metadata and takes archives from the bucket."""
    from lading.fetch.http import HttpSource  # noqa: PLC0415 (only here)

    for release in double.repos["owner/name"].releases.values():
        release.assets.clear()
    source = MirrorSource([GitHubSource(repository), HttpSource(bucket)])
    assert install(source, root, works.folder / "mixed", app=APP).version == "0.3.0"


def _on_github(double: GitHubDouble) -> dict[str, bytes]:
    """What lies on the double, under the paths of a repository."""
    repo = double.repos["owner/name"]
    found: dict[str, bytes] = {}
    for release in repo.releases.values():
        for asset in release.assets.values():
            component = "libs" if "-libs-" in asset.name else "core"
            version = asset.name.split(f"-{component}-")[1].split("-linux")[0].removesuffix("-cu126")
            assert isinstance(asset.data, bytes)
            found[f"assets/{component}/{version}/{asset.name}"] = asset.data
    commit = repo.git.commits[repo.git.refs["refs/heads/lading-metadata"]]
    return found | {path: repo.git.blobs[sha] for path, sha in repo.git.trees[commit.tree].items()}


def test_a_preview_of_a_bucket_and_of_github_only_reads(works: Works, make_place: MakePlace, tmp_path: Path) -> None:
    from tests.doubles.faults import gateway  # noqa: PLC0415 (only here)

    place = make_place("swift")
    with running() as double, gateway(place.store) as between:
        double.add_repo("owner/name")
        repository = GitHubRepository(name="owner/name", web=double.web)
        github = GitHubDestination(repository, "t0ken", asset_limit=10**9)
        told = preview([works.pack("0.1.0")], [place.through(between.url).open(), github])
        assert told == preview([works.pack("0.1.0")], [place.through(between.url).open(), github])
        assert [error for _, error in told] == [None, None]
        assert {method for method, _, _ in double.requests} == {"GET"}
        assert {asked.method for asked in between.seen} <= {"GET", "HEAD"}
        bucket, releases = (outcome.planned for outcome, _ in told)
        assert bucket is not None
        assert releases is not None
        assert bucket.calls == {
            "PutObject": OBJECTS + SIGNED + 1, "CreateMultipartUpload": 0, "UploadPart": 0,
            "CompleteMultipartUpload": 0,
        }  # fmt: skip
        assert releases.calls == {
            "create release": 2, "upload asset": OBJECTS, "publish release": 2,
            "create tree": 1, "create commit": 1, "update reference": 1,
        }  # fmt: skip
    assert place.contents() == {}


# -- the command


def command(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80", **variables}
    for name in ("GH_TOKEN", "GITHUB_TOKEN"):
        environment.pop(name, None)
    return subprocess.run(
        [sys.executable, "-m", "lading", "publish", *words],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


@pytest.fixture
def project(root: Path, tmp_path: Path) -> Path:
    """A project with three destinations, one of which has no credentials."""
    folder = tmp_path / "project"
    shutil.copytree(root / "manifests", folder / "manifests")
    version = Path("server/lading_server/_version.py")
    (folder / version).parent.mkdir(parents=True)
    shutil.copy(root / version, folder / version)
    (folder / "manifests/destinations.yaml").write_text(
        "schema: lading/destinations/1\ndestinations:\n"
        "  here:\n    kind: folder\n    path: out/here\n"
        "  there:\n    kind: folder\n    path: out/there\n"
        "  github:\n    kind: github\n    repository: example/name\n"
        "  small:\n    kind: folder\n    path: out/small\n    asset_limit: 64 MiB\n"
    )
    return folder


def test_the_command_names_each_destinations_outcome_and_says_by_its_exit_code_that_one_is_missing(
    works: Works, project: Path, tmp_path: Path
) -> None:
    works.pack("0.1.0")
    packed = works.folder / "packed-0.1.0-0"
    words = ("--project", project, "--keys", tmp_path / "keys", "--to", "here", "--to", "github", "--to", "there")
    done = command(packed, *words)
    assert done.returncode == 26, done.stderr
    assert "CredentialsRefused, exit code 17" in done.stdout
    assert done.stdout.count("signed files") == 2
    told = json.loads(command(packed, *words, "--json").stdout)
    outcomes = {outcome["destination"].split(" ")[0]: outcome for outcome in told["destinations"]}
    assert list(outcomes) == ["here", "github", "there"]
    assert outcomes["github"]["failure"]["error"] == "CredentialsRefused"
    assert outcomes["here"]["result"]["bytes_sent"] == 0
    assert contents(project / "out/here") == contents(project / "out/there")
    assert command(packed, *words[:6], "--to", "there").returncode == 0
    assert command(packed, *words[:4], "--to", "github").returncode == 17


def test_the_command_shows_a_preview_without_making_keys_or_files(works: Works, project: Path, tmp_path: Path) -> None:
    works.pack("0.1.0")
    keys = tmp_path / "keys"
    words = (works.folder / "packed-0.1.0-0", "--project", project, "--keys", keys, "--dry-run")
    done = command(*words, "--to", "here", "--to", "there", "--to", "github")
    assert done.returncode == 26
    assert done.stdout.count(f"would put {OBJECTS} objects") == 2
    assert f"calls: {OBJECTS} link or copy, 6 write" in done.stdout
    assert "signed anew metadata/timestamp.json" in done.stdout
    assert "Nothing was written or sent" in done.stdout
    assert not keys.exists()
    assert not (project / "out").exists()
    assert command(*words, "--to", "nowhere").returncode == 10


def test_the_command_refuses_an_asset_above_a_manifests_limit_everywhere(
    works: Works, project: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "large"
    file = write_packed(packed, "0.1.0", {**CORE, "_internal/large": os.urandom(65 * 2**20)}, level=1, frame=2**22)
    done = command(packed, "--project", project, "--keys", tmp_path / "keys", "--to", "here", "--to", "small")
    assert done.returncode == 64, done.stderr
    assert file.name.removesuffix(".release.json") in done.stderr.replace("-core-", "-")
    assert "67 MB" in done.stderr
    assert not list((project / "out").rglob("*.json"))


def test_each_kind_of_failure_is_kept_for_the_report(works: Works) -> None:
    class Denied(FolderDestination):
        @override
        def put_bytes(self, path: str, data: bytes) -> int:
            raise AccessDenied("read-only", usually="It is.", todo="Make it writable.")

    a, b = works.store("a"), works.store("b")
    first, second = works.publish(works.pack("0.1.0"), Denied(a), b)
    failure = first.record().failure
    assert failure is not None
    assert (failure.error, failure.exit_code, failure.todo) == ("AccessDenied", 41, "Make it writable.")
    assert isinstance(first.error, LadingError)
    assert second.record().failure is None
    assert not (a / "metadata").exists()
    assert listed(b) == ["0.1.0"]
