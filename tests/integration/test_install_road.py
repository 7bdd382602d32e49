"""Install, update, roll back, repair, remove: what is on the disk afterwards, and what went over the line."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Link, Shop, program, run_entry, tree_files, write_packed
from tests.range_server import RangeServer

from lading.errors import (
    Busy,
    ConfigError,
    DigestMismatch,
    FormatInvalid,
    MetadataExpired,
    NotInstalled,
    RollbackDetected,
    RootInvalid,
    SignatureInvalid,
)
from lading.manifest.base import canonical_json, read_record
from lading.manifest.channel import ChannelEntry
from lading.manifest.release import Release
from lading.publish.folder import FolderDestination
from lading.publish.publisher import publish
from lading.sign.repository import sign_repository
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version
from lading.store.lock import hold
from lading.store.preview import plan_install
from lading.store.removal import uninstall
from lading.store.rollback import rollback
from lading.store.status import status

LIBS: Files = {
    "_internal/nvidia/libcublas.so.12": os.urandom(90_000),
    "_internal/nvidia/libcudnn.so.9": os.urandom(40_000),
    "_internal/libcublas.so.12": Link("nvidia/libcublas.so.12"),
}
CORE: Files = {
    ENTRY: program("one"),
    "_internal/base.pyc": os.urandom(30_000),
    "_internal/gone.pyc": os.urandom(3_000),
    "_internal/old-name.pyc": os.urandom(5_000),
    "_internal/empty": b"",
    "_internal/tool.sh": program("tool"),
}
NEXT: Files = {
    **{path: data for path, data in CORE.items() if "gone" not in path and "old-name" not in path},
    ENTRY: program("two"),
    "_internal/new-name.pyc": CORE["_internal/old-name.pyc"],
    "_internal/deep/new.pyc": os.urandom(9_000),
}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=30_000)
    made.release("0.1.0", CORE, LIBS)
    return made


def test_a_first_install_gives_exactly_the_release_runnable_and_described(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    result = install(server.url, shop.root, data, app=APP)
    assert tree_files(Path(result.tree)) == {**CORE, **LIBS}
    assert subprocess.run([result.entry], capture_output=True, text=True, check=True).stdout == "one\n"
    assert run_entry(data) == "one"
    version = current_version(Home(data, "cuda"))
    assert version is not None
    assert (version.marker.version, version.marker.label, version.marker.flavor) == ("0.1.0", "cu126-v1", "cu126")
    assert version.release().tree == version.marker.tree
    assert result.version_id == f"0.1.0+cu126-v1-{version.marker.tree[:8]}"
    assert sorted(path.name for path in version.folder.iterdir()) == [
        ".lading-version", "core.index.zst", "libs.index.zst", "release.json", "tree",
    ]  # fmt: skip
    assert not list((data / "backends/cuda/partial").iterdir())


@pytest.mark.proves("S1-18")
@pytest.mark.skipif(os.name != "posix", reason="there is no executable bit")
def test_the_executable_bit_is_set_whatever_the_umask(shop: Shop, data: Path) -> None:
    before = os.umask(0o177)
    try:
        result = install(str(shop.store), shop.root, data, app=APP)
    finally:
        os.umask(before)
    modes = {path: (Path(result.tree) / path).stat().st_mode & 0o7777 for path in (*CORE, *LIBS)}
    assert modes[ENTRY] == modes["_internal/tool.sh"] == 0o755
    assert modes["_internal/base.pyc"] == 0o644


@pytest.mark.proves("S1-08")
def test_only_what_changed_is_fetched(shop: Shop, server: RangeServer, data: Path) -> None:
    first = install(server.url, shop.root, data, app=APP)
    assert server.asked("-core-0.1.0-cu126-linux-x86_64.tar.zst")
    assert server.asked("-libs-cu126-v1-linux-x86_64.tar.zst")

    server.requests.clear()
    same = install(server.url, shop.root, data, app=APP)
    assert same.already_installed
    assert [path for path, _ in server.requests] == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert same.bytes_received < 4096

    shop.release("0.1.1", NEXT, LIBS)
    server.requests.clear()
    app_only = install(server.url, shop.root, data, app=APP)
    assert server.asked("-core-0.1.1-")
    assert not server.asked("-libs-")
    assert app_only.bytes_fetched < first.bytes_fetched / 5
    assert (app_only.previous, run_entry(data)) == (first.version_id, "two")

    new_libs = {**LIBS, "_internal/nvidia/libcudnn.so.9": os.urandom(41_000)}
    shop.release("0.1.2", NEXT, new_libs, label="cu126-v2")
    server.requests.clear()
    libs_only = install(server.url, shop.root, data, app=APP)
    assert server.asked("-libs-cu126-v2-linux-x86_64.tar.zst")
    assert not server.asked("-core-0.1.2-cu126-linux-x86_64.tar.zst")
    assert tree_files(Path(libs_only.tree)) == {**NEXT, **new_libs}
    assert libs_only.files_written == 1


@pytest.mark.proves("S1-15")
def test_after_an_update_no_file_of_the_older_version_remains(shop: Shop, server: RangeServer, data: Path) -> None:
    old = install(server.url, shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    new = install(server.url, shop.root, data, app=APP)
    assert tree_files(Path(new.tree)) == {**NEXT, **LIBS}
    assert not (Path(new.tree) / "_internal/gone.pyc").exists()
    assert tree_files(Path(old.tree)) == {**CORE, **LIBS}


def test_unchanged_and_renamed_files_are_links_and_cost_no_disk(shop: Shop, data: Path) -> None:
    old = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    new = install(str(shop.store), shop.root, data, app=APP)
    for ours, theirs in (
        ("_internal/nvidia/libcublas.so.12", "_internal/nvidia/libcublas.so.12"),
        ("_internal/new-name.pyc", "_internal/old-name.pyc"),
    ):
        assert (Path(new.tree) / ours).samefile(Path(old.tree) / theirs)
    assert (new.files_written, new.files_reused) == (2, 6)
    assert not (Path(new.tree) / ENTRY).samefile(Path(old.tree) / ENTRY)


def test_a_damaged_installed_file_is_not_reused_and_not_repaired_through_a_link(shop: Shop, data: Path) -> None:
    old = install(str(shop.store), shop.root, data, app=APP)
    victim = Path(old.tree) / "_internal/nvidia/libcublas.so.12"
    damaged = b"x" * victim.stat().st_size
    victim.write_bytes(damaged)
    shop.release("0.1.1", NEXT, LIBS)
    new = install(str(shop.store), shop.root, data, app=APP)
    assert tree_files(Path(new.tree)) == {**NEXT, **LIBS}
    assert victim.read_bytes() == damaged
    assert not (Path(new.tree) / "_internal/nvidia/libcublas.so.12").samefile(victim)


@pytest.mark.parametrize("how", ["missing", "cut off", "no marker", "no index"])
def test_installing_over_a_damaged_version_gives_a_sound_one_beside_it(shop: Shop, data: Path, how: str) -> None:
    old = install(str(shop.store), shop.root, data, app=APP)
    victim = Path(old.tree) / "_internal/base.pyc"
    match how:
        case "missing":
            victim.unlink()
        case "cut off":
            os.truncate(victim, 5)
        case "no marker":
            (Path(old.path) / ".lading-version").unlink()
        case _:
            (Path(old.path) / "core.index.zst").unlink()
    new = install(str(shop.store), shop.root, data, app=APP)
    assert new.version_id == f"{old.version_id}.2"
    assert tree_files(Path(new.tree)) == {**CORE, **LIBS}
    assert run_entry(data) == "one"
    if how in {"missing", "cut off"}:
        assert new.files_written == 1


def test_rolling_back_needs_no_network_and_goes_back_step_by_step(shop: Shop, data: Path) -> None:
    first = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, {**LIBS, "more.so": b"m" * 9000}, label="cu126-v2")
    second = install(str(shop.store), shop.root, data, app=APP)
    (shop.store / "metadata/timestamp.json").unlink()
    assert status(data).variants[0].previous == first.version_id
    result = rollback(data, "cuda")
    assert (result.left, result.current) == (second.version_id, first.version_id)
    assert run_entry(data) == "one"
    with pytest.raises(NotInstalled, match="before the current one"):
        rollback(data, "cuda")
    assert run_entry(data) == "one"
    assert rollback(data, "cuda", to=second.version_id).current == second.version_id
    assert run_entry(data) == "two"


def test_a_damaged_version_is_not_rolled_back_to(shop: Shop, data: Path) -> None:
    first = install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    install(str(shop.store), shop.root, data, app=APP)
    (Path(first.tree) / ENTRY).unlink()
    with pytest.raises(NotInstalled, match="no whole version"):
        rollback(data, "cuda")
    assert run_entry(data) == "two"


def test_going_back_and_forth_by_version_fetches_nothing_twice(shop: Shop, server: RangeServer, data: Path) -> None:
    install(server.url, shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    install(server.url, shop.root, data, app=APP)
    server.requests.clear()
    assert install(server.url, shop.root, data, app=APP, version="v0.1.0").already_installed
    assert run_entry(data) == "one"
    assert not server.asked("assets/")


@pytest.mark.proves("S1-20")
def test_removing_a_variant_removes_its_whole_folder(shop: Shop, data: Path) -> None:
    install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    install(str(shop.store), shop.root, data, app=APP)
    result = uninstall(data, "cuda")
    assert len(result.removed) == 2
    assert result.left == ()
    assert not (data / "backends").exists()
    with pytest.raises(NotInstalled):
        uninstall(data, "cuda")
    assert status(data).variants == ()
    install(str(shop.store), shop.root, data, app=APP)
    assert run_entry(data) == "two"


def test_what_is_not_ours_survives_a_removal(shop: Shop, data: Path) -> None:
    install(str(shop.store), shop.root, data, app=APP)
    (data / "backends/cuda/versions/my-notes").mkdir()
    (data / "backends/cuda/versions/my-notes/note").write_text("keep")
    (data / "backends/cuda/settings.ini").write_text("keep")
    result = uninstall(data, "cuda")
    assert result.left == ("settings.ini", "versions")
    assert (data / "backends/cuda/versions/my-notes/note").read_text() == "keep"
    assert (data / "backends/cuda/settings.ini").read_text() == "keep"


def test_a_dry_run_says_what_an_install_then_does_and_changes_nothing(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    install(server.url, shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, LIBS)
    before = {path: path.lstat().st_mtime_ns for path in data.rglob("*")}
    plan = plan_install(server.url, shop.root, data, app=APP)
    assert {path: path.lstat().st_mtime_ns for path in data.rglob("*")} == before
    result = install(server.url, shop.root, data, app=APP)
    assert (plan.version_id, sum(plan.fetch_bytes.values())) == (result.version_id, result.bytes_fetched)
    assert (plan.reused_files, plan.reused_bytes) == (result.files_reused, result.bytes_reused)
    assert plan_install(server.url, shop.root, data, app=APP).installed


def test_cpu_and_cuda_lie_side_by_side_and_must_be_named(shop: Shop, data: Path) -> None:
    shop.release("0.1.0", {ENTRY: program("cpu")})
    with pytest.raises(ConfigError, match="cpu, cu126"):
        install(str(shop.store), shop.root, data, app=APP)
    install(str(shop.store), shop.root, data, app=APP, flavor="cu126")
    cpu = install(str(shop.store), shop.root, data, app=APP, flavor="cpu")
    assert cpu.label is None
    assert cpu.version_id.startswith("0.1.0-")
    assert [variant.variant for variant in status(data).variants] == ["cpu", "cuda"]
    uninstall(data, "cpu")
    assert run_entry(data) == "one"


# -- trust


def test_an_expired_repository_is_refused_and_what_is_installed_keeps_running(
    shop: Shop, server: RangeServer, data: Path, tmp_path: Path
) -> None:
    install(server.url, shop.root, data, app=APP)
    stale = Shop(tmp_path / "stale")
    past = datetime.now(UTC).replace(microsecond=0) - timedelta(days=60)
    stale.release("0.1.0", CORE, LIBS, clock=lambda: past)
    with pytest.raises(MetadataExpired, match="timestamp"):
        install(str(stale.store), stale.root, tmp_path / "other", app=APP)
    assert not (tmp_path / "other/backends").exists()
    assert run_entry(data) == "one"
    sign_repository(stale.store, stale.keys, {}, datetime.now(UTC).replace(microsecond=0))
    install(str(stale.store), stale.root, tmp_path / "other", app=APP)
    assert run_entry(tmp_path / "other") == "one"


def test_another_root_is_refused(shop: Shop, data: Path, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    other.release("0.1.0", CORE, LIBS)
    with pytest.raises(SignatureInvalid):
        install(str(shop.store), other.root, data, app=APP)
    with pytest.raises(RootInvalid):
        install(str(shop.store), b"not a root", data, app=APP)
    assert not (data / "backends").exists()


def test_a_repository_that_goes_back_is_refused(shop: Shop, data: Path, tmp_path: Path) -> None:
    install(str(shop.store), shop.root, data, app=APP)
    kept = {path.name: path.read_bytes() for path in (shop.store / "metadata").iterdir()}
    shop.release("0.1.1", NEXT, LIBS)
    install(str(shop.store), shop.root, data, app=APP)
    seen = (data / "trust/timestamp.json").read_bytes()
    (shop.store / "metadata/timestamp.json").write_bytes(kept["timestamp.json"])
    with pytest.raises(RollbackDetected, match="version"):
        install(str(shop.store), shop.root, data, app=APP)
    assert (data / "trust/timestamp.json").read_bytes() == seen
    assert run_entry(data) == "two"


@pytest.mark.parametrize(
    ("name", "error"),
    [("timestamp.json", SignatureInvalid), ("1.snapshot.json", DigestMismatch), ("1.targets.json", DigestMismatch)],
)
def test_altered_metadata_is_refused(shop: Shop, data: Path, name: str, error: type[Exception]) -> None:
    path = shop.store / "metadata" / name
    path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":9'))
    with pytest.raises(error):
        install(str(shop.store), shop.root, data, app=APP)
    assert not (data / "backends").exists()


def test_a_release_that_is_not_what_its_channel_says_is_refused(shop: Shop, data: Path) -> None:
    file = next(shop.packed("0.1.0").glob("*.release.json"))
    release = read_record(Release, file.read_bytes(), origin="test")
    target = f"releases/{APP}/9.9.9/{file.name}"
    entry = ChannelEntry(version="9.9.9", platform=release.platform, flavor=release.flavor, target=target)
    channel = {"schema": "lading/channel/1", "app": APP, "channel": "stable", "releases": [entry.model_dump()]}
    targets = {target: canonical_json(release), f"channels/{APP}/stable.json": json.dumps(channel).encode()}
    sign_repository(shop.store, shop.keys, targets, datetime.now(UTC).replace(microsecond=0))
    with pytest.raises(FormatInvalid, match="contradicts itself"):
        install(str(shop.store), shop.root, data, app=APP)


@pytest.mark.proves("S1-17")
def test_a_signed_release_that_would_escape_touches_no_disk(tmp_path: Path, data: Path) -> None:
    shop = Shop(tmp_path / "evil")
    hostile: Files = {ENTRY: program("evil"), "sub/link": Link("../../outside")}
    file = write_packed(shop.packed("0.1.0"), "0.1.0", hostile)
    publish(shop.packed("0.1.0"), file, FolderDestination(shop.store), shop.keys)
    with pytest.raises(FormatInvalid, match="outside the tree"):
        install(str(shop.store), shop.root, data, app=APP)
    left = {path.relative_to(data / "backends").as_posix() for path in (data / "backends").rglob("*")}
    assert left <= {"cpu", "cpu/lock", "cpu/state.json"}


# -- one at a time


def test_a_second_install_is_busy_at_once_and_asks_the_server_nothing(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    with hold(Home(data, "cuda").lock), pytest.raises(Busy, match="being changed by process"):
        install(server.url, shop.root, data, app=APP, flavor="cu126")
    assert server.requests == []
    with hold(Home(data, "cuda").lock):
        for change in (lambda: rollback(data, "cuda"), lambda: uninstall(data, "cuda")):
            with pytest.raises(Busy):
                change()
    install(server.url, shop.root, data, app=APP, flavor="cu126")
    assert run_entry(data) == "one"
