"""What every destination does alike: a folder, Swift, moto with IAM, and R2's rules in front of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.doubles.fixtures import MakePlace
from tests.packed_release import APP, ENTRY, Files, program, write_packed

from lading.digest import sha256_bytes
from lading.errors import Busy, DigestMismatch, FormatInvalid, LabelTaken, ReleaseTaken, SignatureInvalid
from lading.publish.destination import Destination, Stored
from lading.publish.folder import LOCK, FolderDestination
from lading.publish.outcome import PublishResult
from lading.publish.publisher import publish
from lading.publish.s3 import OURS
from lading.sign.clock import system_clock
from lading.sign.keys import development_keys
from lading.store.install import install

TIMESTAMP = "metadata/timestamp.json"
LARGE = 11 * 2**20  # three parts
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 30_000}
LIBS: Files = {"_internal/nvidia/lib.so": b"\x7fELF" + bytes(range(256)) * 200}


@dataclass(frozen=True, kw_only=True)
class Site:
    """A destination, opened anew as often as wanted, and what lies there."""

    open: Callable[[], Destination]
    contents: Callable[[], dict[str, bytes]]
    public: str | None


@pytest.fixture(params=["folder", "swift", "moto", "r2"])
def site(request: pytest.FixtureRequest, make_place: MakePlace, tmp_path: Path) -> Site:
    if request.param == "folder":
        folder = tmp_path / "site"

        def files() -> dict[str, bytes]:
            found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
            return {name: path.read_bytes() for name, path in found.items() if name != LOCK}

        return Site(open=lambda: FolderDestination(folder), contents=files, public=str(folder))
    place = make_place(request.param)
    public = f"{place.public}/repo" if place.public else None
    return Site(open=place.open, contents=place.contents, public=public)


def ignore(_: int) -> None:
    pass


def stored(data: bytes) -> Stored:
    return Stored(size=len(data), sha256=sha256_bytes(data))


def test_nothing_is_there_at_first(site: Site) -> None:
    destination = site.open()
    assert destination.stat("assets/core/0.1.0/a.tar.zst") is None
    assert destination.read(TIMESTAMP) is None
    assert destination.read("metadata/1.root.json") is None


def test_a_small_object_is_there_for_everybody_once_it_was_put(site: Site) -> None:
    data = b'{"x":1}\n'
    site.open().put_bytes("metadata/1.root.json", data)
    assert site.open().read("metadata/1.root.json") == data
    assert site.open().stat("metadata/1.root.json") == stored(data)
    assert site.contents() == {"metadata/1.root.json": data}


@pytest.mark.parametrize("size", [0, 1, 100_000, LARGE])
def test_a_file_arrives_whole_and_its_bytes_are_counted_once(site: Site, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "file").write_bytes(data)
    heard: list[int] = []
    sent = site.open().put_file("assets/core/0.1.0/a+b.tar.zst", tmp_path / "file", stored(data), heard.append)
    assert sent in {size, 0}, "a folder links"
    assert site.open().get_file("assets/core/0.1.0/a+b.tar.zst", tmp_path / "back") == stored(data)
    assert (tmp_path / "back").read_bytes() == data
    assert site.open().get_file("assets/core/0.1.0/other", tmp_path / "back") is None
    assert site.open().stat("assets/core/0.1.0/a+b.tar.zst") == stored(data)
    assert site.contents() == {"assets/core/0.1.0/a+b.tar.zst": data}
    assert sum(heard) == size
    assert min(heard, default=0) >= 0


@pytest.mark.parametrize("size", [1000, LARGE])
@pytest.mark.parametrize("harm", ["altered", "cut off", "longer"])
def test_a_file_that_is_not_what_it_should_be_leaves_nothing(site: Site, tmp_path: Path, size: int, harm: str) -> None:
    data = os.urandom(size)
    harmed = {"altered": data[:-1] + bytes([data[-1] ^ 1]), "cut off": data[:-1], "longer": data + b"x"}[harm]
    (tmp_path / "file").write_bytes(harmed)
    with pytest.raises(DigestMismatch, match=sha256_bytes(data)):
        site.open().put_file("assets/core/0.1.0/a.tar.zst", tmp_path / "file", stored(data), ignore)
    assert site.open().stat("assets/core/0.1.0/a.tar.zst") is None
    assert site.contents() == {}


def test_the_timestamp_is_replaced_and_read_anew(site: Site) -> None:
    destination = site.open()
    for data in (b"one", b"two", b"three"):
        before = destination.read(TIMESTAMP)
        assert before != data
        destination.put_bytes(TIMESTAMP, data)
        assert site.open().read(TIMESTAMP) == data


def test_a_second_publisher_is_told_at_once_and_may_come_back_later(site: Site) -> None:
    first, second = site.open(), site.open()
    with first.hold():
        with pytest.raises(Busy, match="Another publisher"), second.hold():
            raise AssertionError("two hold it")
        first.put_bytes("metadata/1.root.json", b"root")
    with second.hold():
        assert second.read("metadata/1.root.json") == b"root"
    assert site.contents() == {"metadata/1.root.json": b"root"}


class Releases:
    """Packs and publishes to one site."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.keys = development_keys(folder / "keys")

    def publish(self, version: str, core: Files, libs: Files | None = None, label: str = "cu126-v1") -> PublishResult:
        packed = self.folder / f"packed-{version}-{len(list(self.folder.iterdir()))}"
        file = write_packed(packed, version, core, libs, label=label, volume=25_000)
        return publish(packed, file, self.site.open(), self.keys)

    @property
    def root(self) -> bytes:
        return self.site.contents()["metadata/1.root.json"]


@pytest.fixture
def releases(site: Site, tmp_path: Path) -> Releases:
    (tmp_path / "shop").mkdir()
    return Releases(site, tmp_path / "shop")


def test_a_release_is_laid_out_alike_everywhere_and_published_once(releases: Releases) -> None:
    result = releases.publish("0.1.0", CORE, LIBS)
    there = releases.site.contents()
    assert {item.path for item in (*result.uploaded, *result.metadata)} == set(there)
    assert not [path for path in there if path.startswith(OURS)]
    assert "assets/libs/cu126-v1/demo-app-libs-cu126-v1-linux-x86_64.index.zst" in there
    again = releases.publish("0.1.0", CORE, LIBS)
    assert (again.uploaded, again.metadata, again.bytes_uploaded) == ((), (), 0)
    assert releases.site.contents() == there


def test_an_app_release_sends_only_the_core_and_replaces_only_the_timestamp(releases: Releases) -> None:
    releases.publish("0.1.0", CORE, LIBS)
    before = releases.site.contents()
    result = releases.publish("0.1.1", {**CORE, ENTRY: program("two")}, LIBS)
    assert all(item.path.startswith("assets/core/0.1.1/") for item in result.uploaded)
    after = releases.site.contents()
    assert {path for path, data in before.items() if after[path] != data} == {TIMESTAMP}


@pytest.mark.parametrize(
    ("version", "core", "libs", "error"),
    [
        pytest.param("0.1.0", {**CORE, "more": b"m"}, LIBS, ReleaseTaken, id="version"),
        pytest.param("0.2.0", CORE, {"_internal/nvidia/lib.so": b"other"}, LabelTaken, id="label"),
    ],
)
def test_other_content_under_a_published_name_is_refused_before_anything_is_sent(
    releases: Releases, version: str, core: Files, libs: Files, error: type[Exception]
) -> None:
    releases.publish("0.1.0", CORE, LIBS)
    before = releases.site.contents()
    with pytest.raises(error, match="already names other content"):
        releases.publish(version, core, libs)
    assert releases.site.contents() == before


def test_a_manifest_that_names_a_missing_asset_sends_nothing(releases: Releases) -> None:
    file = write_packed(releases.folder / "packed", "0.1.0", CORE, LIBS)
    next(file.parent.glob("*-libs-*.index.zst")).unlink()
    with pytest.raises(FormatInvalid, match="neither packed nor published"):
        publish(file.parent, file, releases.site.open(), releases.keys)
    assert releases.site.contents() == {}


def test_metadata_that_somebody_else_signed_is_not_built_upon(releases: Releases, tmp_path: Path) -> None:
    releases.publish("0.1.0", CORE, LIBS)
    before = releases.site.contents()
    releases.keys = development_keys(tmp_path / "others")
    with pytest.raises(SignatureInvalid):
        releases.publish("0.2.0", CORE, LIBS)
    assert releases.site.contents() == before


def test_metadata_that_has_expired_is_signed_anew(releases: Releases) -> None:
    releases.publish("0.1.0", CORE, LIBS)
    file = write_packed(releases.folder / "packed", "0.1.0", CORE, LIBS, volume=25_000)
    later = publish(
        file.parent, file, releases.site.open(), releases.keys, lambda: system_clock() + timedelta(days=100)
    )
    assert [item.path for item in later.metadata] == ["metadata/2.snapshot.json", TIMESTAMP]
    assert later.uploaded == ()


def test_what_was_published_can_be_installed(releases: Releases, tmp_path: Path) -> None:
    if releases.site.public is None:
        pytest.skip("moto with IAM serves nobody without credentials; Swift and the folder do")
    releases.publish("0.1.0", CORE, LIBS)
    assert install(releases.site.public, releases.root, tmp_path / "data", app=APP).version == "0.1.0"
    releases.publish("0.2.0", {**CORE, ENTRY: program("two")}, LIBS)
    assert install(releases.site.public, releases.root, tmp_path / "data", app=APP).version == "0.2.0"
