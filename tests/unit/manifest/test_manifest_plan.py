"""``lading plan``: names, sizes and places of what would be made, and nothing touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lading.cli.main import main
from lading.errors import ManifestInvalid
from lading.manifest.layout import asset_folder, channel_target, release_target, stored_target
from lading.manifest.names import checksum_name, component_name, index_name
from lading.manifest.plan import MAX_FRAME, Plan, make_plan, volume_count
from lading.manifest.project import load_project
from lading.manifest.release import Asset, ComponentRecord, Provenance, Release, Requirements

MakeProject = Callable[..., Path]
KIT, DEST = "manifests/toolkits/cu126.yaml", "manifests/destinations.yaml"
SHA = "0" * 64


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(str(caught.value.code))


def _component(component: str, version: str) -> ComponentRecord:
    archive = f"small-{component}.tar.zst"
    asset = Asset(name=archive, size=1, sha256=SHA)
    return ComponentRecord.model_validate(
        {
            "app": "small", "component": component, "version": version, "flavor": "cu126", "platform": "linux-x86_64",
            "tree": SHA, "files": 1, "unpacked": 1, "size": 1, "sha256": SHA, "index": asset, "volumes": [asset],
            "profile": "fast",
        }
    )  # fmt: skip


def test_a_cuda_build_has_core_and_libs_under_their_names(make_project: MakeProject) -> None:
    plan = make_plan(load_project(make_project()), "cu126", "linux-x86_64")
    assert [(a.component, a.version, a.archive) for a in plan.archives] == [
        ("core", "1.2.3", "small-core-1.2.3-cu126-linux-x86_64.tar.zst"),
        ("libs", "cu126-v1", "small-libs-cu126-v1-linux-x86_64.tar.zst"),
    ]
    assert (plan.executable, plan.variant, plan.lock) == ("small-cuda", "cuda", "build/cu126.txt")
    assert plan.cuda is not None
    assert (plan.cuda.driver_linux, plan.cuda.driver_windows) == ("525.60.13", "528.33")
    assert (plan.cuda.archs, plan.cuda.ptx) == (("8.6",), None)
    assert [d.name for d in plan.destinations] == ["local", "github"]


def test_a_cpu_build_has_no_libs_and_no_cuda(make_project: MakeProject) -> None:
    plan = make_plan(load_project(make_project()), "cpu", "linux-x86_64")
    assert [a.archive for a in plan.archives] == ["small-core-1.2.3-cpu-linux-x86_64.tar.zst"]
    assert (plan.executable, plan.cuda, plan.lock) == ("small", None, "build/cpu.txt")


def test_a_platform_without_a_lock_is_planned_and_told_so(make_project: MakeProject) -> None:
    plan = make_plan(load_project(make_project()), "cu126", "windows-x86_64")
    assert (plan.executable, plan.lock) == ("small-cuda.exe", None)


def test_each_destination_gets_what_the_repository_layout_says(make_project: MakeProject) -> None:
    plan = make_plan(load_project(make_project()), "cu126", "linux-x86_64", ["local"])
    core, libs = _component("core", "1.2.3"), _component("libs", "cu126-v1")
    release = Release(
        app="small", version="1.2.3", platform="linux-x86_64", flavor="cu126", entry="small-cuda", tree=SHA,
        components=(core, libs), requirements=Requirements(disk=1),
        provenance=Provenance(commit="x", epoch=0, python="3.11", pyinstaller="6", zstd="1.5", lading="1.2.3"),
    )  # fmt: skip
    uploads = plan.destinations[0].uploads
    assert [u.folder for u in uploads[:2]] == [asset_folder(core), asset_folder(libs)]
    targets = [release_target(release, plan.release), channel_target("small", "stable")]
    assert [f"{u.folder}/{u.files[0]}" for u in uploads[2:4]] == [stored_target(t, "<sha256>") for t in targets]
    archive = plan.archives[0].archive
    beside = [archive, index_name(archive), component_name(archive)]
    assert list(uploads[0].files[:6]) == [name for asset in beside for name in (asset, checksum_name(asset))]


def test_an_archive_above_the_asset_limit_is_cut(make_project: MakeProject, small_project: dict[str, str]) -> None:
    small = small_project[DEST].replace("path: out/store", "path: out/store\n    asset_limit: 500 MB")
    plan = make_plan(load_project(make_project({DEST: small})), "cu126", "linux-x86_64")
    local, github = (destination.uploads[1] for destination in plan.destinations)
    name = "small-libs-cu126-v1-linux-x86_64.tar.zst"
    assert [f for f in local.files if ".tar.zst." in f and not f.endswith("256")] == [
        f"{name}.00{n}" for n in (1, 2, 3)
    ]
    assert (local.volumes, github.volumes) == (3, 1)
    assert name in github.files


@pytest.mark.parametrize(
    ("budget", "limit", "count"),
    [
        (None, 100 * 2**20, None),
        (0, 100 * 2**20, 1),
        (100 * 2**20, 100 * 2**20, 1),
        (100 * 2**20 + 1, 100 * 2**20, 2),
        (200 * 2**20, 100 * 2**20, 3),  # each volume may end up to one frame early
        (2 * (100 * 2**20 - MAX_FRAME), 100 * 2**20, 2),
    ],
)
def test_number_of_volumes_is_an_upper_bound(budget: int | None, limit: int, count: int | None) -> None:
    assert volume_count(budget, limit) == count


@pytest.mark.parametrize(
    ("flavor", "destinations", "words"),
    [("cu127", [], "no toolkit 'cu127'"), ("cu126", ["locl"], "no destination 'locl'")],
)
def test_unknown_names_are_refused_with_a_hint(
    make_project: MakeProject, flavor: str, destinations: list[str], words: str
) -> None:
    with pytest.raises(ManifestInvalid, match=words) as caught:
        make_plan(load_project(make_project()), flavor, "linux-x86_64", destinations)
    assert caught.value.usually.startswith("Did you mean")


def _snapshot(root: Path) -> dict[str, tuple[bytes | None, int, int]]:
    return {
        path.relative_to(root).as_posix(): (
            path.read_bytes() if path.is_file() else None,
            path.lstat().st_mode,
            path.lstat().st_mtime_ns,
        )
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("arguments", [(), ("--cpu",), ("--toolkit", "cu126", "--destination", "github"), ("--json",)])
def test_a_plan_touches_nothing(
    make_project: MakeProject, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    root = make_project()
    before = _snapshot(root)
    elsewhere = root.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert _run("plan", "--project", str(root), *arguments) == 0
    assert _snapshot(root) == before
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize("toolkit", ["cu118", "cu126", "cu128", "cu130", None])
def test_the_products_plan_fits_into_80_columns(
    root: Path, capsys: pytest.CaptureFixture[str], toolkit: str | None
) -> None:
    assert _run("plan", "--project", str(root), *(["--toolkit", toolkit] if toolkit else ["--cpu"])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("lading-server-core-" in line for line in lines)


def test_a_plan_says_what_is_kept_out_and_why(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("plan", "--project", str(make_project()), "--cuda", "--platform", "linux-x86_64") == 0
    out = capsys.readouterr().out
    assert "torch/include/**\n      Headers, for building only.\n" in out
    assert "Nothing was built, written or sent." in out


def test_the_json_is_the_plan(make_project: MakeProject, capsys: pytest.CaptureFixture[str]) -> None:
    root = make_project()
    assert _run("plan", "--project", str(root), "--cuda", "--platform", "linux-x86_64", "--json") == 0
    plan = Plan.model_validate(json.loads(capsys.readouterr().out))
    assert plan == make_plan(load_project(root), "cu126", "linux-x86_64")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cpu", "--toolkit", "cu126"), "exclude each other"),
        (("--platform", "linux-x86-64"), "did you mean 'linux-x86_64'?"),
    ],
)
def test_wrong_options_are_a_usage_error(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert _run("plan", "--project", str(make_project()), *arguments) == 2
    assert words in capsys.readouterr().err
