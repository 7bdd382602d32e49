from __future__ import annotations

import ensurepip
import os
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pydantic_core
import pytest

from lading.linkage import BrokenObject, read_elf, read_pe, scan
from lading.linkage.scan import read_object

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="looks at this machine's own ELF files")


def real_elf() -> Path:
    return Path(str(pydantic_core._pydantic_core.__file__))


@pytest.fixture(scope="session")
def launchers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Windows programs that pip carries for making console scripts."""
    folder = tmp_path_factory.mktemp("launchers")
    wheels = sorted(Path(str(ensurepip.__file__)).parent.glob("_bundled/pip-*.whl"))
    if not wheels:
        pytest.skip("this Python comes without the wheel of pip that has Windows programs in it")
    with zipfile.ZipFile(wheels[-1]) as archive:
        for name in archive.namelist():
            if name.endswith(".exe"):
                (folder / Path(name).name).write_bytes(archive.read(name))
    return folder


@linux_only
def test_a_real_extension_module_is_read_without_reading_all_of_it() -> None:
    path = real_elf()
    found = read_elf(path, "_internal/x.so")
    assert found is not None
    assert found.path == "_internal/x.so"
    assert found.machine in {"EM_X86_64", "EM_AARCH64"}
    assert "libc.so.6" in found.needed
    assert found.glibc is not None
    assert found.glibc.startswith("2.")


@linux_only
def test_the_interpreter_is_a_program_with_a_loader() -> None:
    found = read_elf(Path(sys.executable).resolve())
    assert found is not None
    assert found.interpreter is not None
    assert "ld-linux" in found.interpreter


@pytest.mark.parametrize("data", [b"", b"\x7f", b"MZ", b"plain text", b"\x7fEL", b"MZ" + bytes(100)])
def test_what_is_no_shared_object_is_none(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(data)
    assert read_elf(path) is None
    assert read_pe(path) is None
    assert read_object(path, "data.bin") is None


@linux_only
@pytest.mark.parametrize("keep", [10, 60, 4096, -4096])
def test_a_truncated_library_is_broken_and_named(tmp_path: Path, keep: int) -> None:
    data = Path(str(psutil._psutil_linux.__file__)).read_bytes()
    cut = tmp_path / "libcut.so"
    cut.write_bytes(data[:keep])
    with pytest.raises(BrokenObject, match=r"libs/libcut\.so: not a readable ELF file"):
        read_elf(cut, "libs/libcut.so")


@linux_only
def test_damaged_headers_never_escape_as_another_error(tmp_path: Path) -> None:
    data = bytearray(Path(str(psutil._psutil_linux.__file__)).read_bytes())
    path = tmp_path / "x.so"
    seen = set()
    for position in range(4, 0x400, 3):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        try:
            read_elf(path)
        except BrokenObject:
            seen.add("broken")
        else:
            seen.add("read")
    assert seen == {"broken", "read"}


def test_a_windows_program_is_read_by_its_imports(launchers: Path) -> None:
    found = read_pe(launchers / "t64.exe", "Scripts/t64.exe")
    assert found is not None
    assert found.machine == "IMAGE_FILE_MACHINE_AMD64"
    assert "kernel32.dll" in {name.lower() for name in found.needed}
    assert read_object(launchers / "t64.exe", "t64.exe") is not None


def test_a_truncated_windows_program_is_broken(launchers: Path, tmp_path: Path) -> None:
    data = (launchers / "w64.exe").read_bytes()
    for keep in (300, len(data) // 2):
        cut = tmp_path / "w64.exe"
        cut.write_bytes(data[:keep])
        with pytest.raises(BrokenObject, match=r"w64\.exe: not a readable PE file"):
            read_pe(cut)


def test_a_windows_tree_is_scanned_on_any_system(launchers: Path, tmp_path: Path) -> None:
    internal = tmp_path / "_internal"
    internal.mkdir()
    for name in ("t64.exe", "t32.exe"):
        (internal / name).write_bytes((launchers / name).read_bytes())
    (internal / "second.exe").write_bytes((launchers / "w64.exe").read_bytes())
    found = scan(tmp_path)
    assert found.system == "windows"
    assert [item.path for item in found.objects] == ["_internal/second.exe", "_internal/t32.exe", "_internal/t64.exe"]
    assert {need.importer for need in found.needs} == {"_internal/second.exe", "_internal/t64.exe"}  # t32 is not native
    assert found.unresolved == ()
    assert found.glibc is None


@linux_only
def test_a_scan_reports_broken_files_and_goes_on(tmp_path: Path) -> None:
    internal = tmp_path / "_internal"
    internal.mkdir()
    good = real_elf().read_bytes()
    (internal / "good.so").write_bytes(good)
    (internal / "cut.so").write_bytes(good[:2000])
    (internal / "module.py").write_bytes(b"\x7fELF no")
    (internal / "link.so").symlink_to("good.so")
    found = scan(tmp_path)
    assert [item.path for item in found.objects] == ["_internal/good.so"]
    assert [item.path for item in found.unreadable] == ["_internal/cut.so"]
    assert found.symlinks == {"_internal/link.so": "good.so"}
    assert found.floor_objects == ("_internal/good.so",)


@pytest.fixture
def sparse_library(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "_internal" / "huge.so"
    path.parent.mkdir()
    path.write_bytes(real_elf().read_bytes())
    os.truncate(path, 8 * 2**30)
    yield path
    path.unlink()


@linux_only
def test_the_size_of_a_library_does_not_matter(sparse_library: Path) -> None:
    began = time.perf_counter()
    found = scan(sparse_library.parents[1])
    assert time.perf_counter() - began < 2
    assert [item.path for item in found.objects] == ["_internal/huge.so"]


def test_an_empty_tree_has_an_empty_linkage(tmp_path: Path) -> None:
    found = scan(tmp_path)
    assert (found.objects, found.needs, found.unresolved, found.glibc) == ((), (), (), None)
