from __future__ import annotations

import os
import sys

import pytest

from lading.verify.loaded import is_library, libraries_of, parse_maps, sort_out

MAPS = """\
55d0c0000000-55d0c0010000 r--p 00000000 fe:00 1234 /opt/app/tree/server-cuda
7f0000000000-7f0000100000 r-xp 00000000 fe:00 1 /opt/app/tree/_internal/nvidia/cublas/lib/libcublas.so.12
7f0000200000-7f0000300000 r-xp 00000000 fe:00 2 /usr/lib/x86_64-linux-gnu/libc.so.6
7f0000300000-7f0000400000 rw-p 00000000 00:00 0
7f0000400000-7f0000500000 r-xp 00000000 fe:00 3 /opt/a folder with spaces/libx.so.1 (deleted)
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]
7ffc00022000-7ffc00024000 r-xp 00000000 00:00 0 [vdso]
7f0000600000-7f0000700000 rw-s 00000000 00:05 9 /dev/nvidia0
"""


def test_mapped_files_are_read_from_the_kernels_table() -> None:
    assert parse_maps(MAPS) == {
        "/opt/app/tree/server-cuda",
        "/opt/app/tree/_internal/nvidia/cublas/lib/libcublas.so.12",
        "/usr/lib/x86_64-linux-gnu/libc.so.6",
        "/opt/a folder with spaces/libx.so.1",
        "/dev/nvidia0",
    }


@pytest.mark.parametrize(
    ("path", "library"),
    [("/a/libc.so.6", True), ("/a/x.cpython-311.so", True), ("C:/a/b.DLL", True), ("/a/b.pyd", True),
     ("/dev/nvidia0", False), ("/a/data.so.cache", False), ("/a/locale-archive", False)],
)  # fmt: skip
def test_which_mapped_files_are_libraries(path: str, *, library: bool) -> None:
    assert is_library(path) is library


def test_a_system_cuda_is_a_stray_and_the_driver_is_not() -> None:
    found = sort_out(
        [
            "/opt/tree/_internal/nvidia/cublas/lib/libcublas.so.12",
            "/opt/tree/_internal/torch/lib/libtorch_cuda.so",
            "/opt/tree/_internal/libz.so.1",
            "/usr/local/cuda/lib64/libcudart.so.12",
            "/usr/lib/libnccl.so.2",
            "/usr/lib/libcuda.so.1",
            "/usr/lib/libcuda.so.570.86.15",
            "/usr/lib/libnvidia-ptxjitcompiler.so.570.86.15",
            "/usr/lib/libm.so.6",
            "/usr/lib/libstdc++.so.6",
            "/opt/tree-of-another/libcudnn.so.9",
        ],
        "/opt/tree",
        system="linux",
    )
    assert [path.rsplit("/", 1)[1] for path in found.cuda] == ["libcublas.so.12", "libtorch_cuda.so"]
    assert found.strays == (
        "/opt/tree-of-another/libcudnn.so.9", "/usr/lib/libnccl.so.2", "/usr/local/cuda/lib64/libcudart.so.12",
    )  # fmt: skip
    assert [path.rsplit("/", 1)[1] for path in found.driver] == [
        "libcuda.so.1", "libcuda.so.570.86.15", "libnvidia-ptxjitcompiler.so.570.86.15",
    ]  # fmt: skip
    assert found.system == ("/usr/lib/libm.so.6",)
    assert found.other == ("/usr/lib/libstdc++.so.6",)


def test_windows_paths_compare_without_case_and_slash() -> None:
    found = sort_out(
        [
            r"C:\Users\Me\App\Tree\_internal\torch\lib\cublas64_12.dll",
            r"C:\Program Files\NVIDIA GPU Computing Toolkit\CUDA\v12.6\bin\cudart64_12.dll",
            r"C:\Windows\System32\nvcuda.dll",
            r"C:\Windows\System32\KERNEL32.DLL",
        ],
        r"c:\users\me\app\tree",
        system="windows",
    )
    assert (len(found.cuda), len(found.strays), len(found.driver), len(found.system)) == (1, 1, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_libraries_of_this_process_are_seen() -> None:
    assert any("pydantic_core" in path for path in libraries_of(os.getpid()))


def test_a_process_that_has_ended_has_none() -> None:
    assert libraries_of(2**22 + 1) == set()
