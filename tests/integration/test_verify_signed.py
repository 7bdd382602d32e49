"""``lading verify`` on a published repository: would a client accept the release now?"""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program

from lading.sign.clock import system_clock
from lading.sign.repository import sign_repository
from lading.verify import Check, verify_packed

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 5000}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", CORE)
    return made


def signatures(shop: Shop, root: bytes | None = None, record: Path | None = None) -> Check:
    found = record or next((shop.store / "targets").rglob("*0.1.0*.release.json"))
    report = verify_packed(shop.store, found, root=root)
    return next(check for check in report.checks if check.name == "signatures")


def test_a_published_release_is_followed_from_the_root(shop: Shop) -> None:
    own, trusted = signatures(shop), signatures(shop, shop.root)
    assert (own.status, trusted.status) == ("pass", "pass")
    assert "own first root" in own.reason
    assert "the trusted root" in trusted.reason
    assert trusted.evidence["trusted"] is True


def test_another_root_than_the_repositorys_fails(shop: Shop, tmp_path: Path) -> None:
    other = Shop(tmp_path / "other")
    other.release("0.1.0", CORE)
    check = signatures(shop, other.root)
    assert (check.status, check.evidence["error"]) == ("fail", "SignatureInvalid")


@pytest.mark.parametrize("name", ["timestamp.json", "1.snapshot.json", "1.targets.json"])
def test_altered_metadata_fails(shop: Shop, name: str) -> None:
    path = shop.store / "metadata" / name
    path.write_bytes(path.read_bytes().replace(b'"expires"', b'"expireS"'))
    assert signatures(shop).status == "fail"


def test_a_repository_that_has_expired_fails(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE, clock=lambda: system_clock() - timedelta(days=40))
    check = signatures(shop)
    assert (check.status, check.evidence["error"]) == ("fail", "MetadataExpired")


def test_a_release_record_that_is_not_the_signed_one_fails(shop: Shop) -> None:
    record = next((shop.store / "targets").rglob("*.release.json"))
    document = json.loads(record.read_bytes())
    document["provenance"]["commit"] = "other"
    record.write_bytes(json.dumps(document, sort_keys=True, separators=(",", ":")).encode() + b"\n")
    assert signatures(shop).status == "fail"


def test_a_release_that_its_channel_does_not_list_fails(shop: Shop) -> None:
    empty = json.dumps({"schema": "lading/channel/1", "app": APP, "channel": "stable", "releases": []}).encode()
    sign_repository(shop.store, shop.keys, {f"channels/{APP}/stable.json": empty}, system_clock())
    check = signatures(shop)
    assert (check.status, "no channel lists" in check.reason) == ("fail", True)


def test_a_packed_folder_is_not_signed_yet_and_a_repository_without_a_root_is_broken(shop: Shop) -> None:
    packed = shop.packed("0.1.0")
    record = next(packed.glob("*.release.json"))
    report = verify_packed(packed, record)
    assert report.passed
    assert "signatures" not in {check.name for check in report.checks}
    asked = verify_packed(packed, record, root=shop.root)
    assert {check.name: check.reason for check in asked.of("fail")} == {
        "signatures": "it is not published: there is no signed metadata in its folder"
    }
    (shop.store / "metadata/1.root.json").unlink()
    assert "no metadata/1.root.json" in signatures(shop).reason
