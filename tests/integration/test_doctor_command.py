"""``lading doctor`` against real repositories and installations."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.test_install_fitting import NEEDS, host, offer
from tests.packed_release import APP, PLATFORM, Shop
from tests.range_server import Answer, serving

from lading.doctor import Question, examine
from lading.doctor.network import Asked, ask_source
from lading.errors import MetadataExpired, RootInvalid, SourceUnreachable
from lading.manifest.base import Record
from lading.publish.folder import FolderDestination
from lading.publish.publisher import publish
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    for flavor in NEEDS:
        offer(made, "0.1.0", flavor)
    return made


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def question(shop: Shop, data: Path, url: str, **more: object) -> Question:
    fields: dict[str, Any] = {"host": host("9.0"), "data": data, "app": APP, "sources": (url,), "root": shop.root}
    return Question(**(fields | more))


def test_a_repository_is_asked_for_what_it_offers_and_nothing_is_kept(shop: Shop, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with serving(shop.store) as server:
        report = examine(question(shop, data, server.url))
        assert not [path for path, _ in server.requests if path.startswith("assets/")]
    assert not data.exists()
    assert report.offered_by == "source"
    assert report.source is not None
    assert (report.source.reachable, report.source.verified, report.source.clock) == (True, True, "plausible")
    assert report.source.requests > 0
    assert report.resolution is not None
    assert (report.resolution.chosen, report.outcome, report.exit_code) == ("cu130", "cuda", 0)
    assert report.folder.needed == 1


def test_without_a_root_one_small_file_is_asked_for_and_nothing_is_believed(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.store) as server:
        report = examine(question(shop, tmp_path / "data", server.url, root=None))
        assert [path for path, _ in server.requests] == ["metadata/timestamp.json"]
    assert report.source is not None
    assert (report.source.reachable, report.source.verified, report.source.trouble) == (True, False, None)
    assert (report.offered_by, report.resolution) == ("nobody", None)


def test_what_is_installed_knows_the_root_and_what_it_needs(shop: Shop, tmp_path: Path) -> None:
    data = tmp_path / "data"
    install(str(shop.store), shop.root, data, app=APP, flavor="cu126", host=host("9.0"))
    before = everything(data)
    report = examine(Question(host=host("6.1"), data=data, app=APP))
    assert report.offered_by == "installed"
    assert report.resolution is not None
    assert report.resolution.chosen == "cu126"
    assert [version.whole for variant in report.installed.variants for version in variant.versions] == [True]
    with serving(shop.store) as server:
        asked = examine(question(shop, data, server.url, root=None))
    assert asked.source is not None
    assert asked.source.verified
    assert everything(data) == before


def test_a_damaged_version_is_told(shop: Shop, tmp_path: Path) -> None:
    data = tmp_path / "data"
    install(str(shop.store), shop.root, data, app=APP, flavor="cu126", host=host("9.0"))
    current = current_version(Home(data, "cuda"))
    assert current is not None
    current.entry.unlink()
    report = examine(Question(host=host("9.0"), data=data, app=APP))
    assert [version.whole for variant in report.installed.variants for version in variant.versions] == [False]


def test_a_repository_that_cannot_be_trusted_is_a_finding_with_its_code(shop: Shop, tmp_path: Path) -> None:
    report = examine(question(shop, tmp_path / "data", str(shop.store), root=b"{}"))
    assert report.source is not None
    assert report.source.trouble is not None
    assert report.source.trouble.kind == "RootInvalid"
    assert (report.outcome, report.exit_code) == ("trouble", RootInvalid.exit_code)
    assert report.folder.writable  # the rest was looked at all the same


def test_a_repository_that_is_not_there_is_a_finding_with_its_code(tmp_path: Path, shop: Shop) -> None:
    report = examine(question(shop, tmp_path / "data", str(tmp_path / "nowhere")))
    assert report.source is not None
    assert not report.source.reachable
    assert (report.outcome, report.exit_code) == ("trouble", SourceUnreachable.exit_code)


def test_a_web_page_in_its_place_is_a_finding(tmp_path: Path, shop: Shop) -> None:
    def page(answer: Answer) -> None:
        answer.status, answer.body = 200, b"<html>Sign in to the hotel's network</html>"
        answer.headers = {"Content-Type": "text/html"}

    with serving(shop.store) as server:
        server.faults.append(page)
        report = examine(question(shop, tmp_path / "data", server.url))
    assert report.source is not None
    assert report.source.trouble is not None
    assert report.outcome == "trouble"


def test_the_clock_is_held_against_the_newest_release(shop: Shop, tmp_path: Path) -> None:
    asked = Asked(sources=(str(shop.store),), root=shop.root, app=APP, channel="stable", platform=PLATFORM)
    assert ask_source(asked, tmp_path, clock=lambda: datetime.now(UTC)).facts.clock == "plausible"
    early = datetime(1970, 1, 1, tzinfo=UTC) - timedelta(days=30)  # the releases here are of 1970
    assert ask_source(asked, tmp_path, clock=lambda: early).facts.clock == "behind"


def test_signatures_past_their_date_are_told_as_such(shop: Shop, tmp_path: Path) -> None:
    late = Shop(tmp_path / "late")
    packed = shop.folder / "packed-0.1.0-cpu"
    (file,) = packed.glob("*.release.json")
    publish(packed, file, FolderDestination(late.store), late.keys, lambda: datetime.now(UTC) - timedelta(days=4000))
    report = examine(question(late, tmp_path / "data", str(late.store), root=late.root))
    assert report.exit_code == MetadataExpired.exit_code


# --- the command ------------------------------------------------------------------------------------------------------


def doctor(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lading", "doctor", *map(str, words)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "80"},
    )


def write(path: Path, record: Record) -> Path:
    path.write_text(record.model_dump_json(by_alias=True))
    return path


def test_the_facts_of_another_machine_are_examined_and_the_exit_code_says_the_outcome(
    shop: Shop, tmp_path: Path
) -> None:
    where = (shop.store, "--root", shop.store / "metadata/1.root.json", "--app", APP, "--data", tmp_path / "data")
    good = write(tmp_path / "good.json", host("6.1"))
    none = write(tmp_path / "none.json", host())
    assert doctor(tmp_path, *where, "--simulate", good).returncode == 0
    assert doctor(tmp_path, *where, "--simulate", none).returncode == 3
    assert doctor(tmp_path, *where, "--simulate", none, "--flavor", "cpu").returncode == 0
    assert doctor(tmp_path, *where, "--simulate", good, "--flavor", "cu130").returncode == 45
    text = doctor(tmp_path, *where, "--simulate", good).stdout
    assert "cu126: It has the newest CUDA that runs on the GPU" in text
    assert max(map(len, text.splitlines())) <= 80


def test_the_json_of_one_machine_is_the_input_on_another(shop: Shop, tmp_path: Path) -> None:
    where = (shop.store, "--root", shop.store / "metadata/1.root.json", "--app", APP, "--data", tmp_path / "data")
    facts = write(tmp_path / "facts.json", host("12.0", "570.1"))
    sent = doctor(tmp_path, *where, "--simulate", facts, "--json")
    (tmp_path / "sent.json").write_text(sent.stdout)
    again = doctor(tmp_path, "--simulate", tmp_path / "sent.json", "--data", tmp_path / "data", "--json")
    first, second = json.loads(sent.stdout), json.loads(again.stdout)
    assert first["resolution"] == second["resolution"]
    assert (second["offered_by"], second["exit_code"], again.returncode) == ("report", 3, 3)


def test_this_machine_is_examined_from_anywhere(tmp_path: Path) -> None:
    done = doctor(tmp_path, "--data", tmp_path / "data")
    assert done.returncode in {0, 3}, done.stderr
    assert "Machine" in done.stdout
    assert "Data directory" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", "[1]", "{}", '{"host": {}}'])
def test_what_is_no_report_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "report.json").write_text(text)
    done = doctor(tmp_path, "--simulate", "report.json", "--json")
    assert done.returncode in {19, 31}
    assert "Traceback" not in done.stderr
