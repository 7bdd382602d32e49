"""One version for several systems: a client takes its own and never meets another's, whichever was published first."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tests import packed_release
from tests.doubles.github import running
from tests.packed_release import APP, ENTRY, program, write_packed

from lading.digest import sha256_bytes
from lading.errors import LadingError
from lading.fetch.github import GitHubSource
from lading.fetch.source import Source
from lading.host import platform_tag
from lading.manifest.github_layout import GitHubRepository
from lading.publish.folder import FolderDestination
from lading.publish.github import GitHubDestination
from lading.publish.packed import Packed, read_packed, release_objects
from lading.publish.publisher import Signature, publish_everywhere
from lading.sign.keys import development_keys
from lading.store.install import install

HERE = platform_tag()
ELSEWHERE = "windows-x86_64" if HERE != "windows-x86_64" else "linux-x86_64"


@pytest.fixture
def repository(tmp_path: Path) -> FolderDestination:
    return FolderDestination(tmp_path / "store")


def pack(folder: Path, platform: str, monkeypatch: pytest.MonkeyPatch, version: str = "0.1.0") -> Packed:
    monkeypatch.setattr(packed_release, "PLATFORM", platform)
    libs = {"_internal/nvidia/lib.bin": random.Random(platform).randbytes(60_000)}
    file = write_packed(folder / platform, version, {ENTRY: program(platform)}, libs, volume=25_000)
    return read_packed(file.parent, file)


def put(content: Packed, tmp_path: Path, *destinations: FolderDestination | GitHubDestination) -> None:
    signature = Signature(keys=development_keys(tmp_path / "keys"))
    for ended in publish_everywhere([content], destinations, signature):
        assert ended.error is None, ended.error


@pytest.mark.proves("P-05")
@pytest.mark.skipif(HERE != "linux-x86_64", reason="the packed program is a shell script")
@pytest.mark.parametrize("first", [HERE, ELSEWHERE])
def test_a_client_gets_its_own_systems_files_from_a_version_that_has_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    with running() as double:
        double.add_repo("owner/name", immutable=True)
        where = GitHubRepository(name="owner/name", web=double.web)
        folder = FolderDestination(tmp_path / "store")
        for platform in sorted((HERE, ELSEWHERE), key=lambda name: name != first):
            content = pack(tmp_path, platform, monkeypatch)
            put(content, tmp_path, folder, GitHubDestination(where, "t0ken"))
            for item in release_objects(content.release):
                assert platform in item.path.rpartition("/")[2], "the name says which system it is for"
        root = (folder.folder / "metadata/1.root.json").read_bytes()
        sources: tuple[str | Source, ...] = (str(folder.folder), GitHubSource(where))
        for number, source in enumerate(sources):
            done = install(source, root, tmp_path / f"data{number}", app=APP)
            assert Path(done.entry).read_bytes() == program(HERE)
        assert not [name for name in double.downloads if ELSEWHERE in name], "nothing of the other one was touched"


@pytest.mark.proves("P-05")
def test_a_client_whose_system_is_not_published_is_told_so_and_fetches_no_archive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: FolderDestination
) -> None:
    put(pack(tmp_path, ELSEWHERE, monkeypatch), tmp_path, repository)
    root = (repository.folder / "metadata/1.root.json").read_bytes()
    with pytest.raises(LadingError, match=HERE):
        install(str(repository.folder), root, tmp_path / "data", app=APP)
    assert not list((tmp_path / "data").rglob("*.zst"))


@pytest.mark.proves("S0-21")
def test_published_volumes_put_together_are_the_archive_that_the_manifest_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: FolderDestination
) -> None:
    content = pack(tmp_path, HERE, monkeypatch)
    limited = FolderDestination(repository.folder, asset_limit=30_000)
    put(content, tmp_path, limited)
    for component in content.release.components:
        folder = repository.folder / "assets" / component.component / component.version
        parts = [(folder / volume.name).read_bytes() for volume in component.volumes]
        assert all(len(part) <= 30_000 for part in parts)
        assert (len(b"".join(parts)), sha256_bytes(b"".join(parts))) == (component.size, component.sha256)
        for volume in (*component.volumes, component.index):
            assert (folder / f"{volume.name}.sha256").read_bytes() == volume.checksum_line
    assert len(content.release.components[1].volumes) == 3
