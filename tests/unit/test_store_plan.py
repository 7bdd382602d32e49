"""The planner against its rules."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packed_release import ENTRY, Files, Link, index_of, release_of

from lading.digest import sha256_bytes
from lading.manifest.index import Index
from lading.manifest.release import Asset, ComponentRecord, Release
from lading.manifest.tree import TreeEntry, tree_digest
from lading.store.plan import SLACK, Frames, InstalledFiles, Plan, frames_of, make_plan


def planned(files: Files) -> tuple[Release, Index]:
    index, stored = index_of(files)
    entries = [entry.tree_entry() for entry in index.files]
    size = sum(map(len, stored))
    asset = Asset(name="a", size=size, sha256="0" * 64)
    core = ComponentRecord(
        app="demo-app", component="core", version="0.1.0", flavor="cpu", platform="linux-x86_64",
        tree=tree_digest(entries), files=len(entries), unpacked=sum(entry.size for entry in entries), size=size,
        sha256="0" * 64, index=Asset(name="i", size=1, sha256="0" * 64), volumes=(asset,), profile="fast",
    )  # fmt: skip
    return release_of("0.1.0", "cpu", [core], files, None), index


def plan(
    files: Files,
    *installed: InstalledFiles,
    staged: Frames = {},  # noqa: B006 (never changed)
    damaged: Sequence[tuple[str, str]] = (),
    can_link: bool = True,
) -> Plan:
    release, index = planned(files)
    return make_plan(release, {"core": index}, installed, staged=staged, damaged=damaged, can_link=can_link)


def version(name: str, **files: bytes) -> InstalledFiles:
    return InstalledFiles(
        name=name,
        entries=[TreeEntry(path=p, size=len(d), sha256=sha256_bytes(d)) for p, d in files.items()],
    )


RUN, A, B = b"run" * 10, b"a" * 20_000, b"b" * 9000
FILES: Files = {ENTRY: RUN, "a": A, "b": B, "empty": b"", "l": Link("a")}


def test_with_nothing_installed_everything_is_fetched() -> None:
    made = plan(FILES)
    assert made.reuse == ()
    assert [entry.path for entry in made.links] == ["l"]
    part = made.components[0]
    assert {entry.path for entry in part.files} == {ENTRY, "a", "b", "empty"}
    assert made.fetch_bytes > 0
    assert made.disk >= SLACK + 29_030


def test_a_file_is_taken_from_the_same_path_first_then_from_anywhere() -> None:
    made = plan(FILES, version("new", x=A), version("old", a=A, b=B))
    found = {item.entry.path: (item.version, item.path, item.link) for item in made.reuse}
    assert found == {"a": ("old", "a", True), "b": ("old", "b", True)}


def test_another_mode_is_copied_because_a_link_shares_its_mode() -> None:
    made = plan(FILES, version("old", **{ENTRY: RUN}))
    assert [(item.entry.path, item.entry.mode, item.link) for item in made.reuse] == [(ENTRY, 0o755, False)]


def test_without_hard_links_copies_need_room() -> None:
    old = version("old", a=A)
    linked, copied = plan(FILES, old), plan(FILES, old, can_link=False)
    assert copied.disk - linked.disk == 20_480
    assert copied.fetch_bytes == linked.fetch_bytes


def test_a_damaged_file_is_fetched_or_taken_from_elsewhere() -> None:
    old = version("old", a=A)
    older = version("older", z=A)
    assert plan(FILES, old, damaged=[("old", "a")]).reuse == ()
    assert [item.version for item in plan(FILES, old, older, damaged=[("old", "a")]).reuse] == ["older"]


def test_staged_frames_are_not_fetched_again() -> None:
    first = plan(FILES)
    part = first.components[0]
    numbers = [place.number for item in part.ranges for place in item.frames]
    second = plan(FILES, staged={"core": frozenset(numbers[:2])})
    assert second.fetch_bytes + second.staged_bytes == first.fetch_bytes
    assert [place.number for item in second.components[0].ranges for place in item.frames] == numbers[2:]
    assert second.disk < first.disk
    done = plan(FILES, staged={"core": frozenset(numbers)})
    assert (done.fetch_bytes, done.requests) == (0, 0)


def test_a_plan_is_the_same_every_time() -> None:
    old = version("old", a=A, b=B)
    assert plan(FILES, old) == plan(FILES, old)


names = st.text("abcd", min_size=1, max_size=3)
trees = st.dictionaries(names, st.binary(max_size=30_000), max_size=8)


@settings(max_examples=60, deadline=None)
@given(trees, trees, st.sets(st.integers(0, 20)))
def test_every_file_is_reused_or_fetched_and_no_frame_without_need(
    new: dict[str, bytes], old: dict[str, bytes], staged: set[int]
) -> None:
    files: Files = {ENTRY: b"run", **new}
    release, index = planned(files)
    installed = version("old", **old)
    made = make_plan(release, {"core": index}, [installed], staged={"core": frozenset(staged)})
    part = made.components[0]
    reused, fetched = {item.entry.path for item in made.reuse}, {entry.path for entry in part.files}
    assert reused | fetched == set(files)
    assert not reused & fetched
    assert reused == {path for path, data in new.items() if data in old.values()}
    wanted = frames_of(part.files, part.index)
    assert {place.number for item in part.ranges for place in item.frames} == wanted - staged
