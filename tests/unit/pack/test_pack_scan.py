"""Reading a tree: what is in it, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.pack.trees import CORE, Acting, Link, Program, make_tree, noise

from lading.digest import sha256_bytes
from lading.errors import FileChanged, FormatInvalid, LinkEscapes, NameForbidden, TreeInvalid
from lading.manifest.tree import TreeEntry, tree_digest
from lading.pack.filenames import check_carried, check_names, name_problems
from lading.pack.scan import check_link, find_entry, scan_tree
from lading.progress import Silent
from lading.store import safety

needs_posix = pytest.mark.skipif(os.name != "posix", reason="Windows has neither such files nor such modes")


def scan(tree: Path) -> dict[str, TreeEntry]:
    return {entry.path: entry for entry in scan_tree(tree, Silent())}


# --- what is found ----------------------------------------------------------------------------------------------------


def test_every_file_and_link_is_found_with_mode_size_digest_and_target(tmp_path: Path) -> None:
    found = scan(make_tree(tmp_path, CORE))

    assert set(found) == set(CORE)
    for path, content in CORE.items():
        if isinstance(content, Link):
            assert found[path] == TreeEntry(path=path, type="link", target=content.target)
        else:
            data = content.data if isinstance(content, Program) else content
            mode = 0o755 if isinstance(content, Program) else 0o644
            assert found[path] == TreeEntry(path=path, mode=mode, size=len(data), sha256=sha256_bytes(data))


def test_entries_come_in_the_order_of_their_utf8_paths(tmp_path: Path) -> None:
    make_tree(
        tmp_path, {"b": b"", "a-b": b"", "a/b": b"", "a.b": b"", "é": b"", "z": b"", "\U0001f600": b"", "\uffee": b""}
    )

    paths = [entry.path for entry in scan_tree(tmp_path, Silent())]

    assert paths == sorted(paths, key=str.encode)
    assert len(paths) == 8


@needs_posix
@pytest.mark.parametrize(
    ("mode", "kept"), [(0o600, 0o644), (0o777, 0o755), (0o744, 0o755), (0o654, 0o644), (0o400, 0o644)]
)
def test_only_the_owners_executable_bit_of_a_mode_is_kept(tmp_path: Path, mode: int, kept: int) -> None:
    make_tree(tmp_path, {"f": b"x"})
    (tmp_path / "f").chmod(mode)

    assert scan(tmp_path)["f"].mode == kept


def test_empty_folders_are_not_entries(tmp_path: Path) -> None:
    make_tree(tmp_path, {"f": b"x"})
    (tmp_path / "empty" / "deep").mkdir(parents=True)

    assert set(scan(tmp_path)) == {"f"}


def test_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    make_tree(tmp_path, {f"f{number}": noise(number * 1000, number) for number in range(40)})

    assert scan_tree(tmp_path, Silent(), threads=1) == scan_tree(tmp_path, Silent(), threads=4)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")

    for path in (tmp_path / "file", tmp_path / "nowhere"):
        with pytest.raises(TreeInvalid, match="is not a folder") as caught:
            scan_tree(path, Silent())
        assert str(path) in caught.value.what


def test_an_empty_tree_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(TreeInvalid, match="has no files"):
        scan_tree(tmp_path, Silent())


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))  # such names have 107 bytes at most


@needs_posix
@pytest.mark.parametrize("make", [_fifo, _socket], ids=["pipe", "socket"])
def test_what_is_neither_file_nor_folder_nor_link_is_refused_and_not_opened(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make_tree(tmp_path, {"_internal/f": b"x"})
    make(tmp_path / "_internal" / "odd")

    with pytest.raises(TreeInvalid, match=r"^_internal/odd is neither a file, a folder nor a link"):
        scan_tree(tmp_path, Silent())


UNREADABLE = """
import os, sys
from pathlib import Path
from lading.errors import LadingError
from lading.pack.scan import find_entry, scan_tree
from lading.progress import Silent
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for read in (lambda: scan_tree(Path(sys.argv[1]), Silent()), lambda: find_entry(Path(sys.argv[1]))):
    try:
        read()
    except LadingError as error:
        print(error.exit_code, error.what)
"""


@needs_posix
@pytest.mark.parametrize("what", ["secret/file", "secret", "."])
def test_what_this_user_may_not_read_is_refused_by_name(tmp_path_factory: pytest.TempPathFactory, what: str) -> None:
    """In a process of its own, which gives its rights away where it has them all."""
    base = tmp_path_factory.mktemp("open")
    tree = base / "tree"
    make_tree(tree, {"secret/file": b"x", "other": b"y"})
    opened = [path for path in (base, *base.parents) if path.is_relative_to(tmp_path_factory.getbasetemp().parent)]
    before = {path: stat.S_IMODE(path.stat().st_mode) for path in opened}
    for path, mode in before.items():
        path.chmod(mode | 0o755)
    (tree / what).chmod(0)
    try:
        done = subprocess.run(
            [sys.executable, "-c", UNREADABLE, tree], capture_output=True, text=True, check=True, cwd="/"
        )
    finally:
        (tree / what).chmod(0o755)
        for path, mode in before.items():
            path.chmod(mode)

    lines = done.stdout.splitlines()
    name = str(tree) if what == "." else what + ("/" if what == "secret" else "")
    assert lines[0] == f"50 {name} cannot be read: Permission denied"
    assert lines[1].startswith("50 "), "no onedir tree in any case"


@pytest.mark.parametrize("step", ["grows", "shrinks"])
def test_a_file_that_grows_or_shrinks_while_it_is_read_is_noticed(tmp_path: Path, step: str) -> None:
    make_tree(tmp_path, {"f": bytes(3 * 2**20)})
    size = 4 * 2**20 if step == "grows" else 2**20

    def change() -> None:
        os.truncate(tmp_path / "f", size)

    progress = Acting("reading the tree", 2**20, change)
    with pytest.raises(
        FileChanged, match=rf"^f changed while the tree was being read: it had 3145728 bytes, then {size}"
    ):
        scan_tree(tmp_path, progress, threads=1)
    assert progress.acted


@needs_posix
@pytest.mark.parametrize("becomes", ["pipe", "link", "folder", "nothing"])
def test_a_file_that_becomes_something_else_is_not_opened(tmp_path: Path, becomes: str) -> None:
    """A pipe would block for ever; a link could lead anywhere."""
    make_tree(tmp_path, {"f": b"x"})

    def change() -> None:
        (tmp_path / "f").unlink()
        if becomes == "pipe":
            os.mkfifo(tmp_path / "f")
        elif becomes == "link":
            (tmp_path / "f").symlink_to("/etc/passwd")
        elif becomes == "folder":
            (tmp_path / "f").mkdir()

    with pytest.raises(TreeInvalid, match=r"^f cannot be read: "):
        scan_tree(tmp_path, Acting("reading the tree", 0, change))


# --- links ------------------------------------------------------------------------------------------------------------


@needs_posix
def test_links_inside_the_tree_are_kept_as_they_are_written(tmp_path: Path) -> None:
    links = {
        "_internal/libx.so": Link("libx.so.1"),
        "_internal/a/b/up.so": Link("../../libx.so.1"),
        "_internal/folder": Link("a/b"),
        "_internal/second": Link("libx.so"),
        "_internal/through": Link("folder/real.txt"),
    }
    make_tree(tmp_path, {"_internal/libx.so.1": b"x", "_internal/a/b/real.txt": b"y", **links})

    found = scan(tmp_path)

    assert {path: found[path].target for path in links} == {path: link.target for path, link in links.items()}


@needs_posix
@pytest.mark.parametrize(
    ("path", "target", "message"),
    [
        ("_internal/l", "/etc/passwd", "outside the tree"),
        ("_internal/l", "../../etc/passwd", "outside the tree"),
        ("l", "..", "outside the tree"),
        ("_internal/l", "..", "not written plainly"),
        ("_internal/l", ".", "not written plainly"),
        ("_internal/l", "d/../f", "not written plainly"),
        ("_internal/l", "a\\b", "not written plainly"),
        ("_internal/l", "f\nf 0644 0", "not written plainly"),
        ("_internal/l", "c:/x", "outside the tree"),
        ("_internal/l", "gone", "which is not in the tree"),
        ("_internal/l", "l", "which is not in the tree"),
        ("_internal/l", "empty", "which is not in the tree"),
    ],
)
def test_a_link_that_leaves_the_tree_or_leads_nowhere_is_refused(
    tmp_path: Path, path: str, target: str, message: str
) -> None:
    make_tree(tmp_path, {"_internal/f": b"x", "_internal/d/f": b"y", path: Link(target)})
    (tmp_path / "_internal" / "empty").mkdir()

    with pytest.raises(LinkEscapes, match=message) as caught:
        scan_tree(tmp_path, Silent())
    assert caught.value.exit_code == 53
    assert f"The symbolic link {path} leads to" in caught.value.what
    assert target in caught.value.what or repr(target) in caught.value.what


@needs_posix
def test_links_that_only_lead_outside_together_are_refused(tmp_path: Path) -> None:
    """Each alone stays inside, when '..' is thought to undo the name before it."""
    make_tree(tmp_path, {"a/f": b"x", "x/y/d": Link("../../a"), "x/y/l": Link("d/../../secret")})
    (tmp_path.parent / "secret").write_bytes(b"")

    with pytest.raises(LinkEscapes, match="not written plainly"):
        scan_tree(tmp_path, Silent())


@needs_posix
@pytest.mark.parametrize("written", ["./f", "d//f", "d/./f", "d/"])
def test_what_means_nothing_in_a_target_is_left_out(tmp_path: Path, written: str) -> None:
    make_tree(tmp_path, {"f": b"x", "d/f": b"y", "l": Link(written)})

    assert scan(tmp_path)["l"].target == written.replace("./", "").replace("//", "/").rstrip("/")


PARTS = st.sampled_from(["..", ".", "", "a", "b.so", "C:", "x\\y", "é"])


@given(
    path=st.lists(st.sampled_from(["p", "q", "r"]), min_size=1, max_size=4).map("/".join),
    target=st.lists(PARTS, min_size=1, max_size=5).map("/".join).filter(bool),
)
def test_a_link_is_packed_exactly_when_the_client_would_install_it(path: str, target: str) -> None:
    def refuses(check: Callable[[str, str], None], error: type[Exception]) -> bool:
        try:
            check(path, target)
        except error:
            return True
        return False

    assert refuses(check_link, LinkEscapes) == refuses(safety.check_link, FormatInvalid)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("paths", "problem"),
    [
        (["_internal/con"], "'con' is a device name on Windows"),
        (["_internal/Aux.txt"], "'Aux.txt' is a device name on Windows"),
        (["com1.log/x"], "'com1.log' is a device name on Windows"),
        (["lpt²"], "'lpt²' is a device name on Windows"),
        (["_internal/name."], "ends with a dot or a space"),
        (["_internal/name "], "ends with a dot or a space"),
        (["folder./x"], "'folder.' ends with a dot or a space"),
        (["a:b"], "has the character ':'"),
        (["what?"], "has the character '?'"),
        (["a*"], "has the character '*'"),
        (["a|b"], "has the character '|'"),
        (['say"'], "has the character '\"'"),
        (["<a>"], "has the character '<'"),
        (["x" * 256], "is longer than 255 bytes"),
        (["é" * 128], "is longer than 255 bytes"),
        (["a/Readme", "a/README"], "'a/README' and 'a/Readme' are one file or folder where case does not count"),
        (["Data/x", "data/y"], "'data' and 'Data' are one file or folder"),
        (["data", "Data/y"], "'Data' and 'data' are one file or folder"),
        (["é", "e\u0301"], "are one file or folder"),
        (["straße", "STRASSE"], "are one file or folder"),
    ],
)
def test_names_that_some_system_cannot_have_are_told(paths: list[str], problem: str) -> None:
    assert any(problem in line for line in name_problems(paths))
    with pytest.raises(NameForbidden, match="file name") as caught:
        check_names(paths)
    assert problem in caught.value.what
    assert caught.value.exit_code == 52
    assert "--native-names" in caught.value.todo


def test_ordinary_names_have_no_problem() -> None:
    paths = [
        "console",
        "_internal/auxiliary.py",
        "com10",
        "a.b.c",
        ".hidden",
        "größe",
        "lib+x-1.0_y.so.12",
        "CONtents/x",
    ]

    assert name_problems([*paths, "CONtents/y"]) == []


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3).map("/".join))
def test_a_portable_name_is_one_that_the_client_installs_on_windows(path: str) -> None:
    try:
        check_carried([path])
    except NameForbidden:
        return
    if not {"", ".", ".."} & set(path.split("/")) and not name_problems([path]):
        safety._check_path(path, "windows-x86_64")


@pytest.mark.parametrize("name", ["a\\b", "tab\there", "line\nbreak", "\x7f", "c:drive", os.fsdecode(b"\xff\xfe")])
@needs_posix
def test_names_that_no_release_can_carry_are_refused_on_every_platform(tmp_path: Path, name: str) -> None:
    make_tree(tmp_path, {"ok": b"x"})
    (tmp_path / name).write_bytes(b"y")

    with pytest.raises(NameForbidden, match=r"1 file name\(s\) cannot be in a release") as caught:
        scan_tree(tmp_path, Silent())
    assert repr(name) in caught.value.what


def test_no_two_trees_have_one_digest_by_a_trick_with_names() -> None:
    """Lines of the digest are ended by a line feed, which therefore no path and no target may have."""
    one = TreeEntry(path="a", sha256="0" * 64)
    line = f"\nf 0644 0 {'0' * 64} b"

    assert tree_digest([one, TreeEntry(path="b", sha256="0" * 64)]) == tree_digest(
        [TreeEntry(path="a" + line, sha256="0" * 64)]
    )
    with pytest.raises(NameForbidden):
        check_carried(["a" + line])
    with pytest.raises(LinkEscapes):
        check_link("p", "a\nf 0644")


# --- a onedir tree ----------------------------------------------------------------------------------------------------


def test_the_one_executable_beside_the_payload_is_the_entry(tmp_path: Path) -> None:
    assert find_entry(make_tree(tmp_path, CORE)) == "demo-server-cuda"


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"program": Program(b"x")}, r"no folder _internal and the executables \['program'\]"),
        ({"_internal/x": b"", "readme": b""}, "a folder _internal and the executables none"),
        ({"_internal/x": b"", "a": Program(b""), "b": Program(b"")}, r"the executables \['a', 'b'\]"),
        ({"_internal": b"", "a": Program(b"")}, "no folder _internal"),
        ({"bin/python": Program(b""), "lib/x.py": b""}, "no folder _internal and the executables none"),
    ],
    ids=["onefile", "no-program", "two-programs", "payload-is-a-file", "virtual-environment"],
)
def test_what_is_no_onedir_tree_is_refused(tmp_path: Path, files: dict[str, bytes | Program], says: str) -> None:
    make_tree(tmp_path, files)

    with pytest.raises(TreeInvalid, match=says) as caught:
        find_entry(tmp_path)
    assert caught.value.exit_code == 50
