"""The benchmark's rows about updates, on a small product: what they measure is what happened."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest
from bench import bed, changed, run
from bench.measure import run as measured
from bench.rows.base import LADING, ROOT, Context, Result
from bench.rows.update import Check, CodeUpdate, DependencyUpdate, LibraryUpdate, own_frames

from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import BuildInfo, OwnedEntry
from lading.manifest.release import Provenance

ENTRY = "lading-server-cuda"
NOISE = random.Random(7).randbytes(1_500_000)
OTHER_LIBRARY = NOISE[:700_000] + b"relinked" + NOISE[700_000:]


def module(text: str, name: str) -> bytes:
    return changed.compiled(text, name, b"\xa7\r\r\n" + bytes(12))


def sources() -> dict[str, tuple[bytes, str]]:
    """The small product: path, bytes, owner."""
    health = (ROOT / "server/lading_server/health.py").read_text("utf-8")
    files = {
        ENTRY: (b"#!/bin/sh\necho 0.1.0\n", "pyinstaller"),
        "_internal/lading_server/health.pyc": (module(health, "lading_server/health.py"), "app"),
        "_internal/nvidia/nvjitlink/lib/libnvJitLink.so.12": (NOISE, "nvidia-nvjitlink-cu12"),
        "_internal/libcudart.so.12": (NOISE[:50_000], "nvidia-cuda-runtime-cu12"),
    }
    for number in range(12):
        name = f"sympy/module{number}.py"
        files[f"_internal/{name}c"] = (module(f"VALUE = {number}\n" * 20, name), "sympy")
    return files


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    folder = tmp_path_factory.mktemp("product")
    entries = []
    for path, (data, owner) in sorted(sources().items()):
        place = folder / "tree" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        mode = 0o755 if path == ENTRY else 0o644
        place.chmod(mode)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(OwnedEntry(path=path, mode=mode, size=len(data), sha256=digest, owner=owner))
    info = BuildInfo(
        app="lading-server",
        version="0.1.0",
        platform="linux-x86_64",
        variant="cuda",
        entry=ENTRY,
        toolkit="cu126",
        modules="loose",
        files=tuple(entries),
        distributions={},
        provenance=Provenance(commit="c", epoch=0, python="3", pyinstaller="6", zstd="1", lading="0"),
    )
    (folder / "buildinfo.json").write_bytes(canonical_json(info))
    for number in range(12):
        place = folder / "wheels" / "sympy" / f"module{number}.py"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"VALUE = {number if number % 2 else -1}\n" * 20, "utf-8")
    library = folder / "wheels/nvidia/nvjitlink/lib/libnvJitLink.so.12"
    library.parent.mkdir(parents=True)
    library.write_bytes(OTHER_LIBRARY)
    pack = Context.pack_command(folder / "tree", folder / "buildinfo.json", "release", folder / "packed")
    measured(pack, cwd=ROOT)
    keys = ["--keys", str(folder / "keys")]
    measured([*LADING, "publish", folder / "packed", "--to", folder / "store", *keys, "--json"], cwd=ROOT)
    (folder / "work").mkdir()
    return Context(
        tree=folder / "tree",
        buildinfo=folder / "buildinfo.json",
        work=folder / "work",
        store=folder / "store",
        wheels=folder / "wheels",
    )


def told(results: tuple[Result, ...]) -> dict[str, Result]:
    return {result.what: result for result in results}


def test_a_check_with_nothing_new_is_two_small_requests(context: Context) -> None:
    found = told(Check().measure(context))

    assert found["update check, nothing new"].ours == 2
    assert 0 < found["… bytes"].ours <= 4
    assert all(result.reached for result in found.values())


def test_a_line_of_code_is_measured_by_patch_and_without_one_against_the_whole_archive(context: Context) -> None:
    found = told(CodeUpdate().measure(context))

    by_patch, without = found["code update"], found["… without a patch"]
    archive = next((context.work / "peer").glob("server-cuda.tar.gz"))
    assert by_patch.peer == without.peer == archive.stat().st_size / 1e3
    assert 0 < by_patch.ours <= 32
    assert by_patch.ours != without.ours, "the second one did not find the patch any more"
    assert found["… requests"].ours >= 3
    assert found["… time"].peer is not None
    assert 0 < found["… disk for the version"].ours < 100


def test_a_dependency_is_measured_in_the_same_way(context: Context) -> None:
    found = told(DependencyUpdate().measure(context))

    assert 0 < found["dependency update"].ours < 600
    assert found["dependency update"].ours < found["… without a patch"].ours


def test_a_native_library_is_compared_with_its_own_frames(context: Context) -> None:
    found = told(LibraryUpdate().measure(context))

    update = found["native library update"]
    assert update.peer is not None
    assert 1_400 < update.peer < 1_600, "noise does not get smaller"
    assert update.reached, "eight bytes were put in"
    assert found["… without a patch"].ours > 1_000


def test_after_every_row_the_first_release_is_in_use_and_alone(context: Context) -> None:
    with bed.made(context) as found:
        status = json.loads(found.client("status").stdout)
    (variant,) = status["variants"]
    assert [version["version"] for version in variant["versions"]] == ["0.1.0"]
    assert variant["versions"][0]["in_use"] is True
    assert variant["versions"][0]["whole"] is True
    assert list((context.work / "updates").glob("packed-*")) == []


def test_the_given_store_and_tree_stay_as_they_are(context: Context) -> None:
    assert context.store is not None
    assert not list(context.store.rglob("*0.1.1*"))
    for path, (data, _) in sources().items():
        assert (context.tree / path).read_bytes() == data


def test_the_frames_of_a_file_are_counted_in_whatever_component_it_lies(context: Context) -> None:
    with bed.made(context) as found:
        release = found.releases["0.1.0"]
        library = own_frames(found, release, ("_internal/nvidia/nvjitlink/lib/libnvJitLink.so.12",))
        assert own_frames(found, release, ()) == 0
        assert 1_400_000 < library < 1_600_000


# --- parts ------------------------------------------------------------------------------------------------------------


def test_the_next_version_differs_in_the_named_files_only_and_shares_the_rest(context: Context, tmp_path: Path) -> None:
    tree = changed.Tree(folder=context.tree, buildinfo=context.buildinfo, wheels=context.wheels)
    replaced = changed.dependency_changed(tree)
    assert sorted(replaced) == [f"_internal/sympy/module{number}.pyc" for number in (0, 10, 2, 4, 6, 8)]

    after = changed.next_version(tree, tmp_path / "next", "0.2.0", replaced)

    info = read_record(BuildInfo, after.buildinfo.read_bytes(), origin="record")
    assert info.version == "0.2.0"
    for entry in info.files:
        data = (after.folder / entry.path).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry.sha256
        same = (after.folder / entry.path).samefile(context.tree / entry.path)
        assert same is (entry.path not in replaced)


def test_a_line_of_code_changes_a_compiled_module_as_the_freeze_would(context: Context) -> None:
    tree = changed.Tree(folder=context.tree, buildinfo=context.buildinfo)
    ((path, data),) = changed.code_changed(tree).items()

    old = (context.tree / path).read_bytes()
    assert path == "_internal/lading_server/health.pyc"
    assert data[:16] == old[:16]
    assert b"FIXED" in data
    assert b"FIXED" not in old
    assert abs(len(data) - len(old)) < 100


def test_without_a_network_the_rows_that_need_other_versions_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console  # noqa: PLC0415 (one use)

    monkeypatch.setenv("PATH", str(tmp_path))
    assert run.wheels_for([DependencyUpdate()], tmp_path, Console()) is None
    assert "uv is not installed" in capsys.readouterr().out
    assert run.wheels_for([CodeUpdate()], tmp_path / "untouched", Console()) is None
    assert not (tmp_path / "untouched").exists()


def test_what_a_folder_takes_counts_linked_files_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 50_000)
    once = bed.disk_use(tmp_path)
    (tmp_path / "b").hardlink_to(tmp_path / "a")

    assert bed.disk_use(tmp_path) == once >= 50_000
