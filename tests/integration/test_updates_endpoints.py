"""The endpoints over real sockets: a real data directory, a real signed repository, real installs."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.backend_world import CORE, FORCED, LIBS, NEXT, Around, World, bytes_asked, cuda_shop, world
from tests.packed_release import APP, ENTRY, Shop, index_of, program
from tests.range_server import Answer, RangeServer, serving

from lading.client import Client
from lading.errors import Busy
from lading.process import scrubbed_environment
from lading.store.home import Home, lock_file
from lading.store.journal import JOURNAL
from lading.store.lock import hold

HOLDER = """\
import sys
from pathlib import Path
from lading.store.home import lock_file
from lading.store.lock import hold
with hold(lock_file(Path(sys.argv[1])), "installing"):
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return cuda_shop(tmp_path / "shop")


@pytest.fixture
def store(shop: Shop) -> Iterator[RangeServer]:
    with serving(shop.store) as running:
        yield running


@pytest.fixture
def around(shop: Shop, store: RangeServer, tmp_path: Path) -> Around:
    return Around(data=tmp_path / "data", shop=shop, source=store.url)


def client_of(around: Around) -> Client:
    return Client(around.data, source=around.source or "", root=around.shop.root, app=APP)


def install(around: Around, version: str | None = None) -> None:
    client_of(around).install(flavor="cu126", version=version, force=True)


def run(around: Around, test: Callable[[World], Awaitable[None]]) -> None:
    async def inside() -> None:
        async with world(around) as there:
            await test(there)

    asyncio.run(inside())


def problem(answer: httpx.Response, status: int, code: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (body["status"], body["code"], body["instance"]) == (status, code, answer.request.url.path)
    detail: str = body["detail"]
    return detail


async def until(reached: Callable[[], bool]) -> None:
    """Wait for something that happens beside the test; the test's own time limit is the bound."""
    while not reached():  # noqa: ASYNC110 (it happens in threads and other tasks, which know nothing of the test)
        await asyncio.sleep(0.005)


async def said(entry: Path) -> bytes:
    """What an installed program prints."""
    return (await asyncio.to_thread(subprocess.run, [entry], capture_output=True, check=True)).stdout


@contextmanager
def elsewhere(*words: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Another program that runs until the block ends, and says a line when it is ready."""
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=scrubbed_environment()
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        yield other
        other.stdin.close()
        assert other.wait(20) == 0


def core_is_there(data: Path) -> bool:
    """Every frame of the core is written down as verified; the last one, the end of the archive, is never fetched."""
    journals = [path.read_bytes() for path in Home(data, "cuda").partial.glob(f"*/{JOURNAL}")]
    return any(journal.count(b"+ core ") == len(index_of(CORE)[1]) - 1 for journal in journals)


def nothing_left(data: Path) -> bool:
    """Nobody holds the lock, and nothing half done is visible."""
    with hold(lock_file(data), "testing"):
        home = Home(data, "cuda")
        return not list(home.partial.glob("*")) and not list(home.versions.glob("*.tmp"))


def stall(part: str, released: threading.Event) -> Callable[[Answer], None]:
    """Let every answer for a kind of file wait until the test goes on; the rest of the server goes on meanwhile."""

    def fault(answer: Answer) -> None:
        if part in answer.path and not released.is_set():
            answer.pause = 30.0

    return fault


# --- the whole way ----------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-01", "S0-02", "S0-03", "S0-05", "S0-06", "S1-11", "S1-20")
def test_a_backend_comes_is_shown_and_goes(around: Around) -> None:
    async def test(there: World) -> None:
        before = await there.status()
        assert (before["available"], before["active"], before["downloading"]) == (False, False, False)
        assert (before["binary_path"], before["cuda_libs_version"], before["installed_version"]) == (None, None, None)
        assert before["download_progress"]["status"] == "idle"

        begun = await there.download()
        assert begun.status_code == 202
        assert begun.json() == {"message": "the download has begun", "progress_key": "cuda-backend"}

        events = await there.events()
        last = events[-1]
        assert (last["status"], last["progress"], last["error"]) == ("complete", 100.0, None)
        assert {"current", "total", "progress", "filename", "status", "error"} <= set(last)
        assert {event["status"] for event in events} <= {"downloading", "extracting", "complete"}
        assert last["filename"] == "demo-app 0.1.0 (cu126)"
        assert last["current"] == last["total"] > 0
        for name in ("current", "progress"):
            figures = [event[name] for event in events]
            assert figures == sorted(figures)

        after = await there.status()
        assert (after["available"], after["whole"], after["downloading"]) == (True, True, False)
        assert (after["installed_version"], after["cuda_libs_version"]) == ("0.1.0", "cu126-v1")
        assert after["flavor"] == "cu126"
        entry = around.data / after["binary_path"]
        assert entry.name == ENTRY
        assert await said(entry) == b"one\n"
        problem(await there.download(), 409, "already-installed")

        gone = await there.http.delete("/backend/cuda")
        assert gone.status_code == 200
        assert gone.json()["bytes_freed"] > 0
        assert not (around.data / "backends" / "cuda").exists()
        problem(await there.http.delete("/backend/cuda"), 404, "not-installed")
        assert (await there.status())["download_progress"]["status"] == "idle"

    run(around, test)
    assert nothing_left(around.data)


@pytest.mark.proves("S0-01")
def test_what_has_lost_its_executable_is_not_available_and_can_be_downloaded_again(around: Around) -> None:
    install(around)

    async def test(there: World) -> None:
        (around.data / (await there.status())["binary_path"]).unlink()
        broken = await there.status()
        assert (broken["available"], broken["whole"], broken["installed_version"]) == (False, False, "0.1.0")
        assert (await there.download()).status_code == 202
        assert (await there.last())["status"] == "complete"
        assert (await there.status())["available"] is True

    run(around, test)


def test_a_server_that_is_not_managed_says_so_and_changes_nothing(around: Around) -> None:
    async def test(there: World) -> None:
        status = await there.status()
        assert (status["managed"], status["downloadable"], status["available"]) == (False, False, False)
        assert status["host"]["fits"] == "no"
        for method, path in (
            ("POST", "download-cuda"), ("POST", "update-cuda"), ("POST", "check"), ("POST", "rollback"),
            ("DELETE", "cuda"),
        ):  # fmt: skip
            assert "LADING_DATA" in problem(await there.http.request(method, f"/backend/{path}"), 409, "not-managed")
        problem(await there.http.post("/backend/cuda-cancel"), 409, "nothing-to-cancel")

    run(Around(data=around.data, shop=around.shop, managed=False), test)
    assert not around.data.exists()


# --- one at a time ----------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-04", "S2-01", "S2-02", "S2-03", "S2-04")
def test_of_fifty_requests_at_once_exactly_one_begins_and_everything_is_fetched_once(
    around: Around, store: RangeServer
) -> None:
    async def test(there: World) -> None:
        answers = await asyncio.gather(*(there.download() for _ in range(50)))
        assert Counter(answer.status_code for answer in answers) == {202: 1, 409: 49}
        codes = Counter(answer.json()["code"] for answer in answers if answer.status_code == 409)
        assert set(codes) <= {"already-running", "already-installed"}
        assert (await there.last())["status"] == "complete"

    run(around, test)
    asked = Counter((path, header) for path, header in store.requests if ".tar.zst" in path)
    assert asked
    assert set(asked.values()) == {1}
    assert len(list(Home(around.data, "cuda").versions.iterdir())) == 1
    assert nothing_left(around.data)


@pytest.mark.proves("S2-02", "S2-03")
def test_a_slow_look_at_what_is_installed_opens_no_gap(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    looks: list[int] = []
    real = Client.status

    def slow(self: Client) -> Any:
        looks.append(1)
        assert gate.wait(30)
        return real(self)

    async def test(there: World) -> None:
        monkeypatch.setattr(Client, "status", slow)
        first = asyncio.create_task(there.download())
        await until(lambda: bool(looks))
        problem(await there.download(), 409, "already-running")
        problem(await there.http.delete("/backend/cuda"), 409, "already-running")
        problem(await there.http.post("/backend/rollback"), 409, "already-running")
        assert len(looks) == 1, "who is refused does not even look"
        gate.set()
        assert (await first).status_code == 202
        assert (await there.last())["status"] == "complete"

    run(around, test)


@pytest.mark.proves("S0-06")
def test_two_tabs_see_the_same_and_a_third_comes_late(around: Around) -> None:
    async def test(there: World) -> None:
        tabs = [asyncio.create_task(there.events()) for _ in range(2)]
        await until(lambda: there.updates.feed.followers == 2)
        assert (await there.download()).status_code == 202
        first, second = await asyncio.gather(*tabs)
        third = await there.events()
        assert first[0]["status"] == second[0]["status"] == "idle"
        assert first[-1] == second[-1] == third[-1]
        assert len(third) == 1
        assert third[0]["status"] == "complete"

    run(around, test)


@pytest.mark.proves("S2-04")
def test_another_process_at_work_is_named_and_afterwards_it_works(around: Around) -> None:
    async def test(there: World) -> None:
        with elsewhere(sys.executable, "-c", HOLDER, around.data) as other:
            told = problem(await there.download(), 409, "busy")
            assert f"process {other.pid}" in told
            assert str(around.data) not in told
            status = await there.status()
            assert (status["busy"]["pid"], status["busy"]["doing"]) == (other.pid, "installing")
            assert status["downloading"] is False
        assert (await there.status())["busy"] is None
        assert (await there.download()).status_code == 202
        assert (await there.last())["status"] == "complete"

    run(around, test)


@pytest.mark.proves("S0-08", "S2-02")
def test_a_running_change_keeps_the_others_out_and_is_not_taken_for_somebody_else(
    around: Around, store: RangeServer
) -> None:
    released = threading.Event()
    store.faults.append(stall(".tar.zst", released))

    async def test(there: World) -> None:
        assert (await there.download()).status_code == 202
        await there.events(lambda event: event["phase"] == "fetching")
        gc.collect()  # nobody but the server holds its task
        status = await there.status()
        assert (status["downloading"], status["busy"], status["available"]) == (True, None, False)
        for method, path in (("POST", "download-cuda"), ("DELETE", "cuda"), ("POST", "rollback")):
            problem(await there.http.request(method, f"/backend/{path}"), 409, "already-running")
        with pytest.raises(Busy):
            client_of(around).install(flavor="cu126", force=True)
        assert (await there.http.post("/backend/cuda-cancel")).status_code == 202
        assert (await there.last())["status"] == "cancelled"

    run(around, test)
    released.set()


# --- stopping ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-16", "S2-04", "S1-16")
def test_a_cancelled_download_keeps_what_is_verified_and_the_next_one_goes_on(shop: Shop, tmp_path: Path) -> None:
    released = threading.Event()
    big = {f"_internal/nvidia/big{n}.bin": bytes([n]) * 7000 + bytes(range(256)) * 64 for n in range(40)}
    shop.release("0.2.0", CORE, {**LIBS, **big}, label="cu126-v2")
    with serving(shop.store) as store:
        around = Around(data=tmp_path / "data", shop=shop, source=store.url)

        def libs_stall(answer: Answer) -> None:
            if "-libs-" in answer.path and ".tar.zst" in answer.path and not released.is_set():
                answer.stall_after = len(answer.body) // 2

        store.faults.append(libs_stall)

        async def test(there: World) -> None:
            assert (await there.download()).status_code == 202
            await until(lambda: core_is_there(around.data))
            assert (await there.http.post("/backend/cuda-cancel")).status_code == 202
            assert (await there.last())["status"] == "cancelled"
            status = await there.status()
            assert (status["available"], status["downloading"], status["last_failure"]) == (False, False, None)
            assert status["resumable"]["bytes"] > 0
            assert status["resumable"]["version"].startswith("0.2.0+cu126-v2-")
            problem(await there.http.post("/backend/cuda-cancel"), 409, "nothing-to-cancel")
            released.set()
            first = bytes_asked(store)
            assert (await there.download()).status_code == 202
            assert (await there.last())["status"] == "complete"
            again = bytes_asked(store)[len(first) :]
            assert not [path for path in again if "-core-" in path], "the core was verified already"
            assert (await there.status())["resumable"] is None

        run(around, test)
    assert nothing_left(around.data)


def test_a_download_that_still_asks_is_stopped_at_once(around: Around, store: RangeServer) -> None:
    silent = threading.Event()

    def say_nothing(answer: Answer) -> None:
        answer.silent = True
        silent.set()

    store.faults.append(say_nothing)

    async def test(there: World) -> None:
        assert (await there.download()).status_code == 202
        assert await asyncio.to_thread(silent.wait, 30)
        assert (await there.http.post("/backend/cuda-cancel")).status_code == 202
        assert (await there.last())["status"] == "cancelled"
        store.faults.clear()
        assert (await there.download()).status_code == 202
        assert (await there.last())["status"] == "complete"

    run(around, test)


@pytest.mark.proves("X-33")
def test_a_server_that_stops_in_the_middle_ends_soon_and_the_next_one_goes_on(
    around: Around, store: RangeServer
) -> None:
    released = threading.Event()
    store.faults.append(stall(".tar.zst", released))

    async def first(there: World) -> None:
        assert (await there.download()).status_code == 202
        await there.events(lambda event: event["phase"] == "fetching")
        watching = asyncio.create_task(there.events())
        await until(lambda: there.updates.feed.followers == 1)
        there.updates.leave()
        assert (await watching)[-1]["status"] in {"downloading", "cancelled"}, "its stream ends with the server"

    run(around, first)
    store.faults.clear()
    released.set()
    assert client_of(around).status().busy is None

    async def second(there: World) -> None:
        assert (await there.download()).status_code == 202
        assert (await there.last())["status"] == "complete"

    run(around, second)


# --- failing ----------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-07", "S0-08", "S0-14", "S0-17", "S1-13", "S2-04")
def test_a_failure_nobody_watched_is_shown_later_logged_and_the_next_try_works(
    around: Around, store: RangeServer, caplog: pytest.LogCaptureFixture
) -> None:
    def corrupt(answer: Answer) -> None:
        if "-libs-" in answer.path and ".tar.zst" in answer.path:
            answer.body = bytes(byte ^ 0xFF for byte in answer.body)

    store.faults.append(corrupt)

    async def test(there: World) -> None:
        with caplog.at_level(logging.ERROR):
            assert (await there.download()).status_code == 202
            await until(lambda: there.updates.feed.now.final)
        (only,) = await there.events()
        assert only["status"] == "error"
        assert "lading" not in only["error"]
        assert "demo-app-libs-cu126-v1" in only["error"], "the archive is named"
        assert only["failure"]["kind"] == "DigestMismatch"
        assert only["failure"]["what"] == only["error"]
        assert only["progress"] < 100
        status = await there.status()
        assert (status["available"], status["last_failure"]["kind"]) == (False, "DigestMismatch")

        (record,) = [record for record in caplog.records if "failed" in record.getMessage()]
        assert record.levelname == "ERROR"
        assert "Traceback (most recent call last)" in record.getMessage()
        assert "is wrong" in record.getMessage()
        assert str(around.data) not in record.getMessage()
        assert str(Path(__file__).parents[2]) not in record.getMessage()

        store.faults.clear()
        assert (await there.download()).status_code == 202
        assert (await there.last())["status"] == "complete"
        assert (await there.status())["last_failure"] is None

    run(around, test)
    assert nothing_left(around.data)


@pytest.mark.proves("S0-07")
def test_a_failure_of_an_earlier_server_is_still_shown_by_the_next(around: Around, store: RangeServer) -> None:
    def corrupt(answer: Answer) -> None:
        if "-libs-" in answer.path and ".tar.zst" in answer.path:
            answer.body = bytes(len(answer.body))

    store.faults.append(corrupt)

    async def failing(there: World) -> None:
        await there.download()
        assert (await there.last())["status"] == "error"

    async def looking(there: World) -> None:
        (only,) = await there.events()
        assert (only["status"], only["failure"]["kind"]) == ("error", "DigestMismatch")
        status = await there.status()
        assert status["last_failure"]["what"] == only["error"]
        assert str(around.data) not in json.dumps(status)

    run(around, failing)
    run(around, looking)


@pytest.mark.parametrize("source", ["http://127.0.0.1:9/", "no/such/folder"])
def test_a_source_that_is_not_there_is_a_failure_and_no_crash(around: Around, source: str) -> None:
    async def test(there: World) -> None:
        assert (await there.download()).status_code == 202
        last = await there.last()
        assert (last["status"], last["failure"]["kind"]) == ("error", "SourceUnreachable")
        assert str(Path.cwd()) not in json.dumps(last)
        problem(await there.http.post("/backend/check"), 502, "repository-failed")
        assert (await there.http.get("/health")).json()["status"] == "ok"

    run(Around(data=around.data, shop=around.shop, source=source), test)


def test_where_no_build_fits_nothing_is_fetched_and_it_is_said_why(around: Around, store: RangeServer) -> None:
    async def test(there: World) -> None:
        assert (await there.http.post("/backend/download-cuda")).status_code == 202
        last = await there.last()
        assert (last["status"], last["failure"]["kind"]) == ("error", "HostUnfit")
        assert last["failure"]["todo"]
        status = await there.status()
        (build,) = status["builds"]
        assert (build["flavor"], build["chosen"], status["host"]["fits"]) == ("cu126", False, "no")

    run(around, test)
    assert bytes_asked(store) == []


def test_a_build_that_is_not_offered_is_named_with_those_that_are(around: Around) -> None:
    async def test(there: World) -> None:
        assert (await there.download(flavor="cu130")).status_code == 202
        assert "cu126" in (await there.last())["error"]

    run(around, test)


def test_a_data_directory_that_is_none_is_a_problem_without_its_place(around: Around, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    async def test(there: World) -> None:
        for method, path in (("POST", "download-cuda"), ("GET", "cuda-status")):
            answer = await there.http.request(method, f"/backend/{path}")
            assert "Not a directory" in problem(answer, 507, "machine-cannot")
            assert str(tmp_path) not in answer.text
        assert (await there.http.get("/health")).json()["status"] == "ok"

    run(Around(data=tmp_path / "file" / "data", shop=around.shop, source=around.source), test)


# --- deleting, going back ---------------------------------------------------------------------------------------------


@pytest.mark.proves("S0-05", "S0-01")
def test_the_cuda_build_does_not_delete_itself(around: Around) -> None:
    install(around)

    async def test(there: World) -> None:
        assert (await there.status())["active"] is True
        problem(await there.http.delete("/backend/cuda"), 409, "backend-active")
        assert (await there.status())["available"] is True

    run(Around(data=around.data, shop=around.shop, source=around.source, variant="cuda"), test)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in program is a shell script")
def test_a_backend_whose_program_runs_is_not_deleted(around: Around) -> None:
    around.shop.release("0.2.0", {**CORE, ENTRY: b"#!/bin/sh\necho ready\nread nothing\nexit 0\n"}, LIBS)
    install(around)

    async def test(there: World) -> None:
        entry = around.data / (await there.status())["binary_path"]
        with elsewhere(entry) as running:
            assert f"process {running.pid}" in problem(await there.http.delete("/backend/cuda"), 409, "busy")
            assert (await there.status())["available"] is True
        assert (await there.http.delete("/backend/cuda")).status_code == 200

    run(around, test)


def test_an_unfinished_download_can_be_deleted(around: Around, store: RangeServer) -> None:
    def cut(answer: Answer) -> None:
        if "-libs-" in answer.path and ".tar.zst" in answer.path:
            answer.body = bytes(len(answer.body))

    store.faults.append(cut)

    async def test(there: World) -> None:
        await there.download()
        assert (await there.last())["status"] == "error"
        assert (await there.status())["resumable"] is not None
        assert (await there.http.delete("/backend/cuda")).status_code == 200
        status = await there.status()
        assert (status["resumable"], status["last_failure"]) == (None, None)

    run(around, test)


def test_going_back_uses_the_version_before_and_holds_the_left_one_back(around: Around, shop: Shop) -> None:
    install(around)
    shop.release("0.2.0", NEXT, LIBS)
    install(around)

    async def test(there: World) -> None:
        assert (await there.status())["previous_version"].startswith("0.1.0+")
        back = await there.http.post("/backend/rollback")
        assert back.status_code == 200
        assert back.json()["version"].startswith("0.1.0+")
        status = await there.status()
        assert (status["installed_version"], status["held"], status["available"]) == ("0.1.0", "0.2.0", True)
        problem(await there.http.post("/backend/rollback"), 404, "not-installed")

    run(around, test)


# --- updating ---------------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1-12", "S2-05")
def test_the_check_at_the_start_updates_what_is_out_of_date_and_only_what_changed(
    around: Around, shop: Shop, store: RangeServer
) -> None:
    install(around)
    shop.release("0.2.0", NEXT, LIBS)
    store.requests.clear()

    async def test(there: World) -> None:
        last = await there.last()
        assert (last["status"], last["job"]) == ("complete", "update")
        status = await there.status()
        assert (status["installed_version"], status["available"]) == ("0.2.0", True)
        assert status["check"]["available"] is False
        assert (await there.http.get("/health")).json()["status"] == "ok"

    run(Around(data=around.data, shop=shop, source=store.url, auto_update=True), test)
    asked = bytes_asked(store)
    assert asked
    assert not [path for path in asked if "-libs-" in path]


@pytest.mark.proves("S1-12")
def test_libs_of_another_label_are_updated_at_the_start_too(around: Around, shop: Shop, store: RangeServer) -> None:
    install(around)
    shop.release("0.1.1", CORE, {**LIBS, "_internal/nvidia/more.so": b"more" * 999}, label="cu126-v2")

    async def test(there: World) -> None:
        assert (await there.last())["status"] == "complete"
        status = await there.status()
        assert (status["installed_version"], status["cuda_libs_version"]) == ("0.1.1", "cu126-v2")

    run(Around(data=around.data, shop=shop, source=store.url, auto_update=True), test)


async def looked(there: World) -> None:
    """The check at the start is over."""
    task = there.updates._looking
    assert task is not None
    await task


@pytest.mark.proves("S1-12", "X-26")
def test_a_valid_install_is_not_downloaded_again_and_costs_two_requests(around: Around, store: RangeServer) -> None:
    install(around)
    tree = sorted((path, path.stat().st_mtime_ns) for path in around.data.rglob("*") if "trust" not in path.parts)
    store.requests.clear()

    async def test(there: World) -> None:
        await looked(there)
        status = await there.status()
        assert (status["check"]["checked"], status["check"]["available"]) == (True, False)
        assert status["download_progress"]["status"] == "idle"

    run(Around(data=around.data, shop=around.shop, source=store.url, auto_update=True), test)
    assert len(store.requests) == 2
    found = sorted((path, path.stat().st_mtime_ns) for path in around.data.rglob("*") if "trust" not in path.parts)
    assert found == tree, "its state survives, untouched"


@pytest.mark.proves("X-26")
@pytest.mark.parametrize("installed", [True, False], ids=["switched off", "nothing installed"])
def test_nobody_is_asked_when_it_is_switched_off_or_nothing_is_installed(
    around: Around,
    store: RangeServer,
    installed: bool,  # noqa: FBT001 (a table)
) -> None:
    if installed:
        install(around)
    store.requests.clear()

    async def test(there: World) -> None:
        await looked(there)
        assert (await there.status())["available"] is installed

    run(Around(data=around.data, shop=around.shop, source=store.url, auto_update=not installed), test)
    assert store.requests == []
    assert installed or not around.data.exists()


@pytest.mark.proves("S1-12", "S2-05", "X-26")
def test_offline_the_server_starts_and_says_that_it_could_not_ask(around: Around) -> None:
    install(around)
    before = sorted(path for path in around.data.rglob("*"))

    async def test(there: World) -> None:
        assert (await there.http.get("/health")).json()["status"] == "ok"
        await looked(there)
        status = await there.status()
        assert (status["available"], status["whole"], status["last_failure"]) == (True, True, None)
        assert (status["check"]["checked"], status["check"]["failure"]["kind"]) == (False, "SourceUnreachable")

    run(Around(data=around.data, shop=around.shop, source="http://127.0.0.1:9/", auto_update=True), test)
    assert sorted(path for path in around.data.rglob("*")) == before


@pytest.mark.proves("S1-12", "S2-05", "S0-15")
def test_an_update_at_the_start_that_fails_leaves_the_old_one_and_is_shown(
    around: Around, shop: Shop, store: RangeServer
) -> None:
    install(around)
    shop.release("0.2.0", {**CORE, "_internal/new.bin": bytes(range(256)) * 99, ENTRY: program("two")}, LIBS)

    def corrupt(answer: Answer) -> None:
        if "-0.2.0-" in answer.path and ".tar.zst" in answer.path:
            answer.body = bytes(len(answer.body))

    store.faults.append(corrupt)

    async def test(there: World) -> None:
        last = await there.last()
        assert (last["status"], last["job"], last["failure"]["kind"]) == ("error", "update", "DigestMismatch")
        status = await there.status()
        assert (status["installed_version"], status["available"]) == ("0.1.0", True)
        assert status["last_failure"]["kind"] == "DigestMismatch"
        entry = around.data / status["binary_path"]
        assert await said(entry) == b"one\n"
        assert (await there.http.get("/health")).json()["status"] == "ok"

    run(Around(data=around.data, shop=shop, source=store.url, auto_update=True), test)


@pytest.mark.proves("S1-12")
def test_a_damaged_backend_is_put_in_order_at_the_start(around: Around, store: RangeServer) -> None:
    install(around)
    victim = next(around.data.rglob("a.pyc"))
    victim.unlink()

    async def test(there: World) -> None:
        assert (await there.last())["status"] == "complete"
        assert (await there.status())["whole"] is True

    run(Around(data=around.data, shop=around.shop, source=store.url, auto_update=True), test)


def test_a_hanging_repository_does_not_hold_up_a_server_that_stops(around: Around, store: RangeServer) -> None:
    install(around)
    asked = threading.Event()

    def say_nothing(answer: Answer) -> None:
        answer.silent = True
        asked.set()

    store.faults.append(say_nothing)

    async def test(there: World) -> None:
        assert await asyncio.to_thread(asked.wait, 30)
        assert (await there.http.delete("/backend/cuda")).status_code == 200, "a look is nothing to wait for"

    run(Around(data=around.data, shop=around.shop, source=store.url, auto_update=True), test)


def test_an_update_on_request_and_a_repair(around: Around, shop: Shop) -> None:
    async def test(there: World) -> None:
        problem(await there.http.post("/backend/update-cuda"), 404, "not-installed")
        await there.download()
        await there.last()
        checked = (await there.http.post("/backend/check")).json()
        assert (checked["check"]["available"], checked["check"]["newest"]) == (False, "0.1.0")
        shop.release("0.2.0", NEXT, LIBS)
        checked = (await there.http.post("/backend/check")).json()
        assert (checked["check"]["available"], checked["check"]["newest"]) == (True, "0.2.0")
        assert (await there.http.post("/backend/update-cuda")).status_code == 202
        assert (await there.last())["status"] == "complete"
        status = await there.status()
        assert (status["installed_version"], status["check"]["available"]) == ("0.2.0", False)
        assert status["previous_version"].startswith("0.1.0+")

        victim = around.data / status["binary_path"]
        times = victim.stat()
        victim.write_bytes(victim.read_bytes().replace(b"two", b"bad"))
        os.utime(victim, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert (await there.http.post("/backend/update-cuda", json={"repair": True})).status_code == 202
        last = await there.last()
        assert (last["status"], last["job"]) == ("complete", "repair")
        entry = around.data / (await there.status())["binary_path"]
        assert await said(entry) == b"two\n"

    run(around, test)


def test_a_cuda_server_learns_that_another_version_waits_for_its_restart(around: Around) -> None:
    install(around)

    async def test(there: World) -> None:
        # This very program is not the one that is installed.
        assert (await there.status())["restart_needed"] is True

    run(Around(data=around.data, shop=around.shop, source=around.source, variant="cuda"), test)


# --- requests that are refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{}"],
    ids=["nothing", "null", "an empty object"],
)
def test_a_request_needs_no_body(around: Around, body: bytes) -> None:
    async def test(there: World) -> None:
        headers = {"content-type": "application/json"}
        answer = await there.http.post("/backend/download-cuda", content=body, headers=headers)
        assert answer.status_code == 202
        assert (await there.last())["failure"]["kind"] == "HostUnfit"

    run(around, test)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        (b'{"flavour": "cu126"}', "/flavour"), (b'{"flavor": 126}', "/flavor"), (b'{"flavor": "../x"}', "/flavor"),
        (b'{"force": "yes"}', "/force"), (b"[]", ""), (b"{", ""),
    ],
)  # fmt: skip
def test_a_malformed_request_is_pointed_at_and_begins_nothing(around: Around, body: bytes, pointer: str) -> None:
    async def test(there: World) -> None:
        headers = {"content-type": "application/json"}
        answer = await there.http.post("/backend/download-cuda", content=body, headers=headers)
        problem(answer, 422, "invalid-request")
        found = answer.json()["errors"][0]["pointer"]
        assert found == pointer or (pointer == "" and found.count("/") <= 1)
        assert (await there.status())["download_progress"]["status"] == "idle"

    run(around, test)


ATTACKS: tuple[tuple[str, dict[str, str], bytes], ...] = (
    (
        "form post",
        {"origin": "https://evil.example", "content-type": "application/x-www-form-urlencoded"},
        b"force=true",
    ),
    ("plain text", {"origin": "https://evil.example", "content-type": "text/plain"}, b'{"force": true}'),
    ("fetch", {"origin": "https://evil.example", "content-type": "application/json"}, b'{"force": true}'),
    ("sandboxed frame", {"origin": "null", "content-type": "application/json"}, b"{}"),
    ("another port", {"origin": "http://127.0.0.1:3000", "content-type": "application/json"}, b"{}"),
    ("no origin, but a browser", {"sec-fetch-site": "cross-site", "content-type": "application/json"}, b"{}"),
    ("rebound name", {"host": "evil.example", "origin": "http://evil.example"}, b"{}"),
)


@pytest.mark.parametrize(("headers", "body"), [attack[1:] for attack in ATTACKS], ids=[attack[0] for attack in ATTACKS])
def test_no_foreign_page_can_make_this_server_do_anything(
    around: Around, store: RangeServer, headers: dict[str, str], body: bytes
) -> None:
    install(around)
    store.requests.clear()

    async def test(there: World) -> None:
        for method, path in (
            ("POST", "download-cuda"), ("POST", "update-cuda"), ("POST", "check"), ("POST", "cuda-cancel"),
            ("DELETE", "cuda"), ("POST", "rollback"), ("POST", "restart"), ("POST", "choice"),
        ):  # fmt: skip
            answer = await there.http.request(method, f"/backend/{path}", headers=headers, content=body)
            assert answer.status_code in {403, 421}, path
            assert "access-control-allow-origin" not in answer.headers
        assert (await there.status())["available"] is True

    run(around, test)
    assert store.requests == []


def test_a_rebound_name_cannot_even_read(around: Around) -> None:
    async def test(there: World) -> None:
        for path in ("/health", "/backend/cuda-status", "/backend/cuda-progress", "/openapi.json"):
            answer = await there.http.get(path, headers={"host": "evil.example"})
            problem(answer, 421, "wrong-host")

    run(around, test)


def test_another_page_may_not_read_and_preflights_are_not_granted(around: Around) -> None:
    async def test(there: World) -> None:
        origin = {"origin": "https://evil.example"}
        read = await there.http.get("/backend/cuda-status", headers=origin)
        asked = await there.http.options("/backend/cuda", headers={**origin, "access-control-request-method": "DELETE"})
        assert asked.status_code == 405
        for answer in (read, asked):
            assert not [name for name in answer.headers if name.startswith("access-control")]
            assert answer.headers["cross-origin-resource-policy"] == "same-origin"
            assert answer.headers["x-content-type-options"] == "nosniff"

    run(around, test)


def test_a_configured_page_may_and_only_that_one(around: Around) -> None:
    async def test(there: World) -> None:
        ours, other = "https://app.example.org", "https://evil.example"
        for origin, granted in ((ours, True), (other, False)):
            asked = await there.http.options(
                "/backend/cuda", headers={"origin": origin, "access-control-request-method": "DELETE"}
            )
            assert (asked.headers.get("access-control-allow-origin") == origin) is granted
            sent = await there.http.post("/backend/cuda-cancel", headers={"origin": origin})
            problem(sent, 409 if granted else 403, "nothing-to-cancel" if granted else "foreign-origin")
            assert (sent.headers.get("access-control-allow-origin") == origin) is granted

    run(Around(data=around.data, shop=around.shop, source=around.source, origins=("https://app.example.org",)), test)


def test_neither_token_nor_place_is_in_any_answer(around: Around) -> None:
    install(around)

    async def test(there: World) -> None:
        said = []
        for method, path in (
            ("GET", "/health"), ("GET", "/backend/cuda-status"), ("GET", "/backend/launcher"), ("GET", "/openapi.json"),
            ("POST", "/backend/check"), ("POST", "/backend/download-cuda"), ("POST", "/backend/rollback"),
        ):  # fmt: skip
            answer = await there.http.request(method, path, headers={"authorization": "Bearer the-secret"})
            said.append(answer.text + str(answer.headers))
        wrong = await there.http.post("/backend/check", headers={"authorization": "Bearer wrong"})
        problem(wrong, 401, "wrong-token")
        text = "".join([*said, wrong.text])
        for secret in ("the-secret", str(around.data), str(around.shop.folder), str(Path.home()) + "/"):
            assert secret not in text

    run(Around(data=around.data, shop=around.shop, source=around.source, token="the-secret"), test)


# --- what the program itself says -------------------------------------------------------------------------------------


def test_the_reason_why_another_backend_was_preferred_is_in_health(around: Around) -> None:
    async def test(there: World) -> None:
        health = (await there.http.get("/health")).json()
        assert health["status"] == "degraded"
        assert health["backend_variant"] == "cpu"
        assert health["reason"] == health["fallback_reason"] == "…/lading-server-cuda ended with exit code 1"

    reason = "/opt/x/lading-server-cuda ended with exit code 1"
    run(Around(data=around.data, shop=around.shop, fallback_reason=reason), test)


def test_a_stream_whose_reader_left_is_forgotten(around: Around) -> None:
    async def test(there: World) -> None:
        seen = 0
        async with there.http.stream("GET", "/backend/cuda-progress") as answer:
            async for line in answer.aiter_lines():
                seen += line.startswith(": heartbeat")
                if seen == 2:
                    break
        await until(lambda: there.updates.feed.followers == 0)

    run(Around(data=around.data, shop=around.shop, heartbeat=0.02), test)


@pytest.mark.proves("X-35")
def test_too_many_followers_get_a_problem_and_no_broken_stream(around: Around, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lading_server.updates.feed.MOST", 3)

    async def test(there: World) -> None:
        watching = [asyncio.create_task(there.events()) for _ in range(3)]
        await until(lambda: there.updates.feed.followers == 3)
        refused = await there.http.get("/backend/cuda-progress")
        problem(refused, 503, "too-many-followers")
        assert (await there.http.get("/health")).json()["status"] == "ok"
        assert (await there.download(**FORCED)).status_code == 202
        assert {events[-1]["status"] for events in await asyncio.gather(*watching)} == {"complete"}

    run(around, test)
