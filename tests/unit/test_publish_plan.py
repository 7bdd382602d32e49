"""What is published, what is skipped, what is refused: decisions without a destination."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, program, write_packed

from lading.errors import DigestMismatch, FormatInvalid, LabelTaken, ReleaseTaken
from lading.manifest.base import read_record
from lading.manifest.channel import Channel
from lading.manifest.release import Release
from lading.publish.destination import Stored
from lading.publish.listing import with_release
from lading.publish.packed import Packed, read_packed
from lading.publish.plan import nowhere, plan_objects


@pytest.fixture
def packed(tmp_path: Path) -> Packed:
    file = write_packed(tmp_path, "0.1.0", {ENTRY: program("one")}, {"lib.so": b"l" * 9000}, volume=2000)
    return read_packed(tmp_path, file)


def there(packed: Packed) -> dict[str, Stored]:
    return {item.path: Stored(size=item.size, sha256=item.sha256) for item in packed.objects}


def test_a_components_record_is_its_last_object_and_every_asset_has_a_checksum(packed: Packed) -> None:
    paths = [item.path for item in packed.objects]
    core = [path for path in paths if "/core/" in path]
    assert core[-1].endswith("-linux-x86_64.json")
    assert paths[: len(core)] == core
    for path in paths:
        assert path.endswith(".sha256") or f"{path}.sha256" in paths


def test_everything_is_sent_to_an_empty_destination_and_nothing_to_a_complete_one(packed: Packed) -> None:
    assert plan_objects(packed, {}).upload == packed.objects
    assert plan_objects(packed, there(packed)).upload == ()


@pytest.mark.parametrize(("part", "error"), [("/core/", ReleaseTaken), ("/libs/", LabelTaken)])
def test_other_bytes_under_a_published_name_stop_everything(packed: Packed, part: str, error: type[Exception]) -> None:
    path = next(item.path for item in packed.objects if part in item.path)
    found = {path: Stored(size=1, sha256="0" * 64)}
    with pytest.raises(error, match="other content"):
        plan_objects(packed, found)


def test_an_object_neither_packed_nor_published_is_told_apart(packed: Packed, tmp_path: Path) -> None:
    volume = next(tmp_path.glob("*core*.tar.zst"))
    volume.unlink()
    plan = plan_objects(packed, {})
    assert [item.source for item in plan.absent] == [volume]
    assert "neither packed nor published" in nowhere(packed.release, plan.absent).what
    assert volume.name not in {Path(item.path).name for item in plan_objects(packed, there(packed)).upload}


def test_a_checksum_file_that_contradicts_the_release_is_refused(tmp_path: Path) -> None:
    file = write_packed(tmp_path, "0.1.0", {ENTRY: program("one")})
    beside = next(tmp_path.glob("*core*.tar.zst.sha256"))
    beside.write_text(f"{'0' * 64}  {beside.name.removesuffix('.sha256')}\n")
    with pytest.raises(DigestMismatch, match=beside.name):
        read_packed(tmp_path, file)


def test_a_foreign_component_record_and_a_missing_manifest_are_refused(tmp_path: Path) -> None:
    file = write_packed(tmp_path, "0.1.0", {ENTRY: program("one")})
    record = next(tmp_path.glob("*-core-*-linux-x86_64.json"))
    record.write_text("{}")
    with pytest.raises(FormatInvalid, match=record.name):
        read_packed(tmp_path, file)
    file.unlink()
    with pytest.raises(FormatInvalid, match="there is no"):
        read_packed(tmp_path, file)


def test_channels_list_the_newest_version_first_and_each_release_once(tmp_path: Path) -> None:
    channel = Channel(app=APP, channel="stable", releases=())
    for version in ("0.9.0", "0.10.0", "0.2.0", "0.10.0-rc.1", "0.10.0"):
        file = write_packed(tmp_path / version, version, {ENTRY: program(version)})
        release = read_record(Release, file.read_bytes(), origin="test")
        channel = with_release(channel, release, f"releases/{version}.json")
    assert [entry.version for entry in channel.releases] == ["0.10.0", "0.10.0-rc.1", "0.9.0", "0.2.0"]
