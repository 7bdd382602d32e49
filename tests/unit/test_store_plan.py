"""The planner against its rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.packed_release import ENTRY, Files, Link, index_of, release_of

from lading.digest import sha256_bytes
from lading.fetch.ranges import RANGE_LIMIT
from lading.manifest.index import Index
from lading.manifest.release import Asset, ComponentRecord, PatchRecord, Release
from lading.manifest.tree import TreeEntry, tree_digest
from lading.store.plan import (
    LOOK,
    SLACK,
    Carried,
    Frames,
    Here,
    InstalledFiles,
    PatchUse,
    Plan,
    frames_of,
    make_plan,
    taken_unseen,
    usable_patches,
)
from lading.store.planned import Acquired, way_of


def planned(files: Files, volume: int = 10**9) -> tuple[Release, Index]:
    index, stored = index_of(files)
    entries = [entry.tree_entry() for entry in index.files]
    size = sum(map(len, stored))
    sizes = [0]
    for data in stored:
        if sizes[-1] and sizes[-1] + len(data) > volume:
            sizes.append(0)
        sizes[-1] += len(data)
    volumes = tuple(Asset(name=f"a.{n}", size=part, sha256="0" * 64) for n, part in enumerate(sizes))
    core = ComponentRecord(
        app="demo-app", component="core", version="0.1.0", flavor="cpu", platform="linux-x86_64",
        tree=tree_digest(entries), files=len(entries), unpacked=sum(entry.size for entry in entries), size=size,
        sha256="0" * 64, index=Asset(name="i", size=1, sha256="0" * 64), volumes=volumes, profile="fast",
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
    here = Here(installed=installed, staged=staged, damaged=frozenset(damaged), can_link=can_link)
    return make_plan(release, {"core": index}, here)


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
@given(trees, trees, st.sets(st.integers(0, 20)), st.sets(names), st.integers(9_000, 60_000), st.sets(names))
def test_every_file_comes_from_one_place_and_no_frame_without_need(  # noqa: PLR0917 (hypothesis gives them by place)
    new: dict[str, bytes], old: dict[str, bytes], staged: set[int], whole: set[str], volume: int, carried: set[str]
) -> None:
    files: Files = {ENTRY: b"run", **new}
    release, index = planned(files, volume)
    use = patch_use(left=1, files={sha256_bytes(new[path]): Carried(blobs=(0,), old=()) for path in carried & set(new)})
    here = Here(
        installed=[version("old", **old)],
        staged={"core": frozenset(staged)},
        whole=frozenset(whole),
        patches={"core": use},
    )
    made = make_plan(release, {"core": index}, here)
    part = made.components[0]
    reused, fetched = {item.entry.path for item in made.reuse}, {entry.path for entry in part.files}
    patched = {item.entry.path for item in part.patched}
    assert sorted([*reused, *fetched, *patched, *(whole & set(files)) - reused]) == sorted(files)
    assert reused == {path for path, data in new.items() if data in old.values()}
    wanted = frames_of(part.files, part.index)
    assert {place.number for item in part.ranges for place in item.frames} == wanted - staged
    assert part.frame_bytes + part.patch_bytes <= part.general
    for item in part.ranges:
        size = part.component.volumes[item.volume].size
        assert 0 <= item.start < item.start + item.size <= size
        assert item.size <= RANGE_LIMIT or len(item.frames) == 1


# -- patches


def patch_use(*, left: int, files: dict[str, Carried] | None = None, version: str = "old") -> PatchUse:
    record = PatchRecord(
        component="core",
        from_version="0.0.9",
        from_tree="9" * 64,
        asset=Asset(name="p.patch", size=left, sha256="8" * 64),
    )
    return PatchUse(record=record, version=version, left=left, files=files)


def with_patch(files: Files, old: InstalledFiles, use: PatchUse, **here: object) -> Plan:
    release, index = planned(files)
    facts = Here(installed=[old], staged={}, patches={"core": use})
    return make_plan(release, {"core": index}, replace(facts, **here))  # type: ignore[arg-type]


OLD = version("old", a=A, b=b"B" * 9000)
CARRIED = {sha256_bytes(RUN): Carried(blobs=(0,), old=()), sha256_bytes(B): Carried(blobs=(1,), old=("b",))}


def test_a_patch_is_taken_when_it_is_fewer_bytes_than_the_frames() -> None:
    without = plan(FILES, OLD).fetch_bytes
    for left, taken in ((1, True), (without - 1, True), (without, False), (without * 2, False)):
        part = with_patch(FILES, OLD, patch_use(left=left, files=CARRIED)).components[0]
        assert (part.patch is not None) is taken
        assert part.general == without
        assert {item.entry.path for item in part.patched} == ({ENTRY, "b"} if taken else set())
        assert {entry.path for entry in part.files} == ({"empty"} if taken else {ENTRY, "b", "empty"})


def test_a_patch_that_was_not_read_yet_is_expected_to_carry_what_its_older_tree_lacks() -> None:
    made = with_patch(FILES, OLD, patch_use(left=1))
    assert {item.entry.path for item in made.components[0].patched} == {ENTRY, "b"}
    lost = with_patch(FILES, OLD, patch_use(left=1), damaged=frozenset({("old", "a")}))
    assert {entry.path for entry in lost.components[0].files} == {"a", "empty"}


def test_what_a_patch_does_not_carry_or_cannot_make_is_fetched() -> None:
    use = patch_use(left=1, files=CARRIED)
    damaged = with_patch(FILES, OLD, use, damaged=frozenset({("old", "b")})).components[0]
    assert {entry.path for entry in damaged.files} == {"b", "empty"}
    undecodable = with_patch(FILES, OLD, use, undecodable=frozenset({sha256_bytes(RUN)})).components[0]
    assert {entry.path for entry in undecodable.files} == {ENTRY, "empty"}
    assert undecodable.frame_bytes > 0


def test_what_is_staged_is_not_patched() -> None:
    use = patch_use(left=1, files=CARRIED)
    whole = with_patch(FILES, OLD, use, whole=frozenset({"b"})).components[0]
    assert {item.entry.path for item in whole.patched} == {ENTRY}
    release, index = planned(FILES)
    everything: Frames = {"core": frozenset(range(len(index.frames)))}
    staged = make_plan(release, {"core": index}, Here(installed=[OLD], staged=everything, patches={"core": use}))
    assert (staged.components[0].patch, staged.fetch_bytes) == (None, 0)


def test_patched_files_and_the_patch_need_room() -> None:
    made = with_patch(FILES, OLD, patch_use(left=60, files=CARRIED))
    assert made.disk == SLACK + 4096 + 12288 + 4096


def test_a_file_with_another_mode_than_it_should_have_is_copied() -> None:
    release, index = planned(FILES)
    here = Here(installed=[OLD], staged={}, unlinkable=frozenset({("old", "a")}))
    (item,) = make_plan(release, {"core": index}, here).reuse
    assert (item.path, item.link) == ("a", False)
    both = replace(here, installed=[OLD, version("older", x=A)])
    (item,) = make_plan(release, {"core": index}, both).reuse
    assert (item.version, item.path, item.link) == ("older", "x", True)


def test_the_patch_with_the_fewest_bytes_left_is_used() -> None:
    release, _ = planned(FILES)
    component = release.components[0]
    patches = [
        PatchRecord(
            component="core",
            from_version=f"0.0.{number}",
            from_tree=str(number) * 64,
            asset=Asset(name=f"p{number}", size=size, sha256=str(number) * 64),
        )
        for number, size in ((1, 500), (2, 300), (3, 100))
    ]
    release = release.model_copy(update={"patches": tuple(patches)})
    starts = {"1" * 64: "v1", "2" * 64: "v2"}
    assert [use.version for use in usable_patches(release, component, starts, {})] == ["v2", "v1"]
    assert [use.left for use in usable_patches(release, component, starts, {"1" * 64: 450})] == [50, 300]
    assert usable_patches(release, component, {}, {}) == ()
    libs = component.model_copy(update={"component": "libs"})
    assert usable_patches(release, libs, starts, {}) == ()


def test_a_patch_is_taken_unseen_when_the_index_is_much_of_it() -> None:
    component = planned(FILES)[0].components[0]
    component = component.model_copy(update={"index": component.index.model_copy(update={"size": 1000})})
    assert taken_unseen(patch_use(left=LOOK * 1000), component)
    assert not taken_unseen(patch_use(left=LOOK * 1000 + 1), component)


@pytest.mark.parametrize(
    ("use", "acquired", "how", "why"),
    [
        (None, Acquired(), "frames", "no patch leads here from an installed version"),
        (patch_use(left=5, files=CARRIED), Acquired(), "patch", "the patch from 0.0.9 is fewer bytes"),
        (patch_use(left=10**6, files=CARRIED), Acquired(), "frames", "fewer bytes than the patch from 0.0.9"),
        (None, Acquired(refused="it is cut off"), "frames", "the patch cannot be used: it is cut off"),
    ],
)
def test_a_plan_says_how_a_component_is_come_by_and_why(
    use: PatchUse | None, acquired: Acquired, how: str, why: str
) -> None:
    release, index = planned(FILES)
    here = Here(installed=[OLD], staged={}, patches={"core": use} if use else {})
    way = way_of(make_plan(release, {"core": index}, here).components[0], acquired)
    assert (way.how, way.why) == (how, why)
    assert way.bytes == way.index_bytes + way.patch_bytes + way.frame_bytes > 0


def test_nothing_is_fetched_for_what_is_here() -> None:
    release, index = planned({"a": A, ENTRY: RUN})
    here = Here(installed=[version("old", a=A, r=RUN)], staged={})
    way = way_of(make_plan(release, {"core": index}, here).components[0], Acquired())
    assert (way.how, way.why, way.bytes, way.requests) == ("nothing", "every file of it is here", 0, 0)
