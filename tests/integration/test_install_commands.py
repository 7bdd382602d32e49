"""The commands from sign to uninstall, as a person or a script runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, Files, program, write_packed
from tests.range_server import serving

from lading.errors import (
    ConfigError,
    CredentialsRefused,
    FormatInvalid,
    LabelTaken,
    ManifestInvalid,
    NotInstalled,
    ReleaseTaken,
    RootInvalid,
    SignatureInvalid,
    SourceUnreachable,
)

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 20_000}
LIBS: Files = {"_internal/nvidia/lib.so": bytes(range(256)) * 200}


class Lading:
    """Runs commands in a project's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "lading", *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )

    def json(self, *words: str | Path) -> Any:
        finished = self.run(*words, "--json")
        assert finished.returncode == 0, finished.stdout + finished.stderr
        return json.loads(finished.stdout)

    def refused(self, error: type[Exception], *words: str | Path) -> str:
        finished = self.run(*words, "--json")
        told = json.loads(finished.stdout)
        assert told["error"] == error.__name__
        assert finished.returncode == told["exit_code"] == getattr(error, "exit_code", None)
        return str(told["what"])


@pytest.fixture
def lading(tmp_path: Path) -> Lading:
    return Lading(tmp_path)


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_packed(tmp_path / "packed", "0.1.0", CORE, LIBS)
    return tmp_path / "packed"


def test_from_a_packed_folder_to_a_removed_installation(lading: Lading, packed: Path, tmp_path: Path) -> None:
    published = lading.json("publish", packed, "--to", "./store")["destinations"][0]["result"]
    assert published["bytes_uploaded"] > 0
    assert published["development"] is True
    assert lading.json("publish", packed, "--to", "./store")["destinations"][0]["result"]["bytes_uploaded"] == 0

    # The release says nothing of the machine that it needs, and the machine may have no GPU.
    where = ["--root", "store/metadata/1.root.json", "--app", APP, "--data", "data", "--force"]
    with serving(tmp_path / "store") as server:
        plan = lading.json("install", server.url, *where, "--dry-run")
        assert plan["installed"] is False
        assert not (tmp_path / "data").exists()
        result = lading.json("install", server.url, *where)
        assert result["bytes_fetched"] == sum(plan["fetch_bytes"].values())
        assert subprocess.run([tmp_path / result["entry"]], capture_output=True, check=True).stdout == b"one\n"

        write_packed(tmp_path / "next", "0.2.0", {**CORE, ENTRY: program("two")}, LIBS)
        lading.json("publish", tmp_path / "next", "--to", "./store")
        assert lading.json("install", server.url, *where)["files_written"] == 1
        text = lading.run("install", server.url, *where, "--version", "0.1.0", "--flavor", "cu126")
        assert text.returncode == 0
        assert "was there already and in use" in text.stdout
        lading.json("install", server.url, *where)

    data = ["--app", APP, "--data", "data"]
    status = lading.json("status", *data)["variants"][0]
    assert status["current"].startswith("0.2.0+cu126-v1-")
    assert status["previous"].startswith("0.1.0+cu126-v1-")
    assert "in use" in lading.run("status", *data).stdout
    assert lading.json("rollback", *data)["current"] == status["previous"]
    assert len(lading.json("uninstall", *data)["removed"]) == 2
    assert "Nothing is installed" in lading.run("status", *data).stdout
    lading.refused(NotInstalled, "rollback", *data)
    lading.refused(NotInstalled, "uninstall", *data)


def test_keys_stay_in_their_folder_and_a_second_machine_publishes_without_them(
    lading: Lading, packed: Path, tmp_path: Path
) -> None:
    signed = lading.json("sign", packed, "--repo", "signed", "--keys", "secret")
    assert signed["versions"] == {"root": 1, "targets": 1, "snapshot": 1, "timestamp": 1}
    assert lading.json("sign", packed, "--repo", "signed", "--keys", "secret")["files"] == []
    assert "Nothing new to sign" in lading.run("sign", packed, "--repo", "signed", "--keys", "secret").stdout
    (tmp_path / "secret").rename(tmp_path / "elsewhere")
    published = lading.json("publish", packed, "--to", "./store", "--signed", "signed", "--keys", "none")
    assert len(published["destinations"][0]["result"]["metadata"]) == 6
    assert not (tmp_path / "none").exists()
    where = ("--root", "store/metadata/1.root.json", "--app", APP, "--data", "data")
    lading.json("install", "store", *where, "--force")
    lading.refused(ConfigError, "sign", packed, "--repo", "store", "--keys", "elsewhere")


def test_destinations_are_named_as_in_the_manifests(
    lading: Lading, packed: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for token in ("GH_TOKEN", "GITHUB_TOKEN"):
        monkeypatch.delenv(token, raising=False)
    lading.refused(ManifestInvalid, "publish", packed, "--to", "local")
    words = ("publish", packed, "--project", root)
    assert "github" in lading.refused(CredentialsRefused, *words, "--to", "github")
    assert "nowhere" in lading.refused(ManifestInvalid, *words, "--to", "nowhere")
    assert not (tmp_path / "store").exists()


def test_refusals_have_their_exit_codes_and_leave_no_traceback(lading: Lading, packed: Path, tmp_path: Path) -> None:
    lading.json("publish", packed, "--to", "./store")
    (tmp_path / "empty").mkdir()
    lading.refused(FormatInvalid, "publish", tmp_path / "empty", "--to", "./store")
    write_packed(tmp_path / "other", "0.1.0", {**CORE, "x": b"x"}, LIBS)
    lading.refused(ReleaseTaken, "publish", tmp_path / "other", "--to", "./store")
    write_packed(tmp_path / "third", "0.2.0", CORE, {**LIBS, "x": b"x"})
    lading.refused(LabelTaken, "publish", tmp_path / "third", "--to", "./store")
    lading.refused(SignatureInvalid, "publish", packed, "--to", "./store", "--keys", "other-keys")

    where = ["--root", "store/metadata/1.root.json", "--data", "data"]
    lading.refused(SourceUnreachable, "install", "store", *where, "--app", "no-such-app")
    lading.refused(SourceUnreachable, "install", "nowhere", *where, "--app", APP)
    lading.refused(SourceUnreachable, "install", "store", *where, "--app", APP, "--channel", "beta")
    lading.refused(ConfigError, "install", "store", *where, "--app", APP, "--version", "7.0.0")
    lading.refused(ConfigError, "install", "store", *where, "--app", APP, "--flavor", "cu118")
    (tmp_path / "wrong.json").write_text("{}")
    said = lading.run("install", "store", "--root", "wrong.json", "--data", "data", "--app", APP)
    assert said.returncode == RootInvalid.exit_code
    assert "Traceback" not in said.stderr
    assert not (tmp_path / "data/backends/cuda/current").exists()
