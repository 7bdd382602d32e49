from __future__ import annotations

import pytest

from lading.linkage import Need, SharedObject, answers, escapes, glibc_floor, unresolved
from lading.linkage.elf import highest
from lading.linkage.floor import setting_the_floor, within
from lading.linkage.resolve import expand
from lading.linkage.system import driver_library, system_reason

X86 = "EM_X86_64"


def elf(path: str, *needed: str, machine: str = X86, **more: object) -> SharedObject:
    return SharedObject.model_validate({"path": path, "format": "elf", "machine": machine, "needed": needed, **more})


def pe(path: str, *needed: str, delayed: tuple[str, ...] = ()) -> SharedObject:
    return SharedObject(path=path, format="pe", machine="IMAGE_FILE_MACHINE_AMD64", needed=needed, delayed=delayed)


def how(*objects: SharedObject, links: dict[str, str] | None = None) -> list[tuple[str, str, str | None]]:
    paths = [item.path for item in objects]
    found = answers(objects, paths, links or {}, platform="linux-x86_64")
    assert all(isinstance(item, Need) for item in found), found
    return [(item.name, item.how, item.provider) for item in found if isinstance(item, Need)]


def test_a_need_is_answered_by_the_objects_own_search_path() -> None:
    user = elf("_internal/torch/lib/libtorch.so", "libcublas.so.12", runpath=("$ORIGIN/../../nvidia/cublas/lib",))
    library = elf("_internal/nvidia/cublas/lib/libcublas.so.12")
    assert how(user, library) == [("libcublas.so.12", "runpath", library.path)]


def test_rpath_comes_before_the_payload_folder_and_runpath_after_it() -> None:
    inner, top = elf("_internal/a/libx.so"), elf("_internal/libx.so")
    by_rpath = elf("_internal/a/user.so", "libx.so", rpath=("$ORIGIN",))
    by_runpath = elf("_internal/a/user.so", "libx.so", runpath=("$ORIGIN",))
    assert how(by_rpath, inner, top) == [("libx.so", "rpath", inner.path)]
    assert how(by_runpath, inner, top) == [("libx.so", "payload", top.path)]


def test_runpath_silences_rpath() -> None:
    user = elf("_internal/a/user.so", "libx.so", rpath=("$ORIGIN/b",), runpath=("$ORIGIN/c",))
    found = answers([user, elf("_internal/a/b/libx.so")], [], {}, platform="linux-x86_64")
    assert [item.how for item in found if isinstance(item, Need)] == ["elsewhere"]


def test_the_payload_folder_answers_through_a_link() -> None:
    user = elf("_internal/user.so", "libx.so.1")
    real = elf("_internal/pkg.libs/libx.so.1")
    assert how(user, real, links={"_internal/libx.so.1": "pkg.libs/libx.so.1"}) == [("libx.so.1", "payload", real.path)]


def test_a_library_elsewhere_is_found_by_name_or_soname_and_recorded_as_such() -> None:
    user = elf("_internal/user.so", "libx.so.1", "liby.so.2")
    by_name = elf("_internal/deep/libx.so.1")
    by_soname = elf("_internal/deep/liby-1234.so", soname="liby.so.2")
    assert how(user, by_name, by_soname) == [
        ("libx.so.1", "elsewhere", by_name.path),
        ("liby.so.2", "elsewhere", by_soname.path),
    ]


def test_the_systems_libraries_are_the_hosts_business() -> None:
    user = elf("probe", "libc.so.6", "libm.so.6", "ld-linux-x86-64.so.2", "libcuda.so.1", "libnvidia-ml.so.1")
    assert {kind for _, kind, _ in how(user)} == {"system"}


@pytest.mark.parametrize("name", ["libstdc++.so.6", "libgcc_s.so.1", "libgomp.so.1", "libz.so.1", "libcublas.so.12"])
def test_what_hosts_have_in_many_versions_must_be_in_the_tree(name: str) -> None:
    missing = unresolved([elf("_internal/user.so", name)], [], {}, platform="linux-x86_64")
    assert [(item.importer, item.name) for item in missing] == [("_internal/user.so", name)]
    assert "no file of the tree has this name" in missing[0].reason


def test_a_library_for_another_processor_does_not_answer() -> None:
    objects = [elf("_internal/user.so", "libx.so"), elf("_internal/libx.so", machine="EM_AARCH64")]
    missing = unresolved(objects, [], {}, platform="linux-x86_64")
    assert "is no library for EM_X86_64" in missing[0].reason


@pytest.mark.parametrize("target", ["nowhere.so", "../../outside.so", "libx.so"])
def test_a_link_that_leads_nowhere_does_not_answer(target: str) -> None:
    missing = unresolved(
        [elf("_internal/user.so", "libx.so")],
        ["_internal/libx.so"],
        {"_internal/libx.so": target},
        platform="linux-x86_64",
    )
    assert [item.name for item in missing] == ["libx.so"]


def test_a_file_that_is_no_library_does_not_answer() -> None:
    missing = unresolved([elf("a.so", "libx.so")], ["_internal/libx.so"], {}, platform="linux-x86_64")
    assert [item.name for item in missing] == ["libx.so"]


def test_a_need_by_path_is_never_portable() -> None:
    missing = unresolved([elf("a.so", "/opt/lib/libx.so")], [], {}, platform="linux-x86_64")
    assert "by a path" in missing[0].reason


def test_names_on_linux_compare_with_case_and_on_windows_without() -> None:
    assert unresolved([elf("a.so", "LibX.so"), elf("_internal/libx.so")], [], {}, platform="linux-x86_64")
    assert not unresolved(
        [pe("a.dll", "PYTHON311.DLL"), pe("_internal/python311.dll")], [], {}, platform="windows-x86_64"
    )


def test_windows_searches_own_folder_payload_registered_folders_then_the_tree() -> None:
    user = pe("_internal/torch/_C.pyd", "c10.dll", "python311.dll", "cublas64_12.dll", "zlib.dll", delayed=("own.dll",))
    others = [
        pe("_internal/torch/lib/c10.dll"),
        pe("_internal/python311.dll"),
        pe("_internal/nvidia/cublas/bin/cublas64_12.dll"),
        pe("_internal/x.libs/zlib.dll"),
        pe("_internal/torch/own.dll"),
    ]
    found = answers(
        [user, *others], [], {}, platform="windows-x86_64",
        dll_folders=["_internal/torch/lib", "_internal/nvidia/cublas/bin"],
    )  # fmt: skip
    assert [item.how for item in found if isinstance(item, Need)] == [
        "dll-folder", "payload", "dll-folder", "elsewhere", "own-folder",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("KERNEL32.dll", True),
        ("api-ms-win-crt-runtime-l1-1-0.dll", True),
        ("WINSPOOL.DRV", True),
        ("nvcuda.dll", True),
        ("VCRUNTIME140.dll", False),
        ("MSVCP140.dll", False),
        ("cudart64_12.dll", False),
        ("libc.so.6", False),
    ],
)
def test_windows_has_a_short_list_too_and_the_vc_runtime_is_not_on_it(name: str, *, known: bool) -> None:
    assert (system_reason(name, "windows") is not None) is known


def test_the_drivers_libraries_are_known_as_such() -> None:
    names = ["libcuda.so.1", "libnvidia-ml.so.1", "libnvidia-ptxjitcompiler.so.570.86.15", "nvcuda.dll"]
    assert all(map(driver_library, names))
    assert not any(map(driver_library, ["libcudart.so.12", "libc.so.6", "libnvrtc.so.12"]))


@pytest.mark.parametrize(
    ("entry", "folder", "expected"),
    [
        ("$ORIGIN", "_internal/a", "_internal/a"),
        ("${ORIGIN}/../b", "_internal/a", "_internal/b"),
        ("$ORIGIN/../..", "_internal/a", ""),
        ("$ORIGIN/../../..", "_internal/a", None),
        ("$ORIGIN/../../../r/_internal", "_internal/a", None),
        ("$ORIGIN", "", ""),
        ("$ORIGIN/..", "", None),
        ("$ORIGINAL", "_internal", None),
        ("/usr/local/cuda/lib64", "_internal", None),
        ("lib", "_internal", None),
        ("", "_internal", None),
    ],
)
def test_where_a_search_path_entry_leads(entry: str, folder: str, expected: str | None) -> None:
    found, reason = expand(entry, folder)
    assert found == expected
    assert bool(reason) is (expected is None)


def test_an_entry_that_leaves_the_tree_is_reported_with_the_needs_that_reach_it() -> None:
    user = elf("_internal/a/user.so", "libx.so", "liby.so", "libc.so.6", runpath=("$ORIGIN", "/opt/cuda/lib", ""))
    inside = elf("_internal/a/libx.so")
    elsewhere = elf("_internal/deep/liby.so")
    found = escapes([user, inside, elsewhere], [], {}, platform="linux-x86_64")
    assert [(item.entry, item.reached) for item in found] == [("/opt/cuda/lib", ("liby.so",)), ("", ("liby.so",))]


def test_an_entry_after_which_nothing_is_left_to_find_is_dead() -> None:
    user = elf("_internal/user.so", "libx.so", "libm.so.6", runpath=("/home/builder/lib",))
    found = escapes([user, elf("_internal/libx.so")], [], {}, platform="linux-x86_64")
    assert [(item.entry, item.reached) for item in found] == [("/home/builder/lib", ())]


def test_an_absolute_rpath_is_reached_before_the_payload_folder() -> None:
    user = elf("_internal/user.so", "libx.so", rpath=("/home/builder/lib",))
    found = escapes([user, elf("_internal/libx.so")], [], {}, platform="linux-x86_64")
    assert found[0].reached == ("libx.so",)


def test_the_floor_is_the_highest_version_by_number_and_names_who_sets_it() -> None:
    objects = [elf("a", glibc="2.4"), elf("b", glibc="2.28"), elf("c"), elf("d", glibc="2.17"), elf("e", glibc="2.28")]
    assert glibc_floor(objects) == "2.28"
    assert setting_the_floor(objects) == ("b", "e")
    assert glibc_floor([elf("c")]) is None


def test_private_and_foreign_version_names_do_not_count() -> None:
    names = ["GLIBC_PRIVATE", "GLIBC_2.9", "GLIBC_2.10", "CXXABI_1.3.9", "GLIBCXX_3.4.29", "GLIBC_ABI_DT_RELR"]
    assert highest(names, "GLIBC_") == "2.10"
    assert highest(names, "GLIBCXX_") == "3.4.29"
    assert highest(["GLIBC_PRIVATE"], "GLIBC_") is None


@pytest.mark.parametrize(
    ("floor", "stated", "good"),
    [("2.28", "2.28", True), ("2.28", "2.4", False), (None, None, True), ("2.17", None, False), ("2.17", "2.28", True)],
)
def test_a_floor_is_compared_by_number(floor: str | None, stated: str | None, *, good: bool) -> None:
    assert within(floor, stated) is good
