"""What is decided without touching anything but small folders: what to keep, what to update, how to wait, what fits."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.packed_release import ENTRY, program, write_packed

from lading import patience
from lading.digest import sha256_bytes
from lading.errors import AccessDenied, PathTooLong
from lading.manifest.base import read_record
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.store import linking
from lading.store.collect import Shelved, what_to_collect
from lading.store.diskuse import disk_use
from lading.store.install import _marker
from lading.store.origin import Origin, read_origin, source_texts, write_origin
from lading.store.pathlimit import check_path_lengths
from lading.store.repair import Damage, examine
from lading.store.running import running_from
from lading.store.sealed import seal_time
from lading.store.state import State
from lading.store.status import without_password
from lading.store.update import decide


def shelf(*names: str) -> list[Shelved]:
    """Versions; ``a`` and ``a.2`` are the same release, ``?a`` has an unreadable marker."""
    return [Shelved(name=name, tree=None if name[0] == "?" else name.partition(".")[0]) for name in names]


def used(*names: str) -> State:
    state = State()
    for name in names:
        state = state.activated(name)
    return state


# -- garbage collection


@pytest.mark.parametrize(
    ("versions", "history", "current", "keep", "going"),
    [
        ("abc", "abc", "c", 2, ["a"]),
        ("abcd", "abcd", "d", 3, ["a"]),
        ("abcd", "abcd", "d", 9, []),
        ("abc", "cba", "a", 2, ["c"]),
        ("abc", "abc", "c", 1, ["a"]),  # the one before always stays
        ("abc", "c", "c", 2, ["a"]),  # never in use: the last by name stays
        ("ab", "ab", "b", 2, []),
        ("a", "a", "a", 2, []),
        ("abc", "abc", "x", 2, []),  # the pointer leads nowhere: nothing goes
        ("", "", "a", 2, []),
    ],
)
def test_the_version_in_use_the_one_before_and_the_latest_used_are_kept(
    versions: str, history: str, current: str, keep: int, going: list[str]
) -> None:
    assert list(what_to_collect(shelf(*versions), current, used(*history), keep=keep)) == going


def test_without_a_version_in_use_nothing_goes() -> None:
    assert what_to_collect(shelf("a", "b", "c"), None, used("a", "b", "c")) == ()


def test_a_damaged_copy_of_the_version_in_use_and_unreadable_folders_go_whatever_is_to_be_kept() -> None:
    state = used("a", "b").repaired("b", "b.2")
    assert state.previous("b.2", frozenset({"a", "b", "b.2"})) == "a"
    assert set(what_to_collect(shelf("a", "b", "b.2", "?x"), "b.2", state, keep=9)) == {"b", "?x"}


def test_a_sound_copy_is_not_given_up_for_the_damaged_one_it_replaced_long_ago() -> None:
    state = used("a", "a.2", "b", "c")
    assert what_to_collect(shelf("a", "a.2", "b", "c"), "c", state, keep=4) == ("a",)


# -- updates


@pytest.fixture
def releases(tmp_path: Path) -> dict[str, Release]:
    found = {}
    for name, version, text in (
        ("1", "0.1.0", "1"),
        ("2", "0.2.0", "2"),
        ("2b", "0.2.0", "2b"),
        ("rc", "0.2.0rc1", "rc"),
    ):
        file = write_packed(tmp_path / name, version, {ENTRY: program(text)}, {"lib.so": b"l"})
        found[name] = read_record(Release, file.read_bytes(), origin="test")
    return found


@pytest.mark.parametrize(
    ("installed", "newest", "held", "named", "outcome"),
    [
        ("1", "1", None, False, "up to date"),
        ("1", "2", None, False, "available"),
        ("2", "1", None, False, "older"),
        ("2", "rc", None, False, "older"),
        ("2", "1", None, True, "available"),
        ("2", "2b", None, False, "available"),  # built again: the same number, another content
        ("1", "2", "0.2.0", False, "held back"),
        ("1", "2", "0.3.0", False, "held back"),
        ("1", "2", "0.2.0rc1", False, "available"),
        ("1", "2", "0.2.0", True, "available"),
        (None, "2", "0.2.0", False, "available"),
    ],
)
def test_an_update_goes_forward_only_and_not_to_what_was_left(
    releases: dict[str, Release], installed: str | None, newest: str, held: str | None, *, named: bool, outcome: str
) -> None:
    marker = _marker(releases[installed]) if installed else None
    assert decide(marker, releases[newest], held, named=named) == outcome


def test_a_roll_back_holds_what_was_left_until_somebody_goes_forward() -> None:
    state = used("a", "b", "c").rolled_back("b", left="0.3.0", to="0.2.0")
    assert (state.history, state.held) == (("a", "b"), "0.3.0")
    state = state.rolled_back("a", left="0.2.0", to="0.1.0")
    assert (state.history, state.held) == (("a",), "0.3.0")
    assert state.failed("Busy", "x").held == "0.3.0"
    assert state.repaired("a", "a.2").held == "0.3.0"
    assert state.activated("d").held is None
    assert state.rolled_back("c", left="0.1.0", to="0.3.0").held is None


# -- origins


def test_an_origin_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "origin.json"
    made = Origin(
        app="demo", channel="stable", flavor="cpu", platform="linux-x86_64", sources=("https://a.example",), root="{}"
    )
    assert read_origin(path) is None
    write_origin(path, made)
    assert read_origin(path) == made
    assert os.name != "posix" or path.stat().st_mode & 0o777 == 0o600
    before = path.stat().st_ino
    write_origin(path, made.model_copy(update={"sources": ()}))  # a program's own source says nothing new
    assert read_origin(path) == made
    assert path.stat().st_ino == before
    path.write_bytes(path.read_bytes()[:-4])
    assert read_origin(path) is None


def test_folders_are_remembered_by_their_full_path_and_objects_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert source_texts("store") == (str(tmp_path / "store"),)
    assert source_texts(["https://a.example/x", "store"]) == ("https://a.example/x", str(tmp_path / "store"))
    assert source_texts(object()) == ()


def test_a_password_is_not_shown() -> None:
    assert without_password("https://me:secret@a.example:8443/x") == "https://a.example:8443/x"
    assert without_password("/srv/store@home") == "/srv/store@home"


# -- what the disk takes


@pytest.mark.skipif(os.name != "posix", reason="counts blocks")
def test_shared_files_are_freed_with_their_last_name_only(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        (folder / "sub").mkdir(parents=True)
        (folder / "own").write_bytes(os.urandom(50_000))
    (one / "sub/shared").write_bytes(os.urandom(200_000))
    os.link(one / "sub/shared", two / "shared")
    os.link(one / "own", one / "own again")
    (one / "link").symlink_to("/etc")
    assert 50_000 < disk_use([one]).own < 90_000
    assert 200_000 <= disk_use([one]).shared < 220_000
    both = disk_use([one, two])
    assert both.shared == 0
    assert 300_000 <= both.own < 360_000
    assert disk_use([tmp_path / "none"]).own == 0


# -- what is wrong with a tree


def entry(path: str, data: bytes, mode: int = 0o644) -> TreeEntry:
    return TreeEntry(path=path, mode=mode, size=len(data), sha256=sha256_bytes(data))


def test_every_kind_of_damage_is_named_and_what_nobody_wrote_to_is_not_read(tmp_path: Path) -> None:
    names = ("sound", "touched", "missing", "short", "altered", "rotten", "tool", "folder", "under/file")
    entries = [entry(name, name.encode() * 100, 0o755 if name == "tool" else 0o644) for name in names]
    entries.append(TreeEntry(path="link", type="link", target="sound"))
    entries.append(TreeEntry(path="bent", type="link", target="sound"))
    for item in entries[:-2]:
        path = tmp_path / item.path
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(item.path.encode() * 100)
        path.chmod(item.mode)
        seal_time(path)
    (tmp_path / "link").symlink_to("sound")
    (tmp_path / "bent").symlink_to("elsewhere")
    assert [damage.path for damage in examine(tmp_path, entries)] == ["bent"]
    os.utime(tmp_path / "touched")
    (tmp_path / "missing").unlink()
    os.truncate(tmp_path / "short", 3)
    (tmp_path / "altered").write_bytes(b"x" * len(b"altered" * 100))
    (tmp_path / "rotten").write_bytes(b"x" * len(b"rotten" * 100))
    seal_time(tmp_path / "rotten")  # as a failing disk does: nothing shows it
    (tmp_path / "tool").chmod(0o644)
    (tmp_path / "folder").unlink()
    (tmp_path / "folder").mkdir()
    (tmp_path / "under/file").unlink()
    (tmp_path / "under").rmdir()
    (tmp_path / "under").write_bytes(b"")
    quick = {damage.path: damage.how for damage in examine(tmp_path, entries)}
    expected = {
        "bent": "wrong link", "missing": "missing", "short": "wrong size", "altered": "altered",
        "folder": "another kind", "under/file": "missing",
    }  # fmt: skip
    if os.name == "posix":
        expected["tool"] = "not executable"
    assert quick == expected
    thorough = {damage.path: damage.how for damage in examine(tmp_path, entries, thorough=True)}
    assert thorough == {**expected, "rotten": "altered"}
    assert examine(tmp_path, [entry("sound", b"sound" * 100)], thorough=True) == ()
    assert examine(tmp_path, [entry("gone", b"")]) == (Damage(path="gone", how="missing"),)


# -- file systems without links


def test_a_file_that_cannot_have_another_name_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"a" * 9000)
    for number in (errno.EMLINK, errno.EPERM, errno.EXDEV, errno.ENOTSUP):

        def refuse(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr("os.link", refuse)
            assert not linking.link(tmp_path / "a", tmp_path / "b")
    linking.copy(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"a" * 9000
    assert linking.link(tmp_path / "a", tmp_path / "c")
    with pytest.raises(FileExistsError):
        linking.link(tmp_path / "a", tmp_path / "c")


def test_what_stands_in_for_a_link_is_the_file_at_its_end(tmp_path: Path) -> None:
    entries = [
        entry("lib/real.so", b"real"),
        TreeEntry(path="a.so", type="link", target="lib/b.so"),
        TreeEntry(path="lib/b.so", type="link", target="real.so"),
        TreeEntry(path="folder", type="link", target="lib"),
        TreeEntry(path="x", type="link", target="y"),
        TreeEntry(path="y", type="link", target="x"),
    ]
    assert linking.stand_in(tmp_path, entries[1], entries).path == "lib/real.so"
    for bad in entries[3:5]:
        with pytest.raises(AccessDenied, match="no links"):
            linking.stand_in(tmp_path, bad, entries)


# -- Windows


class Clock:
    """Counts what is waited."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


def held(times: int) -> object:
    left = [times]

    def call() -> str:
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "The process cannot access the file")
        return "done"

    return call


def test_on_windows_a_scanner_is_waited_for_some_seconds_and_a_running_program_is_not_waited_for_for_ever() -> None:
    clock = Clock()
    assert patience.patiently(held(5), system="nt", sleep=clock.sleep) == "done"  # type: ignore[arg-type]
    assert clock.waits == sorted(clock.waits)
    assert len(clock.waits) == 5
    clock = Clock()
    with pytest.raises(PermissionError):
        patience.patiently(held(10**6), system="nt", sleep=clock.sleep)  # type: ignore[arg-type]
    assert 5 < sum(clock.waits) < 15


def test_on_posix_a_refusal_is_final() -> None:
    clock = Clock()
    with pytest.raises(PermissionError):
        patience.patiently(held(1), system="posix", sleep=clock.sleep)  # type: ignore[arg-type]
    assert clock.waits == []


def test_paths_too_long_for_windows_are_refused_beforehand_with_how_much_is_too_much(tmp_path: Path) -> None:
    tree = Path("/" + "d" * 99) / "tree"
    deep = [entry("short", b""), entry("_internal/" + "f" * (266 - len(f"{tree}/_internal/")), b"")]
    with pytest.raises(PathTooLong, match=r"266 characters; Windows takes 259") as caught:
        check_path_lengths([tree], deep, system="nt", enabled=lambda: False)
    assert "7 characters shorter" in caught.value.todo
    check_path_lengths([tree], deep, system="nt", enabled=lambda: True)
    check_path_lengths([tree], deep, system="posix", enabled=lambda: False)
    check_path_lengths([tree], deep[:1], system="nt", enabled=lambda: False)
    folders = [entry("a" * 100 + "/" + "b" * 50 + "/f", b"")]
    with pytest.raises(PathTooLong, match="247 for a folder"):
        check_path_lengths([tree], folders, system="nt", enabled=lambda: False)


# -- running programs


@pytest.mark.skipif(os.name != "posix", reason="a script as program")
def test_programs_that_run_from_a_folder_are_found(tmp_path: Path) -> None:
    script = tmp_path / "versions/a/tree/server"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!{sys.executable}\nimport sys\nprint('up', flush=True)\nsys.stdin.read()\n")
    script.chmod(0o755)
    (tmp_path / "current").symlink_to("versions/a")
    with subprocess.Popen(
        [tmp_path / "current/tree/server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        found = running_from([tmp_path / "versions/a", tmp_path / "versions/b"])
        assert [(item.folder.name, item.pid) for item in found] == [("a", process.pid)]
        process.communicate("")
    assert running_from([tmp_path / "versions/a"]) == ()
    assert running_from([]) == ()
