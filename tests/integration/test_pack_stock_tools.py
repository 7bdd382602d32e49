"""What is packed is read by the programs that everybody has: tar, zstd, cat, sha256sum."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.pack.trees import CORE, ENTRY, LIBS, Desk, Files, Program, code, noise, on_disk

from lading.digest import sha256_file
from lading.pack.assets import read_index
from lading.pack.pack import PackOptions, PackResult
from lading.pack.volumes import LEAST_LIMIT

FILES: Files = {
    **CORE,
    **LIBS,
    "_internal/" + "long/" * 40 + "name.pyc": code("long"),
    "_internal/nvidia/cudnn/lib/libcudnn.so.9": Program(noise(36 * 2**20, "cudnn") + bytes(4 * 2**20)),
}
tar_reads_zstd = pytest.mark.skipif(
    shutil.which("tar") is None or shutil.which("zstd") is None or sys.platform != "linux",
    reason="GNU tar and zstd are not installed",
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def packed(desk: Desk) -> PackResult:
    """Core in one piece, libs in two volumes."""
    return desk.pack(FILES, options=PackOptions(volume_limit=LEAST_LIMIT))


@pytest.fixture(scope="module")
def archives(packed: PackResult, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Each component's archive; volumes put together by ``cat``."""
    found: dict[str, Path] = {}
    for component in packed.components:
        target = tmp_path_factory.mktemp("cat") / f"{component.record.component}.tar.zst"
        volumes = [component.folder / volume.name for volume in component.record.volumes]
        with target.open("wb") as stream:
            subprocess.run(["cat", *volumes], stdout=stream, check=True)
        found[component.record.component] = target
    return found


def run(*words: str | Path, cwd: Path | None = None) -> str:
    done = subprocess.run(
        words, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.proves("S0-21")
def test_volumes_put_together_are_the_archive_of_the_record(packed: PackResult, archives: dict[str, Path]) -> None:
    core, libs = packed.release.components
    assert [len(component.volumes) for component in (core, libs)] == [1, 2]
    for component in (core, libs):
        assert all(volume.size <= LEAST_LIMIT < 2 * 2**30 for volume in component.volumes)
        assert archives[component.component].stat().st_size == component.size
        assert sha256_file(archives[component.component]) == component.sha256


@pytest.mark.proves("S0-21", "S1-03")
@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not installed")
def test_sha256sum_accepts_every_checksum_file_and_every_asset_has_one(packed: PackResult) -> None:
    folder = packed.release_file.parent
    checksums = sorted(path.name for path in folder.glob("*.sha256"))

    said = run("sha256sum", "--check", "--strict", *checksums, cwd=folder)

    checked = set(re.findall(r"^(\S+): OK$", said, re.MULTILINE))
    assert checked == {path.name for path in folder.iterdir() if path.suffix != ".sha256" and path.name[0] != "."}
    listed = {packed.release_file.name}
    for component in packed.release.components:
        stem = component.index.name.removesuffix(".index.zst")
        listed |= {component.index.name, f"{stem}.json", *(volume.name for volume in component.volumes)}
    assert checked == listed, "the manifest names all of them"


@tar_reads_zstd
def test_zstd_tests_every_frame(archives: dict[str, Path], packed: PackResult) -> None:
    for component in packed.components:
        archive = archives[component.record.component]
        run("zstd", "--test", "--quiet", archive)
        listed = run("zstd", "--list", "--verbose", archive)
        frames = read_index(component.folder, component.record.index).frames
        assert re.findall(r"# Zstandard Frames: (\d+)", listed) == [str(len(frames))]
        assert "XXH64" in listed
        assert re.findall(r"Decompressed Size: .*\((\d+) B\)", listed) == [str(sum(frame.raw for frame in frames))]
    damaged = bytearray(archives["core"].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    archives["core"].with_suffix(".bad").write_bytes(damaged)
    done = subprocess.run(["zstd", "-t", archives["core"].with_suffix(".bad")], capture_output=True, check=False)
    assert done.returncode != 0


@pytest.mark.proves("S0-21", "S1-01", "S1-04")
@tar_reads_zstd
def test_tar_unpacks_both_archives_to_the_tree_modes_and_links_and_all(
    desk: Desk, archives: dict[str, Path], tmp_path: Path
) -> None:
    names = {name: run("tar", "--zstd", "-tf", archive).splitlines() for name, archive in archives.items()}
    for archive in archives.values():
        run("tar", "--zstd", "-xpf", archive, "-C", tmp_path)

    tree = desk.folder / "tree-1"
    assert on_disk(tmp_path) == on_disk(tree)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert path.stat().st_mode & 0o777 == (tree / path.relative_to(tmp_path)).stat().st_mode & 0o777
            assert path.stat().st_mtime == 0
    assert set(names["core"]).isdisjoint(names["libs"])
    every = [*names["core"], *names["libs"]]
    assert ENTRY in every, "no folder on top"
    assert {name.split("/")[0] for name in every} == {ENTRY, "_internal"}


@pytest.mark.proves("S1-18")
@tar_reads_zstd
def test_tar_lists_the_executable_with_its_executable_bit(archives: dict[str, Path]) -> None:
    lines = run("tar", "--zstd", "-tvf", archives["core"], "--quoting-style=literal").splitlines()
    modes = {line.split()[5]: line.split()[0] for line in lines}

    assert modes[ENTRY] == "-rwxr-xr-x"
    assert modes["_internal/demo/app.pyc"] == "-rw-r--r--"
    assert modes["_internal/libz.so"] == "lrwxrwxrwx"
    assert all(" 0/0 " in line or "root/root" in line for line in lines), "no names, no numbers of the builder's"


@pytest.mark.proves("S1-18")
@tar_reads_zstd
def test_an_unpacked_executable_runs(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    files: Files = {ENTRY: Program(b"#!/bin/sh\necho it runs\n"), "_internal/x": b"", **LIBS}
    result = desk.pack(files)
    run("tar", "--zstd", "-xf", result.release_file.parent / result.release.components[0].volumes[0].name, cwd=tmp_path)

    assert run(tmp_path / ENTRY) == "it runs\n"
