"""Keep, collect, update, hold back, repair, remove: the life of an installation after its first day."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Link, Shop, index_of, program, run_entry, tree_files
from tests.range_server import RangeServer

from lading.errors import AccessDenied, Busy, ConfigError, DigestMismatch, NotInstalled, SourceUnreachable
from lading.store.diskuse import disk_use
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version, installed_versions
from lading.store.origin import read_origin
from lading.store.removal import uninstall, uninstall_everything
from lading.store.result import InstallResult
from lading.store.rollback import rollback
from lading.store.status import status
from lading.store.update import Overrides, check_for_update, find_updates, update

LIBS: Files = {
    "_internal/nvidia/libcublas.so.12": os.urandom(90_000),
    "_internal/nvidia/libcudnn.so.9": os.urandom(40_000),
    "_internal/libcublas.so.12": Link("nvidia/libcublas.so.12"),
}
CORE: Files = {
    ENTRY: program("one"),
    "_internal/base.pyc": os.urandom(30_000),
    "_internal/small.pyc": os.urandom(5_000),
    "_internal/tool.sh": program("tool"),
}
TWO: Files = {**CORE, ENTRY: program("two")}
THREE: Files = {**CORE, ENTRY: program("three"), "_internal/third.pyc": os.urandom(9_000)}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=30_000)
    made.release("0.1.0", CORE, LIBS)
    return made


def names(data: Path) -> list[str]:
    return sorted(version.marker.version for version in installed_versions(Home(data, "cuda")))


def have(shop: Shop, data: Path, *versions: str, keep: int = 9) -> list[InstallResult]:
    return [install(str(shop.store), shop.root, data, app=APP, version=version, keep=keep) for version in versions]


# -- keep and collect


def test_two_versions_are_kept_and_what_the_disk_gets_back_is_told_truly(shop: Shop, data: Path) -> None:
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/extra.so": os.urandom(300_000)}, label="cu126-v2")
    shop.release("0.3.0", THREE, LIBS)
    shop.release("0.4.0", TWO, LIBS)
    first, second, third = have(shop, data, "0.1.0", "0.2.0", "0.3.0", keep=2)
    assert [result.removed for result in (first, second, third)] == [(), (), (first.version_id,)]
    assert names(data) == ["0.2.0", "0.3.0"]
    before = disk_use([data / "backends"]).own
    last = install(str(shop.store), shop.root, data, app=APP, version="0.4.0")
    assert last.removed == (second.version_id,)
    assert names(data) == ["0.3.0", "0.4.0"]
    assert 300_000 <= last.bytes_freed < 350_000  # the libs that it shared are still there
    assert -last.bytes_freed <= disk_use([data / "backends"]).own - before < 0
    assert run_entry(data) == "two"
    assert tree_files(Path(third.tree)) == {**THREE, **LIBS}


def test_more_are_kept_when_asked_for_and_fewer_next_time(shop: Shop, data: Path) -> None:
    for number in range(2, 6):
        shop.release(f"0.{number}.0", {**CORE, ENTRY: program(str(number))}, LIBS)
    have(shop, data, *(f"0.{number}.0" for number in range(1, 6)), keep=4)
    assert names(data) == ["0.2.0", "0.3.0", "0.4.0", "0.5.0"]
    result = install(str(shop.store), shop.root, data, app=APP)
    assert result.already_installed
    assert len(result.removed) == 2
    assert names(data) == ["0.4.0", "0.5.0"]


def test_folders_that_are_not_ours_are_never_collected(shop: Shop, data: Path) -> None:
    for number in (2, 3):
        shop.release(f"0.{number}.0", {**CORE, ENTRY: program(str(number))}, LIBS)
    have(shop, data, "0.1.0")
    mine = Home(data, "cuda").versions / "0.0.1-backup"
    mine.mkdir()
    (mine / "note").write_text("keep")
    have(shop, data, "0.2.0", "0.3.0", keep=2)
    assert names(data) == ["0.2.0", "0.3.0"]
    assert (mine / "note").read_text() == "keep"


@pytest.mark.skipif(os.name != "posix", reason="Windows refuses by itself")
def test_a_version_that_runs_is_not_deleted_under_the_program(shop: Shop, data: Path) -> None:
    sleeper = f"#!{sys.executable}\nimport sys\nprint('up', flush=True)\nsys.stdin.read()\n".encode()
    shop.release("0.0.9", {**CORE, ENTRY: sleeper}, LIBS)
    for number in (2, 3):
        shop.release(f"0.{number}.0", {**CORE, ENTRY: program(str(number))}, LIBS)
    (old, *_) = have(shop, data, "0.0.9")
    with subprocess.Popen([old.entry], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        have(shop, data, "0.2.0")
        result = install(str(shop.store), shop.root, data, app=APP, version="0.3.0")
        assert (result.removed, result.left) == ((), (old.version_id,))
        assert Path(old.entry).exists()
        for version in (None, "0.0.9"):
            with pytest.raises(Busy, match=f"process {process.pid}"):
                uninstall(data, "cuda", version=version)
        assert run_entry(data) == "3"
        process.communicate("")
    again = install(str(shop.store), shop.root, data, app=APP, version="0.3.0")
    assert again.removed == (old.version_id,)


def test_what_the_system_will_not_let_go_stays_whole_for_the_next_time(
    shop: Shop, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows does with the folder of a running program, which no look at processes may see."""
    for number in (2, 3):
        shop.release(f"0.{number}.0", {**CORE, ENTRY: program(str(number))}, LIBS)
    old, _ = have(shop, data, "0.1.0", "0.2.0")
    real = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name == old.version_id:
            raise PermissionError(13, "The process cannot access the file because it is being used", str(path))
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", refuse)
        result = install(str(shop.store), shop.root, data, app=APP)
        with pytest.raises(AccessDenied):
            uninstall(data, "cuda", version="0.1.0")
    assert (result.removed, result.left) == ((), (old.version_id,))
    assert tree_files(Path(old.tree)) == {**CORE, **LIBS}
    assert install(str(shop.store), shop.root, data, app=APP).removed == (old.version_id,)


# -- update


@pytest.mark.proves("S1-08", "X-26")
def test_an_update_needs_nothing_said_again_and_asks_twice_when_there_is_nothing_new(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    install(server.url, shop.root, data, app=APP, flavor="cu126")
    server.requests.clear()
    (same,) = update(data).variants
    assert (same.outcome, same.installed, same.newest) == ("up to date", "0.1.0", "0.1.0")
    assert [path for path, _ in server.requests] == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert same.result is not None
    assert same.result.bytes_received < 4096

    shop.release("0.2.0", TWO, LIBS)
    server.requests.clear()
    (newer,) = update(data).variants
    assert (newer.outcome, newer.installed, newer.newest) == ("updated", "0.1.0", "0.2.0")
    assert not server.asked("-libs-")
    assert run_entry(data) == "two"
    assert names(data) == ["0.1.0", "0.2.0"]


@pytest.mark.proves("S1-15", "S1-19")
def test_libs_and_their_label_change_together_and_nothing_older_remains(shop: Shop, data: Path) -> None:
    have(shop, data, "0.1.0")
    new = {"_internal/nvidia/libcublas.so.12": os.urandom(70_000), "_internal/nvidia/new.so": os.urandom(9_000)}
    shop.release("0.2.0", TWO, new, label="cu126-v2")
    (done,) = update(data).variants
    version = current_version(Home(data, "cuda"))
    assert version is not None
    assert version.marker.label == "cu126-v2"
    assert tree_files(version.tree) == {**TWO, **new}
    assert {entry.path for entry in version.entries()} == {*TWO, *new}
    assert done.result is not None
    assert done.result.label == "cu126-v2"


@pytest.mark.proves("S1-19", "S1-10")
def test_libs_that_did_not_come_are_not_said_to_be_installed(shop: Shop, server: RangeServer, data: Path) -> None:
    have(shop, data, "0.1.0")
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/more.so": os.urandom(50_000)}, label="cu126-v2")
    for file in shop.store.glob("assets/libs/cu126-v2/*.tar.zst*"):
        if not file.name.endswith(".sha256"):
            file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DigestMismatch):
        update(data)
    found = status(data).variants[0]
    assert [version.label for version in found.versions] == ["cu126-v1"]
    assert found.last_failure is not None
    assert found.last_failure.kind == "DigestMismatch"
    assert run_entry(data) == "one"


@pytest.mark.proves("S1-10")
@pytest.mark.parametrize("how", ["damaged", "missing", "other schema"])
def test_a_version_without_a_readable_record_counts_as_not_installed(shop: Shop, data: Path, how: str) -> None:
    (old,) = have(shop, data, "0.1.0")
    marker = Path(old.path) / ".lading-version"
    if how == "missing":
        marker.unlink()
    else:
        marker.write_bytes(b"{" if how == "damaged" else marker.read_bytes().replace(b"version/1", b"version/9"))
    assert current_version(Home(data, "cuda")) is None
    found = status(data).variants[0]
    assert (found.current, found.versions) == (None, ())
    assert found.damaged == (() if how == "missing" else (old.version_id,))
    assert not check_for_update(data, "cuda").available
    (done,) = update(data).variants
    assert done.outcome == "updated"
    assert run_entry(data) == "one"
    assert status(data).variants[0].damaged == ()


def test_a_check_says_whether_there_is_something_and_changes_nothing_installed(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    install(server.url, shop.root, data, app=APP)
    assert not find_updates(data).available
    shop.release("0.2.0", TWO, LIBS)
    before = {path: path.lstat().st_mtime_ns for path in (data / "backends").rglob("*")}
    found = find_updates(data)
    assert found.available
    assert (found.variants[0].installed, found.variants[0].newest) == ("0.1.0", "0.2.0")
    planned = find_updates(data, plan=True).variants[0].plan
    assert planned is not None
    assert not planned.installed
    assert {path: path.lstat().st_mtime_ns for path in (data / "backends").rglob("*")} == before
    (done,) = update(data).variants
    assert done.result is not None
    assert done.result.version_id == planned.version_id


@pytest.mark.proves("X-26")
def test_a_check_at_start_never_fails_and_asks_nobody_without_need(shop: Shop, server: RangeServer, data: Path) -> None:
    assert check_for_update(data, "cuda").reason == "nothing is installed"
    assert not data.exists()
    install(server.url, shop.root, data, app=APP)
    server.requests.clear()
    offline = check_for_update(data, "cuda", offline=True)
    assert (offline.checked, offline.available, offline.installed) == (False, False, "0.1.0")
    assert server.requests == []
    assert check_for_update(data, "cuda").reason == "up to date"
    assert len(server.requests) == 2
    shop.release("0.2.0", TWO, LIBS)
    there = check_for_update(data, "cuda")
    assert (there.checked, there.available, there.newest) == (True, True, "0.2.0")
    (shop.store / "metadata/timestamp.json").write_bytes(b"{}")
    failed = check_for_update(data, "cuda")
    assert (failed.checked, failed.available) == (False, False)
    assert failed.failure is not None
    assert failed.failure.what == failed.reason
    gone = check_for_update(data, "cuda", overrides=Overrides(source=str(shop.store / "nowhere")))
    assert gone.failure is not None
    assert gone.failure.kind == SourceUnreachable.__name__
    assert run_entry(data) == "one"


def test_an_update_never_goes_back_by_itself(shop: Shop, data: Path, tmp_path: Path) -> None:
    shop.release("0.2.0", TWO, LIBS)
    have(shop, data, "0.2.0")
    beta = Shop(tmp_path / "other")
    beta.release("0.1.0", CORE, LIBS)
    other = Overrides(source=str(beta.store), root=beta.root)
    shutil.rmtree(data / "trust")
    (found,) = update(data, overrides=other).variants
    assert (found.outcome, found.installed, found.newest, found.result) == ("older", "0.2.0", "0.1.0", None)
    assert run_entry(data) == "two"
    named = Overrides(source=str(beta.store), root=beta.root, version="0.1.0")
    (back,) = update(data, overrides=named).variants
    assert back.outcome == "updated"
    assert run_entry(data) == "one"


def test_all_installed_variants_are_updated_unless_one_is_named(shop: Shop, data: Path) -> None:
    shop.release("0.1.0", {ENTRY: program("cpu one")})
    for flavor in ("cpu", "cu126"):
        install(str(shop.store), shop.root, data, app=APP, flavor=flavor)
    shop.release("0.2.0", {ENTRY: program("cpu two")})
    shop.release("0.2.0", TWO, LIBS)
    assert [found.variant for found in update(data, "cpu").variants] == ["cpu"]
    assert (run_entry(data, "cpu"), run_entry(data)) == ("cpu two", "one")
    done = {found.variant: found.outcome for found in update(data).variants}
    assert done == {"cpu": "up to date", "cuda": "updated"}
    assert run_entry(data) == "two"


def test_one_variant_that_fails_does_not_keep_the_other_from_being_updated(shop: Shop, data: Path) -> None:
    shop.release("0.1.0", {ENTRY: program("cpu one")})
    for flavor in ("cpu", "cu126"):
        install(str(shop.store), shop.root, data, app=APP, flavor=flavor)
    shop.release("0.2.0", {ENTRY: program("cpu two")})
    shop.release("0.2.0", TWO, LIBS)
    for file in shop.store.glob("assets/core/0.2.0/*-cpu-*.tar.zst"):
        file.unlink()
    with pytest.raises(SourceUnreachable):
        update(data)
    assert (run_entry(data, "cpu"), run_entry(data)) == ("cpu one", "two")


def test_what_was_never_installed_is_not_updated(shop: Shop, data: Path) -> None:
    with pytest.raises(NotInstalled, match="Nothing is installed"):
        update(data)
    assert not data.exists()
    have(shop, data, "0.1.0")
    with pytest.raises(NotInstalled, match="Nothing of the cpu variant"):
        update(data, "cpu")
    Home(data, "cuda").origin.write_bytes(b"{}")
    with pytest.raises(NotInstalled, match="not known where"):
        update(data)
    (done,) = update(data, overrides=Overrides(source=str(shop.store), root=shop.root)).variants
    assert done.outcome == "up to date"
    assert read_origin(Home(data, "cuda").origin) is not None
    assert update(data).variants[0].outcome == "up to date"


# -- roll back


def test_after_a_roll_back_an_update_waits_for_something_newer(shop: Shop, data: Path) -> None:
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/extra.so": os.urandom(9_000)}, label="cu126-v2")
    have(shop, data, "0.1.0", "0.2.0")
    began = time.monotonic()
    result = rollback(data, "cuda")
    assert time.monotonic() - began < 5
    assert result.held == "0.2.0"
    assert run_entry(data) == "one"
    (waits,) = update(data).variants
    assert (waits.outcome, waits.held) == ("held back", "0.2.0")
    assert not check_for_update(data, "cuda").available
    assert status(data).variants[0].held == "0.2.0"
    assert run_entry(data) == "one"
    shop.release("0.3.0", THREE, LIBS)
    assert update(data).variants[0].outcome == "updated"
    assert run_entry(data) == "three"
    assert status(data).variants[0].held is None


def test_naming_the_version_overrides_a_roll_back(shop: Shop, data: Path) -> None:
    shop.release("0.2.0", TWO, LIBS)
    have(shop, data, "0.1.0", "0.2.0")
    rollback(data, "cuda")
    assert update(data, overrides=Overrides(version="0.2.0")).variants[0].outcome == "updated"
    assert run_entry(data) == "two"
    rollback(data, "cuda", to="0.1.0")
    install(str(shop.store), shop.root, data, app=APP)
    assert run_entry(data) == "two"
    assert status(data).variants[0].held is None


# -- repair


def frame_sizes(files: Files) -> list[int]:
    return [frame.size for frame in index_of(files)[0].frames]


def damage(tree: Path, how: str) -> str:
    """Damages one small file, whose bytes lie in one frame; nothing of it changes its own time when it rots."""
    name = "_internal/small.pyc"
    path = tree / name
    before = path.stat()
    match how:
        case "missing":
            path.unlink()
        case "truncated":
            os.truncate(path, 100)
        case "zero bytes":
            path.write_bytes(b"")
        case "altered":
            path.write_bytes(b"x" * before.st_size)
        case "rotten":
            path.write_bytes(b"x" * before.st_size)
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case _:
            name = "_internal/tool.sh"
            (tree / name).chmod(0o644)
    return name


@pytest.mark.proves("X-25")
@pytest.mark.parametrize("how", ["missing", "truncated", "zero bytes", "altered", "rotten", "not executable"])
def test_a_damaged_version_is_repaired_by_fetching_just_what_is_wrong(
    shop: Shop, server: RangeServer, data: Path, how: str
) -> None:
    old = install(server.url, shop.root, data, app=APP)
    name = damage(Path(old.tree), how)
    server.requests.clear()
    if how == "rotten":
        assert install(server.url, shop.root, data, app=APP).already_installed
    new = install(server.url, shop.root, data, app=APP, repair=how == "rotten")
    assert tree_files(Path(new.tree)) == {**CORE, **LIBS}
    assert os.access(Path(new.tree) / "_internal/tool.sh", os.X_OK)
    assert [found.path for found in new.damage] == [name]
    assert new.files_written == 1
    assert len(server.asked(".tar.zst")) <= 2
    assert 0 < new.bytes_fetched <= 2 * max(frame_sizes(CORE))
    assert new.version_id == f"{old.version_id}.2"
    assert new.removed == (old.version_id,)
    assert run_entry(data) == "one"
    assert status(data).variants[0].previous is None


def test_the_damage_of_a_file_that_two_versions_share_is_repaired_too(shop: Shop, data: Path) -> None:
    shop.release("0.2.0", TWO, LIBS)
    old, new = have(shop, data, "0.1.0", "0.2.0")
    shared = Path(new.tree) / "_internal/nvidia/libcudnn.so.9"
    before = shared.stat()
    shared.write_bytes(b"x" * before.st_size)
    os.utime(shared, ns=(before.st_atime_ns, before.st_mtime_ns))
    result = install(str(shop.store), shop.root, data, app=APP, repair=True)
    assert tree_files(Path(result.tree)) == {**TWO, **LIBS}
    assert status(data).variants[0].previous == old.version_id


def test_what_a_backup_program_touched_is_read_and_found_sound(shop: Shop, server: RangeServer, data: Path) -> None:
    old = install(server.url, shop.root, data, app=APP)
    for path in Path(old.tree).rglob("*"):
        os.utime(path, follow_symlinks=False)
    found = status(data).variants[0].versions[0]
    assert (found.whole, found.changed) == (True, len(CORE) + len(LIBS) - 1)
    server.requests.clear()
    assert install(server.url, shop.root, data, app=APP).already_installed
    assert not server.asked("assets/")


@pytest.mark.parametrize("record", ["core.index.zst", "release.json"])
def test_lost_records_of_a_version_cost_only_the_records(
    shop: Shop, server: RangeServer, data: Path, record: str
) -> None:
    old = install(server.url, shop.root, data, app=APP)
    (Path(old.path) / record).unlink()
    new = install(server.url, shop.root, data, app=APP)
    assert (new.bytes_fetched, new.files_written) == (0, 0)
    assert tree_files(Path(new.tree)) == {**CORE, **LIBS}


def test_an_update_with_nothing_new_repairs(shop: Shop, data: Path) -> None:
    (old,) = have(shop, data, "0.1.0")
    damage(Path(old.tree), "missing")
    (done,) = update(data).variants
    assert done.outcome == "updated"
    assert done.result is not None
    assert done.result.files_written == 1
    assert tree_files(Path(done.result.tree)) == {**CORE, **LIBS}


# -- status and removal


@pytest.mark.skipif(os.name != "posix", reason="counts blocks")
def test_the_status_tells_of_each_version_what_it_takes_and_where_it_came_from(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    shop.release("0.2.0", TWO, LIBS)
    address = server.url.replace("http://", "http://user:secret@")
    install(address, shop.root, data, app=APP, version="0.1.0")
    install(address, shop.root, data, app=APP)
    found = status(data).variants[0]
    new, old = found.versions
    assert (new.version, new.in_use, new.previous, new.whole, new.changed) == ("0.2.0", True, False, True, 0)
    assert (old.version, old.in_use, old.previous, old.channel) == ("0.1.0", False, True, "stable")
    assert new.bytes_shared == old.bytes_shared >= 130_000
    assert 0 < new.bytes_own < 60_000
    assert abs(new.installed_at - time.time()) < 600
    assert (found.channel, found.sources) == ("stable", (server.url,))
    assert (found.unfinished, found.held, found.last_failure) == ((), None, None)


@pytest.mark.proves("S1-20")
def test_one_version_can_go_alone_but_not_the_one_in_use(shop: Shop, data: Path) -> None:
    shop.release("0.2.0", TWO, LIBS)
    old, new = have(shop, data, "0.1.0", "0.2.0")
    for name in ("0.2.0", new.version_id, "v0.2.0"):
        with pytest.raises(ConfigError, match="is in use"):
            uninstall(data, "cuda", version=name)
    with pytest.raises(NotInstalled, match=r"called 7\.0\.0"):
        uninstall(data, "cuda", version="7.0.0")
    result = uninstall(data, "cuda", version="0.1.0")
    assert result.removed == (old.version_id,)
    assert result.bytes_freed > 0
    assert names(data) == ["0.2.0"]
    with pytest.raises(NotInstalled):
        rollback(data, "cuda")
    assert run_entry(data) == "two"
    assert tree_files(Path(new.tree)) == {**TWO, **LIBS}


@pytest.mark.proves("S1-20")
def test_everything_goes_with_all_variants_and_the_metadata(shop: Shop, data: Path) -> None:
    shop.release("0.1.0", {ENTRY: program("cpu")})
    for flavor in ("cpu", "cu126"):
        install(str(shop.store), shop.root, data, app=APP, flavor=flavor)
    result = uninstall_everything(data)
    assert [found.variant for found in result.variants] == ["cpu", "cuda"]
    assert (result.metadata, result.left) == (True, ())
    assert not data.exists()
    with pytest.raises(NotInstalled):
        uninstall_everything(data)
    install(str(shop.store), shop.root, data, app=APP, flavor="cu126")
    (data / "notes.txt").write_text("keep")
    assert uninstall_everything(data).left == ("notes.txt",)
    assert (data / "notes.txt").read_text() == "keep"


def test_a_removed_variant_leaves_the_metadata_that_protects_the_next_install(shop: Shop, data: Path) -> None:
    have(shop, data, "0.1.0")
    uninstall(data, "cuda")
    assert sorted(path.name for path in data.iterdir()) == ["lading.lock", "trust"]
    with pytest.raises(NotInstalled):
        update(data)


# -- commands


class Lading:
    """Runs commands on one data directory."""

    def __init__(self, data: Path) -> None:
        self.data = data

    def run(self, *words: str | Path, code: int = 0) -> str:
        words = (*words, "--data", self.data, "--app", APP)
        environment = {**os.environ, "COLUMNS": "80"}
        done = subprocess.run(
            [sys.executable, "-m", "lading", *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


def test_the_commands_say_what_they_did_in_eighty_columns(shop: Shop, data: Path, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    lading = Lading(data)
    assert "Nothing is installed" in lading.run("status")
    lading.run("update", code=NotInstalled.exit_code)
    first = lading.run("install", shop.store, "--root", root, "--flavor", "cu126", "--force")
    assert "installed and in use" in first
    assert "up to date" in lading.run("update", "--force")
    assert "up to date" in lading.run("update", "--check", "--force")
    shop.release("0.2.0", TWO, LIBS)
    checked = lading.run("update", "--check", "--force", "--json", code=3)
    assert json.loads(checked)["variants"][0]["outcome"] == "available"
    assert "0.2.0 can be installed" in lading.run("update", "--check", "--force", code=3)
    assert "Nothing was changed." in lading.run("update", "--dry-run", "--force")
    assert "updated from 0.1.0 to 0.2.0" in lading.run("update", "--force")
    shown = lading.run("status")
    print(shown)
    assert "in use" in shown
    assert "previous" in shown
    assert "updates from" in shown
    rolled = lading.run("rollback")
    assert "waits for something newer than 0.2.0" in rolled
    held = lading.run("update", "--force")
    assert "not installed again" in held
    assert "0.2.0 was left by a roll back" in lading.run("status")
    assert "updated" in lading.run("update", "--version", "0.2.0", "--force")
    one = lading.run("uninstall", "--version", "0.1.0")
    assert "1 version of the cuda variant deleted" in one
    everything = lading.run("uninstall", "--all-data")
    assert "metadata deleted" in everything
    for text in (first, shown, rolled, held, one, everything):
        for line in text.splitlines():
            assert len(line) <= 80 or str(data) in line or str(shop.store) in line, line
