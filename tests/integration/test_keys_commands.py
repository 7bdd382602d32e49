"""``lading keys``, from the first key to a rotated one, as a person and a scheduled job run it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program, write_packed
from tests.range_server import serving

from lading.errors import (
    ConfigError,
    ExpiresSoon,
    KeyMissing,
    KeyUnusable,
    LadingError,
    MetadataExpired,
    SignatureInvalid,
)
from lading.sign.clock import system_clock

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 5000}
SECRET = {"LADING_KEY_PASSPHRASE": "correct horse"}


class Desk:
    """Runs commands in a folder, without a terminal."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *words: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith("LADING_KEY")}
        return subprocess.run(
            [sys.executable, "-m", "lading", *map(str, words)],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**ours, "COLUMNS": "80", **(SECRET if env is None else env)},
        )

    def json(self, *words: str | Path, env: dict[str, str] | None = None, code: int = 0) -> Any:
        finished = self.run(*words, "--json", env=env)
        assert finished.returncode == code, finished.stdout + finished.stderr
        return json.loads(finished.stdout)

    def refused(self, error: type[LadingError], *words: str | Path, env: dict[str, str] | None = None) -> str:
        told = self.json(*words, env=env, code=error.exit_code)
        assert told["error"] == error.__name__
        return str(told["what"])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_from_the_first_key_to_a_rotated_one(desk: Desk, tmp_path: Path) -> None:
    made = desk.json("keys", "init", "--root-keys", "3", "--root-threshold", "2")
    assert made["complete"] is True
    (tmp_path / "safe").mkdir()
    for number in (1, 2, 3):
        (tmp_path / f"keys/root-{number}.pem").rename(tmp_path / f"safe/root-{number}.pem")

    write_packed(tmp_path / "packed", "0.1.0", CORE)
    published = desk.json("publish", "packed", "--to", "./store", "--keys", "keys")["destinations"][0]["result"]
    assert published["development"] is False
    desk.json("keys", "export-root", "root.json")
    assert (tmp_path / "root.json").read_bytes() == (tmp_path / "keys/1.root.json").read_bytes()
    where = ["--root", "root.json", "--app", APP, "--data", "data"]
    desk.json("install", "store", *where)

    # the scheduled job: two keys from variables, and the public part of the folder
    job = tmp_path / "job"
    shutil.copytree(tmp_path / "keys", job, ignore=shutil.ignore_patterns("*.pem"))
    secrets = {
        **SECRET,
        "LADING_KEY_TIMESTAMP": (tmp_path / "keys/timestamp-1.pem").read_text(),
        "LADING_KEY_SNAPSHOT": (tmp_path / "keys/snapshot-1.pem").read_text(),
    }
    assert "LADING_KEYS" not in os.environ
    refreshed = desk.json("keys", "refresh", "./store", "--keys", "job", "--days", "7", env=secrets)
    assert refreshed["files"] == ["metadata/timestamp.json"]
    assert "timestamp-1" in desk.refused(KeyMissing, "keys", "refresh", "./store", "--keys", "job", env={})
    wrong = {**secrets, "LADING_KEY_PASSPHRASE": "wrong"}
    assert "does not open" in desk.refused(KeyUnusable, "keys", "refresh", "./store", "--keys", "job", env=wrong)

    # a new timestamp key; the root's keys are in the safe
    change = desk.json("keys", "rotate", "timestamp")
    assert (change["complete"], len(change["missing"])) == (False, 2)
    pending = tmp_path / "keys/root.pending.json"
    shutil.copy(pending, tmp_path / "safe")
    there = ["keys", "sign", "safe/root.pending.json", "--keys", "nowhere"]
    desk.json(*there, "--key", "safe/root-1.pem", "--key", "safe/root-3.pem")
    shutil.copy(tmp_path / "safe/root.pending.json", pending)
    assert desk.json("keys", "sign")["complete"] is True
    assert desk.json("keys", "refresh", "./store")["versions"]["root"] == 2
    assert desk.json("install", "store", *where)["already_installed"] is True
    shutil.copy(tmp_path / "keys/2.root.json", job)
    old_key = desk.refused(KeyUnusable, "keys", "refresh", "./store", "--keys", "job", env=secrets)
    assert "the root knows timestamp-" in old_key
    secrets["LADING_KEY_TIMESTAMP"] = (tmp_path / "keys/timestamp-2.pem").read_text()
    assert desk.json("keys", "refresh", "./store", "--keys", "job", env=secrets)["versions"]["root"] == 2


def test_the_status_alarms_by_its_exit_code_with_and_without_keys(desk: Desk, tmp_path: Path) -> None:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE)
    with serving(shop.store) as server:
        report = desk.json("keys", "status", server.url)
        assert report["condition"] == "good"
        assert report["development"] is True
        assert desk.json("keys", "status", server.url, "--within", "400", code=ExpiresSoon.exit_code)["warnings"]
    text = desk.run("keys", "status", "./shop/store", "--keys", "shop/keys")
    assert text.returncode == 0
    assert "Development keys" in text.stdout
    assert max(len(line) for line in text.stdout.splitlines() if not line.startswith("!")) <= 80

    stale = Shop(tmp_path / "stale")
    stale.release("0.1.0", CORE, clock=lambda: system_clock() - timedelta(days=40))
    report = desk.json("keys", "status", "./stale/store", code=MetadataExpired.exit_code)
    assert [item["condition"] for item in report["roles"]] == ["good", "good", "good", "expired"]
    assert any("lading keys refresh --role timestamp" in line for line in report["warnings"])
    desk.json("keys", "refresh", "./stale/store", "--keys", "stale/keys")
    desk.json("keys", "status", "./stale/store")

    path = stale.store / "metadata/timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"expires"', b'"expireS"'))
    desk.refused(SignatureInvalid, "keys", "status", "./stale/store")


def test_mistakes_are_told_and_make_nothing(desk: Desk, tmp_path: Path) -> None:
    assert "no keys in keys" in desk.refused(ConfigError, "keys", "status")
    desk.refused(ConfigError, "keys", "refresh", "./store")
    desk.refused(ConfigError, "keys", "rotate", "timestamp")
    desk.refused(ConfigError, "keys", "renew")
    desk.refused(ConfigError, "keys", "export-root", "root.json")
    desk.refused(ConfigError, "keys", "init", "--root-keys", "1", "--root-threshold", "2")
    desk.refused(KeyUnusable, "keys", "init", env={})
    for words in (
        ("keys", "init", "--signer", "targets=awskms:x"),
        ("keys", "init", "--signer", "elsewhere=awskms:x", "--public", "elsewhere=x.pem"),
        ("keys", "rotate", "other"),
        ("keys", "rotate", "timestamp", "--signer", "awskms:x"),
        ("keys", "rotate", "root", "--add", "--replace", "root-1"),
        ("keys", "refresh", "./store", "--role", "other", "--keys", "keys"),
    ):
        assert desk.run(*words).returncode in {2, ConfigError.exit_code}
    assert not list(tmp_path.iterdir())


def test_what_is_said_to_a_person_fits_and_names_no_secret(desk: Desk, tmp_path: Path) -> None:
    said = desk.run("keys", "init", "--root-keys", "2", "--root-threshold", "2")
    assert said.returncode == 0
    assert "It is in force: keys/1.root.json" in said.stdout
    renewed = desk.run("keys", "renew")
    assert "Root 2" in renewed.stdout
    status = desk.run("keys", "status")
    assert "root-2 (" in status.stdout
    for text in (said, renewed, status):
        assert SECRET["LADING_KEY_PASSPHRASE"] not in text.stdout + text.stderr
        assert "PRIVATE" not in text.stdout + text.stderr
    assert max(len(line) for line in status.stdout.splitlines()) <= 80
