"""The patch file as bytes."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from backports import zstd

from lading.delta.container import open_patch, read_patch, write_patch
from lading.delta.parts import OLDER, WHOLE
from lading.errors import FormatInvalid
from lading.manifest.base import canonical_json
from lading.manifest.patchfile import MAGIC, PatchBlob, PatchHeader

INDEX = PatchBlob(method="zstd-from", size=5)
FILES = (
    PatchBlob(method="hdiff", size=3, old="a.pyc", path="a.pyc"),
    PatchBlob(method="zstd", size=0, path="empty"),
    PatchBlob(method="zstd-from", size=4, old="old/b.so", path="b.so"),
)
HEADER = PatchHeader(
    app="demo", component="core", from_tree="1" * 64, to_tree="2" * 64, from_index="3" * 64, to_index="4" * 64,
    to_index_size=9,
    index=INDEX, files=FILES,
)  # fmt: skip
FROM = {"method": "hdiff", "size": 5, "path": "x", "old": "y"}
BLOBS = [b"index", b"aaa", b"", b"bbbb"]
PATCH = write_patch(HEADER, BLOBS)


def with_header(header: bytes, rest: bytes = b"") -> bytes:
    return MAGIC + struct.pack("<I", len(header)) + header + rest


def test_a_patch_is_read_as_it_was_written() -> None:
    header, blobs = read_patch(PATCH, origin="p")

    assert header == HEADER
    assert [(blob, bytes(data)) for blob, data in blobs] == list(zip([INDEX, *FILES], BLOBS, strict=True))


def test_a_patch_on_disk_is_read_blob_by_blob(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(PATCH)
    patch = open_patch(tmp_path / "p", origin="p")

    assert patch.header == HEADER
    assert [patch.index_blob(), *map(patch.blob, range(3))] == BLOBS
    assert patch.parts() == {"a.pyc": (0,), "empty": (1,), "b.so": (2,)}


def test_a_file_in_parts_has_a_blob_for_each_in_order(tmp_path: Path) -> None:
    part = PatchBlob(method="hdiff", size=2, old="b.so", path="b.so", raw=7, old_start=0, old_size=9)
    files = (FILES[0], part, part.model_copy(update={"raw": 3, "old_start": 4}), FILES[1])
    (tmp_path / "p").write_bytes(
        write_patch(HEADER.model_copy(update={"files": files}), [b"index", b"aaa", b"p1", b"p2", b""])
    )
    patch = open_patch(tmp_path / "p", origin="p")

    assert patch.header.files == files
    assert patch.parts() == {"a.pyc": (0,), "b.so": (1, 2), "empty": (3,)}
    assert [patch.blob(number) for number in patch.parts()["b.so"]] == [b"p1", b"p2"]


@pytest.mark.parametrize("length", range(len(PATCH)))
def test_a_patch_on_disk_that_is_cut_off_anywhere_is_refused(tmp_path: Path, length: int) -> None:
    (tmp_path / "p").write_bytes(PATCH[:length])
    with pytest.raises(FormatInvalid, match=r"^p is not"):
        open_patch(tmp_path / "p", origin="p")


def test_the_bytes_are_magic_length_header_and_blobs() -> None:
    (length,) = struct.unpack("<I", PATCH[8:12])

    assert PATCH[:8] == b"LADPAT1\n"
    assert zstd.decompress(PATCH[12 : 12 + length]) == canonical_json(HEADER)
    assert PATCH[12 + length :] == b"indexaaabbbb"


@pytest.mark.parametrize("length", range(len(PATCH)))
def test_a_patch_that_is_cut_off_anywhere_is_refused(length: int) -> None:
    with pytest.raises(FormatInvalid, match=r"^p is not"):
        read_patch(PATCH[:length], origin="p")


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(FormatInvalid, match=f"it has {len(PATCH) + 1} bytes; its header says {len(PATCH)}"):
        read_patch(PATCH + b"x", origin="p")


@pytest.mark.parametrize("at", range(12))
def test_other_magic_or_another_length_is_refused(at: int) -> None:
    bad = PATCH[:at] + bytes([PATCH[at] ^ 0x10]) + PATCH[at + 1 :]

    with pytest.raises(FormatInvalid, match=r"^p is not a valid patch"):
        read_patch(bad, origin="p")


def test_a_damaged_header_is_refused_or_says_something_else() -> None:
    """What it says is then held against the digests of trees and indexes; the whole file has one in the release."""
    length = struct.unpack("<I", PATCH[8:12])[0]
    refused = 0
    for at in range(12, 12 + length):
        bad = PATCH[:at] + bytes([PATCH[at] ^ 0x55]) + PATCH[at + 1 :]
        try:
            header, _ = read_patch(bad, origin="p")
        except FormatInvalid:
            refused += 1
        else:
            assert header != HEADER
    assert refused > length // 2


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"schema": "lading/patch/2"}, "schema"),
        ({"extra": 1}, "extra"),
        ({"to_tree": "x"}, "to_tree"),
        ({"component": "other"}, "component"),
        ({"index": {"method": "magic", "size": 1}}, "index"),
        ({"index": {"method": "zstd", "size": -1}}, "index"),
        ({"index": {"method": "zstd", "size": 5, "path": "x"}}, "is not where it belongs"),
        ({"files": [{"method": "zstd", "size": 5}]}, "is not where it belongs"),
        ({"files": [{"method": "zstd", "size": 5, "path": "../x"}]}, "files"),
        (
            {"files": [{"method": "zstd", "size": 5, "path": "x", "old": "y"}]},
            "has the method zstd and the older file y",
        ),
        ({"files": [{"method": "hdiff", "size": 5, "path": "x"}]}, "has the method hdiff and the older file None"),
        ({"files": [{"method": "zstd", "size": 5, "path": "x"}] * 2}, "it has x twice"),
        (
            {"files": [{"method": "zstd", "size": 5, "path": path, "raw": 9} for path in ("x", "y", "x")]},
            "it has x twice",
        ),
        ({"files": [{"method": "zstd", "size": 5, "path": "x", "raw": 0}]}, "raw"),
        ({"files": [{"method": "zstd", "size": 5, "path": "x", "raw": WHOLE + 1}]}, f"makes {WHOLE + 1} bytes"),
        ({"files": [{**FROM, "old_start": 1, "old_size": OLDER + 1}]}, f"from {OLDER + 1}"),
        ({"files": [{**FROM, "old_start": 1}]}, "does not say what it is relative to"),
        ({"files": [{**FROM, "old_size": 1}]}, "does not say what it is relative to"),
        (
            {"files": [{"method": "zstd", "size": 5, "path": "x", "old_start": 1, "old_size": 1}]},
            "does not say what it is relative to",
        ),
    ],
)
def test_a_header_that_says_something_unknown_or_contradictory_is_refused(change: dict[str, object], says: str) -> None:
    text = json.loads(canonical_json(HEADER)) | change
    with pytest.raises(FormatInvalid, match=says):
        read_patch(with_header(zstd.compress(json.dumps(text).encode()), b"index"), origin="p")


def test_more_than_one_frame_as_header_is_refused() -> None:
    packed = zstd.compress(canonical_json(HEADER))

    for header in (packed + packed, packed + b"x", packed[:-1], b""):
        with pytest.raises(FormatInvalid, match=r"whole zstd frame|cannot be decompressed"):
            read_patch(with_header(header, b"".join(BLOBS)), origin="p")


def test_a_header_that_would_fill_the_memory_is_stopped() -> None:
    bomb = zstd.compress(bytes(80 * 2**20))

    with pytest.raises(FormatInvalid, match="not one whole zstd frame of at most"):
        read_patch(with_header(bomb), origin="p")
