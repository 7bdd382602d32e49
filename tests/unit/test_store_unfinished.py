"""What an unfinished install left, and who goes on with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.packed_release import ENTRY, Files, program, write_packed

from lading.digest import sha256_bytes
from lading.manifest.base import canonical_json, read_record
from lading.manifest.index import IndexEntry
from lading.manifest.release import Release
from lading.store.home import Home, version_id
from lading.store.journal import JOURNAL, Journal, archive_line, journal_header, journaled_frames
from lading.store.marker import PARTIAL_MARKER, VERSION_MARKER, PartialMarker
from lading.store.sealed import seal_time
from lading.store.unfinished import begin, resumable, take_over, whole_files

LIBS: Files = {"l": b"libs"}


def release(folder: Path, text: str, libs: Files = LIBS, label: str = "cu126-v1") -> Release:
    path = write_packed(folder / text, "0.1.0", {ENTRY: program(text)}, libs, label=label)
    return read_record(Release, path.read_bytes(), origin="test")


@pytest.fixture
def one(tmp_path: Path) -> Release:
    return release(tmp_path, "one")


@pytest.fixture
def two(tmp_path: Path) -> Release:
    """The same libs under another core."""
    return release(tmp_path, "two")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "data", "cuda")


def unfinished(home: Home, of: Release, *frames: int) -> Path:
    folder = home.staging(of)
    begin(folder, of)
    journal = Journal(folder / JOURNAL, of)
    for frame in frames:
        journal.add("libs", frame)
        journal.add("core", frame)
    journal.close()
    return folder


# -- the journal of several releases


def test_a_journal_keeps_what_it_noted_of_an_archive_that_both_releases_have(
    tmp_path: Path, one: Release, two: Release
) -> None:
    journal = Journal(tmp_path / JOURNAL, one)
    journal.add("core", 1)
    journal.add("libs", 2)
    journal.close()
    assert journaled_frames(tmp_path / JOURNAL, two) == {"core": frozenset(), "libs": frozenset({2})}
    again = Journal(tmp_path / JOURNAL, two)
    assert (set(again.done("core")), set(again.done("libs"))) == (set(), {2})
    again.add("core", 7)
    again.close()
    assert journaled_frames(tmp_path / JOURNAL, two) == {"core": {7}, "libs": {2}}


def test_going_back_to_the_first_release_does_not_bring_back_what_was_written_over(
    tmp_path: Path, one: Release, two: Release
) -> None:
    for turn in (one, two, one):
        journal = Journal(tmp_path / JOURNAL, turn)
        assert journal.done("core") == frozenset()
        journal.add("core", 1)
        journal.close()
    assert (tmp_path / JOURNAL).read_bytes().count(archive_line(one.components[0])) == 2
    assert journaled_frames(tmp_path / JOURNAL, two)["core"] == frozenset()


def test_libs_that_the_release_does_not_have_say_nothing(tmp_path: Path, one: Release) -> None:
    path = write_packed(tmp_path / "cpu", "0.1.0", {ENTRY: program("one")})
    cpu = read_record(Release, path.read_bytes(), origin="test")
    (tmp_path / JOURNAL).write_bytes(journal_header(one) + b"+ libs 3\n")
    assert journaled_frames(tmp_path / JOURNAL, cpu)["libs"] == frozenset()


# -- who goes on with what


def test_an_install_goes_on_with_its_own_folder_first(home: Home, one: Release, two: Release) -> None:
    unfinished(home, one, 1, 2, 3)
    own = unfinished(home, two)
    assert resumable(home, two) == own
    assert not take_over(home, two)
    assert home.staging(one).is_dir()


def test_the_folder_with_the_most_verified_frames_of_the_release_is_taken_over(
    home: Home, tmp_path: Path, one: Release, two: Release
) -> None:
    other = release(tmp_path, "three", {"l": b"other libs"}, "cu126-v2")
    unfinished(home, other, 1, 2, 3, 4, 5)
    useful = unfinished(home, one, 1)
    assert resumable(home, two) == useful
    assert take_over(home, two)
    folder = home.staging(two)
    assert not useful.exists()
    assert home.staging(other).is_dir()
    assert journaled_frames(folder / JOURNAL, two) == {"core": frozenset(), "libs": {1}}
    marker = PartialMarker(tree=two.tree, version=version_id(two))
    assert (folder / PARTIAL_MARKER).read_bytes() == canonical_json(marker)


def test_nothing_is_taken_over_that_is_not_an_unfinished_install(home: Home, one: Release, two: Release) -> None:
    """A version that is being deleted, a folder of somebody else, a link."""
    assert not take_over(home, two)
    removed = unfinished(home, one, 1).rename(home.partial / "removed-12345678")
    (removed / VERSION_MARKER).write_text("{}")
    (home.partial / "mine").mkdir()
    (home.partial / "link").symlink_to(removed)
    assert resumable(home, two) is None
    assert not take_over(home, two)
    assert sorted(path.name for path in home.partial.iterdir()) == ["link", "mine", "removed-12345678"]


def test_a_folder_that_was_renamed_but_not_marked_is_marked_by_the_next_run(
    home: Home, one: Release, two: Release
) -> None:
    folder = unfinished(home, one, 1).rename(home.staging(two))
    begin(folder, two)
    assert PartialMarker.model_validate_json((folder / PARTIAL_MARKER).read_bytes()).tree == two.tree
    before = (folder / PARTIAL_MARKER).stat().st_mtime_ns
    begin(folder, two)
    assert (folder / PARTIAL_MARKER).stat().st_mtime_ns == before


# -- whole files


@pytest.mark.parametrize(
    ("how", "whole"),
    [
        ("sealed", True),
        ("not sealed", False),
        ("other bytes", False),
        ("shorter", False),
        ("another mode", os.name != "posix"),
        ("a link", False),
        ("gone", False),
    ],
)
def test_a_file_counts_as_whole_when_it_was_sealed_and_its_digest_is_right(
    tmp_path: Path, how: str, *, whole: bool
) -> None:
    path, data = tmp_path / "f", b"data" * 100
    entry = IndexEntry(path="f", size=len(data), sha256=sha256_bytes(data), frame=0, offset=0)
    path.write_bytes({"other bytes": b"else" * 100, "shorter": data[:-1]}.get(how, data))
    path.chmod(0o755 if how == "another mode" else 0o644)
    if how != "not sealed":
        seal_time(path)
    if how == "a link":
        path.rename(tmp_path / "g")
        path.symlink_to("g")
    if how == "gone":
        path.unlink()
    told: list[int] = []
    assert whole_files(tmp_path, [entry], told.append) == (frozenset({"f"}) if whole else frozenset())
    assert sum(told) == (len(data) if how in {"sealed", "other bytes"} else 0)
