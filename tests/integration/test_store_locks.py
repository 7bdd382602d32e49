"""One change at a time: between processes, threads and tasks; and the lock is free again, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program, run_entry, tree_files
from tests.range_server import Answer, Fault, RangeServer
from typing_extensions import override

from lading.errors import Busy, DigestMismatch, Interrupted, LadingError
from lading.progress import Silent, Task
from lading.store.home import Home, lock_file
from lading.store.install import install
from lading.store.lock import hold, holder_file, read_holder
from lading.store.removal import uninstall
from lading.store.result import InstallResult
from lading.store.rollback import rollback
from lading.store.status import status
from lading.store.update import Overrides, update

LIBS: Files = {"_internal/nvidia/a.so": os.urandom(90_000)}
ONE: Files = {ENTRY: program("one"), "_internal/base.pyc": os.urandom(20_000)}
TWO: Files = {ENTRY: program("two"), "_internal/base.pyc": os.urandom(60_000)}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop", volume=30_000)
    made.release("0.1.0", ONE, LIBS)
    return made


class Gate:
    """Holds back the archives until it is opened, and says when the first was asked for."""

    def __init__(self, server: RangeServer) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()
        server.faults.append(self.fault)

    def fault(self, answer: Answer) -> None:
        if ".tar.zst" in answer.path:
            self.reached.set()
            assert self.opened.wait(60)


@pytest.fixture
def gate(server: RangeServer) -> Iterator[Gate]:
    made = Gate(server)
    yield made
    made.opened.set()


@pytest.mark.proves("S2-01", "S2-02", "S2-04")
def test_of_two_threads_of_one_process_one_installs_and_the_other_is_busy_at_once(
    shop: Shop, server: RangeServer, gate: Gate, data: Path
) -> None:
    results: list[InstallResult] = []
    first = threading.Thread(target=lambda: results.append(install(server.url, shop.root, data, app=APP)))
    first.start()
    assert gate.reached.wait(60)
    asked = len(server.requests)
    for change in (
        lambda: install(server.url, shop.root, data, app=APP),
        lambda: update(data, overrides=Overrides(source=server.url, root=shop.root)),
        lambda: rollback(data, "cuda"),
        lambda: uninstall(data, "cuda"),
    ):
        with pytest.raises(Busy, match=f"process {os.getpid()}.*installing, since"):
            change()
    assert len(server.requests) == asked
    gate.opened.set()
    first.join()
    assert [result.already_installed for result in results] == [False]
    assert tree_files(Path(results[0].tree)) == {**ONE, **LIBS}
    again = install(server.url, shop.root, data, app=APP)
    assert again.already_installed


@pytest.mark.proves("S2-01", "S2-02")
def test_of_many_tasks_at_once_exactly_one_installs(shop: Shop, server: RangeServer, gate: Gate, data: Path) -> None:
    def one() -> InstallResult | Busy:
        try:
            return install(server.url, shop.root, data, app=APP)
        except Busy as error:
            return error

    async def many() -> list[InstallResult | Busy]:
        tasks = [asyncio.create_task(asyncio.to_thread(one)) for _ in range(6)]
        _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        while len(pending) > 1:
            _, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        gate.opened.set()
        return await asyncio.gather(*tasks)

    found = asyncio.run(many())
    assert sum(isinstance(result, InstallResult) for result in found) == 1
    assert sum(isinstance(result, Busy) for result in found) == 5
    assert run_entry(data) == "one"


@pytest.mark.proves("S2-01")
def test_admission_is_decided_before_anything_is_asked_or_looked_at(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    with hold(lock_file(data), "testing"), pytest.raises(Busy, match="testing"):
        install(server.url, shop.root, data, app=APP)
    assert server.requests == []
    assert sorted(path.name for path in data.iterdir()) == ["lading.lock"]


HOLD = """
import sys, time
from pathlib import Path
from lading.store.lock import hold
with hold(Path(sys.argv[1]), "holding"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(data: Path) -> Iterator[subprocess.Popen[str]]:
    words = [sys.executable, "-c", HOLD, str(lock_file(data))]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.proves("S2-04")
@pytest.mark.skipif(os.name != "posix", reason="kill -9")
def test_a_lock_whose_holder_was_killed_is_taken_over(shop: Shop, data: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(Busy, match=rf"process {holder.pid} \(-c, holding, since \d\d:\d\d:\d\d, for \d+ s\)"):
        install(str(shop.store), shop.root, data, app=APP)
    busy = status(data).busy
    assert busy is not None
    assert (busy.pid, busy.doing) == (holder.pid, "holding")
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert holder_file(lock_file(data)).exists()
    assert status(data).busy is None
    install(str(shop.store), shop.root, data, app=APP)
    assert run_entry(data) == "one"
    assert not holder_file(lock_file(data)).exists()


class Cancelling(Silent):
    """Asks to stop when so many bytes were fetched."""

    def __init__(self, after: int) -> None:
        self.event, self.left = threading.Event(), after

    @override
    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        outer, task = self, super().task(label, total, unit=unit)

        class Counting:
            def __enter__(self) -> Task:
                return self  # type: ignore[return-value]

            def __exit__(self, *_: object) -> None:
                task.__exit__(None, None, None)

            def advance(self, amount: int) -> None:
                outer.left -= amount if label == "fetching" else 0
                if outer.left < 0:
                    outer.event.set()

        return Counting()  # type: ignore[return-value]


def corrupt(answer: Answer) -> None:
    if ".tar.zst" in answer.path:
        answer.body = bytes(len(answer.body))


@pytest.mark.proves("S2-04", "S1-16", "S0-16")
@pytest.mark.parametrize("how", ["success", "error", "cancellation"])
def test_the_lock_is_free_and_nothing_is_left_after(shop: Shop, server: RangeServer, data: Path, how: str) -> None:
    install(server.url, shop.root, data, app=APP)
    shop.release("0.2.0", TWO, LIBS)
    faults: dict[str, list[Fault]] = {"error": [corrupt]}
    server.faults += faults.get(how, [])
    progress = Cancelling(20_000 if how == "cancellation" else 10**9)
    expected: dict[str, type[LadingError]] = {"error": DigestMismatch, "cancellation": Interrupted}

    def change() -> InstallResult:
        return install(server.url, shop.root, data, app=APP, progress=progress, cancel=progress.event)

    if how in expected:
        with pytest.raises(expected[how]):
            change()
        assert run_entry(data) == "one"
    else:
        change()
    assert not list(data.rglob("*.tmp"))
    assert not holder_file(lock_file(data)).exists()
    server.faults.clear()
    progress.event.clear()
    progress.left = 10**9
    result = change()
    assert tree_files(Path(result.tree)) == {**TWO, **LIBS}
    assert (result.bytes_resumed > 0) == (how == "cancellation")
    assert not list((data / "backends/cuda/partial").iterdir())
    assert run_entry(data) == "two"


@pytest.mark.proves("S0-13", "S1-14")
def test_nothing_lies_where_it_counts_while_it_comes_or_when_it_is_wrong(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    first = install(server.url, shop.root, data, app=APP)
    shop.release("0.2.0", TWO, LIBS)
    gate = Gate(server)
    server.faults.append(corrupt)
    errors: list[LadingError] = []

    def change() -> None:
        try:
            install(server.url, shop.root, data, app=APP)
        except LadingError as error:
            errors.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    assert gate.reached.wait(60)
    home = Home(data, "cuda")
    assert [path.name for path in home.versions.iterdir()] == [first.version_id]
    assert list(home.partial.iterdir())
    gate.opened.set()
    thread.join()
    assert [isinstance(error, DigestMismatch) for error in errors] == [True]
    assert "0.2.0" in errors[0].what
    assert [path.name for path in home.versions.iterdir()] == [first.version_id]
    staged = [path for path in home.partial.rglob("*.pyc") if path.stat().st_size and path.stat().st_nlink == 1]
    assert staged == [], "not a byte that was not verified"
    assert run_entry(data) == "one"


@pytest.mark.proves("S1-16")
def test_a_cancelled_install_keeps_only_what_the_next_one_goes_on_with(
    shop: Shop, server: RangeServer, data: Path
) -> None:
    progress = Cancelling(20_000)
    with pytest.raises(Interrupted, match=r"goes on where it stopped|fetched twice"):
        install(server.url, shop.root, data, app=APP, progress=progress, cancel=progress.event)
    found = status(data).variants[0]
    assert (found.current, found.versions, found.last_failure) == (None, (), None)
    (part,) = found.unfinished
    assert part.what == "install"
    assert part.version is not None
    assert part.version.startswith("0.1.0+cu126-v1-")
    assert part.bytes > 0
    sizes = sum(path.stat().st_size for path in shop.store.rglob("*.tar.zst*") if path.suffix != ".sha256")
    result = install(server.url, shop.root, data, app=APP)
    assert result.bytes_resumed > 0
    assert result.bytes_fetched + result.bytes_resumed == pytest.approx(sizes, abs=200)


def test_an_install_cancelled_before_it_begins_changes_nothing(shop: Shop, data: Path) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(Interrupted):
        install(str(shop.store), shop.root, data, app=APP, cancel=cancel)
    assert status(data).variants == () or not status(data).variants[0].versions


@pytest.mark.parametrize("busy", ["timestamp.json", "core-0.1.0-cu126-linux-x86_64.index.zst"])
def test_a_wait_that_the_server_asks_for_ends_when_it_is_cancelled(
    shop: Shop, server: RangeServer, data: Path, busy: str
) -> None:
    cancel = threading.Event()

    def overloaded(answer: Answer) -> None:
        if answer.path.endswith(busy):
            answer.status, answer.headers, answer.body = 503, {"Retry-After": "55"}, b""
            cancel.set()

    server.faults.append(overloaded)
    with pytest.raises(Interrupted):
        install(server.url, shop.root, data, app=APP, cancel=cancel)
    assert len(server.asked(busy)) == 1
    server.faults.clear()
    install(server.url, shop.root, data, app=APP)
    assert run_entry(data) == "one"


def start(server: RangeServer, shop: Shop, data: Path, root: Path) -> subprocess.Popen[str]:
    root.write_bytes(shop.root)
    words = ["install", server.url, "--root", str(root), "--data", str(data), "--app", APP, "--flavor", "cu126"]
    return subprocess.Popen(
        [sys.executable, "-m", "lading", *words, "--force", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(what: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="sends signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_command_cleanly_and_a_second_command_goes_on(
    shop: Shop, server: RangeServer, data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    gate = Gate(server)
    process = start(server, shop, data, tmp_path / "root.json")
    wait_for(gate.reached.is_set, process)
    process.send_signal(number)
    gate.opened.set()
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == Interrupted.exit_code == 130, stderr
    told = json.loads(stdout)
    assert told["error"] == "Interrupted"
    assert "Run the same command again" in told["todo"]
    assert "Traceback" not in stderr
    assert read_holder(lock_file(data)) is None
    assert not list(Home(data, "cuda").versions.glob("*"))
    second = start(server, shop, data, tmp_path / "root.json")
    assert second.wait(60) == 0, second.communicate()
    second.communicate()
    assert run_entry(data) == "one"
