"""The whole way of a small program: packed, verified, put into a data directory, verified there, run by the command."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

from lading.errors import CheckFailed
from lading.host import GpuFacts, HostFacts
from lading.launch import running
from lading.manifest.base import canonical_json
from lading.manifest.buildinfo import BuildInfo, OwnedEntry
from lading.manifest.release import Provenance, Release
from lading.pack.pack import PackOptions, pack
from lading.pack.scan import scan_tree
from lading.progress import Silent
from lading.store.home import Home, version_id
from lading.store.installed import Installed, current_version
from lading.store.marker import VERSION_MARKER, VersionMarker
from lading.store.pointer import write_pointer
from lading.verify import Verification, verify_server, verify_tree

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in server is started by its first line")
ENTRY = "fake-server"
NO_GPU = HostFacts(
    platform="linux-x86_64", system="Linux", cpus=2, gpu=GpuFacts(source="none", reason="no_driver", detail="none")
)


@dataclass(frozen=True, kw_only=True)
class Product:
    """A small product: its tree, its packed folder and its release."""

    tree: Path
    buildinfo: BuildInfo
    packed: Path
    record: Path
    release: Release


@pytest.fixture
def product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Product:
    monkeypatch.setenv("FAKE_VARIANT", "cpu")
    monkeypatch.setenv("FAKE_VERSION", "1.2.3")
    tree = tmp_path / "frozen" / "fake"
    (tree / "_internal" / "app").mkdir(parents=True)
    (tree / ENTRY).write_text(f"#!{sys.executable}\n{Path(__file__).with_name('fake_server.py').read_text()}")
    (tree / ENTRY).chmod(0o755)
    (tree / "_internal" / "app" / "main.pyc").write_bytes(b"code")
    (tree / "_internal" / "link.pyc").symlink_to("app/main.pyc")
    entries = [OwnedEntry(**entry.model_dump(), owner="app") for entry in scan_tree(tree, Silent())]
    info = BuildInfo(
        app="fake-server", version="1.2.3", platform="linux-x86_64", variant="cpu", entry=ENTRY, modules="loose",
        files=tuple(entries), distributions={},
        provenance=Provenance(commit="x", epoch=0, python="3.11", pyinstaller="6", zstd="1.5", lading="0.1"),
    )  # fmt: skip
    (tmp_path / "frozen" / "buildinfo.json").write_bytes(canonical_json(info))
    done = pack(tree, info, None, tmp_path / "packed", options=PackOptions(), progress=Silent())
    return Product(
        tree=tree, buildinfo=info, packed=tmp_path / "packed", record=done.release_file, release=done.release
    )


@pytest.fixture
def installed(product: Product, tmp_path: Path) -> Installed:
    home = Home(tmp_path / "data", "cpu")
    release = product.release
    folder = home.versions / version_id(release)
    shutil.copytree(product.tree, folder / "tree", symlinks=True)
    (folder / "release.json").write_bytes(canonical_json(release))
    shutil.copy(product.packed / release.components[0].index.name, folder / "core.index.zst")
    marker = VersionMarker(
        app=release.app,
        version=release.version,
        flavor=release.flavor,
        platform=release.platform,
        tree=release.tree,
        entry=ENTRY,
    )
    (folder / VERSION_MARKER).write_bytes(canonical_json(marker))
    write_pointer(home.current, folder.name)
    found = current_version(home)
    assert found is not None
    return found


def lading(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lading", *map(str, words)]
    return subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120, check=False
    )


def statuses(report: Verification) -> dict[str, str]:
    return {check.name: check.status for check in report.checks}


def verify(product: Product, host: HostFacts = NO_GPU, **more: object) -> Verification:
    return verify_tree(product.tree, entry=ENTRY, buildinfo=product.buildinfo, host=host, **more)  # type: ignore[arg-type]


def test_what_the_packer_packs_passes(product: Product) -> None:
    done = lading("verify", product.packed, "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert said["passed"] is True
    found = {check["name"]: check["status"] for check in said["verifications"][0]["checks"]}
    assert found == {
        "release-record": "pass", "assets-present": "pass", "asset-digests": "pass", "checksum-files": "pass",
        "index-core": "pass", "index-libs": "skipped", "whole-tree": "pass",
        "archive-core": "pass", "archive-libs": "skipped",
    }  # fmt: skip


def test_a_damaged_archive_makes_the_command_fail_with_70_and_name_it(product: Product) -> None:
    archive = next(product.packed.glob("*.tar.zst"))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    done = lading("verify", product.packed)
    assert done.returncode == CheckFailed.exit_code
    assert "✗ asset-digests" in done.stdout
    assert archive.name in done.stdout.replace("\n", "").replace(" ", "")
    assert "FAILED" in done.stdout


def test_a_frozen_tree_with_its_build_record_passes_where_there_is_no_gpu(product: Product) -> None:
    report = verify(product)
    assert report.passed, report.of("fail")
    found = statuses(report)
    assert found["layout-files"] == found["file-digests"] == found["start-selftest"] == found["start-server"] == "pass"
    gpu = next(check for check in report.checks if check.name == "gpu")
    assert gpu.status == "skipped"
    assert "no_driver" in gpu.reason
    own = next(check for check in report.checks if check.name == "start-selftest").evidence["own_checks"]
    assert isinstance(own, list)
    assert len(own) == 2


def test_a_required_gpu_turns_the_skip_into_a_failure(product: Product) -> None:
    report = verify(product, require_gpu=True)
    assert not report.passed
    assert statuses(report)["gpu"] == "fail"


@pytest.mark.parametrize(
    ("mode", "check", "words"),
    [
        ("version-garbage", "start-version", "printed 'garbage', should print 'fake-server 1.2.3'"),
        ("version-fails", "start-version", "ended with exit code 3"),
        ("garbage", "start-selftest", "gave no report: it printed no JSON; its output begins 'this is not JSON'"),
        ("selftest-fails", "start-selftest", "matmul: off by 0.3"),
        ("selftest-lies", "start-selftest", "it says passed=True and ended with exit code 1"),
        ("crash", "start-server", "exit code 7"),
        ("unwell", "start-server", "not well"),
        ("degraded", "start-server", "its status is 'degraded': no GPU is used"),
    ],
)
def test_a_program_that_misbehaves_is_named_with_what_it_did(
    product: Product, mode: str, check: str, words: str
) -> None:
    report = verify(product, environment={"FAKE_MODE": mode})
    failed = {found.name: found.reason for found in report.of("fail")}
    assert failed.keys() == {check}
    assert words in failed[check]


def test_a_program_of_another_version_or_variant_is_found(product: Product) -> None:
    failed = {check.name: check.reason for check in verify(product, environment={"FAKE_VARIANT": "cuda"}).of("fail")}
    assert "it says variant 'cuda', should say 'cpu'" in failed["start-selftest"]
    assert "/health says variant 'cuda', should say 'cpu'" in failed["start-server"]
    version = verify(product, environment={"FAKE_VERSION": "9.9.9"})
    assert statuses(version)["start-version"] == "fail"
    assert statuses(version)["start-server"] == "skipped"  # nothing of another version is started


def test_a_program_for_another_system_is_not_started(product: Product) -> None:
    report = verify(product, host=NO_GPU.model_copy(update={"platform": "windows-x86_64"}))
    assert statuses(report)["start-version"] == "skipped"
    assert "does not run on windows-x86_64" in next(c.reason for c in report.checks if c.name == "start-version")
    assert report.passed


def test_an_installed_version_is_verified_by_its_data_directory_or_its_folder(
    installed: Installed, tmp_path: Path
) -> None:
    for path in (tmp_path / "data", installed.folder):
        done = lading("verify", path, "--json")
        said = json.loads(done.stdout)
        assert said["verifications"][0]["subject"]["tree"] == installed.marker.tree
        failed = [check for check in said["verifications"][0]["checks"] if check["status"] == "fail"]
        assert failed == []


def test_a_flipped_byte_in_an_installed_version_is_named(installed: Installed, tmp_path: Path) -> None:
    (installed.tree / "_internal/app/main.pyc").write_bytes(b"codE")
    done = lading("verify", tmp_path / "data", "-v")
    assert done.returncode == CheckFailed.exit_code
    assert "✗ file-digests: _internal/app/main.pyc" in done.stderr


def test_a_running_server_is_verified_by_what_it_says(product: Product) -> None:
    with running(product.tree, ENTRY, deadline=20) as server:
        good = verify_server(server.url, tree=product.tree, pid=server.pid, release=product.release, host=NO_GPU)
        assert statuses(good) == {"health": "pass", "loaded-libraries": "pass"}
        assert statuses(verify_server(server.url, host=NO_GPU))["loaded-libraries"] == "skipped"
        wants = verify_server(server.url, require_gpu=True, host=NO_GPU)
        assert "a GPU is required" in wants.of("fail")[0].reason
        done = lading("verify", "--url", server.url, "--release", product.record)
        assert done.returncode == 0, done.stdout


@pytest.fixture
def run_command(installed: Installed, tmp_path: Path) -> list[str]:
    assert installed.looks_whole()
    return [sys.executable, "-m", "lading", "run", "--data", str(tmp_path / "data"), "--json"]


def started(command: list[str]) -> tuple[subprocess.Popen[str], dict[str, object]]:
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.stderr.read() if process.stderr else ""
    return process, json.loads(line)


@pytest.mark.proves("S1-21")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_starts_the_installed_server_in_its_folder_and_a_signal_stops_both(
    run_command: list[str], installed: Installed, number: int, tmp_path: Path
) -> None:
    process, said = started(run_command)
    health = httpx.get(f"{said['url']}/health", trust_env=False).json()
    assert Path(health["cwd"]) == installed.tree
    assert said["installed"] == installed.name
    process.send_signal(number)
    assert process.wait(20) == 0
    assert not psutil.pid_exists(int(str(said["pid"])))
    assert "listening on" in (tmp_path / "data" / "logs" / "fake-server.log").read_text()
    process.communicate()


def test_run_says_when_the_server_ended_by_itself(run_command: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_MODE", "dies-later")
    process, _ = started(run_command)
    stdout, _ = process.communicate(timeout=20)
    assert process.returncode == 43
    assert "ended with exit code 9 while it was running" in stdout


def test_run_names_the_owner_of_a_taken_port(run_command: list[str], product: Product) -> None:
    with running(product.tree, ENTRY, deadline=20) as server:
        port = server.url.rsplit(":", 1)[1]
        done = subprocess.run([*run_command, "--port", port], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 44
        assert f"Port {port} is taken by" in done.stdout
        assert str(server.pid) in done.stdout
        assert server.ask().status == "ok"


def test_run_without_an_installed_version_says_how_to_get_one(tmp_path: Path) -> None:
    done = lading("run", "--data", tmp_path)
    assert done.returncode == 42
    assert "lading install" in done.stderr


def test_watching_a_selftest_ends_with_it(product: Product) -> None:
    began = time.monotonic()
    before = set(psutil.Process().children())  # servers that other tests of this run keep
    verify(product, environment={"FAKE_MODE": "selftest-fails"})
    assert time.monotonic() - began < 30
    after = {child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE}
    assert after <= before
