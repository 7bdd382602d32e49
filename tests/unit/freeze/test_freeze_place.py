"""There is always a whole build in its place; a copy of a tree shares its files and never writes to them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lading.atomic import write_atomic
from lading.freeze.increment import read_again, share_tree, tree_path
from lading.freeze.place import is_intact, put_in_place, recover
from lading.freeze.sources import SourceModule
from lading.manifest.buildinfo import OwnedEntry
from lading.pack.scan import scan_tree
from lading.progress import Silent


def build(folder: Path, text: str) -> Path:
    (folder / "tree").mkdir(parents=True)
    (folder / "tree" / "file").write_text(text)
    return folder


def text(home: Path) -> str:
    return (home / "tree" / "file").read_text()


def test_the_first_build_gets_into_its_place(tmp_path: Path) -> None:
    put_in_place(build(tmp_path / "next", "new"), tmp_path / "out" / "cpu", tmp_path / "previous")
    assert text(tmp_path / "out" / "cpu") == "new"
    assert not (tmp_path / "next").exists()


def test_a_newer_build_takes_the_place_of_the_older_and_nothing_else_is_left(tmp_path: Path) -> None:
    home = build(tmp_path / "out" / "cpu", "old")
    build(tmp_path / "previous", "left from long ago")
    put_in_place(build(tmp_path / "next", "new"), home, tmp_path / "previous")
    assert text(home) == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["cpu"]


def test_when_the_newer_build_cannot_be_moved_the_older_is_back(tmp_path: Path) -> None:
    home = build(tmp_path / "out" / "cpu", "old")
    with pytest.raises(OSError, match="next"):
        put_in_place(tmp_path / "next", home, tmp_path / "previous")  # there is none
    assert text(home) == "old"


def test_what_was_killed_in_between_is_put_back_by_the_next_run(tmp_path: Path) -> None:
    home = tmp_path / "out" / "cpu"
    home.parent.mkdir()
    build(tmp_path / "previous", "old")
    recover(home, tmp_path / "previous")
    assert text(home) == "old"


def test_what_was_killed_after_the_newer_came_stays(tmp_path: Path) -> None:
    home = build(tmp_path / "out" / "cpu", "new")
    recover(home, build(tmp_path / "previous", "old"))
    recover(tmp_path / "none", tmp_path / "none either")
    assert text(home) == "new"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    (tree / "_internal" / "deep").mkdir(parents=True)
    (tree / "small").write_bytes(b"program")
    (tree / "small").chmod(0o755)
    (tree / "_internal" / "deep" / "a.pyc").write_bytes(b"module")
    (tree / "_internal" / "link.so").symlink_to("deep/a.pyc")
    return tree


def entries(tree: Path) -> tuple[OwnedEntry, ...]:
    return tuple(OwnedEntry(**entry.model_dump(), owner="app") for entry in scan_tree(tree, Silent()))


def test_an_untouched_tree_is_intact(tree: Path) -> None:
    assert is_intact(tree, entries(tree))


@pytest.mark.parametrize(
    "harm",
    [
        lambda tree: (tree / "_internal/deep/a.pyc").unlink(),
        lambda tree: (tree / "_internal/deep/a.pyc").write_bytes(b"longer than before"),
        lambda tree: (tree / "small").chmod(0o644),
        lambda tree: (tree / "server.log").write_bytes(b""),
        lambda tree: ((tree / "_internal/link.so").unlink(), (tree / "_internal/link.so").symlink_to("deep")),
        lambda tree: ((tree / "_internal/link.so").unlink(), (tree / "_internal/link.so").write_bytes(b"module")),
        lambda tree: tree.rename(tree.with_name("gone")),
    ],
    ids=["missing", "size", "mode", "more", "other target", "no link", "no tree"],
)
@pytest.mark.skipif(os.name != "posix", reason="links and modes are POSIX's")
def test_a_touched_one_is_not(tree: Path, harm: object) -> None:
    before = entries(tree)
    assert callable(harm)
    harm(tree)
    assert not is_intact(tree, before)


def test_a_shared_tree_is_the_same_and_what_is_written_to_it_is_not_seen_in_the_older(
    tree: Path, tmp_path: Path
) -> None:
    before = entries(tree)
    copy = tmp_path / "next" / "tree"
    share_tree(tree, copy)
    assert entries(copy) == before
    assert (copy / "small").stat().st_ino == (tree / "small").stat().st_ino
    write_atomic(copy / "_internal/deep/a.pyc", b"changed", durable=False)
    assert entries(tree) == before
    assert is_intact(tree, before)


def test_where_there_are_no_hard_links_files_are_copied(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("lading.freeze.increment.os.link", refuse)
    share_tree(tree, tmp_path / "next")
    assert entries(tmp_path / "next") == entries(tree)
    assert (tmp_path / "next/small").stat().st_ino != (tree / "small").stat().st_ino


def test_only_changed_modules_are_read_again(tree: Path) -> None:
    before = entries(tree)
    module = SourceModule(name="deep.a", path="src/deep/a.py", sha256="0" * 64, imports="0" * 64)
    assert tree_path(module) == "_internal/deep/a.pyc"
    (tree / "_internal/deep/a.pyc").write_bytes(b"changed!")
    (tree / "small").write_bytes(b"not read")
    after = read_again(before, tree, [module])
    changed = [entry.path for entry, old in zip(after, before, strict=True) if entry != old]
    assert changed == ["_internal/deep/a.pyc"]
    assert next(entry for entry in after if entry.path == changed[0]).size == 8


def test_a_package_lies_in_its_folder() -> None:
    module = SourceModule(name="small.web", path="src/small/web/__init__.py", sha256="0" * 64, imports="0" * 64)
    assert tree_path(module) == "_internal/small/web/__init__.pyc"
