"""Journal, pointer, state, choice, segments, markers: each alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.packed_release import ENTRY, program, write_packed

from lading.errors import Busy, ConfigError, FormatInvalid
from lading.manifest.base import canonical_json, read_record
from lading.manifest.channel import Channel, ChannelEntry
from lading.manifest.index import Frame, IndexEntry
from lading.manifest.release import Release
from lading.store.build import check_room
from lading.store.choice import choose_entry
from lading.store.home import version_id
from lading.store.journal import Journal, journal_header, journaled_frames
from lading.store.lock import hold, holder_file
from lading.store.marker import (
    PARTIAL_MARKER,
    VERSION_MARKER,
    PartialMarker,
    is_ours,
    remove_dead,
    remove_ours,
    remove_version,
)
from lading.store.pointer import FilePointer, SymlinkPointer, read_pointer, system_pointer
from lading.store.rollout import Asked
from lading.store.segments import segments_of
from lading.store.state import State, read_state, write_state


@pytest.fixture
def release(tmp_path: Path) -> Release:
    file = write_packed(tmp_path / "packed", "0.1.0", {ENTRY: program("one")}, {"lib.so": b"l"})
    return read_record(Release, file.read_bytes(), origin="test")


# -- journal


def test_a_journal_survives_being_closed(tmp_path: Path, release: Release) -> None:
    journal = Journal(tmp_path / "journal", release)
    journal.add("core", 1)
    journal.add("libs", 2)
    journal.add("libs", 3)
    journal.forget("libs", [3, 9])
    journal.close()
    again = Journal(tmp_path / "journal", release)
    assert again.done("core") == {1}
    assert again.done("libs") == {2}
    assert again.covers("libs", frozenset({2}))
    assert not again.covers("libs", frozenset({2, 3}))
    again.close()


@pytest.mark.parametrize(
    "tail", [b"+ core 2", b"+ cor", b"\0\0\0\0", b"+ core x\n", b"+ core 99999999999\n", b"\xff\n"]
)
def test_a_line_that_a_crash_cut_off_is_ignored(tmp_path: Path, release: Release, tail: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(journal_header(release) + b"+ core 1\n" + tail)
    journal = Journal(path, release)
    assert journal.done("core") == {1}
    journal.add("core", 5)
    journal.close()
    assert journaled_frames(path, release)["core"] == {1, 5}


def test_a_journal_of_other_archives_is_begun_anew(tmp_path: Path, release: Release) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"lading-journal/1 other\n+ core 1\n")
    journal = Journal(path, release)
    journal.close()
    assert journal.done("core") == frozenset()
    assert path.read_bytes() == journal_header(release)


def test_an_absent_journal_says_nothing(tmp_path: Path, release: Release) -> None:
    assert journaled_frames(tmp_path / "journal", release) == {"core": frozenset(), "libs": frozenset()}


# -- pointer


@pytest.mark.parametrize("pointer", [SymlinkPointer(), FilePointer()], ids=["link", "file"])
def test_a_pointer_is_replaced_whatever_it_was_before(tmp_path: Path, pointer: SymlinkPointer | FilePointer) -> None:
    current = tmp_path / "current"
    assert read_pointer(current) is None
    for before in (SymlinkPointer(), FilePointer()):
        before.write(current, "0.1.0")
        pointer.write(current, "0.2.0+cu126-v1-12345678")
        assert read_pointer(current) == "0.2.0+cu126-v1-12345678"
    assert [path.name for path in tmp_path.iterdir()] == ["current"]


def test_links_are_for_posix_and_files_for_windows() -> None:
    assert isinstance(system_pointer("posix"), SymlinkPointer)
    assert isinstance(system_pointer("nt"), FilePointer)


def test_the_link_can_be_followed_and_the_folder_moved(tmp_path: Path) -> None:
    (tmp_path / "a/versions/0.1.0").mkdir(parents=True)
    SymlinkPointer().write(tmp_path / "a/current", "0.1.0")
    (tmp_path / "a").rename(tmp_path / "b")
    assert (tmp_path / "b/current").resolve() == tmp_path / "b/versions/0.1.0"


@pytest.mark.parametrize("text", ["", "\n", "/etc", "../x", "versions/..", "versions/a/b", "versions", "x/y", "\xff"])
def test_a_pointer_to_anything_but_a_version_names_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "current").write_bytes(text.encode("latin-1"))
    assert read_pointer(tmp_path / "current") is None


def test_a_link_to_anything_but_a_version_names_none(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("/etc")
    assert read_pointer(tmp_path / "current") is None


# -- state


def test_rolling_back_twice_goes_back_twice() -> None:
    state = State().activated("a").activated("b").activated("c")
    everything = frozenset("abc")
    assert state.previous("c", everything) == "b"
    state = state.rolled_back("b")
    assert state.previous("b", everything) == "a"
    assert state.rolled_back("a").previous("a", everything) is None


def test_a_version_that_is_gone_is_skipped_and_a_crash_before_the_state_does_no_harm() -> None:
    state = State().activated("a").activated("b").activated("c")
    assert state.previous("c", frozenset("ac")) == "a"
    assert State().activated("a").previous("new", frozenset({"a", "new"})) == "a"


def test_a_damaged_state_counts_as_empty(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_state(path, State().activated("a").failed("Busy", "x"))
    assert read_state(path).last_failure is not None
    path.write_bytes(path.read_bytes()[:-5])
    assert read_state(path) == State()


# -- choice

CHANNEL = Channel(
    app="demo",
    channel="stable",
    releases=tuple(
        ChannelEntry(version=version, platform="linux-x86_64", flavor=flavor, target=f"r/{version}-{flavor}.json")
        for version in ("0.2.0", "0.1.0")
        for flavor in ("cpu", "cu126")
    ),
)


def test_the_newest_release_of_a_flavor_is_chosen_unless_a_version_is_named() -> None:
    def choose(version: str | None) -> str:
        return choose_entry(CHANNEL, Asked(platform="linux-x86_64", flavor="cu126", version=version)).version

    assert choose(None) == "0.2.0"
    assert choose("0.1.0") == choose("v0.1.0") == "0.1.0"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"platform": "windows-x86_64"}, "nothing for windows-x86_64"),
        ({"flavor": None}, "several flavors.*cpu, cu126"),
        ({"flavor": "cu118"}, "no flavor cu118"),
        ({"version": "9.9.9"}, r"no version 9\.9\.9"),
    ],
)
def test_what_a_channel_does_not_have_is_told_with_what_it_has(options: dict[str, str], said: str) -> None:
    wish = {"platform": "linux-x86_64", "flavor": "cu126", "version": None} | options
    with pytest.raises(ConfigError, match=said):
        choose_entry(CHANNEL, Asked(**wish))  # type: ignore[arg-type]


def test_versions_are_named_by_release_label_and_digest(release: Release) -> None:
    assert version_id(release) == f"0.1.0+cu126-v1-{release.tree[:8]}"


# -- segments


def test_a_file_goes_on_at_the_start_of_the_next_frames() -> None:
    frames = [Frame(sha256="0" * 64, raw=raw, size=1) for raw in (10, 20, 30)]
    entry = IndexEntry(path="a", size=40, sha256="0" * 64, frame=0, offset=4)
    found = [(part.position, part.frame, part.offset, part.length) for part in segments_of(entry, frames)]
    assert found == [(0, 0, 4, 6), (6, 1, 0, 20), (26, 2, 0, 14)]
    with pytest.raises(FormatInvalid):
        list(segments_of(entry.model_copy(update={"size": 57}), frames))


# -- markers


def theirs(folder: Path) -> None:
    (folder / "theirs").mkdir()
    (folder / "theirs/file").write_text("keep")


def ours(folder: Path) -> Path:
    (folder / "tree/deep").mkdir(parents=True)
    (folder / "tree/deep/file").write_text("x")
    (folder / PARTIAL_MARKER).write_bytes(canonical_json(PartialMarker(tree="0" * 64)))
    return folder


def test_only_marked_folders_are_deleted(tmp_path: Path) -> None:
    theirs(tmp_path)
    for remove in (remove_ours, lambda folder: remove_version(folder, tmp_path)):
        with pytest.raises(RuntimeError, match="no marker"):
            remove(tmp_path / "theirs")
    (tmp_path / "link").symlink_to(ours(tmp_path / "real"))
    assert not is_ours(tmp_path / "link")
    assert (tmp_path / "theirs").is_dir()


@pytest.mark.proves("S0-16")
def test_what_dead_installs_left_is_removed_and_the_rest_kept(tmp_path: Path) -> None:
    dead, alive = ours(tmp_path / "dead"), ours(tmp_path / "alive")
    theirs(tmp_path)
    (tmp_path / "born").mkdir()
    (tmp_path / f"born/.{PARTIAL_MARKER}.x1.tmp").write_text("{")
    assert remove_dead(tmp_path, keep=alive) == ("born", "dead")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alive", "theirs"]
    assert not dead.exists()


def test_links_inside_a_deleted_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/file").write_text("x")
    folder = ours(tmp_path / "folder")
    (folder / "tree/link").symlink_to(tmp_path / "outside")
    (folder / "direct").symlink_to(tmp_path / "outside")
    remove_ours(folder)
    assert (tmp_path / "outside/file").read_text() == "x"


def test_a_version_disappears_by_one_rename(tmp_path: Path) -> None:
    version = ours(tmp_path / "versions/0.1.0")
    (version / VERSION_MARKER).write_text("{}")
    remove_version(version, tmp_path / "partial")
    assert not version.exists()
    assert not any((tmp_path / "partial").iterdir())


# -- lock and room


def test_a_second_holder_is_told_at_once_who_has_it(tmp_path: Path) -> None:
    with hold(tmp_path / "lock"):
        with pytest.raises(Busy, match=f"process {os.getpid()}"), hold(tmp_path / "lock"):
            pass
        assert holder_file(tmp_path / "lock").exists()
    with hold(tmp_path / "lock"):
        pass
    assert not holder_file(tmp_path / "lock").exists()


def test_room_is_checked_with_both_numbers(tmp_path: Path) -> None:
    check_room(5, 5, tmp_path)
    with pytest.raises(Exception, match=r"6\.0 MB are needed .*, 5\.0 MB are free"):
        check_room(6_000_000, 5_000_000, tmp_path)
