"""Signing: keys, versions, expiry, and what is never built upon."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Root, Timestamp

from lading.errors import FormatInvalid, KeyMissing, SignatureInvalid
from lading.sign.keys import ROLES, KeySet, development_keys, key_file_name
from lading.sign.repository import (
    DEVELOPMENT_FIELD,
    TIMESTAMP_EXPIRY,
    Lifetimes,
    folder_reader,
    is_development,
    load_state,
    newest_root,
    sign_repository,
    updated,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
ONE = {"channels/demo/stable.json": b"one"}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_development_keys_are_made_once_private_and_say_what_they_are(tmp_path: Path) -> None:
    first, second = development_keys(tmp_path), development_keys(tmp_path)
    for role in ROLES:
        path = tmp_path / key_file_name(role)
        key = json.loads(path.read_text())
        assert path.name.startswith("development-")
        assert key["development"] is True
        if os.name == "posix":
            assert path.stat().st_mode & 0o777 == 0o600
        (ours,), (again,) = first.signers([key["keyid"]]), second.signers([key["keyid"]])
        assert ours.public_key.keyid == again.public_key.keyid == key["keyid"]
    assert len({key["keyid"] for key in map(json.loads, (p.read_text() for p in tmp_path.glob("*.json")))}) == 4


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda text: text[:-20], id="cut off"),
        pytest.param(lambda text: text.replace('"role":"root"', '"role":"targets"'), id="another role"),
        pytest.param(lambda text: text.replace("BEGIN", "BEGINN"), id="broken key"),
        pytest.param(lambda text: text.replace('"development":true', '"development":false'), id="unmarked"),
    ],
)
def test_a_damaged_key_file_is_refused_and_kept(tmp_path: Path, damage: object) -> None:
    development_keys(tmp_path)
    path = tmp_path / key_file_name("root")
    path.write_text(damage(path.read_text()))  # type: ignore[operator]
    before = path.read_bytes()
    with pytest.raises(FormatInvalid, match="development-root"):
        development_keys(tmp_path)
    assert path.read_bytes() == before


def test_first_signing_writes_the_timestamp_last_and_marks_the_root(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    update = sign_repository(tmp_path / "repo", keys, ONE, NOW)
    names = [path for path, _ in update.files]
    assert names[-1] == "metadata/timestamp.json"
    assert update.versions == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
    root = newest_root(folder_reader(tmp_path / "repo"))
    assert root is not None
    assert is_development(root)
    assert Metadata[Root].from_bytes(root).signed.unrecognized_fields[DEVELOPMENT_FIELD] is True
    assert Metadata[Root].from_bytes(root).signed.consistent_snapshot is True


def test_signing_again_writes_nothing(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    before = contents(tmp_path / "repo")
    update = sign_repository(tmp_path / "repo", keys, ONE, NOW + timedelta(days=1))
    assert update.files == ()
    assert contents(tmp_path / "repo") == before


def test_a_new_target_bumps_three_roles_and_changes_only_the_timestamp_file(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    before = contents(tmp_path / "repo")
    update = sign_repository(tmp_path / "repo", keys, {"channels/demo/stable.json": b"two"}, NOW)
    after = contents(tmp_path / "repo")
    assert update.versions == {"root": 1, "targets": 2, "snapshot": 2, "timestamp": 2}
    assert {path for path in before if after[path] != before[path]} == {"metadata/timestamp.json"}


def test_the_timestamp_is_renewed_at_half_its_life_and_nothing_else(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    lives = Lifetimes(snapshot=timedelta(days=365))
    sign_repository(tmp_path / "repo", keys, ONE, NOW, lives)
    assert not sign_repository(tmp_path / "repo", keys, {}, NOW + TIMESTAMP_EXPIRY * 0.49, lives).files
    update = sign_repository(tmp_path / "repo", keys, {}, NOW + TIMESTAMP_EXPIRY * 0.51, lives)
    assert [path for path, _ in update.files] == ["metadata/timestamp.json"]
    assert update.versions["timestamp"] == 2


def test_the_root_is_renewed_as_a_new_version_signed_by_the_same_keys(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    update = sign_repository(tmp_path / "repo", keys, {}, NOW + timedelta(days=200))
    assert update.versions["root"] == 2
    old, new = (Metadata[Root].from_file(str(tmp_path / f"repo/metadata/{n}.root.json")) for n in (1, 2))
    old.signed.verify_delegate("root", new.signed_bytes, new.signatures)


def test_versions_left_by_a_run_that_died_before_its_timestamp_are_skipped(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    repo = tmp_path / "repo"
    sign_repository(repo, keys, ONE, NOW)
    died = updated(load_state(folder_reader(repo), keys), keys, {"a.json": b"a"}, NOW)
    for path, data in died.files[:-1]:
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_bytes(data)
    before = contents(repo)
    update = sign_repository(repo, keys, {"a.json": b"b"}, NOW)
    assert update.versions == {"root": 1, "targets": 3, "snapshot": 3, "timestamp": 2}
    after = contents(repo)
    assert all(after[path] == data for path, data in before.items() if path != "metadata/timestamp.json")


def test_a_repository_of_other_keys_is_not_built_upon(tmp_path: Path) -> None:
    sign_repository(tmp_path / "repo", development_keys(tmp_path / "theirs"), ONE, NOW)
    before = contents(tmp_path / "repo")
    with pytest.raises(SignatureInvalid, match="belongs to the keys"):
        sign_repository(tmp_path / "repo", development_keys(tmp_path / "ours"), {"b.json": b"b"}, NOW)
    assert contents(tmp_path / "repo") == before


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json", "1.root.json"])
@pytest.mark.parametrize("how", ["altered", "garbage"])
def test_altered_metadata_is_not_built_upon(tmp_path: Path, name: str, how: str) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    path = tmp_path / "repo/metadata" / name
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 7') if how == "altered" else b"{}")
    if how == "altered" and b'"version": 7' not in path.read_bytes():
        path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":7'))
    before = contents(tmp_path / "repo")
    with pytest.raises(SignatureInvalid):
        sign_repository(tmp_path / "repo", keys, {"b.json": b"b"}, NOW)
    assert contents(tmp_path / "repo") == before


def test_missing_metadata_is_not_built_upon(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    (tmp_path / "repo/metadata/1.snapshot.json").unlink()
    with pytest.raises(SignatureInvalid, match=r"1\.snapshot\.json"):
        sign_repository(tmp_path / "repo", keys, {}, NOW)


def test_fewer_keys_than_the_threshold_sign_nothing(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    strict = KeySet(by_role=keys.by_role, thresholds={"targets": 1, "root": 1}, development=True)
    two = KeySet(by_role=keys.by_role, thresholds={"targets": 2}, development=True)
    sign_repository(tmp_path / "good", strict, ONE, NOW)
    with pytest.raises(KeyMissing, match=r"New targets metadata needs 2 of the keys .*; 1 of them are at hand"):
        sign_repository(tmp_path / "repo", two, ONE, NOW)
    assert not (tmp_path / "repo").exists()


def test_expiry_follows_the_clock_that_is_given(tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    sign_repository(tmp_path / "repo", keys, ONE, NOW)
    stamp = Metadata[Timestamp].from_file(str(tmp_path / "repo/metadata/timestamp.json"))
    assert stamp.signed.expires == NOW + TIMESTAMP_EXPIRY
