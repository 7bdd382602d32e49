"""Releases that must never be written, however well they are signed."""

from __future__ import annotations

from typing import Any

import pytest

from lading.digest import sha256_bytes
from lading.errors import FormatInvalid
from lading.manifest.base import Platform
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.release import Asset, ComponentRecord, Provenance, Release, Requirements
from lading.manifest.tree import tree_digest
from lading.store.safety import FILES_LIMIT, check_link, check_release

DATA = b"d" * 10
PROVENANCE = Provenance(commit="unknown", epoch=0, python="3", pyinstaller="6", zstd="1", lading="0")


def entry(path: str, **changes: Any) -> IndexEntry:
    """An entry as hostile as wanted: nothing is validated."""
    fields: dict[str, Any] = {
        "path": path, "type": "file", "mode": 0o644, "size": len(DATA), "sha256": sha256_bytes(DATA), "target": None,
        "frame": 0, "offset": 0,
    }  # fmt: skip
    return IndexEntry.model_construct(**(fields | changes))


def link(path: str, target: str) -> IndexEntry:
    return entry(path, type="link", size=0, sha256=None, target=target)


START = entry("server", mode=0o755)


def release(
    entries: list[IndexEntry], *, platform: Platform = "linux-x86_64", entry_path: str = "server", **component: Any
) -> tuple[Release, Index]:
    index = Index.model_construct(
        schema_="lading/index/1", files=tuple(entries), frames=(Frame(sha256="0" * 64, raw=1000, size=50),)
    )
    sound = [item.tree_entry() for item in entries if _is_sound(item)]
    facts: dict[str, Any] = {
        "tree": tree_digest(sound), "files": max(len(entries), 1), "unpacked": sum(item.size for item in entries),
    }  # fmt: skip
    asset = Asset(name="a", size=50, sha256="0" * 64)
    core = ComponentRecord(
        app="demo", component="core", version="1.0.0", flavor="cpu", platform=platform, size=50, sha256="0" * 64,
        index=asset, volumes=(asset,), profile="fast", **(facts | component),
    )  # fmt: skip
    made = Release(
        app="demo", version="1.0.0", platform=platform, flavor="cpu", entry=entry_path, tree=tree_digest(sound),
        components=(core,), requirements=Requirements(disk=0), provenance=PROVENANCE,
    )  # fmt: skip
    return made, index


def _is_sound(item: IndexEntry) -> bool:
    try:
        item.tree_entry()
    except ValueError:
        return False
    return True


def check(entries: list[IndexEntry], **options: Any) -> None:
    made, index = release(entries, **options)
    check_release(made, {"core": index})


def test_a_plain_release_passes() -> None:
    check([START, entry("_internal/a.so"), link("_internal/b.so", "a.so"), link("_internal/x/c", "../a.so")])


@pytest.mark.proves("S1-17")
@pytest.mark.parametrize(
    ("bad", "why"),
    [
        pytest.param(entry("/etc/passwd"), "plain path", id="absolute"),
        pytest.param(entry("../outside"), "plain path", id="up"),
        pytest.param(entry("a/../../outside"), "plain path", id="up in the middle"),
        pytest.param(entry("a//b"), "plain path", id="empty part"),
        pytest.param(entry("a/./b"), "plain path", id="dot part"),
        pytest.param(entry("a\\..\\b"), "plain path", id="backslash"),
        pytest.param(entry("a\0b"), "control character", id="zero byte"),
        pytest.param(entry("a\nf 0644 1 00 b"), "control character", id="line break"),
        pytest.param(entry("a\x1b[2J"), "control character", id="terminal sequence"),
        pytest.param(entry("C:evil"), "plain path", id="drive"),
        pytest.param(entry("a" * 256), "a name in it 256", id="long name"),
        pytest.param(entry("/".join(["abc"] * 300)), "its path has 1199 bytes", id="long path"),
        pytest.param(link("a", "b\nc"), "outside the tree", id="line break in a link"),
        pytest.param(link("a", "b" * 2000), "outside the tree", id="long link"),
        pytest.param(entry(""), "plain path", id="empty"),
        pytest.param(entry("server"), "occurs twice", id="duplicate"),
        pytest.param(entry("server/inside"), "not a folder", id="below a file"),
        pytest.param(entry("a", mode=0o4755), "mode is 4755", id="setuid"),
        pytest.param(entry("a", mode=0o666), "mode is 0666", id="world writable"),
        pytest.param(entry("a", type="device"), "without what makes one", id="device"),
        pytest.param(entry("a", sha256=None), "without what makes one", id="no digest"),
        pytest.param(entry("a", size=0), "0 bytes and the digest", id="empty with a digest"),
        pytest.param(entry("a", size=5000), "where its 1 frames end", id="longer than the archive"),
        pytest.param(entry("a", frame=7), "where its 1 frames end", id="frame that is not there"),
        pytest.param(entry("a", offset=2000), "where its 1 frames end", id="offset behind the frame"),
        pytest.param(link("a", "/etc/passwd"), "outside the tree", id="absolute link"),
        pytest.param(link("a", "../b"), "outside the tree", id="link up"),
        pytest.param(link("x/a", "../../b"), "outside the tree", id="link up twice"),
        pytest.param(link("x/y/a", "z/../../b"), "outside the tree", id="link through another"),
        pytest.param(link("a", "C:/Windows"), "outside the tree", id="drive link"),
        pytest.param(link("a", ""), "outside the tree", id="empty link"),
        pytest.param(link("x/a", ".."), "outside the tree", id="link to the root"),
    ],
)
def test_hostile_entries_are_refused_before_anything_is_touched(bad: IndexEntry, why: str) -> None:
    with pytest.raises(FormatInvalid, match=why):
        check([START, bad])


@pytest.mark.proves("S1-17")
def test_a_file_below_a_link_is_refused() -> None:
    with pytest.raises(FormatInvalid, match="not a folder"):
        check([START, link("d", "e"), entry("d/file")])


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (entry("SERVER"), "occurs twice"),
        (entry("a/nul.txt"), "cannot have"),
        (entry("a/COM1"), "cannot have"),
        (entry("a/b:c"), "cannot have"),
        (entry("a/b."), "cannot have"),
        (entry("a/b "), "cannot have"),
        (entry("a/CONOUT$"), "cannot have"),
        (link("a/b", "../nul"), "cannot have"),
        (link("a/b", "cc:stream"), "cannot have"),
    ],
)
def test_names_that_windows_cannot_have_are_refused_there_only(bad: IndexEntry, why: str) -> None:
    check([START, bad])
    with pytest.raises(FormatInvalid, match=why):
        check([START, bad], platform="windows-x86_64")


@pytest.mark.proves("S1-17")
def test_names_that_only_a_file_system_takes_for_one_are_refused() -> None:
    with pytest.raises(FormatInvalid, match="occurs twice"):
        check([START, entry("caf\u00e9"), entry("cafe\u0301")])
    with pytest.raises(FormatInvalid, match="not a folder"):
        check([START, link("d", "e"), entry("D/evil")], platform="windows-x86_64")


def test_more_files_than_any_product_has_are_refused() -> None:
    made, index = release([START])
    many = index.model_copy(update={"files": (START,) * (FILES_LIMIT + 1)})
    with pytest.raises(FormatInvalid, match="250001 files"):
        check_release(made, {"core": many})


@pytest.mark.parametrize("wrong", [{"files": 7}, {"unpacked": 7}, {"tree": "1" * 64}])
def test_an_index_that_disagrees_with_its_release_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(FormatInvalid, match="unlike the release"):
        check([START], **wrong)


def test_components_that_do_not_make_the_releases_tree_are_refused() -> None:
    made, index = release([START])
    with pytest.raises(FormatInvalid, match="tree digest"):
        check_release(made.model_copy(update={"tree": "1" * 64}), {"core": index})


def test_a_frame_that_grows_by_compression_is_refused() -> None:
    made, index = release([START])
    index = index.model_copy(update={"frames": (Frame(sha256="0" * 64, raw=1000, size=5000),)})
    core = made.components[0].model_copy(update={"size": 5000})
    made = made.model_copy(update={"components": (core,)})
    with pytest.raises(FormatInvalid, match="5000 bytes compressed"):
        check_release(made, {"core": index})


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        ([entry("other")], "no file of the tree"),
        ([entry("server")], "mode is 0644"),
        ([link("server", "other"), entry("other", mode=0o755)], "no file of the tree"),
    ],
)
def test_an_entry_that_cannot_be_run_is_refused(entries: list[IndexEntry], why: str) -> None:
    with pytest.raises(FormatInvalid, match=why):
        check(entries)


@pytest.mark.parametrize("target", ["b", "b/c", "../x", "../../x/y"])
def test_links_inside_the_tree_pass(target: str) -> None:
    check_link("p/q/link", target)
