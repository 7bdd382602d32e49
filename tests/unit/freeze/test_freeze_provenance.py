"""Which commit a build is made from, and its time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from lading.errors import ConfigError
from lading.freeze.provenance import DEFAULT_EPOCH, Commit, find_commit

TIME = 1_700_000_000


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


def git(root: Path, *words: str) -> str:
    words = ("-c", "user.name=a", "-c", "user.email=a@b", *words)
    environment = {
        "GIT_COMMITTER_DATE": f"{TIME} +0200",
        "GIT_AUTHOR_DATE": "1600000000 +0000",
        "PATH": "/usr/bin:/bin",
    }
    done = subprocess.run(
        [shutil.which("git") or "git", "-C", str(root), *words],
        env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.py").write_text("x = 1\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "commit", "--quiet", "-m", "first")
    return root


def test_a_clean_repository_gives_the_commit_and_its_time(repository: Path) -> None:
    name = git(repository, "rev-parse", "HEAD")
    assert find_commit(repository) == Commit(name=name, epoch=TIME)
    (repository / "sub").mkdir()
    assert find_commit(repository / "sub").name == name


def test_a_changed_file_makes_it_dirty_and_an_untracked_one_does_not(repository: Path) -> None:
    (repository / "notes.txt").write_text("x")
    assert not find_commit(repository).name.endswith("+dirty")
    (repository / "a.py").write_text("x = 2\n")
    assert find_commit(repository) == Commit(name=git(repository, "rev-parse", "HEAD") + "+dirty", epoch=TIME)


def test_outside_of_a_repository_the_commit_is_unknown_and_the_time_fixed(tmp_path: Path) -> None:
    assert find_commit(tmp_path) == Commit(name="unknown", epoch=DEFAULT_EPOCH)


def test_a_repository_without_a_commit_is_as_none(tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    assert find_commit(tmp_path) == Commit(name="unknown", epoch=DEFAULT_EPOCH)


def test_without_git_the_commit_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(repository))
    assert find_commit(repository) == Commit(name="unknown", epoch=DEFAULT_EPOCH)


@pytest.mark.parametrize("given", ["0", "1234567890"])
def test_a_given_time_goes_before_the_commits(repository: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    assert find_commit(repository).epoch == int(given)


def test_an_empty_one_counts_as_none(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "")
    assert find_commit(repository).epoch == TIME


@pytest.mark.parametrize("given", ["yesterday", "-1", "1.5", "٣"])
def test_what_is_no_time_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)
    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH is") as refused:
        find_commit(tmp_path)
    assert refused.value.exit_code == 19
