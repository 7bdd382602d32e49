"""Publishing to a folder: whole or not there, never changed, resumable."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from filelock import FileLock
from tests.integration.publish_folders import CORE, LIBS, OBJECTS, SIGNED, Breaking, contents
from tests.integration.publish_race import race
from tests.packed_release import APP, ENTRY, Files, Shop, program, write_packed

from lading.errors import (
    AccessDenied,
    Busy,
    ConfigError,
    DestinationUnreachable,
    DigestMismatch,
    LabelTaken,
    MetadataExpired,
    ReleaseTaken,
    SignatureInvalid,
)
from lading.publish.folder import LOCK, FolderDestination
from lading.publish.packed import read_packed
from lading.publish.preview import preview
from lading.publish.publisher import Signature, publish, publish_everywhere
from lading.publish.signing import sign_packed
from lading.sign.clock import system_clock
from lading.sign.keys import development_keys
from lading.store.install import install


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path / "shop")


def test_a_release_is_laid_out_as_documented_and_checks_itself(shop: Shop) -> None:
    shop = Shop(shop.folder, volume=25_000)
    result = shop.release("0.1.0", CORE, LIBS)
    paths = set(contents(shop.store))
    assert {item.path for item in (*result.uploaded, *result.metadata)} == paths
    assert {path.split("/")[0] for path in paths} == {"assets", "metadata", "targets"}
    assert f"assets/core/0.1.0/{APP}-core-0.1.0-cu126-linux-x86_64.tar.zst" in paths
    assert f"assets/libs/cu126-v1/{APP}-libs-cu126-v1-linux-x86_64.tar.zst.003" in paths
    for folder in (shop.store / "assets/core/0.1.0", shop.store / "assets/libs/cu126-v1"):
        names = sorted(path.name for path in folder.glob("*.sha256"))
        subprocess.run(["sha256sum", "--check", "--strict", "--quiet", *names], cwd=folder, check=True)
    assert sum(item.size for item in result.uploaded) == result.bytes_uploaded


def test_publishing_again_sends_nothing_and_changes_nothing(shop: Shop) -> None:
    shop.release("0.1.0", CORE, LIBS)
    before = contents(shop.store)
    result = shop.release("0.1.0", CORE, LIBS)
    assert (result.uploaded, result.metadata, result.bytes_uploaded) == ((), (), 0)
    assert result.bytes_skipped > 0
    assert contents(shop.store) == before


def test_an_app_release_sends_only_the_core_because_libs_are_there(shop: Shop) -> None:
    shop.release("0.1.0", CORE, LIBS)
    before = contents(shop.store)
    result = shop.release("0.1.1", {**CORE, ENTRY: program("two")}, LIBS)
    assert all(item.path.startswith("assets/core/0.1.1/") for item in result.uploaded)
    after = contents(shop.store)
    assert {path for path, data in before.items() if after[path] != data} == {"metadata/timestamp.json"}


def test_libs_need_not_be_packed_again_when_they_are_published(shop: Shop) -> None:
    shop.release("0.1.0", CORE, LIBS)
    file = write_packed(shop.packed("0.1.1"), "0.1.1", {**CORE, "new": b"n"}, LIBS)
    for path in shop.packed("0.1.1").glob("*-libs-*"):
        path.unlink()
    result = publish(shop.packed("0.1.1"), file, FolderDestination(shop.store), shop.keys)
    assert all("/core/" in item.path for item in result.uploaded)


@pytest.mark.parametrize(
    ("core", "libs", "error"),
    [
        pytest.param({**CORE, "more": b"m"}, LIBS, ReleaseTaken, id="version"),
        pytest.param(CORE, {"_internal/nvidia/lib.so": b"other"}, LabelTaken, id="label"),
    ],
)
def test_other_content_under_a_published_name_is_refused(
    shop: Shop, core: Files, libs: Files, error: type[Exception]
) -> None:
    shop.release("0.1.0", CORE, LIBS)
    before = contents(shop.store)
    version = "0.1.0" if error is ReleaseTaken else "0.2.0"
    shutil.rmtree(shop.packed(version), ignore_errors=True)
    with pytest.raises(error, match="already names other content"):
        shop.release(version, core, libs)
    assert contents(shop.store) == before


def test_a_packed_file_that_was_damaged_is_never_published(shop: Shop) -> None:
    file = write_packed(shop.packed("0.1.0"), "0.1.0", CORE, LIBS)
    archive = next(shop.packed("0.1.0").glob("*-libs-*.tar.zst"))
    archive.write_bytes(archive.read_bytes()[:-1] + b"\0")
    with pytest.raises(DigestMismatch, match=archive.name):
        publish(shop.packed("0.1.0"), file, FolderDestination(shop.store), shop.keys)
    assert not (shop.store / "metadata").exists()
    assert not list(shop.store.rglob(f"{archive.name}*"))
    assert not list(shop.store.rglob(".part-*"))


def test_ended_before_every_change_and_repeated_it_ends_the_same_and_clients_never_see_a_half(
    shop: Shop, tmp_path: Path
) -> None:
    shop.release("0.1.0", CORE, LIBS)
    base = tmp_path / "base"
    shutil.copytree(shop.store, base)
    root = shop.root
    file = write_packed(shop.packed("0.2.0"), "0.2.0", {**CORE, ENTRY: program("two")}, LIBS, label="cu126-v2")
    points = 0
    while True:
        store = tmp_path / f"store-{points}"
        shutil.copytree(base, store)
        try:
            publish(shop.packed("0.2.0"), file, Breaking(store, points), shop.keys)
            break
        except DestinationUnreachable:
            pass
        seen = install(str(store), root, tmp_path / f"before-{points}", app=APP)
        assert seen.version == "0.1.0"
        again = publish(shop.packed("0.2.0"), file, FolderDestination(store), shop.keys)
        assert len(again.uploaded) + len(again.skipped) == OBJECTS
        seen = install(str(store), root, tmp_path / f"after-{points}", app=APP)
        assert seen.version == "0.2.0"
        shutil.rmtree(store)
        points += 1
    assert points == OBJECTS + SIGNED


def test_a_second_publisher_is_told_at_once(shop: Shop) -> None:
    shop.release("0.1.0", CORE)
    before = contents(shop.store)
    with FileLock(shop.store / LOCK), pytest.raises(Busy, match="Another publisher"):
        shop.release("0.1.1", CORE)
    assert contents(shop.store) == before


def test_two_publishers_at_once_make_one_sound_repository(shop: Shop, tmp_path: Path) -> None:
    shop.release("0.1.0", CORE)
    done = race(lambda version: shop.release(version, {**CORE, "v": version.encode()}), "0.2.0", "0.3.0")
    assert install(str(shop.store), shop.root, tmp_path / "data", app=APP).version == max(done)


def test_a_destination_signed_with_other_keys_is_left_alone(shop: Shop) -> None:
    shop.release("0.1.0", CORE)
    before = contents(shop.store)
    stranger = Shop(shop.folder / "stranger")
    file = write_packed(stranger.packed("0.2.0"), "0.2.0", CORE)
    with pytest.raises(SignatureInvalid):
        publish(stranger.packed("0.2.0"), file, FolderDestination(shop.store), stranger.keys)
    assert contents(shop.store) == before


def test_an_altered_channel_index_is_not_built_upon(shop: Shop) -> None:
    shop.release("0.1.0", CORE)
    path = next(shop.store.rglob("*.stable.json"))
    path.write_bytes(path.read_bytes().replace(b"0.1.0", b"0.9.0"))
    with pytest.raises(SignatureInvalid, match=r"stable\.json is not the one that was signed"):
        shop.release("0.1.1", CORE)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_destination_is_named(shop: Shop) -> None:
    shop.store.mkdir(parents=True)
    shop.store.chmod(0o500)
    with pytest.raises(AccessDenied, match="store"):
        shop.release("0.1.0", CORE)


def test_a_destination_that_is_a_file_is_named_and_stays(shop: Shop) -> None:
    shop.folder.mkdir(parents=True, exist_ok=True)
    shop.store.write_text("mine")
    with pytest.raises(ConfigError, match="store"):
        shop.release("0.1.0", CORE)
    content = read_packed(shop.packed("0.1.0"), next(shop.packed("0.1.0").glob("*.release.json")))
    ((_, error),) = preview([content], [FolderDestination(shop.store)])
    assert isinstance(error, ConfigError)
    assert shop.store.read_text() == "mine"


def test_signed_on_one_machine_and_published_from_another_without_keys(shop: Shop, tmp_path: Path) -> None:
    for version in ("0.1.0", "0.2.0"):
        file = write_packed(shop.packed(version), version, {**CORE, "v": version.encode()}, LIBS)
        signed = tmp_path / "signed"
        update = sign_packed(shop.packed(version), file, signed, shop.keys)
        assert update.files[-1][0] == "metadata/timestamp.json"
        result = publish(shop.packed(version), file, FolderDestination(shop.store), None, signed=signed)
        assert {item.path for item in result.metadata} == {path for path, _ in update.files}
        again = publish(shop.packed(version), file, FolderDestination(shop.store), None, signed=signed)
        assert (again.uploaded, again.metadata) == ((), ())
    assert install(str(shop.store), shop.root, tmp_path / "data", app=APP).version == "0.2.0"


def test_metadata_signed_for_something_else_is_not_published(shop: Shop, tmp_path: Path) -> None:
    shop.release("0.1.0", CORE)
    file = write_packed(shop.packed("0.2.0"), "0.2.0", CORE)
    before = contents(shop.store)
    for name, keys in (("ours", shop.keys), ("theirs", development_keys(tmp_path / "keys"))):
        other = write_packed(tmp_path / name, "0.2.0", {**CORE, "x": name.encode()})
        wrong_build = sign_packed(tmp_path / name, other, tmp_path / f"signed-{name}", keys)
        assert wrong_build.files
        with pytest.raises(SignatureInvalid, match="no signature for"):
            publish(shop.packed("0.2.0"), file, FolderDestination(shop.store), None, signed=tmp_path / f"signed-{name}")
    late = Signature(folder=tmp_path / "signed", clock=lambda: system_clock() + timedelta(days=31))
    sign_packed(shop.packed("0.2.0"), file, tmp_path / "signed", shop.keys)
    with pytest.raises(MetadataExpired, match="timestamp metadata"):
        publish_everywhere([read_packed(file.parent, file)], [FolderDestination(shop.store)], late)
    sign_packed(shop.packed("0.2.0"), file, tmp_path / "alien", development_keys(tmp_path / "keys"))
    with pytest.raises(SignatureInvalid, match="another root"):
        publish(shop.packed("0.2.0"), file, FolderDestination(shop.store), None, signed=tmp_path / "alien")
    assert contents(shop.store) == before
