from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lading.digest import sha256_bytes
from lading.host import GpuFacts, HostFacts
from lading.manifest.tree import TreeEntry
from lading.progress import Silent
from lading.verify.context import Digests, TreeContext
from lading.verify.layout import (
    Seen,
    check_digests,
    check_entry,
    check_files,
    check_links,
    check_modes,
    chosen,
    compare,
)

HOST = HostFacts(platform="linux-x86_64", system="Linux", cpus=2, gpu=GpuFacts(source="none", reason="no_driver"))
posix_only = pytest.mark.skipif(os.name != "posix", reason="modes and links")
FILES = {
    "server-cuda": b"\x7fprogram",
    "_internal/base.zip": b"zip",
    "_internal/nvidia/cublas/lib/libcublas.so.12": b"cublas",
}


def build(root: Path) -> dict[str, TreeEntry]:
    entries = {}
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        mode = 0o755 if path == "server-cuda" else 0o644
        (root / path).chmod(mode)
        entries[path] = TreeEntry(path=path, mode=mode, size=len(data), sha256=sha256_bytes(data))
    (root / "_internal/libcublas.so.12").symlink_to("nvidia/cublas/lib/libcublas.so.12")
    entries["_internal/libcublas.so.12"] = TreeEntry(
        path="_internal/libcublas.so.12", type="link", target="nvidia/cublas/lib/libcublas.so.12"
    )
    return entries


@pytest.fixture
def context(tmp_path: Path) -> TreeContext:
    return TreeContext(
        tree=tmp_path,
        entry="server-cuda",
        platform="linux-x86_64",
        expected=build(tmp_path),
        host=HOST,
        progress=Silent(),
    )


CHECKS = {
    "files": check_files,
    "links": check_links,
    "modes": check_modes,
    "entry": check_entry,
    "digests": check_digests,
}


def failures(context: TreeContext) -> dict[str, str]:
    outcomes = {name: check(context) for name, check in CHECKS.items()}
    return {name: outcome.reason for name, outcome in outcomes.items() if outcome.status == "fail"}


@posix_only
def test_a_tree_that_is_the_release_passes(context: TreeContext) -> None:
    assert failures(context) == {}
    assert check_files(context).reason == "exactly the 4 entries of the release"


@posix_only
def test_a_flipped_bit_is_found_by_the_digest_alone(context: TreeContext) -> None:
    path = context.tree / "_internal/nvidia/cublas/lib/libcublas.so.12"
    path.write_bytes(b"cublaS")
    found = failures(context)
    assert found.keys() == {"digests"}
    assert "_internal/nvidia/cublas/lib/libcublas.so.12 has SHA-256" in found["digests"]


@posix_only
def test_a_copy_of_its_file_stands_in_for_a_link_where_there_were_none(context: TreeContext) -> None:
    """As the installer leaves it on FAT, and on Windows without the privilege."""
    link = context.tree / "_internal/libcublas.so.12"
    link.unlink()
    link.write_bytes(FILES["_internal/nvidia/cublas/lib/libcublas.so.12"])
    assert failures(context) == {}
    assert check_files(context).reason == "exactly the 4 entries of the release, of links 1 as copies of their files"

    link.write_bytes(b"cublaS")
    assert failures(context).keys() == {"digests"}
    link.write_bytes(b"something else")
    assert failures(context).keys() == {"files", "digests"}


@posix_only
def test_nothing_stands_in_for_a_link_to_a_folder(context: TreeContext) -> None:
    assert context.expected is not None
    link = TreeEntry(path="_internal/cuda", type="link", target="nvidia")
    (context.tree / link.path).write_bytes(b"a file")
    changed = replace(context, expected={**context.expected, link.path: link})
    assert failures(changed) == {"files": "_internal/cuda is a file, should be a link"}


@posix_only
def test_a_removed_library_is_missing_and_its_link_leads_nowhere(context: TreeContext) -> None:
    (context.tree / "_internal/nvidia/cublas/lib/libcublas.so.12").unlink()
    found = failures(context)
    assert found["files"] == "_internal/nvidia/cublas/lib/libcublas.so.12 is missing"
    assert "is not there" in found["links"]
    assert "is missing" in found["digests"]


@posix_only
def test_a_truncated_file_is_found_by_its_size(context: TreeContext) -> None:
    (context.tree / "_internal/base.zip").write_bytes(b"z")
    assert failures(context)["files"] == "_internal/base.zip has 1 bytes, should have 3"


@posix_only
def test_a_foreign_file_is_named_unless_it_is_the_installers_own(context: TreeContext) -> None:
    (context.tree / "_internal/planted.so").write_bytes(b"x")
    assert failures(context) == {"files": "_internal/planted.so is foreign: no component has it"}
    context.own = frozenset({"_internal/planted.so"})
    assert failures(context) == {}
    context.own = frozenset({"_internal/"})
    assert failures(context) == {}


@posix_only
def test_modes_count_both_ways(context: TreeContext) -> None:
    (context.tree / "server-cuda").chmod(0o644)
    (context.tree / "_internal/base.zip").chmod(0o755)
    found = failures(context)
    assert found["modes"] == "_internal/base.zip is executable; its mode is 0644 (and 1 more)"
    assert found["entry"] == "server-cuda is not executable (mode 0644)"


@posix_only
@pytest.mark.parametrize("target", ["/etc/passwd", "../../outside", "C:/Windows/x.dll"])
def test_a_link_that_leaves_the_tree_is_found(context: TreeContext, target: str) -> None:
    link = context.tree / "_internal/libcublas.so.12"
    link.unlink()
    link.symlink_to(target)
    found = failures(context)
    assert f"leads out of the tree, to {target}" in found["links"]
    assert f"leads to {target}, should lead to" in found["files"]


@posix_only
def test_a_link_to_a_folder_of_the_tree_is_inside(context: TreeContext) -> None:
    (context.tree / "_internal/cublas").symlink_to("nvidia/cublas")
    assert check_links(context).status == "pass"


@posix_only
def test_an_entry_that_is_a_link_or_gone_fails(context: TreeContext) -> None:
    program = context.tree / "server-cuda"
    program.rename(context.tree / "real")
    program.symlink_to("real")
    assert failures(context)["entry"] == "server-cuda is not a file of the tree"


def test_a_pipe_in_the_tree_is_no_file() -> None:
    expected = {"a": TreeEntry(path="a", size=1, sha256="0" * 64)}
    assert compare({"a": Seen(type="special")}, expected, own=()) == ["a is a special, should be a file"]


@posix_only
@pytest.mark.parametrize(("digests", "count"), [("full", 3), ("essentials", 2), ("none", 0)])
def test_how_many_files_are_digested(context: TreeContext, digests: Digests, count: int) -> None:
    assert context.expected is not None
    files = chosen(context.expected, digests, program="server-cuda", payload="_internal")
    assert len(files) == count
    context.digests = digests
    assert check_digests(context).status == ("skipped" if digests == "none" else "pass")


@posix_only
def test_without_a_record_nothing_is_claimed(context: TreeContext) -> None:
    context.expected = None
    assert {check(context).status for check in (check_files, check_modes, check_digests)} == {"skipped"}
