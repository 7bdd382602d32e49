"""Updates by patch: what is fetched, what is made, and what happens when the patch or an older file is not right."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from backports.zstd import compress
from tests.packed_release import (
    APP,
    ENTRY,
    Earlier,
    Files,
    Link,
    Shop,
    index_of,
    program,
    tree_files,
    write_packed,
)
from tests.range_server import Answer, RangeServer, serving
from typing_extensions import override

from lading.delta.container import read_patch, write_patch
from lading.digest import sha256_bytes
from lading.errors import SourceUnreachable
from lading.fetch.indexes import proves
from lading.fetch.patches import patch_file
from lading.manifest.base import canonical_json, read_record
from lading.manifest.patchfile import PatchHeader
from lading.manifest.release import Asset, Release
from lading.progress import Silent
from lading.publish.folder import FolderDestination
from lading.publish.publisher import publish
from lading.store.home import Home
from lading.store.install import install
from lading.store.preview import plan_install
from lading.store.result import InstallResult
from lading.store.sealed import seal_time
from lading.store.unfinished import begin

MODULES: Files = {f"_internal/demo/m{number:03}.pyc": os.urandom(700) * 2 for number in range(200)}
BIG = os.urandom(120_000)
CORE: Files = {ENTRY: program("one"), "_internal/native.so": BIG, **MODULES}
NEXT: Files = {
    **CORE,
    ENTRY: program("two"),
    "_internal/native.so": BIG[:50_000] + b"patched" + BIG[50_000:],
    "_internal/demo/m007.pyc": b"new" + bytes(MODULES["_internal/demo/m007.pyc"]),  # type: ignore[arg-type]
    "_internal/demo/added.pyc": os.urandom(500),
}
LIBRARY = os.urandom(300_000)
LIBS: Files = {"_internal/nvidia/libcublas.so.12": LIBRARY, "_internal/nvidia/other.so": os.urandom(40_000)}
LIBS_2: Files = {**LIBS, "_internal/nvidia/libcublas.so.12": LIBRARY[:200_000] + b"12.6.85" + LIBRARY[200_000:]}


class Notes(Silent):
    """Remembers what was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @override
    def note(self, text: str) -> None:
        self.told.append(text)


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=200_000)
    made.release("0.1.0", CORE, LIBS)
    return made


@pytest.fixture
def data(shop: Shop, tmp_path: Path) -> Path:
    """A data directory with the first release."""
    install(str(shop.store), shop.root, tmp_path / "data", app=APP)
    return tmp_path / "data"


def update(server: RangeServer, shop: Shop, data: Path, notes: Notes | None = None) -> InstallResult:
    server.requests.clear()
    return install(server.url, shop.root, data, app=APP, progress=notes)


def patch_path(shop: Shop) -> Path:
    (found,) = (shop.store / "assets").rglob("*.patch")
    return found


def nothing_is_left(data: Path) -> None:
    assert not list((data / "backends/cuda/partial").iterdir())
    assert not list(data.rglob("*.patch"))
    assert not list(data.rglob("*.tmp"))


# -- the fast path


@pytest.mark.proves("S1-08")
def test_a_code_only_update_is_one_patch_and_less_than_32_kilobytes_in_all(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    result = update(server, shop, data)

    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert [(way.component, way.how) for way in result.ways] == [("core", "patch"), ("libs", "nothing")]
    asked = server.asked("assets/")
    assert asked == [patch_path(shop).relative_to(shop.store).as_posix()], "no index, no archive, nothing of libs"
    assert result.received["patches"] == patch_path(shop).stat().st_size
    assert result.received["indexes"] == result.received["frames"] == result.bytes_fetched == 0
    assert sum(result.received.values()) == result.bytes_received <= 32_000
    assert (result.files_patched, result.files_written) == (4, 0)
    core = result.ways[0]
    assert core.instead is not None
    assert core.bytes * 20 < core.instead
    nothing_is_left(data)


@pytest.mark.proves("S1-08")
def test_what_is_up_to_date_asks_for_no_archive(shop: Shop, server: RangeServer, data: Path) -> None:
    result = update(server, shop, data)
    assert result.already_installed
    assert [path for path, _ in server.requests] == ["metadata/2.root.json", "metadata/timestamp.json"]
    assert result.received == {"metadata": result.bytes_received, "indexes": 0, "patches": 0, "frames": 0}


@pytest.mark.proves("S1-08")
def test_other_libs_under_the_same_core_are_one_patch_and_nothing_of_core(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    shop.release("0.1.1", CORE, LIBS_2, label="cu126-v2", patches=["0.1.0", "cu126-v1"])
    result = update(server, shop, data)

    assert tree_files(Path(result.tree)) == {**CORE, **LIBS_2}
    assert [path for path in server.asked("assets/") if "/core/" in path and not path.endswith(".index.zst")] == []
    assert server.asked("-libs-") == [patch_path(shop).relative_to(shop.store).as_posix()]
    assert result.files_patched == 1
    assert result.bytes_received < 32_000
    nothing_is_left(data)


def test_an_index_that_came_from_a_patch_is_as_good_as_a_fetched_one(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    first = update(server, shop, data)
    record = read_record(Release, (Path(first.path) / "release.json").read_bytes(), origin="test").components[0]
    assert proves((Path(first.path) / "core.index.zst").read_bytes(), record)
    shop.release("0.1.2", {**NEXT, ENTRY: program("three")}, LIBS, patches=["0.1.1"])
    second = update(server, shop, data)
    assert [way.how for way in second.ways] == ["patch", "nothing"]
    assert tree_files(Path(second.tree)) == {**NEXT, ENTRY: program("three"), **LIBS}


def test_an_index_that_another_compressor_made_is_known_by_its_content(tmp_path: Path) -> None:
    """As when the publisher has another libzstd than the client."""
    shop = Shop(tmp_path / "shop", level=1)
    data = tmp_path / "data"
    shop.release("0.1.0", CORE)
    install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, patches=["0.1.0"])
    with serving(shop.store) as server:
        first = update(server, shop, data)
        kept = (Path(first.path) / "core.index.zst").read_bytes()
        record = read_record(Release, (Path(first.path) / "release.json").read_bytes(), origin="test").components[0]
        assert sha256_bytes(kept) != record.index.sha256
        assert update(server, shop, data).already_installed
        shop.release("0.1.2", {**NEXT, ENTRY: program("three")}, patches=["0.1.1"])
        second = update(server, shop, data)
        assert [way.how for way in second.ways] == ["patch"]
        (Path(second.tree) / "_internal/native.so").unlink()
        repaired = update(server, shop, data)
    assert tree_files(Path(repaired.tree)) == {**NEXT, ENTRY: program("three")}
    assert repaired.received["indexes"] == 0


def test_a_kept_index_that_the_disk_damaged_is_not_used(tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop", level=1)
    data = tmp_path / "data"
    shop.release("0.1.0", CORE)
    install(str(shop.store), shop.root, data, app=APP)
    shop.release("0.1.1", NEXT, patches=["0.1.0"])
    result = install(str(shop.store), shop.root, data, app=APP)
    kept = Path(result.path) / "core.index.zst"
    whole = kept.read_bytes()
    for at in range(0, len(whole), max(1, len(whole) // 12)):
        kept.write_bytes(whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :])
        again = install(str(shop.store), shop.root, data, app=APP, keep=2)
        assert tree_files(Path(again.tree)) == NEXT
        kept = Path(again.path) / "core.index.zst"
        kept.write_bytes(whole)


def test_a_patch_from_another_version_than_the_installed_ones_is_not_asked_for(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    shop.release("0.1.1", NEXT, LIBS)
    shop.release("0.1.2", {**NEXT, "_internal/native.so": BIG}, LIBS, patches=["0.1.1"])
    result = update(server, shop, data)
    assert not server.asked(".patch")
    assert result.ways[0].how == "frames"
    assert result.ways[0].why == "no patch leads here from an installed version"


def test_of_several_patches_the_smallest_is_taken(shop: Shop, server: RangeServer, data: Path) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    update(server, shop, data)
    shop.release("0.1.2", {**NEXT, "_internal/demo/added.pyc": b"x" * 900}, LIBS, patches=["0.1.0", "0.1.1"])
    update(server, shop, data)
    (asked,) = server.asked(".patch")
    assert asked.endswith("-from-0.1.1.patch")


def test_a_large_file_is_patched_in_parts(
    shop: Shop, server: RangeServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, size in (("WHOLE", 10_000), ("PART", 4_000), ("OLDER", 9_000)):
        monkeypatch.setattr(f"lading.delta.parts.{name}", size)
    grown = BIG[:3_000] + BIG[3_100:70_000] + b"patched" * 30 + BIG[70_000:]
    new_file = bytes(25_000) + b"compressible"
    shop.release("0.1.1", {**CORE, "_internal/native.so": grown, "_internal/new.so": new_file}, LIBS, patches=["0.1.0"])
    header, _ = read_patch(patch_path(shop).read_bytes(), origin="test")
    parts = [blob for blob in header.files if blob.path == "_internal/native.so"]
    assert len(parts) == -(-len(grown) // 4_000)
    assert {blob.old_size for blob in parts} == {9_000}
    result = update(server, shop, data)
    assert tree_files(Path(result.tree)) == {
        **CORE,
        **LIBS,
        "_internal/native.so": grown,
        "_internal/new.so": new_file,
    }
    assert (result.ways[0].how, result.files_patched, result.files_written) == ("patch", 2, 0)
    nothing_is_left(data)


@pytest.mark.parametrize("limit", ["WHOLE", "OLDER"])
def test_a_blob_that_would_need_much_memory_is_not_decoded(
    shop: Shop, server: RangeServer, data: Path, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    monkeypatch.setattr(f"lading.store.patching.{limit}", 100_000)
    result = update(server, shop, data)
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert (result.files_patched, result.files_written) == (3, 1)


# -- whichever costs fewer bytes


def test_a_patch_that_carries_what_is_here_already_is_not_taken(shop: Shop, server: RangeServer, data: Path) -> None:
    extra = os.urandom(250_000)
    shop.release("0.1.1", {**NEXT, "_internal/extra.so": extra}, LIBS)
    update(server, shop, data)
    install(str(shop.store), shop.root, data, app=APP, version="0.1.0")
    shop.release("0.1.2", {**CORE, "_internal/extra.so": extra}, LIBS, patches=["0.1.0"])
    size = patch_path(shop).stat().st_size
    assert size > 250_000
    result = update(server, shop, data)

    assert tree_files(Path(result.tree)) == {**CORE, "_internal/extra.so": extra, **LIBS}
    assert not server.asked(".patch")
    assert result.bytes_received < size / 4
    assert (result.ways[0].frame_bytes, result.ways[0].patch_bytes) == (0, 0)


def test_a_large_patch_is_compared_with_the_frames_first(shop: Shop, server: RangeServer, data: Path) -> None:
    """An index costs little beside such a patch; and the patch is fewer bytes than the frames."""
    cut = {f"_internal/new{number}.so": os.urandom(20_000) for number in range(5)}
    shop.release("0.1.1", {**NEXT, **cut}, LIBS, patches=["0.1.0"])
    dry = plan_install(server.url, shop.root, data, app=APP)
    assert dry.ways[0].how == "patch"
    assert dry.ways[0].index_bytes > 0
    assert not server.asked(".patch"), "a dry run asks for no large patch"
    result = update(server, shop, data)
    assert result.ways[0].how == "patch"
    assert result.received["patches"] == patch_path(shop).stat().st_size
    assert result.received["frames"] == 0
    assert tree_files(Path(result.tree)) == {**NEXT, **cut, **LIBS}
    assert (dry.ways, dry.expected, dry.patched_files) == (result.ways, result.received, result.files_patched)


@pytest.mark.parametrize("patches", [[], ["0.1.0"]])
def test_a_dry_run_expects_what_is_then_received(
    shop: Shop, server: RangeServer, data: Path, patches: list[str]
) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=patches)
    before = {path: path.lstat().st_mtime_ns for path in data.rglob("*")}
    dry = plan_install(server.url, shop.root, data, app=APP)
    assert {path: path.lstat().st_mtime_ns for path in data.rglob("*")} == before
    result = update(server, shop, data)
    assert dry.expected == result.received
    assert dry.ways == result.ways
    assert (len(dry.patched), len(dry.written)) == (result.files_patched, result.files_written)
    assert sum(part.size for part in dry.ranges) == result.bytes_fetched
    assert {item.path for item in dry.reuse} | {*dry.patched, *dry.written} == set(tree_files(Path(result.tree)))


# -- a patch that is not right


def gone(patch: Path) -> None:
    patch.unlink()


def cut_off(patch: Path) -> None:
    patch.write_bytes(patch.read_bytes()[:-3])


def altered(patch: Path) -> None:
    data = bytearray(patch.read_bytes())
    data[len(data) // 2] ^= 1
    patch.write_bytes(bytes(data))


def longer(patch: Path) -> None:
    patch.write_bytes(patch.read_bytes() + b"x")


def nothing(patch: Path) -> None:
    patch.write_bytes(b"")


@pytest.mark.parametrize("fault", [gone, cut_off, altered, longer, nothing])
def test_a_patch_that_is_not_the_signed_one_is_done_without(
    shop: Shop, server: RangeServer, data: Path, fault: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    fault(patch_path(shop))
    notes = Notes()
    result = update(server, shop, data, notes)

    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert result.ways[0].how == "frames"
    assert result.ways[0].why.startswith("the patch cannot be used: ")
    assert [told for told in notes.told if told.startswith("the patch from 0.1.0 cannot be used: ")]
    assert result.received["frames"] > 0
    nothing_is_left(data)


def signed_anew(shop: Shop, change: Callable[[PatchHeader, list[bytes]], bytes]) -> None:
    """Publish the last release with another patch: a publisher's mistake, signed."""
    packed = shop.packed("0.1.1")
    (file,) = packed.glob("*.release.json")
    release = read_record(Release, file.read_bytes(), origin="test")
    (record,) = release.patches
    header, blobs = read_patch((packed / record.asset.name).read_bytes(), origin="test")
    made = change(header, [bytes(blob) for _, blob in blobs])
    asset = Asset(name=record.asset.name, size=len(made), sha256=sha256_bytes(made))
    (packed / asset.name).write_bytes(made)
    (packed / f"{asset.name}.sha256").write_bytes(asset.checksum_line)
    patches = (record.model_copy(update={"asset": asset}),)
    file.write_bytes(canonical_json(release.model_copy(update={"patches": patches})))
    publish(packed, file, FolderDestination(shop.store), shop.keys)


def no_patch(header: PatchHeader, blobs: list[bytes]) -> bytes:
    return b"GIF89a" * 50


def of_another_tree(header: PatchHeader, blobs: list[bytes]) -> bytes:
    return write_patch(header.model_copy(update={"to_tree": "0" * 64}), blobs)


def from_another_index(header: PatchHeader, blobs: list[bytes]) -> bytes:
    return write_patch(header.model_copy(update={"from_index": "0" * 64}), blobs)


def with_a_huge_index(header: PatchHeader, blobs: list[bytes]) -> bytes:
    return write_patch(header.model_copy(update={"to_index_size": 2**40}), blobs)


def without_its_index(header: PatchHeader, blobs: list[bytes]) -> bytes:
    return write_patch(header, [bytes(len(blobs[0])), *blobs[1:]])


def of_another_index(header: PatchHeader, blobs: list[bytes]) -> bytes:
    """An index that is a right one, but of another tree."""
    other = canonical_json(index_of(MODULES)[0])
    blob = compress(other, 3)
    index = header.index.model_copy(update={"method": "zstd", "size": len(blob)})
    facts = {"to_index": sha256_bytes(other), "to_index_size": len(other), "index": index}
    return write_patch(header.model_copy(update=facts), [blob, *blobs[1:]])


@pytest.mark.parametrize(
    "change",
    [no_patch, of_another_tree, from_another_index, with_a_huge_index, without_its_index, of_another_index],
)
def test_a_signed_patch_that_does_not_lead_there_is_done_without(
    shop: Shop, server: RangeServer, data: Path, change: Callable[[PatchHeader, list[bytes]], bytes]
) -> None:
    release_unpublished(shop)
    signed_anew(shop, change)
    result = update(server, shop, data)
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert result.ways[0].why.startswith("the patch cannot be used: ")
    assert result.received["patches"] > 0
    nothing_is_left(data)


def release_unpublished(shop: Shop) -> None:
    """Pack 0.1.1 without publishing it."""
    earlier = [Earlier("core", "0.1.0", CORE)]
    write_packed(shop.packed("0.1.1"), "0.1.1", NEXT, LIBS, volume=shop.volume, earlier=earlier)


def test_a_signed_patch_with_one_bad_blob_gives_the_other_files(shop: Shop, server: RangeServer, data: Path) -> None:
    def one_bad(header: PatchHeader, blobs: list[bytes]) -> bytes:
        number = next(n for n, blob in enumerate(header.files) if blob.path == "_internal/demo/m007.pyc")
        blobs[number + 1] = bytes(len(blobs[number + 1]))
        return write_patch(header, blobs)

    release_unpublished(shop)
    signed_anew(shop, one_bad)
    notes = Notes()
    result = update(server, shop, data, notes)
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert (result.files_patched, result.files_written) == (3, 1)
    assert "the patch does not give 1 files; they are fetched" in notes.told
    nothing_is_left(data)


# -- older files that are not right


def alter(path: Path) -> None:
    """As a failing disk does: other bytes, the same size and time."""
    path.write_bytes(bytes(path.stat().st_size))
    seal_time(path)


@pytest.mark.parametrize("how", ["altered", "missing", "cut off", "a link"])
def test_a_file_that_the_update_rewrites_is_checked_first_and_a_damaged_one_is_fetched(
    shop: Shop, server: RangeServer, data: Path, how: str
) -> None:
    victim = data / "backends/cuda/current/tree/_internal/native.so"
    match how:
        case "altered":
            alter(victim)
        case "missing":
            victim.unlink()
        case "cut off":
            os.truncate(victim, 100)
        case _:
            victim.unlink()
            victim.symlink_to("/etc/hostname")
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    notes = Notes()
    result = update(server, shop, data, notes)

    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert "1 installed files are damaged and are not used" in notes.told
    assert (result.files_patched, result.files_written) == (3, 1)
    assert 0 < result.received["frames"] < 1.2 * len(BIG), "its own frames and no more"
    assert (result.ways[0].how, result.ways[0].frame_bytes) == ("patch", result.received["frames"])
    nothing_is_left(data)


def test_a_damaged_file_that_stays_the_same_costs_only_its_frames(shop: Shop, server: RangeServer, data: Path) -> None:
    victim = data / "backends/cuda/current/tree/_internal/nvidia/other.so"
    victim.write_bytes(b"x" * victim.stat().st_size)
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    result = update(server, shop, data)
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert (result.files_patched, result.files_written) == (4, 1)
    assert result.received["indexes"] == 0, "the index of libs is here"
    assert 0 < result.received["frames"] < 60_000


def test_a_file_with_another_mode_is_copied_and_the_old_one_left_as_it_is(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    victim = data / "backends/cuda/current/tree/_internal/nvidia/other.so"
    victim.chmod(0o755)
    inode = victim.stat().st_ino
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    result = update(server, shop, data)
    new = Path(result.tree) / "_internal/nvidia/other.so"
    assert (new.stat().st_mode & 0o777, new.stat().st_ino == inode) == (0o644, False)
    assert result.received["frames"] == 0


# -- a patch that is fetched in several goes


def test_a_patch_whose_connection_breaks_is_gone_on_with(
    shop: Shop, server: RangeServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    size = patch_path(shop).stat().st_size
    server.faults.append(break_once(".patch", after=size // 2))
    result = update(server, shop, data)
    ranges = [header for path, header in server.requests if path.endswith(".patch")]
    assert ranges == [f"bytes=0-{size - 1}", f"bytes={size // 2}-{size - 1}"]
    assert result.received["patches"] == size
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}


def break_once(part: str, *, after: int) -> Callable[[Answer], None]:
    done: list[str] = []

    def fault(answer: Answer) -> None:
        if part in answer.path and not done:
            done.append(answer.path)
            answer.drop_after = after

    return fault


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_what_a_killed_run_received_of_a_patch_is_not_fetched_again(
    shop: Shop, server: RangeServer, data: Path, share: float
) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    whole = patch_path(shop).read_bytes()
    there = leave(shop, data, whole[: int(len(whole) * share)])
    result = update(server, shop, data)
    asked = [header for path, header in server.requests if path.endswith(".patch")]
    assert asked == ([] if share == 1.0 else [f"bytes={len(whole) // 2}-{len(whole) - 1}"])
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert not there.exists()
    nothing_is_left(data)


def leave(shop: Shop, data: Path, received: bytes) -> Path:
    """What a killed run leaves of a patch."""
    (file,) = shop.packed("0.1.1").glob("*.release.json")
    release = read_record(Release, file.read_bytes(), origin="test")
    folder = Home(data, "cuda").staging(release)
    begin(folder, release)
    path = patch_file(folder, release.components[0], release.patches[0].asset)
    path.write_bytes(received)
    return path


@pytest.mark.parametrize("left", ["zeros", "half zeros", "too long"])
def test_the_damaged_beginning_of_a_patch_is_fetched_again(
    shop: Shop, server: RangeServer, data: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a power cut."""
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    size = patch_path(shop).stat().st_size
    leave(shop, data, bytes({"zeros": size, "half zeros": size // 2, "too long": size + 1}[left]))
    result = update(server, shop, data)
    assert result.ways[0].how == "patch"
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert [header for path, header in server.requests if path.endswith(".patch")][-1] == f"bytes=0-{size - 1}"


@pytest.mark.proves("S0-16", "S1-16")
def test_a_failure_after_the_patch_keeps_what_was_verified_and_nothing_else(
    shop: Shop, server: RangeServer, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    alter(data / "backends/cuda/current/tree/_internal/native.so")
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    server.faults.append(fail_after("-core-", 0.5))
    with pytest.raises(SourceUnreachable):
        update(server, shop, data)
    assert (data / "backends/cuda/current").resolve().name.startswith("0.1.0+")
    assert len(list((data / "backends/cuda/versions").iterdir())) == 1
    (unfinished,) = (data / "backends/cuda/partial").iterdir()
    kept = {path.name.partition("-")[0] for path in unfinished.iterdir() if path.name != "version"}
    assert kept == {".lading", "journal", "core", "core.index.zst", "libs.index.zst"}
    made = {path for path, content in NEXT.items() if (unfinished / "version/tree" / path).is_file()}
    assert made >= {ENTRY, "_internal/demo/m007.pyc", "_internal/demo/added.pyc"}

    server.faults.clear()
    result = update(server, shop, data)
    assert not server.asked(".patch"), "it is here, and so is what it made"
    assert result.bytes_resumed > 0
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    nothing_is_left(data)


# -- an unfinished install of another release


def fail_after(part: str, share: float) -> Callable[[Answer], None]:
    """The first answer breaks off, later ones say that there is nothing."""
    seen: list[str] = []

    def fault(answer: Answer) -> None:
        if part in answer.path and ".tar.zst" in answer.path:
            seen.append(answer.path)
            if len(seen) == 1:
                answer.drop_after = int(len(answer.body) * share)
            else:
                answer.status, answer.body = 404, b""
                answer.headers = {}

    return fault


def test_verified_libs_of_an_unfinished_install_serve_the_next_release(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop, data = Shop(tmp_path / "shop"), tmp_path / "data"
    shop.release("0.1.0", CORE, LIBS)
    with serving(shop.store) as server:
        server.faults.append(fail_after("-libs-", 0.6))
        with pytest.raises(SourceUnreachable):
            install(server.url, shop.root, data, app=APP)
        (unfinished,) = (data / "backends/cuda/partial").iterdir()
        done = (unfinished / "journal").read_text().count("+ libs")
        assert done > 10
        server.faults.clear()
        shop.release("0.1.1", NEXT, LIBS)
        dry = plan_install(server.url, shop.root, data, app=APP)
        result = update(server, shop, data)

    libs_size = sum(path.stat().st_size for path in (shop.store / "assets/libs").rglob("*.tar.zst"))
    ranges = [header for path, header in server.requests if "-libs-" in path and header]
    fetched = sum(int(end) - int(start) + 1 for start, end in (text[6:].split("-") for text in ranges))
    assert fetched < libs_size * 0.45
    assert result.bytes_resumed > libs_size * 0.5
    assert fetched + result.bytes_resumed <= libs_size + result.received["frames"]
    assert tree_files(Path(result.tree)) == {**NEXT, **LIBS}
    assert (dry.staged_bytes, dry.expected) == (result.bytes_resumed, result.received)
    nothing_is_left(data)


def test_whole_files_of_an_unfinished_install_are_not_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The two releases share no archive, but most files."""
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop, data = Shop(tmp_path / "shop"), tmp_path / "data"
    shop.release("0.1.0", CORE)
    with serving(shop.store) as server:
        server.faults.append(fail_after("-core-", 0.7))
        with pytest.raises(SourceUnreachable):
            install(server.url, shop.root, data, app=APP)
        server.faults.clear()
        changed = {**CORE, ENTRY: program("two")}
        shop.release("0.1.1", changed)
        result = update(server, shop, data)
    whole = next((shop.store / "assets/core/0.1.1").glob("*.tar.zst")).stat().st_size
    assert result.received["frames"] < whole * 0.5
    assert tree_files(Path(result.tree)) == changed


def test_what_an_unfinished_install_left_in_the_way_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file where a folder must be, a folder where a file must be, a link that leads elsewhere."""
    monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
    shop, data = Shop(tmp_path / "shop"), tmp_path / "data"
    before: Files = {
        ENTRY: program("one"), "a": b"file", "b/c": b"in a folder", "d": Link("b"), "e": Link("b"),
        "z/last": os.urandom(60_000),
    }  # fmt: skip
    after: Files = {ENTRY: program("two"), "a/x": b"1", "b": b"2", "d/y": b"3", "e": b"4"}
    shop.release("0.1.0", before)
    with serving(shop.store) as server:
        server.faults.append(fail_after("-core-", 0.5))
        with pytest.raises(SourceUnreachable):
            install(server.url, shop.root, data, app=APP)
        server.faults.clear()
        shop.release("0.1.1", after)
        result = update(server, shop, data)
    assert tree_files(Path(result.tree)) == after


def test_the_plan_is_told_as_json_with_every_file(shop: Shop, server: RangeServer, data: Path) -> None:
    shop.release("0.1.1", NEXT, LIBS, patches=["0.1.0"])
    text = json.loads(canonical_json(plan_install(server.url, shop.root, data, app=APP)))
    assert sorted(text["patched"]) == sorted(path for path in NEXT if NEXT[path] != CORE.get(path))
    assert len(text["reuse"]) == len({**NEXT, **LIBS}) - 4
    assert text["ways"][0]["how"] == "patch"
