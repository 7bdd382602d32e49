"""Promote, withdraw, restore and roll out at a folder, a bucket and GitHub, and what clients make of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.doubles.fixtures import MakePlace
from tests.integration.channel_sites import KINDS, Publisher, folder_site, site
from tests.packed_release import APP
from tests.range_server import serving

from lading.errors import AccessDenied, Busy, ConfigError, NotInstalled, NotOffered, SignatureInvalid, SourceUnreachable
from lading.manifest.base import canonical_json
from lading.manifest.channel import Channel
from lading.progress import Silent, Task
from lading.publish.channels import ChannelsReport, change_channels, preview_change, show_channels, upload_channels
from lading.publish.folder import FolderDestination
from lading.publish.listing import Channels, Which, promoted, restored, rolled_out, withdrawn
from lading.sign.keys import development_keys
from lading.store.install import install
from lading.store.rollback import rollback
from lading.store.rollout import draw
from lading.store.update import Overrides, UpdateReport, find_updates, update

NOW = 1_800_000_000
REASON = "It loses uploads."


@pytest.fixture(params=KINDS)
def publisher(request: pytest.FixtureRequest, make_place: MakePlace, tmp_path: Path) -> Iterator[Publisher]:
    with site(request.param, make_place, tmp_path / "site") as place:
        (tmp_path / "publisher").mkdir()
        yield Publisher(site=place, folder=tmp_path / "publisher")


@pytest.fixture
def here(tmp_path: Path) -> Publisher:
    """A publisher to a folder."""
    return Publisher(site=folder_site(tmp_path / "site"), folder=tmp_path / "publisher")


def changed(publisher: Publisher, change: Callable[[Channels], Channels]) -> ChannelsReport:
    return change_channels([publisher.site.open()], change, publisher.signing)


def withdraw(publisher: Publisher, version: str) -> ChannelsReport:
    return changed(publisher, partial(withdrawn, which=Which(version=version), reason=REASON, now=NOW))


def updated(publisher: Publisher, data: Path, **more: str) -> UpdateReport:
    return update(data, overrides=Overrides(source=publisher.site.source(), **more))  # type: ignore[arg-type]


def checked(publisher: Publisher, data: Path, **more: str) -> UpdateReport:
    return find_updates(data, overrides=Overrides(source=publisher.site.source(), **more))  # type: ignore[arg-type]


# -- everywhere


def test_promoting_sends_no_archive_and_clients_of_the_other_channel_install_it(
    publisher: Publisher, tmp_path: Path
) -> None:
    publisher.release("0.1.0")
    publisher.release("0.2.0", channel="beta")
    assert publisher.install(tmp_path / "stable").version == "0.1.0"
    assert publisher.install(tmp_path / "beta", channel="beta").version == "0.2.0"
    before = publisher.site.assets()
    promote = partial(promoted, which=Which(version="0.2.0", channels=("beta",)), into="stable")
    report = changed(publisher, promote)
    assert (report.changed, publisher.site.assets()) == (("stable",), before)
    assert all(path.startswith(("metadata/", "targets/channels/")) for path in report.destinations[0].files)
    assert updated(publisher, tmp_path / "stable").variants[0].outcome == "updated"
    assert updated(publisher, tmp_path / "beta").variants[0].outcome == "up to date"
    again = changed(publisher, promote)
    assert (again.changed, again.destinations[0].files) == ((), ())
    assert again.versions == report.versions
    if publisher.site.double is not None:
        assert set(publisher.site.double.uploads.values()) == {1}


def test_a_withdrawn_release_is_left_for_the_one_before_and_not_come_back_to(
    publisher: Publisher, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    publisher.release("0.1.0")
    publisher.install(data)
    publisher.release("0.2.0")
    assert updated(publisher, data).variants[0].newest == "0.2.0"
    withdraw(publisher, "0.2.0")
    found = checked(publisher, data).variants[0]
    assert found.withdrawn is not None
    assert (found.outcome, found.installed, found.newest) == ("available", "0.2.0", "0.1.0")
    assert (found.withdrawn.reason, found.withdrawn.at) == (REASON, NOW)
    done = updated(publisher, data).variants[0]
    assert done.result is not None
    assert (done.outcome, done.result.version, done.result.bytes_fetched) == ("updated", "0.1.0", 0)
    assert updated(publisher, data).variants[0].outcome == "up to date"
    assert publisher.install(tmp_path / "fresh").version == "0.1.0"
    with pytest.raises(NotOffered, match=REASON):
        publisher.install(tmp_path / "fresh", version="0.2.0")
    changed(publisher, partial(restored, which=Which(version="0.2.0")))
    back = updated(publisher, data).variants[0].result
    assert back is not None
    assert (back.version, back.bytes_fetched) == ("0.2.0", 0)


def test_a_release_is_rolled_out_to_more_and_more_machines(publisher: Publisher, tmp_path: Path) -> None:
    publisher.release("0.1.0")
    publisher.release("0.2.0", rollout=0)
    data = tmp_path / "data"
    publisher.install(data)
    found = checked(publisher, data).variants[0]
    assert (found.outcome, found.newest, found.waiting) == ("up to date", "0.1.0", "0.2.0")
    mine = drawn(data, "0.2.0")

    def offered(percent: int) -> str:
        changed(publisher, partial(rolled_out, which=Which(version="0.2.0"), percent=percent))
        return checked(publisher, data).variants[0].newest

    assert offered(mine) == "0.1.0"
    assert offered(mine + 1) == "0.2.0"
    assert updated(publisher, data).variants[0].outcome == "updated"
    assert offered(0) == "0.2.0", "who has it keeps it"
    assert updated(publisher, data).variants[0].outcome == "up to date"
    assert offered(100) == "0.2.0"
    assert publisher.install(tmp_path / "other").version == "0.2.0"


def drawn(data: Path, version: str) -> int:
    text = (data / "trust/installation.json").read_text()
    return draw(text.partition('"id":"')[2].partition('"')[0], "demo-app", version)


@pytest.mark.parametrize("publisher", ["folder", "github"], indirect=True)
def test_a_second_change_at_the_same_time_is_busy_and_changes_nothing(publisher: Publisher) -> None:
    publisher.release("0.1.0")
    before = publisher.site.read("metadata/timestamp.json")
    with publisher.site.open().hold(), pytest.raises(Busy):
        withdraw(publisher, "0.1.0")
    assert publisher.site.read("metadata/timestamp.json") == before
    withdraw(publisher, "0.1.0")


@pytest.mark.parametrize("publisher", ["folder", "github"], indirect=True)
def test_what_is_shown_needs_no_keys_and_a_preview_writes_nothing(publisher: Publisher) -> None:
    publisher.release("0.1.0", channel="beta")
    before = publisher.site.read("metadata/timestamp.json")
    shown = show_channels([publisher.site.open()])
    assert [(one.channel, [e.version for e in one.releases]) for one in shown.channels] == [("beta", ["0.1.0"])]
    preview = preview_change(
        [publisher.site.open()], partial(promoted, which=Which(version="0.1.0"), into="stable", rollout=5)
    )
    assert preview.changed == ("stable",)
    assert publisher.site.read("metadata/timestamp.json") == before
    assert show_channels([publisher.site.open()]) == shown


# -- clients


def test_a_version_that_is_not_kept_is_fetched_again_and_what_was_left_stays_held(
    here: Publisher, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0"):
        here.release(version)
    for version in ("0.3.0", "0.4.0"):
        here.install(data, version=version)
    rollback(data, "cpu")
    assert checked(here, data).variants[0].outcome == "held back"
    withdraw(here, "0.3.0")
    done = updated(here, data).variants[0]
    assert done.result is not None
    assert (done.result.version, done.result.bytes_fetched > 0) == ("0.2.0", True)
    after = updated(here, data).variants[0]
    assert (after.outcome, after.newest, after.held) == ("held back", "0.4.0", "0.4.0")
    with pytest.raises(NotInstalled):
        rollback(data, "cpu")  # 0.3.0 is there, and is not gone back to


def test_a_newer_sound_version_is_the_way_out_of_a_withdrawn_one(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    here.release("0.2.0")
    here.install(tmp_path / "data")
    withdraw(here, "0.2.0")
    here.release("0.3.0")
    done = updated(here, tmp_path / "data").variants[0]
    assert (done.outcome, done.newest) == ("updated", "0.3.0")
    assert done.withdrawn is not None


def test_an_install_leaves_a_withdrawn_version_behind_as_an_update_does(here: Publisher, tmp_path: Path) -> None:
    data = tmp_path / "data"
    for version in ("0.1.0", "0.2.0"):
        here.release(version)
        here.install(data)
    withdraw(here, "0.2.0")
    assert here.install(data).version == "0.1.0"
    with pytest.raises(NotInstalled):
        rollback(data, "cpu")


def test_everything_withdrawn_leaves_what_is_installed_as_it_is(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    entry = here.install(tmp_path / "data").entry
    withdraw(here, "0.1.0")
    with pytest.raises(NotOffered, match=REASON) as caught:
        updated(here, tmp_path / "data")
    assert caught.value.exit_code == 25
    assert Path(entry).exists()
    with pytest.raises(NotOffered):
        here.install(tmp_path / "fresh")
    assert not (tmp_path / "fresh/backends").exists()


def test_a_withdrawn_version_is_installed_by_name_and_force_and_said_so(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    here.release("0.2.0")
    withdraw(here, "0.2.0")
    notes = Notes()
    done = here.install(tmp_path / "data", version="0.2.0", force=True, progress=notes)
    assert done.version == "0.2.0"
    assert any(f"0.2.0 was withdrawn by its publisher: {REASON}" in note for note in notes.told)
    assert here.install(tmp_path / "other", force=True).version == "0.1.0", "force alone names nothing"
    assert updated(here, tmp_path / "data").variants[0].newest == "0.1.0"


class Notes:
    """Progress that keeps the notes."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return Silent().task(label, total, unit=unit)

    def note(self, text: str) -> None:
        self.told.append(text)


def test_another_channel_is_remembered_also_when_it_has_nothing_newer(here: Publisher, tmp_path: Path) -> None:
    data = tmp_path / "data"
    here.release("0.1.0")
    here.release("0.2.0.dev1", channel="nightly")
    here.install(data, channel="nightly")
    assert updated(here, data, channel="stable").variants[0].outcome == "older"
    here.release("0.3.0.dev1", channel="nightly")
    assert updated(here, data).variants[0].channel == "stable"
    here.release("0.2.0")
    done = updated(here, data).variants[0]
    assert (done.outcome, done.newest) == ("updated", "0.2.0")
    assert checked(here, data, channel="nightly").variants[0].newest == "0.3.0.dev1"
    assert updated(here, data).variants[0].channel == "stable", "a check remembers nothing"


def test_a_channel_that_does_not_exist_is_told(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    with pytest.raises(SourceUnreachable, match=r"channels/demo-app/beta\.json"):
        here.install(tmp_path / "data", channel="beta")


def test_a_first_install_counts_like_an_update_and_a_plan_draws_nothing(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    here.release("0.2.0", rollout=50)
    got = {}
    for number in range(12):
        data = tmp_path / f"data-{number}"
        got[number] = (here.install(data).version, drawn(data, "0.2.0"))
    assert all(version == ("0.2.0" if drawn < 50 else "0.1.0") for version, drawn in got.values())
    assert here.install(tmp_path / "named", version="0.2.0").version == "0.2.0"
    assert not (tmp_path / "named/trust/installation.json").exists(), "no draw, no id"


def test_the_id_of_an_installation_is_never_sent(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    here.release("0.2.0", rollout=50)
    data = tmp_path / "data"
    with serving(tmp_path / "site") as server:
        install(server.url, here.site.root, data, app=APP)
        find_updates(data)
        update(data)
        asked = f"{server.requests} {server.headers}"
    made = json.loads((data / "trust/installation.json").read_bytes())["id"]
    assert server.requests
    assert made not in asked


def test_a_data_directory_that_may_only_be_read_keeps_its_draw_and_makes_none(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    data = tmp_path / "data"
    here.install(data)
    here.release("0.2.0", rollout=99)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lading.store.installation.write_atomic", _denied)
        found = checked(here, data).variants[0]
    assert (found.newest, found.waiting) == ("0.1.0", "0.2.0")
    assert not (data / "trust/installation.json").exists()


def _denied(*_: object, **__: object) -> None:
    raise AccessDenied("the folder may only be read")


# -- publishers


def test_a_change_that_was_signed_elsewhere_is_uploaded_without_keys(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    here.release("0.2.0", channel="beta")
    store, copy = tmp_path / "site", tmp_path / "copy"
    copied(store, copy)
    promote = partial(promoted, which=Which(version="0.2.0"), into="stable")
    change_channels([FolderDestination(copy)], promote, here.signing)
    report = upload_channels(FolderDestination(store), copy)
    assert report.changed == ("stable",)
    assert here.install(tmp_path / "data").version == "0.2.0"
    assert upload_channels(FolderDestination(store), copy).destinations[0].files == ()


def test_what_was_signed_before_somebody_else_published_is_refused(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    store, copy = tmp_path / "site", tmp_path / "copy"
    copied(store, copy)
    bad = partial(withdrawn, which=Which(version="0.1.0"), reason=REASON, now=NOW)
    change_channels([FolderDestination(copy)], bad, here.signing)
    change_channels([FolderDestination(copy)], partial(restored, which=Which(version="0.1.0")), here.signing)
    here.release("0.2.0")
    before = (store / "metadata/timestamp.json").read_bytes()
    with pytest.raises(SignatureInvalid, match="has changed since"):
        upload_channels(FolderDestination(store), copy)
    assert (store / "metadata/timestamp.json").read_bytes() == before


def copied(store: Path, copy: Path) -> None:
    for path in store.rglob("*"):
        inner = path.relative_to(store)
        if path.is_file() and inner.parts[0] in {"metadata", "targets"}:
            (copy / inner).parent.mkdir(parents=True, exist_ok=True)
            (copy / inner).write_bytes(path.read_bytes())


def test_other_keys_change_nothing(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    before = here.site.read("metadata/timestamp.json")
    strange = replace(here.signing, keys=development_keys(tmp_path / "others"))
    with pytest.raises(SignatureInvalid):
        change_channels(
            [here.site.open()], partial(withdrawn, which=Which(version="0.1.0"), reason="x", now=NOW), strange
        )
    assert here.site.read("metadata/timestamp.json") == before


def test_an_empty_destination_and_an_unknown_app_are_told(here: Publisher, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="has no channels"):
        show_channels([FolderDestination(tmp_path / "empty")])
    here.release("0.1.0")
    with pytest.raises(ConfigError, match="demo-app and no other-app"):
        show_channels([here.site.open()], "other-app")


def test_an_altered_index_is_not_built_upon(here: Publisher, tmp_path: Path) -> None:
    here.release("0.1.0")
    (index,) = (tmp_path / "site/targets/channels/demo-app").glob("*.json")
    index.write_bytes(canonical_json(Channel(app="demo-app", channel="stable", releases=())))
    with pytest.raises(SignatureInvalid, match="not the one that was signed"):
        withdraw(here, "0.1.0")


# -- several destinations


def test_one_signature_serves_several_destinations_and_a_later_run_finishes_the_one_that_failed(
    here: Publisher, tmp_path: Path
) -> None:
    other = Publisher(site=folder_site(tmp_path / "mirror"), folder=here.folder)
    here.release("0.1.0", channel="beta")
    shutil.copytree(tmp_path / "site", tmp_path / "mirror")
    promote = partial(promoted, which=Which(version="0.1.0"), into="stable")
    with other.site.open().hold(), pytest.raises(Busy):
        change_channels([here.site.open(), other.site.open()], promote, here.signing)
    change_channels([here.site.open()], promote, here.signing)
    done = change_channels([here.site.open(), other.site.open()], promote, here.signing)
    assert [bool(one.files) for one in done.destinations] == [False, True]
    assert here.site.read("metadata/timestamp.json") == other.site.read("metadata/timestamp.json")
    assert other.install(tmp_path / "data").version == "0.1.0"


def test_destinations_that_do_not_have_the_same_releases_are_refused(here: Publisher, tmp_path: Path) -> None:
    other = Publisher(site=folder_site(tmp_path / "mirror"), folder=here.folder)
    here.release("0.1.0")
    shutil.copytree(tmp_path / "site", tmp_path / "mirror")
    here.release("0.2.0")
    with pytest.raises(ConfigError, match="do not have the same releases"):
        change_channels(
            [here.site.open(), other.site.open()],
            partial(withdrawn, which=Which(version="0.1.0"), reason="x", now=NOW),
            here.signing,
        )
