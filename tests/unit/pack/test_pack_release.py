"""Packing a whole tree: what is written, what is reused, what is refused, and what a refusal leaves behind."""

from __future__ import annotations

import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.pack.trees import (
    APP,
    CORE,
    CUDA_LIBRARY,
    ENTRY,
    LIBS,
    TORCH,
    Acting,
    Desk,
    Files,
    Link,
    Program,
    archive_bytes,
    code,
    describe,
    hidden,
    make_tree,
    members,
    names,
    noise,
    on_disk,
    toolkit,
)
from typing_extensions import override

from lading.digest import sha256_bytes, sha256_file
from lading.errors import (
    BudgetExceeded,
    Busy,
    FileChanged,
    FormatInvalid,
    LabelTaken,
    ManifestInvalid,
    NameForbidden,
    NoNvidiaFiles,
    TreeInvalid,
)
from lading.manifest.app import Budgets
from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.tree import tree_digest
from lading.pack.adopt import adopt
from lading.pack.assets import read_index
from lading.pack.outfolder import LOCK
from lading.pack.pack import VOLUME_LIMIT, PackOptions, pack
from lading.pack.published import differing, find_component
from lading.pack.scan import scan_tree
from lading.pack.volumes import LEAST_LIMIT
from lading.progress import Silent
from lading.publish.packed import read_packed

FILES: Files = {**CORE, **LIBS}
CORE_NAME = f"{APP}-core-0.1.0-cu126-linux-x86_64"
LIBS_NAME = f"{APP}-libs-cu126-v1-linux-x86_64"
RELEASE_NAME = f"{APP}-0.1.0-cu126-linux-x86_64.release.json"
ASSETS = {
    f"{CORE_NAME}.tar.zst", f"{CORE_NAME}.index.zst", f"{CORE_NAME}.json",
    f"{LIBS_NAME}.tar.zst", f"{LIBS_NAME}.index.zst", f"{LIBS_NAME}.json",
    RELEASE_NAME,
}  # fmt: skip


class Notes(Silent):
    """Remembers what a person would have been told."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    @override
    def note(self, text: str) -> None:
        """Remember."""
        self.notes.append(text)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every visible file with its time and bytes."""
    return {name: ((folder / name).stat().st_mtime_ns, (folder / name).read_bytes()) for name in names(folder)}


# --- what is written --------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1-02", "S1-03")
def test_names_carry_app_component_version_and_platform_and_each_asset_has_its_checksum(desk: Desk) -> None:
    result = desk.pack(FILES)

    out = desk.folder / "out"
    assert names(out) == ASSETS | {f"{name}.sha256" for name in ASSETS}
    assert hidden(out) == set()
    for name in ASSETS:
        assert (out / f"{name}.sha256").read_text() == f"{sha256_file(out / name)}  {name}\n"
    core, libs = result.release.components
    assert (core.component, core.version, core.volumes[0].name) == ("core", "0.1.0", f"{CORE_NAME}.tar.zst")
    assert (libs.component, libs.version, libs.volumes[0].name) == ("libs", "cu126-v1", f"{LIBS_NAME}.tar.zst")


@pytest.mark.proves("S1-03")
def test_the_libs_record_has_label_torch_build_archive_and_digest(desk: Desk) -> None:
    desk.pack(FILES)

    record = json.loads((desk.folder / "out" / f"{LIBS_NAME}.json").read_text())
    archive = desk.folder / "out" / f"{LIBS_NAME}.tar.zst"
    assert record["version"] == "cu126-v1"
    assert record["torch"] == json.loads(canonical_json(TORCH))
    assert record["volumes"] == [{"name": archive.name, "size": archive.stat().st_size, "sha256": sha256_file(archive)}]
    assert record["sha256"] == sha256_file(archive)


def test_the_release_binds_the_components_and_says_what_the_host_needs(desk: Desk) -> None:
    tree = desk.tree(FILES)
    info = describe(tree)
    result = pack(tree, info, toolkit(), desk.folder / "out", options=PackOptions(channel="beta"), progress=Silent())

    release = read_record(Release, result.release_file.read_bytes(), origin="r")
    assert release == result.release
    assert release.tree == tree_digest(scan_tree(tree, Silent()))
    assert release.components == tuple(packed.record for packed in result.components)
    for packed in result.components:
        beside = desk.folder / "out" / f"{CORE_NAME if packed.record.component == 'core' else LIBS_NAME}.json"
        assert beside.read_bytes() == canonical_json(packed.record)
    assert (release.requirements.driver, release.requirements.archs) == (toolkit().driver.linux, TORCH.archs)
    assert (release.requirements.glibc, release.channel, release.entry) == ("2.28", "beta", ENTRY)
    assert release.requirements.disk == sum(entry.size for entry in info.files)
    assert read_packed(desk.folder / "out", result.release_file).release == release


@pytest.mark.proves("S1-01", "S1-04")
def test_both_archives_together_are_exactly_the_tree(desk: Desk) -> None:
    """Paths are relative to the install root, with no folder on top; nothing lost, nothing twice, modes kept."""
    result = desk.pack(FILES)
    tree = desk.folder / "tree-1"

    core, libs = members(archive_bytes(result, "core")), members(archive_bytes(result, "libs"))
    assert set(core) & set(libs) == set()
    assert set(core) | set(libs) == set(FILES)
    assert set(libs) == set(LIBS)
    for path, (info, data) in {**core, **libs}.items():
        on_tree = tree / path
        if on_tree.is_symlink():
            assert info.linkname == os.readlink(on_tree)  # noqa: PTH115 (the text as it is)
        else:
            assert data == on_tree.read_bytes()
            assert (info.mode == 0o755) == bool(on_tree.stat().st_mode & 0o100)


NAMES = ["_internal", "nvidia", "torch", "libcublas.so.12", "nccl.py", "x.pyc", "größe", "lib"]
CONTENT = st.one_of(
    st.binary(max_size=300),
    st.binary(max_size=300).map(Program),
    st.just(Link(CUDA_LIBRARY)),
)
RANDOM_TREES = st.dictionaries(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4).map("/".join),
    st.tuples(CONTENT, st.sampled_from(["", "app", "torch", "numpy", "nvidia-cublas-cu12"])),
    min_size=1,
    max_size=15,
)


@pytest.mark.proves("S1-04")
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=RANDOM_TREES)
def test_any_tree_with_any_owners_is_divided_without_loss(
    tmp_path_factory: pytest.TempPathFactory, found: dict[str, tuple[bytes | Program | Link, str]]
) -> None:
    base = tmp_path_factory.mktemp("any")
    files: dict[str, bytes | Program | Link] = {ENTRY: Program(b"x"), CUDA_LIBRARY: b"cublas"}
    owners = {ENTRY: "", CUDA_LIBRARY: ""}
    for path, (content, owner) in found.items():
        clash = any(other.startswith(path + "/") or path.startswith(other + "/") for other in files)
        if not clash and path not in files:
            up = "../" * path.count("/")
            files[path] = Link(up + content.target) if isinstance(content, Link) else content
            owners[path] = owner
    tree = make_tree(base / "tree", files)
    info = describe(tree)
    owned = tuple(OwnedEntry(**{**entry.model_dump(), "owner": owners[entry.path]}) for entry in info.files)

    result = pack(
        tree,
        info.model_copy(update={"files": owned}),
        toolkit(),
        base / "out",
        options=PackOptions(),
        progress=Silent(),
    )

    again = base / "again"
    parts = [members(archive_bytes(result, name)) for name in ("core", "libs")]
    assert set(parts[0]).isdisjoint(parts[1])
    for part in parts:
        for path, (member, data) in part.items():
            content = Link(member.linkname) if member.issym() else Program(data) if member.mode & 0o100 else data
            make_tree(again, {path: content})
    assert on_disk(again) == on_disk(tree)
    assert tree_digest(scan_tree(again, Silent())) == result.release.tree
    shutil.rmtree(base)


def test_a_build_for_the_cpu_has_one_component(desk: Desk) -> None:
    result = desk.pack(CORE, cuda=False)

    stem = f"{APP}-core-0.1.0-cpu-linux-x86_64"
    wanted = {f"{stem}.tar.zst", f"{stem}.index.zst", f"{stem}.json", f"{APP}-0.1.0-cpu-linux-x86_64.release.json"}
    assert names(desk.folder / "out") == wanted | {f"{name}.sha256" for name in wanted}
    assert (result.release.variant, result.release.requirements.driver) == ("cpu", None)


@pytest.mark.proves("S0-21")
def test_an_archive_above_the_limit_is_cut_into_numbered_volumes(desk: Desk) -> None:
    """The index of a larger asset limit fits: only names and sizes of the volumes differ."""
    huge = {f"_internal/nvidia/part{number}.so": noise(20 * 2**20, number) for number in range(2)}
    one = desk.pack({**FILES, **huge}, out="one")
    cut = desk.pack({**FILES, **huge}, out="cut", options=PackOptions(volume_limit=LEAST_LIMIT))

    libs = cut.release.components[1]
    assert [volume.name for volume in libs.volumes] == [f"{LIBS_NAME}.tar.zst.001", f"{LIBS_NAME}.tar.zst.002"]
    assert all(volume.size <= LEAST_LIMIT for volume in libs.volumes)
    assert archive_bytes(cut, "libs") == archive_bytes(one, "libs")
    assert (libs.sha256, libs.index) == (one.release.components[1].sha256, one.release.components[1].index)
    for volume in libs.volumes:
        data = (desk.folder / "cut" / volume.name).read_bytes()
        assert (len(data), sha256_bytes(data)) == (volume.size, volume.sha256)
        assert (desk.folder / "cut" / f"{volume.name}.sha256").read_text() == f"{volume.sha256}  {volume.name}\n"
    assert cut.release.components[0].volumes == one.release.components[0].volumes, "core is small enough"


def test_the_default_limit_is_below_that_of_the_strictest_host() -> None:
    assert VOLUME_LIMIT < 2 * 2**30


# --- reuse ------------------------------------------------------------------------------------------------------------


def test_packing_the_same_tree_again_touches_nothing(desk: Desk) -> None:
    first = desk.pack(FILES)
    before = state(desk.folder / "out")
    notes = Notes()

    second = desk.pack(FILES, progress=notes)

    assert [packed.reused for packed in first.components] == [False, False]
    assert [packed.reused for packed in second.components] == [True, True]
    assert second.release == first.release
    assert state(desk.folder / "out") == before
    assert [note.partition(":")[0] for note in notes.notes] == ["libs cu126-v1", "core 0.1.0"]


def test_when_only_code_changed_libs_are_reused_and_core_is_packed(desk: Desk) -> None:
    desk.pack(FILES)
    libs = {name: value for name, value in state(desk.folder / "out").items() if name.startswith(LIBS_NAME)}

    second = desk.pack({**FILES, "_internal/demo/app.pyc": b"changed"})

    assert {packed.record.component: packed.reused for packed in second.components} == {"core": False, "libs": True}
    after = state(desk.folder / "out")
    assert {name: after[name] for name in libs} == libs
    assert members(archive_bytes(second, "core"))["_internal/demo/app.pyc"][1] == b"changed"
    assert names(desk.folder / "out") == ASSETS | {f"{name}.sha256" for name in ASSETS}


def test_a_lost_or_wrong_checksum_file_is_written_again(desk: Desk) -> None:
    desk.pack(FILES)
    out = desk.folder / "out"
    good = {name: value for name, (_, value) in state(out).items()}
    (out / f"{CORE_NAME}.tar.zst.sha256").unlink()
    (out / f"{LIBS_NAME}.json.sha256").write_text("nonsense\n")
    (out / f"{RELEASE_NAME}.sha256").unlink()

    assert all(packed.reused for packed in desk.pack(FILES).components)
    assert {name: value for name, (_, value) in state(out).items()} == good


@pytest.mark.parametrize("damage", ["volume", "volume-size", "index", "record", "record-form", "lost"])
def test_what_is_damaged_or_lost_is_packed_again(desk: Desk, damage: str) -> None:
    desk.pack(FILES)
    out = desk.folder / "out"
    good = {name: value for name, (_, value) in state(out).items()}
    victim = {
        "volume": f"{LIBS_NAME}.tar.zst",
        "volume-size": f"{LIBS_NAME}.tar.zst",
        "lost": f"{LIBS_NAME}.tar.zst",
        "index": f"{LIBS_NAME}.index.zst",
    }.get(damage, f"{LIBS_NAME}.json")
    data = bytearray((out / victim).read_bytes())
    if damage == "lost":
        (out / victim).unlink()
    elif damage == "volume-size":
        (out / victim).write_bytes(data[:-1])
    elif damage == "record-form":
        (out / victim).write_bytes(data.replace(b'"profile"', b' "profile"'))
    else:
        data[len(data) // 2] ^= 1
        (out / victim).write_bytes(data)

    again = desk.pack(FILES)

    assert {packed.record.component: packed.reused for packed in again.components} == {"core": True, "libs": False}
    assert {name: value for name, (_, value) in state(out).items()} == good


@pytest.mark.parametrize(
    "options",
    [PackOptions(profile="release"), PackOptions(volume_limit=LEAST_LIMIT)],
    ids=["profile", "volume-limit"],
)
def test_what_was_only_packed_is_packed_again_with_another_profile_or_limit(desk: Desk, options: PackOptions) -> None:
    huge = {"_internal/nvidia/a.so": noise(20 * 2**20, 1), "_internal/nvidia/b.so": noise(20 * 2**20, 2)}
    first = desk.pack({**FILES, **huge})

    second = desk.pack({**FILES, **huge}, options=options)

    libs = second.components[1]
    assert not libs.reused
    assert libs.record.tree == first.components[1].record.tree
    assert libs.record.profile == options.profile
    assert len(libs.record.volumes) == (1 if options.profile == "release" else 2)
    assert names(desk.folder / "out") >= {volume.name for volume in libs.record.volumes}
    assert (f"{LIBS_NAME}.tar.zst" in names(desk.folder / "out")) == (options.profile == "release"), "no old volume"
    read_packed(desk.folder / "out", second.release_file)


def test_a_component_in_a_folder_below_is_none_of_this_folders(desk: Desk) -> None:
    desk.pack(FILES, out="out/below")

    assert [packed.reused for packed in desk.pack(FILES, out="out").components] == [False, False]


def test_another_torch_in_the_record_is_another_record(desk: Desk) -> None:
    tree = desk.tree(FILES)
    info = describe(tree)
    pack(tree, info, toolkit(), desk.folder / "out", options=PackOptions(), progress=Silent())
    other = info.model_copy(update={"torch": TORCH.model_copy(update={"archs": ("sm_90",)})})

    result = pack(tree, other, toolkit(), desk.folder / "out", options=PackOptions(), progress=Silent())

    assert result.release.components[1].torch == other.torch


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(desk: Desk) -> Path:
    """A folder with a published release, as a destination lays it out: in folders of their own."""
    desk.pack(FILES, out="packed")
    store = desk.folder / "store" / "assets"
    for stem, place in ((CORE_NAME, "core/0.1.0"), (LIBS_NAME, "libs/cu126-v1")):
        (store / place).mkdir(parents=True)
        for path in (desk.folder / "packed").glob(f"{stem}.*"):
            shutil.copy2(path, store / place)
    return desk.folder / "store"


def test_what_is_published_is_used_where_it_is(desk: Desk, published: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}

    result = desk.pack(FILES, out="fresh", options=PackOptions(published=(published,), profile="release"))

    assert all(packed.reused and packed.folder.is_relative_to(published) for packed in result.components)
    assert [packed.record.profile for packed in result.components] == ["fast", "fast"], "as it was published"
    assert names(desk.folder / "fresh") == {RELEASE_NAME, f"{RELEASE_NAME}.sha256"}
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before


def test_a_published_label_with_other_content_is_refused_with_the_files_and_the_next_label(
    desk: Desk, published: Path
) -> None:
    for number in (2, 7):
        (published / f"{APP}-libs-cu126-v{number}-linux-x86_64.json.sha256").write_bytes(b"")
    (published / f"{APP}-libs-cu118-v9-linux-x86_64.tar.zst").write_bytes(b"")
    (published / f"other-{APP}-libs-cu126-v50-linux-x86_64.tar.zst").write_bytes(b"")
    changed: dict[str, bytes | Link | Program] = {
        **FILES,
        CUDA_LIBRARY: Program(b"other"),
        "_internal/torch/new.pyc": b"new",
    }
    del changed["_internal/torch/__init__.pyc"]
    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}

    with pytest.raises(LabelTaken, match=r"^libs cu126-v1 is already published with other content") as caught:
        desk.pack(changed, out="fresh", options=PackOptions(published=(published,)))

    error = caught.value
    old = len(LIBS[CUDA_LIBRARY].data)  # type: ignore[union-attr]
    assert error.exit_code == 55
    assert "3 file(s) differ:" in error.what
    assert f"\n  ~ {CUDA_LIBRARY} ({old:,} -> 5 bytes)" in error.what
    assert "\n  + _internal/torch/new.pyc (new)" in error.what
    assert "\n  - _internal/torch/__init__.pyc (gone)" in error.what
    assert error.todo == "Set `label: cu126-v8` in manifests/toolkits/cu126.yaml."
    assert names(desk.folder / "fresh") | hidden(desk.folder / "fresh") == set()
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before


def test_a_published_version_of_core_with_other_content_is_refused(desk: Desk, published: Path) -> None:
    with pytest.raises(LabelTaken, match=r"core 0\.1\.0 is already published") as caught:
        desk.pack({**FILES, "_internal/demo/app.pyc": b"!"}, out="fresh", options=PackOptions(published=(published,)))

    assert "~ _internal/demo/app.pyc" in caught.value.what
    assert caught.value.todo.startswith("Raise the app's version")
    assert not (desk.folder / "fresh").exists()


def test_where_the_published_index_is_lost_the_label_is_refused_all_the_same(desk: Desk, published: Path) -> None:
    (published / "assets/libs/cu126-v1" / f"{LIBS_NAME}.index.zst").unlink()

    with pytest.raises(LabelTaken, match="lacks the index"):
        desk.pack({**FILES, CUDA_LIBRARY: b"!"}, options=PackOptions(published=(published,)))


def test_a_published_archive_that_is_lost_may_only_be_made_again_with_the_same_bytes(
    desk: Desk, published: Path
) -> None:
    (published / "assets/libs/cu126-v1" / f"{LIBS_NAME}.tar.zst").unlink()

    same = desk.pack(FILES, out="same", options=PackOptions(published=(published,)))
    assert not same.components[1].reused
    assert f"{LIBS_NAME}.tar.zst" in names(desk.folder / "same")

    with pytest.raises(LabelTaken, match="the same files in another archive: profile fast") as caught:
        desk.pack(FILES, out="other", options=PackOptions(published=(published,), profile="release"))
    assert "--profile fast" in caught.value.todo
    assert names(desk.folder / "other") | hidden(desk.folder / "other") == set()


def test_the_files_that_differ_are_told_with_how(desk: Desk) -> None:
    first = desk.pack(FILES)
    index = read_index(desk.folder / "out", first.components[0].record.index)
    entries = [
        OwnedEntry(**entry.tree_entry().model_dump(), owner="")
        for entry in index.files
        if entry.path != "_internal/demo/empty.txt"
    ]
    entries[0] = entries[0].model_copy(update={"mode": 0o755 if entries[0].mode == 0o644 else 0o644})
    entries.append(OwnedEntry(path="new", sha256="0" * 64, owner=""))

    lines = differing(entries, index)

    size = f"{entries[0].size:,}"
    assert set(lines) == {
        f"~ {entries[0].path} ({size} -> {size} bytes)", "- _internal/demo/empty.txt (gone)", "+ new (new)",
    }  # fmt: skip


# --- budgets ----------------------------------------------------------------------------------------------------------


def test_an_archive_over_its_budget_is_refused_and_nothing_of_it_is_left(desk: Desk) -> None:
    with pytest.raises(BudgetExceeded, match=r"^core packed has 0.0 MB; its budget is 0.0 MB. Largest files") as caught:
        desk.pack(FILES, options=PackOptions(profile="release"), budgets=Budgets(core=10_000))

    assert caught.value.exit_code == 56
    assert "_internal/base_library.zip (python) has 0.0 MB" in caught.value.what
    assert {name for name in names(desk.folder / "out") if CORE_NAME in name or "release" in name} == set()
    assert hidden(desk.folder / "out") == set()
    assert f"{LIBS_NAME}.json" in names(desk.folder / "out"), "libs are done and are reused by the next run"


def test_the_packed_budget_is_that_of_the_profile_that_users_download(desk: Desk) -> None:
    assert desk.pack(FILES, budgets=Budgets(core=10_000, libs=10_000)).components


@pytest.mark.parametrize("component", ["core", "libs"])
def test_files_over_their_budget_are_refused_before_anything_is_compressed(desk: Desk, component: str) -> None:
    budgets = Budgets(core_unpacked=30_000) if component == "core" else Budgets(libs_unpacked=40_000)

    with pytest.raises(BudgetExceeded, match=f"^{component} unpacked has 0.[01] MB; its budget is 0.0 MB"):
        desk.pack(FILES, budgets=budgets)
    assert not (desk.folder / "out").exists()


def test_growth_is_told_against_the_earlier_release(desk: Desk) -> None:
    desk.pack(FILES, out="earlier")
    changed = {**FILES, "_internal/demo/data.bin": noise(3_000_000), "_internal/base_library.zip": noise(1_020_000, 2)}

    with pytest.raises(BudgetExceeded, match="Files that grew") as caught:
        desk.pack(
            changed,
            "0.2.0",
            options=PackOptions(previous=(desk.folder / "earlier",)),
            budgets=Budgets(core_unpacked=1_000_000),
        )

    lines = caught.value.what.splitlines()[1:]
    assert lines == [
        "  _internal/demo/data.bin (app) grew by 3.0 MB",
        "  _internal/base_library.zip (python) grew by 1.0 MB",
    ]


def test_what_is_reused_is_held_against_its_budget_too(desk: Desk) -> None:
    desk.pack(FILES, options=PackOptions(profile="release"))
    before = state(desk.folder / "out")

    with pytest.raises(BudgetExceeded):
        desk.pack(FILES, options=PackOptions(profile="release"), budgets=Budgets(core=10_000))
    assert state(desk.folder / "out") == before


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1-05")
def test_a_tree_without_nvidias_files_leaves_no_trace(desk: Desk) -> None:
    with pytest.raises(NoNvidiaFiles):
        desk.pack(CORE)
    assert not (desk.folder / "out").exists()


def test_a_tree_that_differs_from_its_build_information_is_refused_with_the_files(desk: Desk) -> None:
    tree = desk.tree(FILES)
    info = describe(tree)
    (tree / "_internal/demo/app.pyc").write_bytes(b"!")
    (tree / "_internal/demo/log.txt").write_bytes(b"written by a run")
    (tree / "_internal/demo/routes.pyc").unlink()

    with pytest.raises(FileChanged, match=r"3 difference\(s\)") as caught:
        pack(tree, info, toolkit(), desk.folder / "out", options=PackOptions(), progress=Silent())

    assert "_internal/demo/app.pyc: changed since the freeze" in caught.value.what
    assert "_internal/demo/log.txt: not in the build information" in caught.value.what
    assert "_internal/demo/routes.pyc: missing from the tree" in caught.value.what
    assert not (desk.folder / "out").exists()


def test_a_tree_without_its_executable_is_refused(desk: Desk) -> None:
    tree = desk.tree(FILES)

    with pytest.raises(TreeInvalid, match="has no other-program"):
        pack(
            tree, describe(tree, entry="other-program"), toolkit(), desk.folder / "out",
            options=PackOptions(), progress=Silent(),
        )  # fmt: skip
    assert not (desk.folder / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot have them")
def test_names_that_windows_cannot_have_are_refused_unless_the_platform_alone_counts(desk: Desk) -> None:
    files = {**FILES, "_internal/demo/what?.txt": b"x", "_internal/demo/APP.pyc": b"y"}

    with pytest.raises(NameForbidden, match=r"^2 file name\(s\) cannot exist on every system"):
        desk.pack(files)
    assert not (desk.folder / "out").exists()

    result = desk.pack(files, options=PackOptions(portable_names=False))
    assert members(archive_bytes(result, "core"))["_internal/demo/what?.txt"][1] == b"x"


def test_a_windows_build_may_not_have_them_in_any_case(desk: Desk) -> None:
    tree = desk.tree({**FILES, "_internal/demo/what?.txt": b"x"})
    info = describe(tree).model_copy(update={"platform": "windows-x86_64"})

    with pytest.raises(NameForbidden):
        pack(
            tree, info, toolkit(), desk.folder / "out",
            options=PackOptions(portable_names=False), progress=Silent(),
        )  # fmt: skip


@pytest.mark.parametrize("asked", ["cpu", "other"])
def test_another_toolkit_than_the_frozen_one_is_refused(desk: Desk, asked: str) -> None:
    tree = desk.tree(FILES)
    other = None if asked == "cpu" else toolkit().model_copy(update={"name": "cu128"})

    with pytest.raises(ManifestInvalid, match="The tree was frozen with cu126; it is to be packed with"):
        pack(tree, describe(tree), other, desk.folder / "out", options=PackOptions(), progress=Silent())
    assert not (desk.folder / "out").exists()


def test_the_assets_may_not_lie_in_the_tree(desk: Desk) -> None:
    tree = desk.tree(FILES)
    before = on_disk(tree)

    for folder in (tree, tree / "out", tree / "_internal" / ".." / "out"):
        with pytest.raises(ManifestInvalid, match="inside the tree"):
            pack(tree, describe(tree), toolkit(), folder, options=PackOptions(), progress=Silent())
    assert on_disk(tree) == before


def test_a_volume_limit_below_a_frame_is_refused_before_anything_is_read(desk: Desk) -> None:
    with pytest.raises(ManifestInvalid, match="The volume limit is 1,000,000 bytes"):
        desk.pack(FILES, options=PackOptions(volume_limit=1_000_000))
    assert not (desk.folder / "out").exists()


@pytest.mark.parametrize("label", ["packing libs", "packing core"])
def test_a_file_that_changes_meanwhile_leaves_no_component_and_no_release(desk: Desk, label: str) -> None:
    component, path = ("libs", CUDA_LIBRARY) if label == "packing libs" else ("core", "_internal/demo/app.pyc")
    tree = desk.folder / "tree-1"

    def change() -> None:
        (tree / path).write_bytes(b"changed")

    with pytest.raises(FileChanged, match=f"^{path}"):
        desk.pack(FILES, progress=Acting(label, 0, change))

    found = names(desk.folder / "out")
    assert not any(component in name for name in found)
    assert RELEASE_NAME not in found
    assert hidden(desk.folder / "out") == set()


def test_what_was_packed_before_survives_a_failure_untouched(desk: Desk) -> None:
    desk.pack(FILES)
    before = state(desk.folder / "out")

    def change() -> None:
        (desk.folder / "tree-2/_internal/demo/app.pyc").write_bytes(b"again")

    with pytest.raises(FileChanged):
        desk.pack({**FILES, "_internal/demo/app.pyc": b"other"}, progress=Acting("packing core", 0, change))

    assert state(desk.folder / "out") == before
    assert hidden(desk.folder / "out") == set()


def test_a_damaged_record_in_a_published_folder_is_told_with_its_place(desk: Desk) -> None:
    (desk.folder / "store").mkdir()
    (desk.folder / "store" / f"{LIBS_NAME}.json").write_text('{"schema": "lading/component/2"}')

    with pytest.raises(FormatInvalid, match=f"store/{LIBS_NAME}.json is not a valid ComponentRecord record"):
        desk.pack(FILES, options=PackOptions(published=(desk.folder / "store",)))


# --- a release that only looks whole ----------------------------------------------------------------------------------


def test_releases_that_name_a_replaced_component_are_taken_back(desk: Desk) -> None:
    """The same label, not yet published, with other libs: the earlier release's libs are gone from the folder."""
    desk.pack(FILES, "0.1.0")
    desk.pack(FILES, "0.2.0")
    desk.pack(CORE, "0.1.0", cuda=False)
    cpu = f"{APP}-0.1.0-cpu-linux-x86_64.release.json"
    assert len([name for name in names(desk.folder / "out") if name.endswith(".release.json")]) == 3

    desk.pack({**FILES, CUDA_LIBRARY: b"other"}, "0.3.0")

    releases = {name for name in names(desk.folder / "out") if "release.json" in name}
    third = f"{APP}-0.3.0-cu126-linux-x86_64.release.json"
    assert releases == {cpu, f"{cpu}.sha256", third, f"{third}.sha256"}
    for name in (cpu, third):
        read_packed(desk.folder / "out", desk.folder / "out" / name)


def test_the_release_is_written_after_everything_else(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the order in which names appear."""
    seen: list[str] = []
    replace = Path.replace

    def watch(self: Path, target: Path) -> Path:
        if Path(target).parent == desk.folder / "out":
            seen.append(Path(target).name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watch)
    desk.pack(FILES)

    assert seen[-1] == RELEASE_NAME
    for stem in (CORE_NAME, LIBS_NAME):
        of_component = [name for name in seen if name.startswith(stem)]
        assert of_component[-1] == f"{stem}.json"
        assert len(of_component) == 6


# --- one packer at a time ---------------------------------------------------------------------------------------------


def test_a_folder_that_another_packer_holds_is_busy_and_untouched(desk: Desk) -> None:
    desk.pack(FILES)
    out = desk.folder / "out"
    (out / ".core.abcd1234.partial").mkdir()
    before = state(out)

    with FileLock(out / LOCK), pytest.raises(Busy, match="is being written by another process") as caught:
        desk.pack({**FILES, "_internal/demo/app.pyc": b"other"})

    assert caught.value.exit_code == 21
    assert state(out) == before
    assert hidden(out) == {".core.abcd1234.partial"}, "it may be the other packer's"
    desk.pack({**FILES, "_internal/demo/app.pyc": b"other"})


def test_what_a_killed_packer_left_is_removed_and_nothing_else(desk: Desk) -> None:
    out = desk.folder / "out"
    (out / ".libs.a_c4efgh.partial").mkdir(parents=True)
    (out / ".libs.a_c4efgh.partial" / "volume.001").write_bytes(b"half")
    (out / f".{RELEASE_NAME}.abcd1234.tmp").write_bytes(b"half")
    (out / f".{CORE_NAME}.json.sha256.abcd1234.tmp").write_bytes(b"half")
    kept = {".core.partial", ".other.abcd1234.partial", ".hidden", ".notes.txt.abcd1234.tmp", ".core.abcd1234.partial"}
    (desk.folder / "elsewhere").mkdir()
    for name in kept - {".core.abcd1234.partial"}:
        (out / name).mkdir()
    (out / ".core.abcd1234.partial").symlink_to(desk.folder / "elsewhere")

    desk.pack(FILES)

    assert hidden(out) == kept
    assert (desk.folder / "elsewhere").exists()


# --- trees of others --------------------------------------------------------------------------------------------------


def test_a_tree_without_build_information_is_divided_by_names_alone(desk: Desk) -> None:
    tree = desk.tree({**FILES, "_internal/torch/cuda/nccl.py": b"stub", "_internal/numpy/x.so": b"n"})
    info = adopt(
        tree, app=APP, version="0.1.0", platform="linux-x86_64", toolkit=toolkit(), entry=None, progress=Silent()
    )

    result = pack(tree, info, toolkit(), desk.folder / "out", options=PackOptions(), progress=Silent())

    core, libs = members(archive_bytes(result, "core")), members(archive_bytes(result, "libs"))
    assert set(libs) == set(LIBS)
    assert {"_internal/torch/cuda/nccl.py", "_internal/numpy/x.so", ENTRY} <= set(core)
    assert info.entry == ENTRY
    assert result.release.components[1].torch is not None
    assert result.release.components[1].torch.version == "2.7.1+cu126"


def test_what_is_no_onedir_tree_is_not_adopted(desk: Desk) -> None:
    tree = desk.tree({"program": Program(b"x")})

    with pytest.raises(TreeInvalid, match="is not a onedir tree"):
        adopt(tree, app=APP, version="0.1.0", platform="linux-x86_64", toolkit=None, entry=None, progress=Silent())


def test_the_named_entry_must_be_in_the_tree(desk: Desk) -> None:
    tree = desk.tree({"bin/program": Program(b"x")})

    def adopted(entry: str) -> None:
        info = adopt(
            tree, app=APP, version="0.1.0", platform="linux-x86_64", toolkit=None, entry=entry, progress=Silent()
        )
        pack(tree, info, None, desk.folder / "out", options=PackOptions(), progress=Silent())

    with pytest.raises(TreeInvalid, match="has no program"):
        adopted("program")
    adopted("bin/program")


# --- looking for components -------------------------------------------------------------------------------------------


def test_components_are_found_in_folders_below(desk: Desk, published: Path) -> None:
    found = find_component([desk.folder / "nowhere", published], f"{LIBS_NAME}.tar.zst")

    assert found is not None
    assert (found[0].version, found[1]) == ("cu126-v1", published / "assets/libs/cu126-v1")
    assert find_component([published], "other.tar.zst") is None


def test_an_index_that_is_not_the_records_is_refused(desk: Desk) -> None:
    result = desk.pack(FILES)
    folder, record = result.components[0].folder, result.components[0].record
    good = (folder / record.index.name).read_bytes()

    for data in (good[:-1], good + b"x", b"", None):
        (folder / record.index.name).unlink(missing_ok=True)
        if data is not None:
            (folder / record.index.name).write_bytes(data)
        with pytest.raises(FormatInvalid, match=f"its component record says {record.index.sha256}"):
            read_index(folder, record.index)
    for data in (b"no zstd", code("x")):
        (folder / record.index.name).write_bytes(data)
        asset = record.index.model_copy(update={"sha256": sha256_bytes(data)})
        with pytest.raises(FormatInvalid, match="cannot be decompressed"):
            read_index(folder, asset)


def test_sizes_of_a_record_add_up(desk: Desk) -> None:
    result = desk.pack(FILES)

    for packed in result.components:
        again = ComponentRecord.model_validate_json(canonical_json(packed.record))
        index = read_index(packed.folder, again.index)
        assert again.files == len(index.files)
        assert again.unpacked == sum(entry.size for entry in index.files)
        assert again.size == sum(frame.size for frame in index.frames) == sum(v.size for v in again.volumes)
        assert again.tree == tree_digest([entry.tree_entry() for entry in index.files])
        assert all(one.frame <= two.frame for one, two in pairwise(index.files))
