"""``--events`` and ``-v`` of real commands: what another program, or a person in trouble, gets to read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program
from tests.range_server import Answer, serving

from lading.errors import ConfigError, Interrupted, SourceUnreachable

CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": bytes(range(256)) * 500}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE)
    (tmp_path / "root.json").write_bytes(shop.root)
    return shop


def lading(
    folder: Path, *words: str | Path, pass_fds: tuple[int, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lading", *map(str, words)],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        pass_fds=pass_fds,
    )


def install(folder: Path, source: str | Path, *words: str | Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return lading(
        folder, "install", source, "--root", "root.json", "--app", APP, "--data", "data", "--flavor", "cpu",
        *words, **more,
    )  # fmt: skip


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.proves("S0-18")
def test_another_program_reads_phases_progress_and_the_result(shop: Shop, tmp_path: Path) -> None:
    done = install(tmp_path, shop.store, "--json", "--events", "stderr")

    assert done.returncode == 0, done.stderr
    events = lines(done.stderr)
    assert events[-1] == {"event": "result", "result": json.loads(done.stdout)}
    assert {event["event"] for event in events[:-1]} <= {"begin", "progress", "end", "note"}
    for phase in {event["phase"] for event in events[:-1] if event["phase"]}:
        kinds = [event["event"] for event in events if event.get("phase") == phase]
        assert (kinds[0], kinds[-1]) == ("begin", "end"), phase
    fetched = [event for event in events if event.get("phase") == "fetching"]
    assert fetched[-1]["done"] == fetched[-1]["total"] > 0
    assert fetched[-1]["unit"] == "bytes"
    assert set(fetched[0]) == {"event", "phase", "done", "total", "unit", "speed", "eta", "share", "message"}
    shares = [event["share"] for event in events[:-1]]
    assert shares == sorted(shares)


@pytest.mark.skipif(os.name == "nt", reason="descriptors are not passed on by number there")
def test_a_descriptor_gets_events_while_standard_error_stays_for_people(shop: Shop, tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "r") as stream:
        done = install(tmp_path, shop.store, "--events", f"fd:{write}", pass_fds=(write,))
        os.close(write)
        events = lines(stream.read())

    assert done.returncode == 0, done.stderr
    assert events[-1]["event"] == "result"
    assert "fetching" in done.stderr
    assert "{" not in done.stderr


def test_a_file_gets_the_failure_as_the_last_event(shop: Shop, tmp_path: Path) -> None:
    next(shop.store.rglob("*.tar.zst")).unlink()

    done = install(tmp_path, shop.store, "--events", "events.jsonl")

    assert done.returncode == SourceUnreachable.exit_code
    last = lines((tmp_path / "events.jsonl").read_text())[-1]
    assert (last["event"], last["error"], last["exit_code"]) == (
        "error",
        "SourceUnreachable",
        SourceUnreachable.exit_code,
    )
    assert ".tar.zst" in last["what"]
    assert last["todo"]


def test_every_command_that_takes_long_can_be_asked_by_the_environment(shop: Shop, tmp_path: Path) -> None:
    done = lading(tmp_path, "publish", "shop/packed-0.1.0", "--to", "./other", LADING_EVENTS="events.jsonl")

    assert done.returncode == 0, done.stderr
    events = lines((tmp_path / "events.jsonl").read_text())
    assert events[0]["phase"] == "publishing"
    assert events[-1]["event"] == "result"
    assert events[-1]["result"]["destinations"][0]["result"]["releases"][0]["version"] == "0.1.0"


@pytest.mark.parametrize("to", ["fd:77", "no/such/folder/events.jsonl"])
def test_events_that_cannot_be_written_are_refused_before_anything_is_done(shop: Shop, tmp_path: Path, to: str) -> None:
    done = install(tmp_path, shop.store, "--json", "--events", to)

    assert done.returncode == ConfigError.exit_code
    assert json.loads(done.stdout)["error"] == "ConfigError"
    assert to in json.loads(done.stdout)["what"]
    assert not (tmp_path / "data").exists()


@pytest.mark.skipif(os.name == "nt", reason="descriptors are not passed on by number there")
def test_a_reader_that_goes_away_does_not_stop_the_install(shop: Shop, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)

    done = install(tmp_path, shop.store, "--json", "--events", f"fd:{write}", pass_fds=(write,))

    os.close(write)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["already_installed"] is False


@pytest.mark.skipif(os.name == "nt", reason="SIGINT is sent as a console event there")
def test_an_interruption_is_the_last_event(shop: Shop, tmp_path: Path) -> None:
    import signal  # noqa: PLC0415 (one use)

    def stall(answer: Answer) -> None:
        if answer.path.endswith(".tar.zst"):
            answer.stall_after = 100

    with serving(shop.store) as server:
        server.faults.append(stall)
        words = ["install", server.url, "--root", "root.json", "--app", APP, "--data", "data", "--flavor", "cpu"]
        with subprocess.Popen(
            [sys.executable, "-m", "lading", *words, "--events", "stderr"],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
        ) as process:
            assert process.stderr is not None
            seen = []
            for line in process.stderr:
                seen.append(line)
                if '"fetching"' in line:
                    process.send_signal(signal.SIGINT)
                    break
            rest = process.stderr.read()
        events = [event for event in (seen + rest.splitlines()) if event.startswith("{")]

    assert process.returncode == Interrupted.exit_code
    assert (json.loads(events[-1])["event"], json.loads(events[-1])["error"]) == ("error", "Interrupted")


@pytest.mark.proves("S0-14")
def test_with_v_every_attempt_that_failed_is_told_with_its_address_and_reason(shop: Shop, tmp_path: Path) -> None:
    failing = {"left": 2}

    def refuse(answer: Answer) -> None:
        if answer.path.endswith(".tar.zst") and failing["left"]:
            failing["left"] -= 1
            answer.status, answer.body = 503, b""
            answer.headers["Retry-After"] = "0"

    with serving(shop.store) as server:
        server.faults.append(refuse)
        loud = install(tmp_path, server.url, "-v")
        failing["left"] = 2
        quiet = install(tmp_path, server.url, "--repair", "--data", "other")

    assert loud.returncode == quiet.returncode == 0, loud.stderr + quiet.stderr
    told = [line for line in loud.stderr.splitlines() if "503" in line]
    assert len(told) >= 1
    assert all(server.url in line and ".tar.zst" in line for line in told)
    assert "503" not in quiet.stderr
