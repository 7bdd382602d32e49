"""What each host takes, asked before anything is sent; no host is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.errors import AssetTooLarge, NameForbidden
from lading.manifest.destination import GitHubDestination as GitHubManifest
from lading.manifest.destination import S3Destination as S3Manifest
from lading.manifest.github_layout import ASSET_LIMIT, GitHubRepository
from lading.publish.destination import Destination, Sized
from lading.publish.folder import FolderDestination
from lading.publish.github import GitHubDestination, open_github
from lading.publish.s3 import S3Destination, open_s3
from lading.publish.s3_parts import LARGEST

ASSET = "assets/libs/cu126-v1/demo-libs-cu126-v1-linux-x86_64.tar.zst"
LIMIT = 100_000_000


@pytest.fixture(params=["folder", "github", "s3"])
def limited(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Destination:
    """A destination whose manifest has a limit of its own."""
    if request.param == "folder":
        return FolderDestination(tmp_path / "store", asset_limit=LIMIT)
    if request.param == "github":
        return open_github(GitHubManifest(kind="github", repository="a/b", asset_limit=LIMIT), name="github")
    return bucket(monkeypatch)


def bucket(monkeypatch: pytest.MonkeyPatch) -> S3Destination:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return open_s3(S3Manifest(kind="s3", bucket="releases", region="eu-central-1", asset_limit=LIMIT), "s3")


def sized(path: str, size: int) -> list[Sized]:
    return [Sized(path=path, size=size), Sized(path=f"{path}.sha256", size=100)]


@pytest.mark.proves("S0-21")
def test_a_manifests_limit_holds_to_the_byte_and_the_message_has_both_sizes(limited: Destination) -> None:
    limited.check(sized(ASSET, LIMIT))
    with pytest.raises(AssetTooLarge) as caught:
        limited.check(sized(ASSET, LIMIT + 1))
    assert "100,000,000" in caught.value.what
    assert "demo-libs-cu126-v1-linux-x86_64.tar.zst: 100,000,001 bytes" in caught.value.what
    assert ".sha256" not in caught.value.what
    assert "--volume-limit '100 MB'" in caught.value.todo


@pytest.mark.proves("S0-21")
def test_githubs_own_limits_hold_whatever_is_configured() -> None:
    github = GitHubDestination(GitHubRepository(name="a/b"), None, asset_limit=10**12)
    github.check(sized(ASSET, ASSET_LIMIT))
    with pytest.raises(AssetTooLarge):
        github.check(sized(ASSET, ASSET_LIMIT + 1))
    volumes = [Sized(path=f"{ASSET}.{number:03}", size=1) for number in range(1001)]
    github.check(volumes[:1000])
    with pytest.raises(AssetTooLarge, match="1,001"):
        github.check(volumes)
    with pytest.raises(NameForbidden, match="another name"):
        github.check(sized(ASSET.replace("demo", "de+mo"), 1))
    assert GitHubDestination(GitHubRepository(name="a/b"), None).calls(volumes[:3], ["metadata/timestamp.json"]) == {
        "create release": 1, "upload asset": 3, "publish release": 1,
        "create tree": 1, "create commit": 1, "update reference": 1,
    }  # fmt: skip


def test_an_object_store_takes_what_fits_into_its_parts_and_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    limited = bucket(monkeypatch)
    part = 16 * 2**20
    assert limited.calls(sized(ASSET, 3 * part + 1), ["metadata/1.root.json"]) == {
        "PutObject": 2, "CreateMultipartUpload": 1, "UploadPart": 4, "CompleteMultipartUpload": 1,
    }  # fmt: skip
    large = S3Destination(limited._bucket)
    large.check(sized(ASSET, LARGEST))
    assert large.calls(sized(ASSET, LARGEST), [])["UploadPart"] <= 10_000
    with pytest.raises(AssetTooLarge):
        large.check(sized(ASSET, LARGEST + 1))


def test_a_folder_without_a_limit_takes_everything(tmp_path: Path) -> None:
    FolderDestination(tmp_path).check(sized(ASSET, 2**60))
    assert FolderDestination(tmp_path).calls(sized(ASSET, 1), ["metadata/timestamp.json"]) == {
        "link or copy": 2, "write": 1,
    }  # fmt: skip
