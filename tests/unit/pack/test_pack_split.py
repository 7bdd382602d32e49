"""Which component a file belongs to, by the real cu126 manifest."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.pack.trees import toolkit

from lading.errors import NoNvidiaFiles
from lading.manifest.buildinfo import OwnedEntry
from lading.pack.split import NO_OWNER, classify, is_nvidia, is_shared_library, split

TOOLKIT = toolkit()
RULE = TOOLKIT.libs
SHA = "0" * 64


def file(path: str, owner: str = NO_OWNER) -> OwnedEntry:
    return OwnedEntry(path=path, sha256=SHA, owner=owner)


def link(path: str, target: str) -> OwnedEntry:
    return OwnedEntry(path=path, type="link", target=target, owner=NO_OWNER)


@pytest.mark.proves("S1-06")
@pytest.mark.parametrize(
    "path",
    [
        "_internal/nvidia/cublas/lib/x",
        "_internal/nvidia/cudnn/lib/libcudnn.so.9",
        "nvidia/x",
        "_internal/some/deep/er/nvidia/place/data.bin",
        "_internal/nvidia/__init__.pyc",
    ],
)
def test_nvidias_folder_is_found_at_any_depth_by_path_segment(path: str) -> None:
    assert classify(path, NO_OWNER, RULE) == "libs"
    assert is_nvidia(path, NO_OWNER, RULE)


@pytest.mark.proves("S1-06")
@pytest.mark.parametrize(
    "path", ["_internal/nvidia", "_internal/nvidia.txt", "_internal/mynvidia/x", "_internal/nvidia-smi/x"]
)
def test_a_name_that_only_contains_nvidia_is_not_the_folder(path: str) -> None:
    assert classify(path, NO_OWNER, RULE) == "core"
    assert not is_nvidia(path, NO_OWNER, RULE)


@pytest.mark.proves("S1-07", "X-37")
@pytest.mark.parametrize(
    "path",
    [
        "_internal/libcublas.so.12",
        "_internal/libcublasLt.so.12",
        "_internal/libcudart.so.12",
        "_internal/libcudnn.so.9",
        "_internal/libcudnn_engines_precompiled.so.9",
        "_internal/libcufft.so.11",
        "_internal/libcurand.so.10",
        "_internal/libcusolver.so.11",
        "_internal/libcusparse.so.12",
        "_internal/libcusparseLt.so.0",
        "_internal/libnccl.so.2",
        "_internal/libnvJitLink.so.12",
        "_internal/libnvrtc.so.12",
        "_internal/libnvrtc-builtins.so.12.6",
        "_internal/libnvToolsExt.so.1",
        "_internal/libcupti.so.12",
        "_internal/libcufile.so.0",
        "_internal/cupy/.data/lib/libcublas.so.12",
        "_internal/torch/lib/cublas64_12.dll",
        "_internal/torch/lib/cublasLt64_12.dll",
        "_internal/torch/lib/cudart64_12.dll",
        "_internal/torch/lib/CUDNN64_9.DLL",
        "_internal/torch/lib/cudnn_ops64_9.dll",
        "cublas64_12.dll",
    ],
)
@pytest.mark.parametrize("owner", [NO_OWNER, "some-wheel", "torch"])
def test_nvidias_libraries_are_found_by_name_anywhere_whoever_owns_them(path: str, owner: str) -> None:
    assert classify(path, owner, RULE) == "libs"
    assert is_nvidia(path, owner, RULE)


@pytest.mark.proves("S1-07")
@pytest.mark.parametrize("name", ["nccl.py", "cudart.py", "nccl.pyc", "cudart.pyc"])
@pytest.mark.parametrize("folder", ["_internal/torch/cuda", "_internal", "_internal/nvidia"])
def test_python_stubs_with_nvidias_names_stay_in_core(folder: str, name: str) -> None:
    assert classify(f"{folder}/{name}", NO_OWNER, RULE) == "core"


@pytest.mark.proves("S1-07")
@pytest.mark.parametrize(
    "path",
    [
        "_internal/libcublas.so.12.txt",
        "_internal/cublas.py",
        "_internal/libnccl_helper.pyc",
        "_internal/libcustom.so",
        "_internal/libcurl.so.4",
    ],
)
def test_what_is_no_library_of_nvidias_stays_in_core(path: str) -> None:
    assert classify(path, "some-wheel", RULE) == "core"
    assert not is_nvidia(path, "some-wheel", RULE)


@pytest.mark.parametrize(
    ("owner", "component"),
    [
        ("torch", "libs"),
        ("triton", "libs"),
        ("nvidia-nccl-cu12", "libs"),
        ("torchvision", "core"),
        ("app", "core"),
        ("numpy", "core"),
    ],
)
def test_the_owner_decides_first(owner: str, component: str) -> None:
    for path in ("_internal/anything.bin", "_internal/torch/x.pyc", "_internal/nccl.py"):
        assert classify(path, owner, RULE) == component


def test_the_folder_of_an_owned_file_says_nothing() -> None:
    """Another wheel may put a plug-in into torch's folder; it is not part of torch."""
    assert classify("_internal/torch/plugin/x.pyc", "some-plugin", RULE) == "core"
    assert classify("_internal/torch/plugin/x.pyc", NO_OWNER, RULE) == "libs"


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        *((name, True) for name in ("libx.so", "libx.so.12", "libx.so.1.2.3", "x.dll", "X.DLL", "x.dylib")),
        *((name, False) for name in ("libx.so.txt", "so", "x.solid", "libx.so.", "x.py")),
    ],
)
def test_shared_libraries_are_known_by_name(name: str, answer: bool) -> None:  # noqa: FBT001 (a parameter of the test)
    assert is_shared_library(f"folder/{name}") is answer


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_link_goes_where_its_target_goes() -> None:
    files = [
        file("_internal/nvidia/cublas/lib/libcublas.so.12", "nvidia-cublas-cu12"),
        file("_internal/numpy/core.so", "numpy"),
        link("_internal/libcublas.so.12", "nvidia/cublas/lib/libcublas.so.12"),
        link("_internal/again.so", "libcublas.so.12"),
        link("_internal/core.so", "numpy/core.so"),
        link("_internal/folder", "nvidia/cublas"),
        link("_internal/numpy2", "numpy"),
        link("_internal/all", "."),
    ]

    parts = split(files, TOOLKIT)

    assert {entry.path for entry in parts["libs"] if entry.type == "link"} == {
        "_internal/libcublas.so.12",
        "_internal/again.so",
        "_internal/folder",
    }
    assert {entry.path for entry in parts["core"] if entry.type == "link"} == {
        "_internal/core.so",
        "_internal/numpy2",
        "_internal/all",
    }


def test_a_link_to_a_folder_that_both_share_stays_in_core() -> None:
    files = [
        file("_internal/both/a", "torch"),
        file("_internal/both/b", "numpy"),
        file("_internal/nvidia/x", "nvidia-x"),
        link("_internal/l", "both"),
    ]

    assert [entry.path for entry in split(files, TOOLKIT)["core"]] == ["_internal/both/b", "_internal/l"]


# --- the whole --------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1-05")
def test_a_cuda_build_without_nvidias_files_is_refused() -> None:
    """Torch's own CUDA libraries do not make up for them."""
    files = [
        file("_internal/numpy/x.so", "numpy"),
        file("_internal/torch/lib/libtorch_cuda.so", "torch"),
        file("_internal/torch/lib/libc10_cuda.so", "torch"),
    ]

    with pytest.raises(
        NoNvidiaFiles, match="None of the 3 files of the tree is a file of cu126's NVIDIA libraries"
    ) as caught:
        split(files, TOOLKIT)
    assert caught.value.exit_code == 51
    assert "cu126 pins torch's CUDA build" in caught.value.todo


@pytest.mark.proves("S1-05")
def test_a_link_alone_is_no_nvidia_file() -> None:
    with pytest.raises(NoNvidiaFiles):
        split([file("_internal/x"), link("_internal/nvidia/libcublas.so.12", "../x")], TOOLKIT)


def test_a_build_for_the_cpu_is_all_core() -> None:
    files = [file("_internal/torch/lib/libtorch.so", "torch"), file("_internal/x", "app")]

    assert split(files, None) == {"core": tuple(files)}


SEGMENTS = st.sampled_from(
    ["_internal", "nvidia", "torch", "lib", "libcublas.so.12", "nccl.py", "cublas64_12.dll", "x", "numpy"]
)


@pytest.mark.proves("S1-04")
@given(
    st.dictionaries(
        st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join),
        st.sampled_from([NO_OWNER, "torch", "numpy", "nvidia-cublas-cu12", "app"]),
        min_size=1,
        max_size=20,
    )
)
def test_the_parts_are_disjoint_their_union_is_the_tree_and_order_is_kept(owners: dict[str, str]) -> None:
    files = [file("nvidia/one.so", "nvidia-one"), *(file(path, owner) for path, owner in owners.items())]

    parts = split(files, TOOLKIT)

    assert sorted([*parts["core"], *parts["libs"]], key=files.index) == files
    for part in parts.values():
        assert [files.index(entry) for entry in part] == sorted(files.index(entry) for entry in part)
