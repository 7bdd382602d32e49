"""One file as a difference from another, and back."""

from __future__ import annotations

import hashlib
from typing import Literal

import hdiffpatch
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.delta import codec, hdiff
from lading.delta.codec import decode, encode
from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FormatInvalid

Method = Literal["hdiff", "zstd-from", "zstd"]
METHODS: tuple[Method, ...] = ("hdiff", "zstd-from", "zstd")


def noise(size: int, seed: object = 0) -> bytes:
    return hashlib.shake_256(str(seed).encode()).digest(size)


def made(method: Method, old: bytes, new: bytes) -> bytes:
    """A blob of a given method, whichever would have been chosen."""
    if method == "zstd":
        return codec._zstd(new, 19)
    if method == "zstd-from":
        return codec._zstd_from(old, new, 19)
    return bytes(hdiffpatch.diff(old, new, compression=hdiffpatch.ZStdConfig(level=19)))


def relinked(old: bytes) -> bytes:
    """Code that moved: every 64 bytes a number changes, as addresses do."""
    new = bytearray(b"moved" + old)
    for at in range(0, len(new) - 4, 64):
        new[at : at + 4] = (int.from_bytes(new[at : at + 4], "little") + 5 & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(new)


OLD = noise(60_000, "old")
PAIRS: dict[str, tuple[bytes | None, bytes]] = {
    "no-older-file": (None, noise(5_000)),
    "older-file-empty": (b"", noise(100)),
    "older-file-tiny": (b"abc", b"abcd" * 5),
    "now-empty": (OLD, b""),
    "equal": (OLD, OLD),
    "appended": (OLD, OLD + b"tail"),
    "inserted": (OLD, OLD[:9_000] + b"new" * 30 + OLD[9_000:]),
    "cut": (OLD, OLD[10_000:50_000]),
    "moved-code": (OLD, relinked(OLD)),
    "nothing-in-common": (OLD, noise(40_000, "other")),
    "one-byte": (b"x", b"y"),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_what_is_encoded_decodes_to_the_same_bytes(pair: str) -> None:
    old, new = PAIRS[pair]

    method, blob = encode(old, new)

    base = old if method != "zstd" else None
    assert decode(method, blob, base, size=len(new), sha256=sha256_bytes(new), name="f") == new
    assert len(blob) <= len(codec._zstd(new, 19)), "never larger than the file alone"


@pytest.mark.parametrize(
    ("pair", "most"),
    [("equal", 60), ("appended", 80), ("inserted", 120), ("cut", 80)],
)
def test_a_small_change_is_a_small_blob(pair: str, most: int) -> None:
    old, new = PAIRS[pair]

    assert len(encode(old, new)[1]) <= most


def test_each_method_is_chosen_where_it_is_the_smallest() -> None:
    chosen = {pair: encode(*PAIRS[pair])[0] for pair in PAIRS}

    assert chosen["moved-code"] == "hdiff", "it follows numbers that changed everywhere"
    assert chosen["inserted"] == "zstd-from", "it says what was copied in fewer bytes"
    assert chosen["nothing-in-common"] == chosen["no-older-file"] == "zstd"
    assert set(chosen.values()) == set(METHODS)


@settings(deadline=None, max_examples=60)
@given(
    old=st.binary(max_size=3_000),
    cuts=st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 200), st.binary(max_size=40)), max_size=6),
)
def test_any_edit_is_carried_by_every_method(old: bytes, cuts: list[tuple[int, int, bytes]]) -> None:
    new = old
    for at, length, put in cuts:
        new = new[:at] + put + new[at + length :]

    method, blob = encode(old, new)
    assert decode(method, blob, old, size=len(new), sha256=sha256_bytes(new), name="f") == new
    for each in METHODS:
        if each == "zstd" or (old and new and len(old) >= codec.zstd_dictionary_least()):
            again = decode(each, made(each, old, new), old, size=len(new), sha256=sha256_bytes(new), name="f")
            assert again == new


# --- what is not right ------------------------------------------------------------------------------------------------

NEW = relinked(OLD)


@pytest.mark.parametrize("method", METHODS)
def test_a_damaged_blob_never_gives_other_bytes(method: Method) -> None:
    blob = made(method, OLD, NEW)
    refused = 0
    for at in range(0, len(blob), max(1, len(blob) // 150)):
        bad = blob[:at] + bytes([blob[at] ^ 1 << at % 8]) + blob[at + 1 :]
        try:
            found = decode(method, bad, OLD, size=len(NEW), sha256=sha256_bytes(NEW), name="f")
        except (FormatInvalid, DigestMismatch):
            refused += 1
        else:
            assert found == NEW  # a bit that means nothing
    assert refused > 100


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["cut", "half", "nothing", "longer", "foreign"])
def test_a_blob_that_is_cut_off_or_too_long_is_refused(method: Method, how: str) -> None:
    blob = made(method, OLD, NEW)
    bad = {
        "cut": blob[:-1],
        "half": blob[: len(blob) // 2],
        "nothing": b"",
        "longer": blob + b"x",
        "foreign": b"GIF89a",
    }

    with pytest.raises((FormatInvalid, DigestMismatch), match="f"):
        decode(method, bad[how], OLD, size=len(NEW), sha256=sha256_bytes(NEW), name="f")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("off", [-1, 1, -60_005])
def test_another_size_than_the_index_says_is_refused(method: Method, off: int) -> None:
    blob = made(method, OLD, NEW)

    with pytest.raises((FormatInvalid, DigestMismatch)):
        decode(method, blob, OLD, size=len(NEW) + off, sha256=sha256_bytes(NEW), name="f")


@pytest.mark.parametrize("method", ["hdiff", "zstd-from"])
@pytest.mark.parametrize("older", ["other", "shorter", "none"])
def test_another_older_file_is_noticed(method: Method, older: str) -> None:
    blob = made(method, OLD, NEW)
    base = {"other": noise(60_000, "x"), "shorter": OLD[:-1], "none": None}[older]

    with pytest.raises((FormatInvalid, DigestMismatch)):
        decode(method, blob, base, size=len(NEW), sha256=sha256_bytes(NEW), name="f")


def test_the_message_names_file_and_both_digests() -> None:
    with pytest.raises(DigestMismatch) as caught:
        decode("zstd", codec._zstd(b"abcd", 1), None, size=4, sha256="0" * 64, name="_internal/x.pyc")

    assert "_internal/x.pyc" in caught.value.what
    assert sha256_bytes(b"abcd") in caught.value.what
    assert "0" * 64 in caught.value.what
    with pytest.raises(FormatInvalid, match=r"The patch's blob for _internal/x.pyc \(hdiff, 3 bytes\)"):
        decode("hdiff", b"abc", b"old", size=4, sha256="0" * 64, name="_internal/x.pyc")


def test_a_blob_that_asks_for_a_huge_file_is_refused_before_room_is_made() -> None:
    """A difference of a few bytes may claim terabytes."""
    blob = made("hdiff", OLD, NEW)
    start = blob.index(b"\0") + 1
    size, after = hdiff._number(blob, start)
    assert size == len(NEW)
    huge = blob[:start] + b"\xa0\x80\x80\x80\x80\x00" + blob[after:]

    with pytest.raises(FormatInvalid, match=f"it leads from 60000 to {2**40} bytes, not from 60000 to {len(NEW)}"):
        decode("hdiff", huge, OLD, size=len(NEW), sha256=sha256_bytes(NEW), name="f")


def test_a_frame_that_unpacks_to_more_than_it_should_is_stopped() -> None:
    bomb = zstd.compress(bytes(50 * 2**20))

    with pytest.raises(FormatInvalid, match="it is not one whole zstd frame of 10 bytes"):
        decode("zstd", bomb, None, size=10, sha256="0" * 64, name="f")


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 300_000])
def test_the_sizes_in_a_difference_are_read_as_they_are_written(size: int) -> None:
    blob = bytes(hdiffpatch.diff(noise(size), noise(size + 1), compression=hdiffpatch.COMPRESSION_NONE))

    assert hdiff.said_sizes(blob) == (size + 1, size)


@pytest.mark.parametrize(
    "bad", [b"", b"HDIFF13&", b"HDIFF13&zstd", b"HDIFF13&\0", b"HDIFF13&\0\x80\x80", b"HDIFF13&\0\x05"]
)
def test_a_difference_without_its_sizes_is_refused(bad: bytes) -> None:
    with pytest.raises(FormatInvalid):
        decode("hdiff", bad, OLD, size=5, sha256="0" * 64, name="f")
