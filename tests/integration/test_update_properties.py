"""Whatever was there before, an install gives exactly the release: random trees, edits, damage and interruptions."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from tests.packed_release import APP, ENTRY, Executable, Files, Link, Shop, index_of, program
from typing_extensions import override

from lading.digest import sha256_file
from lading.errors import SourceUnreachable
from lading.fetch.folder import FolderSource
from lading.fetch.source import Stream
from lading.manifest.tree import TreeEntry, tree_digest
from lading.store.install import install
from lading.store.preview import plan_install

# -- trees and edits

names = st.sampled_from(["a", "b", "c.so", "d.pyc"])
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
noise = [os.urandom(45_000) for _ in range(6)]  # few, so that files are the same under several names


@dataclass(frozen=True)
class Content:
    """What lies under a path: so many bytes of one noise, with some text in their middle; or a link.

    Attributes:
        seed: Which noise.
        size: How much of it.
        text: What was inserted.
        executable: Its mode.
        target: A link's.
    """

    seed: int = 0
    size: int = 0
    text: str = ""
    executable: bool = False
    target: str | None = None

    def made(self) -> bytes | Link:
        """The content itself."""
        if self.target is not None:
            return Link(self.target)
        data = noise[self.seed][: self.size]
        whole = data[: self.size // 2] + self.text.encode() + data[self.size // 2 :]
        return Executable(whole) if self.executable else whole


Tree = dict[str, Content]
seeds = st.integers(0, 5)
contents = st.one_of(
    st.just(Content()),
    st.builds(Content, seed=seeds, size=st.integers(1, 900), executable=st.booleans()),
    st.builds(Content, seed=seeds, size=st.integers(1, 45_000)),
    st.builds(Content, target=names),
)
trees = st.dictionaries(paths, contents, max_size=9)


@dataclass(frozen=True)
class Edit:
    """One change to a tree."""

    what: str
    path: str
    other: str
    content: Content


edits = st.lists(
    st.builds(
        Edit,
        what=st.sampled_from(["add", "remove", "insert", "rename", "copy", "mode"]),
        path=paths,
        other=paths,
        content=contents,
    ),
    max_size=6,
)


def edited(tree: Tree, changes: list[Edit]) -> Tree:
    new = dict(tree)
    for change in changes:
        known = sorted(new)
        at = known[sum(change.path.encode()) % len(known)] if known else ""
        match change.what:
            case "remove" if at:
                del new[at]
            case "rename" if at:
                new[change.other] = new.pop(at)
            case "copy" if at:
                new[change.other] = new[at]
            case "mode" if at:
                new[at] = replace(new[at], executable=not new[at].executable)
            case "insert" if at:
                new[at] = replace(new[at], text=new[at].text + change.other)
            case _:
                new[change.path] = change.content
    return new


def release_files(tree: Tree, text: str) -> Files:
    """A tree that a release can have: with an entry, and no file where a folder must be."""
    folders = {"/".join(path.split("/")[:end]) for path in tree for end in range(1, path.count("/") + 1)}
    kept = {path: content.made() for path, content in sorted(tree.items()) if path not in folders}
    return {ENTRY: program(text), **kept}


def digest_on_disk(tree: Path) -> str:
    """The tree digest, from nothing but what lies there."""
    entries = []
    for path in tree.rglob("*"):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            entries.append(TreeEntry(path=name, type="link", target=str(path.readlink())))
        elif path.is_file():
            found = path.stat()
            mode = 0o755 if found.st_mode & 0o100 else 0o644
            entries.append(TreeEntry(path=name, mode=mode, size=found.st_size, sha256=sha256_file(path)))
    return tree_digest(entries)


def digest_of(*files: Files) -> str:
    return tree_digest(entry.tree_entry() for part in files for entry in index_of(part)[0].files)


# -- what happened before


class Breaking(FolderSource):
    """Fails for good after so many bytes of archives."""

    def __init__(self, folder: Path, budget: int) -> None:
        super().__init__(folder)
        self.budget = budget

    @override
    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        for block in super().stream_range(path, start, size, total):
            self.budget -= len(block)
            if self.budget < 0:
                raise SourceUnreachable("the line is cut")
            yield block


@dataclass(frozen=True)
class Damage:
    """Something that happens to an installed file."""

    how: str
    number: int


damages = st.lists(
    st.builds(
        Damage,
        how=st.sampled_from(["zeros", "cut", "gone", "mode", "link", "touched", "longer", "folder"]),
        number=st.integers(0, 100),
    ),
    max_size=4,
)


def damage(tree: Path, changes: list[Damage]) -> None:
    for change in changes:
        files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
        if not files:
            return
        victim = files[change.number % len(files)]
        data = victim.read_bytes()
        match change.how:
            case "zeros":
                victim.write_bytes(bytes(len(data)))
            case "cut":
                os.truncate(victim, len(data) // 2)
            case "longer":
                victim.write_bytes(data + b"x")
            case "mode":
                victim.chmod(victim.stat().st_mode ^ 0o111)
            case "touched":
                os.utime(victim)
            case "link":
                victim.unlink()
                victim.symlink_to("/nowhere")
            case "folder":
                victim.unlink()
                victim.mkdir()
            case _:
                victim.unlink()


def spoil(store: Path, how: str) -> None:
    for patch in (store / "assets").rglob("*.patch"):
        data = patch.read_bytes()
        if how == "altered":
            patch.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        elif how == "cut off":
            patch.write_bytes(data[: len(data) // 2])
        elif how == "gone":
            patch.unlink()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    older=trees,
    old=trees,
    changes=edits,
    libs=trees,
    libs_changes=edits,
    before=st.sampled_from(["", "older", "old", "old", "older old", "broken", "old broken", "older broken"]).map(
        str.split
    ),
    damaged=damages,
    patch=st.sampled_from(["none", "sound", "sound", "altered", "cut off", "gone"]),
    budget=st.integers(0, 12_000),
    volume=st.sampled_from([9_000, 30_000, 10**9]),
    level=st.sampled_from([1, 19]),
)
def test_an_install_over_anything_gives_exactly_the_release(  # noqa: PLR0917 (hypothesis gives them by name)
    older: Tree,
    old: Tree,
    changes: list[Edit],
    libs: Tree,
    libs_changes: list[Edit],
    before: list[str],
    damaged: list[Damage],
    patch: str,
    budget: int,
    volume: int,
    level: int,
) -> None:
    first, second = release_files(older, "older"), release_files(old, "old")
    third = release_files(edited(old, changes), "new")
    libs_1 = {f"libs/{path}": content for path, content in release_files(libs, "libs").items()}
    libs_2 = {f"libs/{path}": content for path, content in release_files(edited(libs, libs_changes), "libs").items()}
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("lading.fetch.source.BACKOFF", 0.001)
        shop, data = Shop(Path(folder) / "shop", volume=volume, level=level), Path(folder) / "data"
        for version, core in (("0.1.0", first), ("0.2.0", second)):
            shop.release(version, core, libs_1)
            if {"0.1.0": "older", "0.2.0": "old"}[version] in before:
                damage(Path(install(str(shop.store), shop.root, data, app=APP).tree), damaged)
        if "broken" in before:
            source = Breaking(shop.store, budget)
            try:
                install(source, shop.root, data, app=APP, version="0.2.0")
            except SourceUnreachable:
                event("an install was interrupted")
        label = "cu126-v2" if digest_of(libs_2) != digest_of(libs_1) else "cu126-v1"
        shop.release(
            "0.3.0", third, libs_2, label=label, patches=[] if patch == "none" else ["0.1.0", "0.2.0", "cu126-v1"]
        )
        spoil(shop.store, patch)
        dry = plan_install(str(shop.store), shop.root, data, app=APP)
        result = install(str(shop.store), shop.root, data, app=APP)

        assert digest_on_disk(Path(result.tree)) == digest_of(third, libs_2)
        assert not list((data / "backends/cuda/partial").iterdir())
        assert (data / "backends/cuda/current").resolve() == Path(result.path).resolve()
        assert sum(result.received.values()) <= result.bytes_received
        assert install(str(shop.store), shop.root, data, app=APP).already_installed
        if patch in {"none", "sound"}:
            assert (dry.expected, dry.ways) == (result.received, result.ways)
            for way in result.ways:
                event(f"{way.component} by {way.how}")
