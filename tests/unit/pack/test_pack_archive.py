"""Archives: the same bytes every time, read back whole, and never from files that changed meanwhile."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.pack.trees import Acting, Link, Program, code, describe, make_tree, members, noise

from lading.digest import sha256_bytes
from lading.errors import DigestMismatch, FileChanged, FormatInvalid, ManifestInvalid, TreeInvalid
from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.index import FRAME_LIMIT
from lading.manifest.plan import MAX_FRAME
from lading.manifest.release import ComponentRecord
from lading.manifest.tree import tree_digest
from lading.pack.archive import MEMORY, Written, frame_cost, write_archive
from lading.pack.assets import write_index
from lading.pack.layout import plan_layout
from lading.pack.profiles import Profile
from lading.pack.reader import PackedReader
from lading.pack.volumes import LEAST_LIMIT, VolumeWriter, check_limit, cut_volumes
from lading.progress import Progress, Silent

ARCHIVE = "a.tar.zst"
MIB = 2**20
FILES: dict[str, bytes | Link | Program] = {
    "program": Program(noise(3_000, 1)),
    "_internal/big.so": Program(noise(2 * MIB, 2) + code("big", 90_000)),
    "_internal/empty": b"",
    "_internal/libz.so": Link("libz.so.1"),
    "_internal/libz.so.1": noise(700, 3),
    "_internal/größe.txt": "größe\n".encode() * 400,
    "_internal/" + "long/" * 40 + "name.pyc": code("long", 4_000),
    **{f"_internal/demo/module{number:02d}.pyc": code(f"m{number}", 300 + 40 * number) for number in range(30)},
}


def entries_of(tree: Path) -> tuple[OwnedEntry, ...]:
    return describe(tree).files


def write(
    tree: Path,
    entries: tuple[OwnedEntry, ...],
    staging: Path,
    *,
    profile: Profile = "fast",
    threads: int = 2,
    limit: int = 2 * 10**9,
    progress: Progress | None = None,
    memory: int = MEMORY,
) -> Written:
    staging.mkdir(exist_ok=True)
    with (progress or Silent()).task("packing", 0) as task:
        return write_archive(
            tree,
            plan_layout(entries),
            staging,
            archive=ARCHIVE,
            profile=profile,
            limit=limit,
            threads=threads,
            task=task,
            memory=memory,
        )


def whole(staging: Path, written: Written) -> bytes:
    return b"".join((staging / volume.name).read_bytes() for volume in written.volumes)


def reader(staging: Path, written: Written) -> PackedReader:
    entries = [entry.tree_entry() for entry in written.index.files]
    record = ComponentRecord(
        app="demo",
        component="core",
        version="0.1.0",
        flavor="cpu",
        platform="linux-x86_64",
        tree=tree_digest(entries),
        files=len(entries),
        unpacked=sum(entry.size for entry in entries),
        size=written.size,
        sha256=written.sha256,
        index=write_index(staging, ARCHIVE, written.index),
        volumes=written.volumes,
        profile="fast",
    )
    return PackedReader(staging, record)


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "tree", FILES)


def test_the_archive_is_a_tar_of_the_files_that_stock_python_reads(tree: Path, tmp_path: Path) -> None:
    written = write(tree, entries_of(tree), tmp_path / "out")

    found = members(whole(tmp_path / "out", written))
    assert set(found) == set(FILES)
    for path, content in FILES.items():
        info, data = found[path]
        assert (info.mtime, info.uid, info.gid, info.uname, info.gname) == (0, 0, 0, "", "")
        if isinstance(content, Link):
            assert (info.issym(), info.linkname) == (True, content.target)
        else:
            assert data == (content.data if isinstance(content, Program) else content)
            assert info.mode == (0o755 if isinstance(content, Program) else 0o644)


def test_the_index_says_what_every_frame_is(tree: Path, tmp_path: Path) -> None:
    written = write(tree, entries_of(tree), tmp_path / "out")
    archive = whole(tmp_path / "out", written)

    assert written.size == len(archive) == sum(frame.size for frame in written.index.frames)
    assert written.sha256 == sha256_bytes(archive)
    at, raw = 0, b""
    for frame in written.index.frames:
        stored = archive[at : at + frame.size]
        decoder = zstd.ZstdDecompressor()
        found = decoder.decompress(stored)
        assert decoder.eof
        assert not decoder.unused_data, "a frame is one zstd frame"
        assert (len(found), sha256_bytes(found)) == (frame.raw, frame.sha256)
        info = zstd.get_frame_info(stored)
        assert info.decompressed_size == frame.raw
        at, raw = at + frame.size, raw + found
    assert raw == zstd.decompress(archive)
    assert raw.endswith(bytes(1024))
    assert written.index.frames[-1].raw == 1024
    starts = [sum(frame.raw for frame in written.index.frames[:number]) for number in range(len(written.index.frames))]
    for entry in written.index.files:
        begin = starts[entry.frame] + entry.offset
        content = FILES[entry.path]
        data = b"" if isinstance(content, Link) else content.data if isinstance(content, Program) else content
        assert raw[begin : begin + entry.size] == data


TREES = st.dictionaries(
    st.lists(st.sampled_from(["a", "b", "c.so", "é", "long" * 30]), min_size=1, max_size=3).map("/".join),
    st.one_of(st.binary(max_size=2000), st.integers(0, 2 * MIB)),
    min_size=1,
    max_size=8,
).filter(lambda found: not any(other.startswith(path + "/") for path in found for other in found))


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(files=TREES, limit=st.integers(2_100_000, 5_000_000), number=st.integers(0, 9))
def test_every_file_is_read_back_by_its_place_in_the_index(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes | int], limit: int, number: int
) -> None:
    base = tmp_path_factory.mktemp("read")
    content = {path: noise(data, number) if isinstance(data, int) else data for path, data in files.items()}
    tree = make_tree(base / "tree", content)

    written = write(tree, entries_of(tree), base / "out", limit=limit)
    packed = reader(base / "out", written)

    assert {entry.path: packed.read(entry) for entry in packed.index.files} == content
    assert all(volume.size <= limit for volume in written.volumes)
    assert [volume.size for volume in written.volumes] == cut_volumes(
        (frame.size for frame in written.index.frames), limit
    )


def test_a_file_larger_than_a_frame_is_read_back_over_its_frames(tmp_path: Path) -> None:
    data = code("large", 1000) + bytes(FRAME_LIMIT) + noise(5, 1)
    tree = make_tree(tmp_path / "tree", {"large": data, "small": b"x"})

    written = write(tree, entries_of(tree), tmp_path / "out")

    packed = reader(tmp_path / "out", written)
    assert packed.index.frames[0].raw == FRAME_LIMIT
    assert len(packed.index.frames) == 4
    assert {entry.path: packed.read(entry) for entry in packed.index.files} == {"large": data, "small": b"x"}


# --- the same bytes ---------------------------------------------------------------------------------------------------

# Of libzstd 1.5.7. Another version of zstd may compress otherwise, which makes other archives of the same trees: a
# change here is a change of every user's next download, to be made knowingly.
GOLDEN: dict[Profile, str] = {
    "fast": "f26e8d9012232c670744f8aa22e1e3b6471b0e0af2d00069a3483394c2c8c7de",
    "release": "13c5758342266ff09ac29667f6daa0af1a5a93a2989fdedc9d3a7697e8a07cf9",
}


@pytest.mark.parametrize("profile", GOLDEN)
def test_the_archive_of_a_given_tree_has_the_pinned_digest(tree: Path, tmp_path: Path, profile: Profile) -> None:
    if zstd.zstd_version != "1.5.7":
        pytest.skip(f"the digests are those of zstd 1.5.7; this is {zstd.zstd_version}")

    assert write(tree, entries_of(tree), tmp_path / "out", profile=profile).sha256 == GOLDEN[profile]


@pytest.mark.parametrize("profile", ["fast", "release"])
@pytest.mark.parametrize("threads", [1, 4])
def test_the_number_of_threads_and_the_memory_do_not_matter(
    tree: Path, tmp_path: Path, profile: Profile, threads: int
) -> None:
    two = write(tree, entries_of(tree), tmp_path / "two", profile=profile)
    other = write(tree, entries_of(tree), tmp_path / "other", profile=profile, threads=threads, memory=threads)

    assert other == two
    assert whole(tmp_path / "other", other) == whole(tmp_path / "two", two)


@pytest.mark.skipif(os.name != "posix", reason="umask and time zones by environment are POSIX")
def test_when_where_and_by_whom_a_tree_was_made_does_not_matter(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(tree, entries_of(tree), tmp_path / "first")
    turned = dict(sorted(FILES.items(), reverse=True))
    before = os.umask(0o077)
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        other = make_tree(tmp_path / "elsewhere" / "other", turned)
        for number, path in enumerate(sorted(other.rglob("*"))):
            os.utime(path, (number * 1e6, number * 1e6), follow_symlinks=False)
        second = write(other, tuple(reversed(entries_of(other))), tmp_path / "second")
    finally:
        os.umask(before)
        monkeypatch.undo()
        time.tzset()

    assert (other / "program").stat().st_mode & 0o777 == 0o755, "written by chmod, the rest by umask"
    assert (other / "_internal/empty").stat().st_mode & 0o777 == 0o600
    assert second == first
    assert whole(tmp_path / "second", second) == whole(tmp_path / "first", first)


def test_another_owner_moves_a_file_but_the_tree_is_the_same(tree: Path, tmp_path: Path) -> None:
    entries = entries_of(tree)
    moved = tuple(
        entry.model_copy(update={"owner": "z-last"}) if entry.path == "program" else entry for entry in entries
    )

    first, second = write(tree, entries, tmp_path / "first"), write(tree, moved, tmp_path / "second")

    assert first.sha256 != second.sha256
    assert tree_digest(first.index.files) == tree_digest(second.index.files)


# --- volumes ----------------------------------------------------------------------------------------------------------


def test_volumes_are_cut_between_frames_and_put_together_are_the_archive(tree: Path, tmp_path: Path) -> None:
    one = write(tree, entries_of(tree), tmp_path / "one")
    limit = max(frame.size for frame in one.index.frames)
    cut = write(tree, entries_of(tree), tmp_path / "cut", limit=limit)

    assert [volume.name for volume in one.volumes] == [ARCHIVE]
    assert len(cut.volumes) > 1
    assert [volume.name for volume in cut.volumes] == [f"{ARCHIVE}.{n:03d}" for n in range(1, len(cut.volumes) + 1)]
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {volume.name for volume in cut.volumes}
    assert whole(tmp_path / "cut", cut) == whole(tmp_path / "one", one)
    assert (cut.index, cut.sha256, cut.size) == (one.index, one.sha256, one.size)
    ends = {sum(frame.size for frame in one.index.frames[:n]) for n in range(len(one.index.frames) + 1)}
    at = 0
    for volume in cut.volumes:
        data = (tmp_path / "cut" / volume.name).read_bytes()
        assert (len(data), sha256_bytes(data)) == (volume.size, volume.sha256)
        assert volume.size <= limit
        at += volume.size
        assert at in ends


@given(st.lists(st.integers(1, 100), max_size=30), st.integers(100, 300))
def test_volumes_are_as_few_as_the_order_allows(frames: list[int], limit: int) -> None:
    volumes = cut_volumes(frames, limit)

    assert sum(volumes) == sum(frames)
    assert all(0 < volume <= limit for volume in volumes)
    assert all(one + two > limit for one, two in pairwise(volumes))


@pytest.mark.parametrize("limit", [LEAST_LIMIT - 1, 1_000_000, 0, -5])
def test_a_volume_limit_that_a_frame_may_not_fit_into_is_refused(limit: int) -> None:
    with pytest.raises(ManifestInvalid, match=rf"^The volume limit is {limit:,} bytes; the least") as caught:
        check_limit(limit)
    assert "33 MiB" in caught.value.todo
    assert caught.value.exit_code == 10


def test_the_least_volume_limit_holds_the_largest_frame_and_is_what_is_planned_with() -> None:
    check_limit(LEAST_LIMIT)

    assert LEAST_LIMIT == MAX_FRAME
    assert len(zstd.compress(random.Random(1).randbytes(FRAME_LIMIT))) < LEAST_LIMIT


def test_a_writer_whose_limit_was_not_checked_stops_instead_of_passing_it(tmp_path: Path) -> None:
    writer = VolumeWriter(tmp_path, ARCHIVE, 10)
    writer.write(b"1234567890")
    with pytest.raises(RuntimeError, match="a frame of 11 bytes as volume 2 of at most 10 bytes"):
        writer.write(b"12345678901")
    writer.close()


def test_memory_is_bounded_by_what_two_full_frames_need() -> None:
    """With the frame that is being read, and leaving some for everything else."""
    assert MEMORY + FRAME_LIMIT < 270 * 10**6
    assert MEMORY // frame_cost(FRAME_LIMIT) == 2
    assert MEMORY // frame_cost(MIB) >= 16


# --- files that change ------------------------------------------------------------------------------------------------


def _grow(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"!")


def _other_bytes(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _to_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to("moved")


CHANGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "grows": (_grow, r"it is longer than its \d+ bytes"),
    "shrinks": (lambda path: os.truncate(path, 10), r"it ended \d+ bytes or more before its \d+ bytes"),
    "is-emptied": (lambda path: os.truncate(path, 0), "it ended"),
    "same-size": (_other_bytes, "its SHA-256 is now [0-9a-f]{64}, it was [0-9a-f]{64}"),
    "vanishes": (Path.unlink, "it is gone"),
    "folder": (_to_folder, "it is no longer a file"),
    "pipe": (_to_pipe, "it is no longer a file"),
    "link": (_to_link, "it is no longer a file"),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("path", ["_internal/big.so", "program"], ids=["large", "small"])
def test_a_file_that_changed_after_the_scan_stops_the_packing(
    tree: Path, tmp_path: Path, path: str, change: str
) -> None:
    entries = entries_of(tree)
    act, message = CHANGES[change]
    act(tree / path)

    with pytest.raises(FileChanged, match=rf"^{path} changed while it was being packed: {message}") as caught:
        write(tree, entries, tmp_path / "out")
    assert caught.value.exit_code == 54


@pytest.mark.parametrize("change", ["grows", "shrinks", "same-size"])
@pytest.mark.parametrize("after", [MIB, 33 * MIB], ids=["first-frame", "second-frame"])
def test_a_file_that_changes_while_it_is_packed_stops_the_packing(tmp_path: Path, change: str, after: int) -> None:
    size = 40 * MIB
    tree = make_tree(tmp_path / "tree", {"large": b"x" * 100})
    os.truncate(tree / "large", size)
    entries = entries_of(tree)

    def act() -> None:
        with (tree / "large").open("r+b") as stream:
            if change == "shrinks":
                stream.truncate(after)
            else:
                stream.seek(size if change == "grows" else size - 5)
                stream.write(b"!")

    progress = Acting("packing", after, act)
    with pytest.raises(FileChanged, match=r"^large changed while it was being packed"):
        write(tree, entries, tmp_path / "out", progress=progress)
    assert progress.acted


def test_a_folder_that_vanishes_meanwhile_is_told(tree: Path, tmp_path: Path) -> None:
    entries = entries_of(tree)
    (tree / "_internal").rename(tree / "moved")
    (tree / "_internal").write_bytes(b"")

    with pytest.raises(FileChanged, match="it is gone"):
        write(tree, entries, tmp_path / "out")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_any_more_is_told(tree: Path, tmp_path: Path) -> None:
    entries = entries_of(tree)
    (tree / "program").chmod(0)

    with pytest.raises(TreeInvalid, match=r"^program cannot be read: Permission denied"):
        write(tree, entries, tmp_path / "out")


# --- archives that changed --------------------------------------------------------------------------------------------


def test_a_damaged_frame_is_not_used(tree: Path, tmp_path: Path) -> None:
    written = write(tree, entries_of(tree), tmp_path / "out")
    entry = next(entry for entry in written.index.files if entry.path == "program")
    start = sum(frame.size for frame in written.index.frames[: entry.frame])
    archive = tmp_path / "out" / ARCHIVE
    good = archive.read_bytes()
    packed = reader(tmp_path / "out", written)

    for at in (start, start + 3, start + written.index.frames[entry.frame].size - 1):
        archive.write_bytes(good[:at] + bytes([good[at] ^ 0x40]) + good[at + 1 :])
        with pytest.raises((FormatInvalid, DigestMismatch), match=f"Frame {entry.frame}"):
            packed.read(entry)


def test_frames_in_another_order_are_noticed(tree: Path, tmp_path: Path) -> None:
    written = write(tree, entries_of(tree), tmp_path / "out")
    first, second, *rest = written.index.frames
    turned = written.index.model_copy(update={"frames": (second, first, *rest)})
    packed = reader(
        tmp_path / "out", Written(index=turned, volumes=written.volumes, size=written.size, sha256=written.sha256)
    )

    with pytest.raises((FormatInvalid, DigestMismatch), match="Frame 0"):
        packed.read(next(entry for entry in packed.index.files if entry.frame == 0 and entry.size))


def test_an_index_that_leads_beyond_the_frames_is_refused(tree: Path, tmp_path: Path) -> None:
    written = write(tree, entries_of(tree), tmp_path / "out")
    packed = reader(tmp_path / "out", written)

    for change in ({"frame": 10_000}, {"size": 10**12}, {"offset": 10**9}):
        entry = written.index.files[-1].model_copy(update=change)
        with pytest.raises(FormatInvalid, match="where nothing is"):
            packed.read(entry.model_copy(update={"size": max(1, entry.size)}))
