"""Patches from earlier releases: small, direct, right, and never needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.pack.test_pack_release import Notes
from tests.unit.pack.trees import (
    APP,
    CORE,
    CUDA_LIBRARY,
    LIBS,
    Desk,
    Files,
    Link,
    Program,
    archive_bytes,
    code,
    members,
    noise,
)

from lading.delta.codec import decode, decode_part
from lading.delta.container import read_patch
from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FormatInvalid
from lading.manifest.base import Component, canonical_json, read_record
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.patchfile import PatchHeader
from lading.manifest.release import PatchRecord
from lading.manifest.tree import tree_digest
from lading.pack.pack import PackOptions, PackResult
from lading.pack.patch import changed_files
from lading.pack.reader import PackedReader

MODULES = {f"_internal/demo/module{number:03d}.pyc": code(f"demo{number}", 60 + number % 90) for number in range(120)}
FILES: Files = {**CORE, **LIBS, **MODULES}


@dataclass(frozen=True)
class Earlier:
    """Releases packed before, each in a folder of its own below one."""

    desk: Desk

    @property
    def folder(self) -> Path:
        return self.desk.folder / "earlier"

    def release(self, files: Files, version: str, **options: object) -> PackResult:
        return self.desk.pack(files, version, out=f"earlier/{version}", options=PackOptions(**options))  # type: ignore[arg-type]

    def next(self, files: Files, version: str = "1.0.0", *, patches: int = 3, label: str = "cu126-v1") -> PackResult:
        options = PackOptions(previous=(self.folder,), patches=patches)
        return self.desk.pack(files, version, label=label, options=options)


@pytest.fixture
def earlier(desk: Desk) -> Earlier:
    return Earlier(desk)


def patch_of(result: PackResult, number: int = 0) -> tuple[PatchRecord, bytes]:
    record = result.release.patches[number]
    return record, (result.release_file.parent / record.asset.name).read_bytes()


def apply(patch: bytes, old: dict[str, bytes], old_index: Index) -> tuple[Index, dict[str, bytes]]:
    """Apply a patch as a client would, by decoding alone: the new index, and the bytes of every file of it."""
    header, blobs = read_patch(patch, origin="patch")
    before = canonical_json(old_index)
    assert sha256_bytes(before) == header.from_index
    (index_blob, data), *rest = blobs
    text = decode(
        index_blob.method, bytes(data), before, size=header.to_index_size, sha256=header.to_index, name="index"
    )
    index = read_record(Index, text, origin="index")
    by_path = {entry.path: entry for entry in index.files}
    known = {sha256_bytes(content): content for content in old.values()}
    for blob, data in rest:
        entry = by_path[blob.path or ""]
        base = old[blob.old] if blob.old is not None else None
        new = decode(blob.method, bytes(data), base, size=entry.size, sha256=entry.sha256 or "", name=entry.path)
        known[sha256_bytes(new)] = new
    return index, {entry.path: known[entry.sha256 or ""] for entry in index.files if entry.type == "file"}


def read_all(result: PackResult, component: Component = "core") -> tuple[Index, dict[str, bytes]]:
    packed = next(packed for packed in result.components if packed.record.component == component)
    reader = PackedReader(packed.folder, packed.record)
    return reader.index, {entry.path: reader.read(entry) for entry in reader.index.files if entry.type == "file"}


def leads_to(patch: bytes, old: PackResult, new: PackResult, component: Component = "core") -> PatchHeader:
    """Apply the patch and hold what comes out against the newer archive."""
    old_index, old_files = read_all(old, component)
    new_index, new_files = read_all(new, component)

    index, files = apply(patch, old_files, old_index)

    assert index == new_index
    assert files == new_files
    header, _ = read_patch(patch, origin="patch")
    assert header.to_tree == tree_digest([entry.tree_entry() for entry in index.files])
    assert header.from_tree == tree_digest([entry.tree_entry() for entry in old_index.files])
    return header


def test_a_large_file_is_carried_in_parts_of_bounded_size(earlier: Earlier, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("WHOLE", 50_000), ("PART", 20_000), ("OLDER", 40_000)):
        monkeypatch.setattr(f"lading.delta.parts.{name}", size)
    before = noise(170_000)
    after = before[:60_000] + b"inserted" + before[60_500:]
    old = earlier.release({**FILES, "_internal/demo/native.so": before}, "0.9.0")
    new = earlier.next({**FILES, "_internal/demo/native.so": after})

    _, patch = patch_of(new)
    header, (_, *blobs) = read_patch(patch, origin="patch")
    assert {blob.path for blob in header.files} == {"_internal/demo/native.so"}
    assert [blob.raw for blob in header.files] == [20_000] * 8 + [len(after) - 160_000]
    made = b""
    for blob, data in blobs:
        start, size = blob.old_start or 0, blob.old_size or 0
        assert size == 40_000
        made += decode_part(
            blob.method, bytes(data), before[start : start + size], size=blob.raw or 0, name="native.so"
        )
    assert made == after
    assert len(patch) < 5_000
    assert read_all(old)[1]["_internal/demo/native.so"] == before


# --- what is in a patch -----------------------------------------------------------------------------------------------


def test_a_code_only_change_is_a_patch_of_a_few_kilobytes(earlier: Earlier) -> None:
    old = earlier.release(FILES, "0.9.0")
    changed = code("app").replace(b"call", b"ask", 1) + b"more\n"
    new = earlier.next({**FILES, "_internal/demo/app.pyc": changed})

    (record,) = new.release.patches
    _, patch = patch_of(new)
    header = leads_to(patch, old, new)
    assert [blob.path for blob in header.files] == ["_internal/demo/app.pyc"]
    assert (record.component, record.from_version, record.from_tree) == (
        "core",
        "0.9.0",
        old.release.components[0].tree,
    )
    assert record.asset.name == f"{APP}-core-1.0.0-cu126-linux-x86_64-from-0.9.0.patch"
    assert (record.asset.size, record.asset.sha256) == (len(patch), sha256_bytes(patch))
    assert (new.release_file.parent / f"{record.asset.name}.sha256").read_text() == (
        f"{record.asset.sha256}  {record.asset.name}\n"
    )
    print(f"a patch of {len(patch)} bytes; the core's archive has {new.release.components[0].size}")
    assert len(patch) <= 4_000


def test_changed_added_removed_renamed_and_moved_files_links_and_modes_arrive(earlier: Earlier) -> None:
    before: dict[str, bytes | Link | Program] = {
        **FILES,
        "_internal/lib1/libold.so.1": noise(5_000, "old"),
        "_internal/a/same.bin": noise(3_000, "same"),
    }
    old = earlier.release(before, "0.9.0")
    after = dict(before)
    del after["_internal/demo/module005.pyc"], after["_internal/lib1/libold.so.1"], after["_internal/a/same.bin"]
    after |= {
        "_internal/lib2/libold.so.1": noise(5_000, "old") + b"changed too",
        "_internal/b/elsewhere.bin": noise(3_000, "same"),
        "_internal/demo/module001.pyc": code("demo1", 61) + b"changed",
        "_internal/demo/new.pyc": code("new"),
        "_internal/demo/twice.pyc": code("new"),
        "_internal/demo/empty2.txt": b"",
        "_internal/demo/empty.txt": b"no longer",
        "_internal/libz.so": Link("libz.so.2"),
        "_internal/libz.so.2": Program(noise(9_000, 3)),
        "_internal/base_library.zip": Program(noise(20_000, 2)),
    }

    new = earlier.next(after)

    header = leads_to(patch_of(new)[1], old, new)
    carried = {blob.path: blob for blob in header.files}
    assert set(carried) == {
        "_internal/lib2/libold.so.1",
        "_internal/demo/module001.pyc",
        "_internal/demo/new.pyc",
        "_internal/demo/empty.txt",
    }, "what the older tree has under any name is not carried, nor a file twice"
    assert carried["_internal/lib2/libold.so.1"].old == "_internal/lib1/libold.so.1"
    assert carried["_internal/demo/new.pyc"].old is None
    assert members(archive_bytes(new, "core"))["_internal/base_library.zip"][0].mode == 0o755


def test_libs_get_patches_too_when_their_label_is_a_new_one(earlier: Earlier) -> None:
    cublas = LIBS[CUDA_LIBRARY]
    assert isinstance(cublas, Program)
    old = earlier.release(FILES, "0.9.0")

    new = earlier.next(
        {**FILES, CUDA_LIBRARY: Program(cublas.data[:5000] + b"!" + cublas.data[5000:])}, label="cu126-v2"
    )

    (record,) = new.release.patches
    assert (record.component, record.from_version) == ("libs", "cu126-v1")
    assert record.asset.name == f"{APP}-libs-cu126-v2-linux-x86_64-from-cu126-v1.patch"
    header = leads_to(patch_of(new)[1], old, new, "libs")
    assert [blob.path for blob in header.files] == [CUDA_LIBRARY]
    assert record.asset.size < 2_000


def test_patches_lead_directly_from_the_last_releases_only(earlier: Earlier) -> None:
    packed = {}
    for number, version in enumerate(["0.7.0", "0.10.0", "0.8.0", "0.9.0", "1.0.0", "2.0.0"]):
        packed[version] = earlier.release({**FILES, "_internal/demo/app.pyc": code(f"app{number}")}, version)

    new = earlier.next({**FILES, "_internal/demo/app.pyc": code("newest")}, "1.0.0", patches=2)

    assert [record.from_version for record in new.release.patches] == ["0.10.0", "0.9.0"], "by version, not by text"
    for number, version in enumerate(["0.10.0", "0.9.0"]):
        leads_to(patch_of(new, number)[1], packed[version], new)
    assert earlier.next(FILES, "1.0.1", patches=0).release.patches == ()


def test_another_app_platform_or_flavor_is_no_earlier_release(earlier: Earlier) -> None:
    earlier.desk.pack(CORE, "0.9.0", cuda=False, out="earlier/cpu")

    assert earlier.next(FILES).release.patches == ()


def test_there_is_no_patch_where_nothing_changed(earlier: Earlier) -> None:
    earlier.release(FILES, "0.9.0")

    new = earlier.next(FILES)

    assert new.release.patches == ()
    assert not list(new.release_file.parent.glob("*.patch"))


def test_there_is_no_patch_that_would_be_larger_than_the_archive(earlier: Earlier) -> None:
    files: Files = {**LIBS, "demo-server-cuda": Program(b"x")}
    earlier.release(files, "0.9.0")
    notes = Notes()

    new = earlier.desk.pack(
        {**files, "demo-server-cuda": Program(b"y")},
        "1.0.0",
        options=PackOptions(previous=(earlier.folder,), patches=3),
        progress=notes,
    )

    assert new.release.patches == ()
    assert notes.notes == ["no patch from core 0.9.0: it would not be smaller than the archive"]
    assert not list(new.release_file.parent.glob("*.patch*"))


def test_an_earlier_archive_that_is_not_at_hand_is_told_and_does_not_stop_the_packing(earlier: Earlier) -> None:
    old = earlier.release(FILES, "0.9.0")
    (old.components[0].folder / old.release.components[0].volumes[0].name).unlink()
    notes = Notes()

    new = earlier.desk.pack(
        {**FILES, "_internal/demo/app.pyc": b"new"},
        "1.0.0",
        options=PackOptions(previous=(earlier.folder,), patches=3),
        progress=notes,
    )

    assert new.release.patches == ()
    assert notes.notes == ["no patch from core 0.9.0: its archive is not at hand"]


def test_an_earlier_archive_that_is_damaged_stops_the_packing(earlier: Earlier) -> None:
    """Silence would cost every user of that version a download."""
    old = earlier.release(FILES, "0.9.0")
    archive = old.components[0].folder / old.release.components[0].volumes[0].name
    data = bytearray(archive.read_bytes())
    at = data.index(b"\x28\xb5\x2f\xfd", 10)
    data[at + 20 : at + 400] = bytes(380)
    archive.write_bytes(data)

    with pytest.raises((FormatInvalid, DigestMismatch), match="Frame"):
        earlier.next({path: code(path) if "module" in path else content for path, content in FILES.items()})
    assert not list((earlier.desk.folder / "out").glob("*.release.json"))


def test_a_patch_that_is_there_already_is_kept(earlier: Earlier) -> None:
    earlier.release(FILES, "0.9.0")
    changed = {**FILES, "_internal/demo/app.pyc": b"new"}
    first = earlier.next(changed)
    path = first.release_file.parent / first.release.patches[0].asset.name
    before = path.stat().st_mtime_ns

    second = earlier.next(changed)

    assert second.release == first.release
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["cut", "other", "profile"])
def test_a_patch_that_is_damaged_or_between_other_indexes_is_made_again(earlier: Earlier, damage: str) -> None:
    old = earlier.release(FILES, "0.9.0")
    changed = {**FILES, "_internal/demo/app.pyc": b"new"}
    first = earlier.next(changed)
    path = first.release_file.parent / first.release.patches[0].asset.name
    good = path.read_bytes()
    if damage == "profile":
        options = PackOptions(previous=(earlier.folder,), patches=3, profile="release")
        second = earlier.desk.pack(changed, "1.0.0", options=options)
        assert path.read_bytes() != good, "the same trees, and other frames"
    else:
        path.write_bytes(good[:-1] if damage == "cut" else b"something else")
        second = earlier.next(changed)
        assert path.read_bytes() == good
    leads_to(path.read_bytes(), old, second)


def test_the_same_patch_is_made_every_time(earlier: Earlier) -> None:
    earlier.release(FILES, "0.9.0")
    changed = {**FILES, "_internal/demo/app.pyc": b"new", "_internal/base_library.zip": noise(21_000, 2)}
    options = PackOptions(previous=(earlier.folder,), patches=3)

    one = earlier.desk.pack(changed, "1.0.0", out="one", options=options)
    two = earlier.desk.pack(changed, "1.0.0", out="two", options=options)

    assert patch_of(one) == patch_of(two)


# --- which file is like which -----------------------------------------------------------------------------------------

DIGESTS = [sha256_bytes(bytes([number])) for number in range(6)]


def index_of(files: dict[str, int]) -> Index:
    entries = tuple(
        IndexEntry(path=path, size=1, sha256=DIGESTS[content], frame=0, offset=512) for path, content in files.items()
    )
    return Index(files=entries, frames=(Frame(sha256="0" * 64, raw=1, size=1),))


def test_each_changed_file_is_paired_with_the_older_one_it_is_most_like() -> None:
    old = index_of({"a/x": 0, "b/renamed": 1, "b/kept": 2})
    new = index_of({"a/x": 3, "c/renamed": 4, "b/kept": 2, "c/kept": 5, "c/x": 0})

    steps = {step.new.path: step.old.path if step.old else None for step in changed_files(new, old)}

    assert steps == {"a/x": "a/x", "c/renamed": "b/renamed", "c/kept": None}


PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=2).map("/".join)


@given(
    st.dictionaries(PATHS, st.integers(0, 5), min_size=1, max_size=5),
    st.dictionaries(PATHS, st.integers(0, 5), min_size=1, max_size=5),
)
def test_what_is_carried_and_what_is_there_make_up_the_new_tree(old: dict[str, int], new: dict[str, int]) -> None:
    steps = changed_files(index_of(new), index_of(old))

    carried = [step.new.sha256 for step in steps]
    assert len(carried) == len(set(carried))
    assert set(carried) | {DIGESTS[content] for content in old.values()} >= {
        DIGESTS[content] for content in new.values()
    }
    assert set(carried).isdisjoint(DIGESTS[content] for content in old.values())
    assert all(step.old is None or step.old.path in old for step in steps)
