"""Shared objects made by the compiler, with the faults that real builds have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lading.linkage import scan

CC = shutil.which("gcc") or shutil.which("cc")
pytestmark = pytest.mark.skipif(CC is None or sys.platform != "linux", reason="needs a C compiler on Linux")


class Workshop:
    """Compiles small libraries into a tree."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "_internal").mkdir(parents=True)

    def library(self, path: str, *flags: str, source: str = "int {name}(void) {{ return 1; }}") -> Path:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        name = target.name.split(".")[0]
        code = self.root.parent / f"{name}.c"
        code.write_text(source.format(name=name))
        command = [str(CC), "-shared", "-fPIC", "-o", str(target), str(code), *flags]
        subprocess.run(command, check=True, capture_output=True)
        return target


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path / "tree")


def against(library: Path) -> tuple[str, ...]:
    return (f"-L{library.parent}", f"-l:{library.name}", "-Wl,--no-as-needed")


def test_a_sound_tree_has_everything_answered(workshop: Workshop) -> None:
    base = workshop.library("_internal/nvidia/base/lib/libbase.so.1", "-Wl,-soname,libbase.so.1")
    workshop.library(
        "_internal/torch/lib/libuser.so",
        "-Wl,--no-as-needed",
        *against(base),
        "-Wl,-rpath,$ORIGIN/../../nvidia/base/lib",
    )
    found = scan(workshop.root)
    assert found.unresolved == ()
    assert found.escapes == ()
    need = next(need for need in found.needs if need.name == "libbase.so.1")
    assert (need.how, need.provider) == ("runpath", "_internal/nvidia/base/lib/libbase.so.1")


def test_a_removed_library_is_named_with_the_one_that_needs_it(workshop: Workshop) -> None:
    base = workshop.library("_internal/libnccl.so.2", "-Wl,-soname,libnccl.so.2")
    workshop.library("_internal/libuser.so", "-Wl,--no-as-needed", *against(base))
    base.unlink()
    found = scan(workshop.root)
    assert [(item.importer, item.name) for item in found.unresolved] == [("_internal/libuser.so", "libnccl.so.2")]


def test_a_runpath_of_the_build_machine_is_reported_as_reached_only_when_it_is(
    workshop: Workshop, tmp_path: Path
) -> None:
    base = workshop.library("_internal/deep/libbase.so.1", "-Wl,-soname,libbase.so.1")
    workshop.library("_internal/libuser.so", "-Wl,--no-as-needed", *against(base), f"-Wl,-rpath,{tmp_path}/elsewhere")
    found = scan(workshop.root)
    assert [(item.entry, item.reached) for item in found.escapes] == [(f"{tmp_path}/elsewhere", ("libbase.so.1",))]
    assert [need.how for need in found.needs if need.name == "libbase.so.1"] == ["elsewhere"]
    (workshop.root / "_internal/libbase.so.1").symlink_to("deep/libbase.so.1")
    assert [item.reached for item in scan(workshop.root).escapes] == [()]


def test_old_style_rpath_is_told_from_runpath(workshop: Workshop) -> None:
    workshop.library("_internal/libold.so", "-Wl,--disable-new-dtags", "-Wl,-rpath,$ORIGIN/x")
    workshop.library("_internal/libnew.so", "-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/x")
    found = {item.path: item for item in scan(workshop.root).objects}
    assert (found["_internal/libold.so"].rpath, found["_internal/libold.so"].runpath) == (("$ORIGIN/x",), ())
    assert (found["_internal/libnew.so"].rpath, found["_internal/libnew.so"].runpath) == ((), ("$ORIGIN/x",))


def test_the_analysis_says_what_the_loader_says(workshop: Workshop) -> None:
    """The same tree, asked of ``ldd``: both find the same library missing, and the same file for the other."""
    ldd = shutil.which("ldd")
    if ldd is None:
        pytest.skip("ldd is not installed (Debian: libc-bin), so there is no second opinion to compare with")
    here = workshop.library("_internal/a/libhere.so.1", "-Wl,-soname,libhere.so.1")
    gone = workshop.library("_internal/a/libgone.so.1", "-Wl,-soname,libgone.so.1")
    user = workshop.library(
        "_internal/libuser.so", "-Wl,--no-as-needed", *against(here), *against(gone), "-Wl,-rpath,$ORIGIN/a"
    )
    gone.unlink()
    said = subprocess.run([ldd, str(user)], check=False, capture_output=True, text=True).stdout
    found = scan(workshop.root)
    assert "libgone.so.1 => not found" in said
    assert [item.name for item in found.unresolved] == ["libgone.so.1"]
    provider = next(need.provider for need in found.needs if need.name == "libhere.so.1")
    assert provider is not None
    assert str((workshop.root / provider).resolve()) in said.replace("_internal/a/../a", "_internal/a")


def test_version_needs_are_read_without_section_headers(workshop: Workshop) -> None:
    objcopy = shutil.which("objcopy")
    source = "#include <string.h>\nvoid *{name}(void *a, void *b) {{ return memcpy(a, b, strlen(b)); }}"
    path = workshop.library("_internal/libplain.so", source=source)
    before = scan(workshop.root).objects[0]
    assert before.glibc is not None
    if objcopy is None:
        pytest.skip("objcopy is not installed (Debian: binutils), so no stripped library can be made")
    done = subprocess.run([objcopy, "--strip-section-headers", str(path)], check=False, capture_output=True)
    if done.returncode != 0:  # an older binutils: take them out of the header by hand
        data = bytearray(path.read_bytes())
        data[0x28:0x30] = bytes(8)
        data[0x3C:0x40] = bytes(4)
        path.write_bytes(data)
    assert scan(workshop.root).objects[0] == before
