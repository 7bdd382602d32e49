"""``lading channel`` and ``lading prune`` as a publisher runs them, and what ``lading update`` says then."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.integration.channel_sites import Publisher, folder_site

from lading.cli.main import main
from lading.errors import ConfigError, NotOffered, SignatureInvalid

REASON = "It loses uploads that are larger than two gigabytes."


class Desk:
    """Runs commands in a folder, eighty columns wide and without a terminal."""

    def __init__(self, folder: Path, shown: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.shown = shown

    def run(self, *words: str | Path, code: int = 0) -> str:
        self.shown.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, words)))
        told = self.shown.readouterr()
        assert ended.value.code == code, told
        return told.out

    def json(self, *words: str | Path, code: int = 0) -> Any:
        return json.loads(self.run(*words, "--json", code=code))


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return Desk(tmp_path, capsys)


@pytest.fixture
def publisher(tmp_path: Path) -> Publisher:
    made = Publisher(site=folder_site(tmp_path / "store"), folder=tmp_path / "out")
    made.release("0.1.0")
    made.release("0.2.0", channel="beta")
    (tmp_path / "root.json").write_bytes(made.site.root)
    return made


KEYS = ("--keys", "out/keys")
TO = ("--to", "./store")


def test_a_release_goes_from_beta_to_everybody_and_back(desk: Desk, publisher: Publisher) -> None:
    client = ("--data", "data", "--app", "demo-app")
    desk.run("install", "store", "--root", "root.json", *client)
    shown = desk.run("channel", "show", *TO)
    assert "beta of demo-app" in shown
    assert "0.2.0  to everybody" in shown
    dry = desk.run(
        "channel", "promote", "0.2.0", "--from", "beta", "--into", "stable", "--rollout", "0", *TO, "--dry-run"
    )
    assert "Nothing was changed." in dry
    promoted = desk.run(
        "channel", "promote", "0.2.0", "--from", "beta", "--into", "stable", "--rollout", "0", *TO, *KEYS
    )
    assert "stable of demo-app (changed)" in promoted
    assert "0.2.0  to 0 %" in promoted
    waits = " ".join(desk.run("update", "--check", *client).split())
    assert "0.1.0 is up to date 0.2.0 is being rolled out, and not offered to this machine yet" in waits
    desk.run("channel", "rollout", "0.2.0", "100", *TO, *KEYS)
    assert "updated from 0.1.0 to 0.2.0" in desk.run("update", *client)
    assert "It loses" in desk.run("channel", "withdraw", "0.2.0", "--reason", REASON, *TO, *KEYS)
    told = " ".join(desk.run("update", "--check", *client, code=3).split())
    assert f"0.1.0 can be installed (in use: 0.2.0) 0.2.0 was withdrawn by its publisher: {REASON}" in told
    found = desk.json("update", "--check", *client, code=3)["variants"][0]
    assert found["withdrawn"]["reason"] == REASON
    assert "updated from 0.2.0 to 0.1.0" in desk.run("update", *client)
    refused = desk.json("update", "--version", "0.2.0", *client, code=NotOffered.exit_code)
    assert (refused["error"], REASON in refused["what"]) == ("NotOffered", True)
    assert "updated from 0.1.0 to 0.2.0" in desk.run("update", "--version", "0.2.0", "--force", *client)
    report = desk.json("channel", "restore", "0.2.0", *TO, *KEYS)
    assert (report["changed"], report["app"]) == (["beta", "stable"], "demo-app")
    assert "up to date" in desk.run("update", *client)


def test_room_is_planned_first_then_made(desk: Desk, publisher: Publisher) -> None:
    publisher.release("0.3.0")
    publisher.release("0.4.0")
    planned = desk.run("prune", "--keep", "1", "--grace", "0", *TO, "--dry-run")
    assert "stable: 0.1.0 (cpu, linux-x86_64)" in planned
    assert "not the newest" in planned
    assert "would delete 12 objects" in planned
    assert "Nothing was changed." in planned
    waits = desk.run("prune", "--keep", "1", *TO, *KEYS)
    assert "to be deleted by a run after 1 d: 12 objects" in " ".join(waits.split())
    assert (desk.folder / "store/assets/core/0.1.0").exists()
    done = desk.json("prune", "--delete-only", "--keep", "1", "--grace", "0s", *TO)
    assert len(done["destinations"][0]["removed"]) == 12
    assert done["unlisted"] == []
    assert not (desk.folder / "store/assets/core/0.1.0").exists()
    assert {path.name for path in (desk.folder / "store/assets/core").iterdir()} == {"0.2.0", "0.4.0"}
    desk.run("prune", "--grace", "soon", *TO, code=2)
    desk.run("prune", "--keep", "0", *TO, code=2)


def test_a_machine_without_keys_uploads_what_another_has_signed(desk: Desk, publisher: Publisher) -> None:
    copy = desk.folder / "signed"
    for part in ("metadata", "targets"):
        shutil.copytree(desk.folder / "store" / part, copy / part)
    desk.run("channel", "promote", "0.2.0", "--into", "stable", "--to", "./signed", *KEYS)
    assert "signed files written" in desk.run("channel", "upload", "signed", *TO)
    assert "0.2.0" in desk.json("channel", "show", *TO)["channels"][1]["releases"][0]["version"]
    publisher.release("0.3.0")
    desk.run("channel", "upload", "signed", *TO, code=SignatureInvalid.exit_code)


@pytest.mark.parametrize(
    "words",
    [
        ("rollout", "9.9.9", "50"),
        ("promote", "0.2.0", "--into", "No Name"),
        ("promote", "0.2.0", "--into", "stable", "--from", "betta"),
        ("withdraw", "0.2.0", "--reason", " "),
        ("restore", "0.1.0", "--app", "other-app"),
    ],
)
def test_what_makes_no_sense_is_told_and_changes_nothing(
    desk: Desk, publisher: Publisher, words: tuple[str, ...]
) -> None:
    before = publisher.site.read("metadata/timestamp.json")
    told = desk.json("channel", *words, *TO, *KEYS, code=ConfigError.exit_code)
    assert told["todo"]
    assert publisher.site.read("metadata/timestamp.json") == before
