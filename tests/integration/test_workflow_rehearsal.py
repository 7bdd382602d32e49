"""The workflows' own steps, run here: a whole publication, one that fails, and what a build takes from earlier ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.doubles.github import Fault, GitHubDouble, running
from tests.doubles.github_http import Reply
from tests.packed_release import APP, ENTRY, Files, Shop, program, write_packed
from workflows import earlier, rehearse

from lading.digest import sha256_file
from lading.errors import DigestMismatch
from lading.manifest.project import Project, load_project

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the steps run on a Linux runner")
CORE: Files = {ENTRY: program("two"), "_internal/a.pyc": os.urandom(30_000)}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(60_000)}
NAME = "owner/name"


def with_checksums(folder: Path) -> None:
    """Give every file a checksum file, as the packer does."""
    for path in sorted(folder.iterdir()):
        if path.suffix != ".sha256":
            path.with_name(f"{path.name}.sha256").write_text(f"{sha256_file(path)}  {path.name}\n")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small release with all the kinds of files that a real one has."""
    folder = tmp_path_factory.mktemp("packed")
    write_packed(folder, "0.2.0", CORE, LIBS, volume=25_000)
    with_checksums(folder)
    return folder


@pytest.mark.proves("S0-23", "S1-24")
def test_a_whole_publication_goes_well_by_the_workflows_own_steps(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert rehearse.rehearse(packed, tmp_path) is None, capsys.readouterr().out

    out = capsys.readouterr().out
    shelf = {path.name for path in (tmp_path / "out" / "shelf" / "assets").rglob("*") if path.is_file()}
    record = next(packed.glob("*.release.json")).name
    assert shelf == {path.name for path in packed.iterdir()} - {record, f"{record}.sha256"}, "every asset and checksum"
    assert any((tmp_path / "out" / "shelf" / "targets").rglob(f"*.{record}")), "and the record, as a signed target"
    assert out.count("sound   shelf (out/shelf)") == 2
    assert out.count("sound   bucket (http://127.0.0.1:") == 2
    assert "### Published" in (tmp_path / "page.md").read_text("utf-8")
    assert not list((tmp_path / "keys").glob("*.pem")), "signed by secrets alone"


@pytest.fixture
def double() -> Iterator[GitHubDouble]:
    with running() as started:
        started.add_repo(NAME)
        yield started


@pytest.fixture
def stage(packed: Path, tmp_path: Path, double: GitHubDouble) -> rehearse.Stage:
    made = rehearse.set_up(tmp_path, packed, "http://127.0.0.1:9")
    (tmp_path / "manifests" / "destinations.yaml").write_text(
        "schema: lading/destinations/1\ndestinations:\n"
        f"  hub:\n    kind: github\n    repository: {NAME}\n    api: {double.api}\n"
    )
    values = {**made.values, "vars.LADING_DESTINATIONS": "hub", "github.token": "t0ken"}
    return rehearse.Stage(folder=made.folder, values=values, page=made.page)


@pytest.mark.proves("S0-23")
def test_an_upload_that_fails_fails_the_job_and_shows_nothing_and_a_second_run_ends_it(
    stage: rehearse.Stage, double: GitHubDouble
) -> None:
    refusal = Reply(403, b'{"message": "Resource not accessible by integration"}')
    double.faults.append(Fault("POST", "/assets", "answer", times=1, after=5, reply=refusal))

    failed = stage.run("release.yaml", "publish", "Publish")
    assert failed.returncode != 0, failed.stdout
    assert double.published(NAME) == {}, "what was uploaded is in a draft, which nobody sees"
    assert double.repos[NAME].git.file("lading-metadata", "metadata/timestamp.json") is None

    again = stage.run("release.yaml", "publish", "Publish")
    assert again.returncode == 0, again.stdout
    assert double.drafts(NAME) == []
    names = {name for assets in double.published(NAME).values() for name in assets}
    record = next((stage.folder / "assets").glob("*.release.json")).name
    assert names == {path.name for path in (stage.folder / "assets").iterdir()} - {record, f"{record}.sha256"}
    verified = stage.run("release.yaml", "verify", "Verify what was published")
    assert verified.returncode == 0, verified.stdout
    assert "sound   hub (github:" in verified.stdout


@pytest.mark.proves("S0-23")
def test_a_set_of_assets_with_one_missing_ends_the_job_before_it_publishes(
    stage: rehearse.Stage, double: GitHubDouble
) -> None:
    next((stage.folder / "assets").glob("*.tar.zst.002")).unlink()

    assert stage.run("release.yaml", "publish", "Verify the set of assets").returncode == 70
    assert stage.run("release.yaml", "publish", "Verify checksums").returncode != 0
    assert stage.run("release.yaml", "publish", "Publish").returncode != 0
    assert double.published(NAME) == {}


def test_the_published_assets_lack_one_and_the_last_job_fails(stage: rehearse.Stage, double: GitHubDouble) -> None:
    assert stage.run("release.yaml", "publish", "Publish").returncode == 0
    for release in double.repos[NAME].releases.values():
        for name in [name for name in release.assets if name.endswith(".tar.zst.002")]:
            del release.assets[name]

    verified = stage.run("release.yaml", "verify", "Verify what was published")

    assert verified.returncode == 70
    assert "UNSOUND hub" in verified.stdout
    assert "is missing" in stage.page.read_text("utf-8")


def test_a_publication_without_its_keys_is_refused(stage: rehearse.Stage, double: GitHubDouble) -> None:
    values = {**stage.values, "secrets.LADING_KEY_TARGETS": ""}

    done = rehearse.Stage(folder=stage.folder, values=values, page=stage.page).run("release.yaml", "publish", "Publish")

    assert done.returncode != 0
    assert double.published(NAME) == {}


def test_a_refresh_signs_all_destinations_and_fails_for_the_one_that_it_cannot(
    packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with rehearse.object_store() as store:
        made = rehearse.set_up(tmp_path, packed, store)
        assert made.run("release.yaml", "publish", "Publish").returncode == 0
    timestamp = tmp_path / "out" / "shelf" / "metadata" / "timestamp.json"
    before = timestamp.read_bytes()
    values = {**made.values, "vars.LADING_DESTINATIONS": "nowhere shelf"}

    done = rehearse.Stage(folder=made.folder, values=values, page=made.page).run(
        "refresh.yaml", "refresh", "Sign the timestamps anew"
    )

    assert done.returncode == 1
    assert "::error::needs somebody: nowhere" in done.stdout
    assert timestamp.read_bytes() != before, "the other one does not expire because of it"


# --- earlier releases, for patches ------------------------------------------------------------------------------------


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=25_000)
    for version in ("0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0"):
        made.release(version, {**CORE, ENTRY: program(version)}, LIBS)
    return made


@pytest.fixture
def project(packed: Path, tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    rehearse.set_up(folder, packed, "http://127.0.0.1:9")
    (folder / "server" / "lading_server" / "_version.py").write_text('__version__ = "0.5.0"\n')
    return load_project(folder)


def fetched(folder: Path, project: Project, *, source: Path, root: bytes, flavor: str = "cu126") -> int:
    (project.root / "root.json").write_bytes(root)
    words = [str(folder), flavor, "linux-x86_64", "--root", str(project.root / "root.json")]
    return earlier.main([*words, "--from", f"{source}/", "--project", str(project.root)])


def test_the_cores_of_the_last_releases_are_fetched_whole_and_no_libs(
    shop: Shop, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert project.app.patches == 3
    assert project.app.name == APP

    assert fetched(tmp_path / "earlier", project, source=shop.store, root=shop.root) == 0

    assert "3 earlier releases" in capsys.readouterr().out
    there = {path.relative_to(tmp_path / "earlier").as_posix() for path in (tmp_path / "earlier").rglob("*.*")}
    assert {path.split("/")[2] for path in there if path.count("/") == 3} == {"0.4.0", "0.3.0", "0.2.0"}, "older ones"
    for path in there:
        if (tmp_path / "earlier" / path).is_file():
            assert (tmp_path / "earlier" / path).read_bytes() == (shop.store / path).read_bytes()
    assert not (tmp_path / "earlier" / "assets" / "libs").exists()


def test_another_flavor_has_no_earlier_releases(
    shop: Shop, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetched(tmp_path / "earlier", project, source=shop.store, root=shop.root, flavor="cpu") == 0
    assert "0 earlier releases" in capsys.readouterr().out


def test_the_first_release_has_no_earlier_ones(
    shop: Shop, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()

    assert fetched(tmp_path / "earlier", project, source=tmp_path / "empty", root=shop.root) == 0
    assert "Nothing was published yet" in capsys.readouterr().out


def test_altered_bytes_of_an_earlier_release_are_not_built_upon(
    shop: Shop, project: Project, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume = next((shop.store / "assets" / "core" / "0.4.0").glob("*.tar.zst.001"))
    data = bytearray(volume.read_bytes())
    data[50] ^= 1
    volume.unlink()
    volume.write_bytes(data)

    code = fetched(tmp_path / "earlier", project, source=shop.store, root=shop.root)

    assert code == DigestMismatch.exit_code
    assert "::error::" in capsys.readouterr().err
    assert not (tmp_path / "earlier" / "assets").exists()
