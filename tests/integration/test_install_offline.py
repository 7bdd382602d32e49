"""Without a network, with several mirrors, within a rate: as somebody does it who has a stick, or a slow line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program, tree_files
from tests.range_server import Answer, serving

from lading.errors import DigestMismatch, SourceUnreachable
from lading.store.install import install

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": os.urandom(30_000)}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(80_000)}
NEW: Files = {ENTRY: program("two"), "_internal/a.pyc": os.urandom(30_000)}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=40_000)
    made.release("0.1.0", CORE, LIBS)
    return made


@pytest.fixture
def flat(shop: Shop, tmp_path: Path) -> Path:
    """Every file of the repository in one folder, as a browser's downloads lie."""
    folder = tmp_path / "stick"
    folder.mkdir()
    for file in shop.store.rglob("*"):
        if file.is_file() and not file.name.endswith(".sha256"):
            assert not (folder / file.name).exists(), "names of published files never meet"
            shutil.copy(file, folder)
    return folder


def ran(entry: str) -> str:
    return subprocess.run([entry], check=True, capture_output=True, text=True).stdout.strip()


def lading(*words: str | Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "lading", *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_a_flat_folder_of_copied_files_installs(shop: Shop, flat: Path, tmp_path: Path) -> None:
    result = install(str(flat), shop.root, tmp_path / "data", app=APP)
    assert tree_files(Path(result.tree)) == {**CORE, **LIBS}
    assert ran(result.entry) == "one"


def test_what_an_update_needs_is_enough_in_the_folder(shop: Shop, tmp_path: Path) -> None:
    """The libs are installed already: their archive need not be carried again."""
    install(str(shop.store), shop.root, tmp_path / "data", app=APP)
    shop.release("0.2.0", NEW, LIBS)
    stick = tmp_path / "stick"
    stick.mkdir()
    for file in [
        *shop.store.glob("metadata/*"),
        *shop.store.glob("targets/**/*.json"),
        *shop.store.glob("**/core/**/*"),
    ]:
        if file.is_file():
            shutil.copy(file, stick)
    result = install(str(stick), shop.root, tmp_path / "data", app=APP)
    assert ran(result.entry) == "two"


@pytest.mark.parametrize("part", [".tar.zst.001", ".tar.zst.002", "index.zst", "timestamp.json", ".release.json"])
def test_what_was_not_copied_is_named(shop: Shop, flat: Path, tmp_path: Path, part: str) -> None:
    missing = next(file for file in sorted(flat.iterdir()) if part in file.name)
    missing.unlink()
    with pytest.raises(SourceUnreachable) as caught:
        install(str(flat), shop.root, tmp_path / "data", app=APP)
    assert missing.name in caught.value.what
    assert not list((tmp_path / "data").glob("backends/*/versions/*"))


def test_a_volume_that_was_copied_halfway_is_named_with_both_sizes(shop: Shop, flat: Path, tmp_path: Path) -> None:
    volume = next(flat.glob("*libs*.tar.zst.002"))
    size = volume.stat().st_size
    volume.write_bytes(volume.read_bytes()[:1000])
    with pytest.raises(SourceUnreachable, match=rf"{volume.name} has 1000 bytes, not {size}"):
        install(str(flat), shop.root, tmp_path / "data", app=APP)


def test_a_file_of_another_release_under_its_name_is_refused(shop: Shop, flat: Path, tmp_path: Path) -> None:
    volume = next(flat.glob("*libs*.tar.zst.002"))
    volume.write_bytes(bytes(volume.stat().st_size))
    with pytest.raises(DigestMismatch, match=volume.name):
        install(str(flat), shop.root, tmp_path / "data", app=APP)


def test_a_stick_with_a_hole_is_completed_from_the_network_and_nothing_else_is_fetched(
    shop: Shop, flat: Path, tmp_path: Path
) -> None:
    volume = next(flat.glob("*libs*.tar.zst.001"))
    volume.unlink()
    with serving(shop.store) as server:
        result = install([str(flat), server.url], shop.root, tmp_path / "data", app=APP)
        assert {path.rpartition("/")[2] for path in server.asked("")} == {volume.name}
    assert ran(result.entry) == "one"
    assert [report.where for report in result.mirrors] == [str(flat)]
    assert volume.name in result.mirrors[0].failures[0].why


def test_a_stick_that_is_not_there_costs_nothing_but_a_line(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.store) as server:
        result = install([str(tmp_path / "stick"), server.url], shop.root, tmp_path / "data", app=APP)
    assert ran(result.entry) == "one"
    assert "There is no folder" in result.mirrors[0].failures[0].why


def test_the_command_takes_mirrors_and_tells_which_failed(shop: Shop, tmp_path: Path) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    with serving(shop.store) as bad, serving(shop.store) as good:

        def gone(answer: Answer) -> None:
            if ".tar.zst" in answer.path:
                answer.status, answer.headers, answer.body = 404, {}, b"no"

        bad.faults.append(gone)
        words: list[str | Path] = [bad.url, good.url, "--force", "--root", root, "--app", APP, "--data"]
        told = lading("install", *words, tmp_path / "data")
        assert told.returncode == 0, told.stderr
        assert f"mirror {bad.url}/: " in told.stdout
        assert "answered 404" in told.stdout
        verbose = lading("install", *words, tmp_path / "again", "-v", "--json")
        said: Any = json.loads(verbose.stdout)
        assert said["mirrors"][0]["where"] == f"{bad.url}/"
        assert f"{bad.url}/assets/core/0.1.0/" in verbose.stderr
        assert "answered 404 Not Found" in verbose.stderr
        bad.requests.clear()
        bad.faults.clear()
        shop.release("0.2.0", NEW, LIBS)
        updated = lading("update", "--force", "--app", APP, "--data", tmp_path / "data")
        assert updated.returncode == 0, updated.stderr
        assert bad.asked("core"), "an update asks the same mirrors, in the same order"


def test_a_rate_holds_over_all_requests(shop: Shop, tmp_path: Path) -> None:
    """115 kB and a burst of a quarter of a second's worth: at 100 kB/s it cannot take less than 0.9 s."""
    with serving(shop.store) as server:
        began = time.monotonic()
        result = install(server.url, shop.root, tmp_path / "data", app=APP, limit=100_000)
        took = time.monotonic() - began
    assert result.bytes_received > 110_000
    assert took >= result.bytes_received / 100_000 - 0.3
