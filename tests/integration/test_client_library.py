"""The client inside another program: real installs through the library, for threads and for asyncio."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from textwrap import dedent

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program
from tests.range_server import Answer, RangeServer, serving

from lading.client import AsyncClient, Client, Finished, ProgressEvent
from lading.errors import Busy, DigestMismatch, Interrupted, NotInstalled, SourceUnreachable
from lading.store.home import lock_file
from lading.store.lock import hold
from lading.store.result import InstallResult

NOISE = bytes(range(256)) * 400
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 60_000, "_internal/b.bin": NOISE}
NEXT: Files = {**CORE, ENTRY: program("two")}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    shop = Shop(tmp_path / "shop")
    shop.release("0.1.0", CORE)
    return shop


def client_of(shop: Shop, data: Path, source: str | None = None) -> Client:
    return Client(data, source=source or str(shop.store), root=shop.root, app=APP)


@pytest.fixture
def client(shop: Shop, tmp_path: Path) -> Client:
    return client_of(shop, tmp_path / "data")


def said(entry: str) -> bytes:
    return subprocess.run([entry], capture_output=True, check=True).stdout


def nothing_half_done(data: Path) -> bool:
    """Nobody holds the lock, and what is left is only what a next run goes on with."""
    with hold(lock_file(data), "testing"):
        return not list((data / "backends").glob("*/versions/*/*.tmp"))


# --- threads ----------------------------------------------------------------------------------------------------------


def test_a_whole_life_from_nothing_to_uninstalled(client: Client, shop: Shop) -> None:
    assert client.status().variants == ()
    assert client.check().available is False
    assert client.plan().version_id.startswith("0.1.0-")
    assert not (client.data / "backends").exists(), "a plan changes nothing"

    first = client.install()
    assert said(first.entry) == b"one\n"
    assert (client.check().available, client.check().newest) == (False, "0.1.0")

    shop.release("0.2.0", NEXT)
    assert (client.check().available, client.check().newest) == (True, "0.2.0")
    updated = client.update().variants[0]
    assert (updated.variant, updated.outcome, updated.installed, updated.newest) == ("cpu", "updated", "0.1.0", "0.2.0")
    assert updated.result is not None
    assert said(updated.result.entry) == b"two\n"

    back = client.rollback()
    assert said(back.entry) == b"one\n"
    assert client.check().available is False, "what was left by a roll back is not offered again"
    assert len(client.uninstall().removed) == 2
    assert all(variant.current is None for variant in client.status().variants)


def test_a_repair_reads_everything_and_fetches_only_what_is_wrong(client: Client) -> None:
    first = client.install()
    victim = Path(first.tree, "_internal/b.bin")
    times = victim.stat()
    victim.write_bytes(NOISE[:-1] + b"!")
    os_utime(victim, times.st_atime_ns, times.st_mtime_ns)  # a failing disk changes bytes and no times

    found = client.repair().variants[0].result

    assert found is not None
    assert [damage.path for damage in found.damage] == ["_internal/b.bin"]
    assert Path(found.tree, "_internal/b.bin").read_bytes() == NOISE
    assert 0 < found.bytes_fetched < first.bytes_fetched or found.files_written == 1
    assert said(found.entry) == b"one\n"


def os_utime(path: Path, accessed: int, modified: int) -> None:
    import os  # noqa: PLC0415 (one use)

    os.utime(path, ns=(accessed, modified))


@pytest.mark.proves("S0-18")
def test_progress_comes_in_order_and_its_last_word_is_the_result(client: Client) -> None:
    told: list[ProgressEvent] = []

    client.install(on_progress=told.append)

    shares = [event.share for event in told]
    assert shares == sorted(shares)
    assert (told[-1].kind, told[-1].share) == ("result", 1.0)
    assert [event.kind for event in told].count("result") == 1
    fetched = [event for event in told if event.phase == "fetching"]
    assert [fetched[0].kind, fetched[-1].kind] == ["begin", "end"]
    assert fetched[-1].done == fetched[-1].total
    assert (fetched[-1].total or 0) > 0


@pytest.mark.proves("S0-17", "S0-18")
def test_a_failure_is_named_in_the_last_event_and_raised(shop: Shop, tmp_path: Path) -> None:
    archive = next(path for path in shop.store.rglob("*.tar.zst"))
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0xFF
    archive.write_bytes(data)
    told: list[ProgressEvent] = []
    client = client_of(shop, tmp_path / "data")

    with pytest.raises((DigestMismatch, SourceUnreachable)) as caught:
        client.install(on_progress=told.append)

    assert archive.name in caught.value.what
    assert (told[-1].kind, told[-1].message) == ("error", caught.value.what)
    assert told[-1].share < 1.0
    assert client.status().variants[0].current is None
    failure = client.status().variants[0].last_failure
    assert failure is not None
    assert archive.name in failure.what


def test_whatever_a_check_meets_is_an_answer(shop: Shop, tmp_path: Path) -> None:
    client = client_of(shop, tmp_path / "data")
    assert client.check().reason == "nothing is installed"
    client.install()

    for source in (str(tmp_path / "nowhere"), "http://127.0.0.1:9/"):
        found = client_of(shop, tmp_path / "data", source).check()
        assert (found.checked, found.available, found.installed) == (False, False, "0.1.0")
        assert found.failure is not None
        assert found.failure.kind == "SourceUnreachable"
    stranger = Client(tmp_path / "data", source=str(shop.store), root=b"{}", app=APP).check()
    assert (stranger.checked, stranger.available) == (False, False)
    assert stranger.failure is not None


def test_a_second_caller_is_told_at_once_that_it_is_busy(client: Client) -> None:
    client.install()
    with hold(lock_file(client.data), "testing"):
        for call in (client.install, client.update, client.rollback, client.uninstall):
            with pytest.raises(Busy):
                call()
        assert client.status().variants[0].current is not None, "asking needs no lock"


def test_nothing_to_update_or_to_go_back_to_is_told_apart(client: Client) -> None:
    for call in (client.update, client.rollback, client.uninstall):
        with pytest.raises(NotInstalled):
            call()
    assert not (client.data / "backends").exists()


def test_cancelled_before_it_begins_nothing_is_fetched(client: Client) -> None:
    cancel = threading.Event()
    cancel.set()

    with pytest.raises(Interrupted):
        client.install(cancel=cancel)

    assert all(variant.current is None for variant in client.status().variants)
    assert client.install().bytes_fetched > 0


def test_what_a_listener_raises_ends_the_install_cleanly(client: Client) -> None:
    class WindowClosedError(Exception):
        pass

    def closed(event: ProgressEvent) -> None:
        if event.phase == "fetching":
            raise WindowClosedError

    with pytest.raises(WindowClosedError):
        client.install(on_progress=closed)

    assert nothing_half_done(client.data)
    assert said(client.install().entry) == b"one\n"


# --- asyncio ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stalling(shop: Shop) -> Iterator[tuple[RangeServer, threading.Event]]:
    """A server that stops in the middle of an archive, and the event that it does."""
    stalls = threading.Event()

    def stall(answer: Answer) -> None:
        if answer.path.endswith(".tar.zst"):
            answer.stall_after = len(answer.body) // 2
            stalls.set()

    with serving(shop.store) as server:
        server.faults.append(stall)
        yield server, stalls


def asynchronous(shop: Shop, data: Path, source: str | None = None) -> AsyncClient:
    return AsyncClient(data, source=source or str(shop.store), root=shop.root, app=APP)


def test_the_same_life_in_asyncio(shop: Shop, tmp_path: Path) -> None:
    async def life() -> None:
        client = asynchronous(shop, tmp_path / "data")
        told: list[ProgressEvent] = []

        async def hear(event: ProgressEvent) -> None:
            await asyncio.sleep(0)
            told.append(event)

        assert (await client.plan()).version_id.startswith("0.1.0-")
        result = await client.install(on_progress=hear)
        assert said(result.entry) == b"one\n"
        assert told[-1].kind == "result"
        assert (await client.check()).available is False
        shop.release("0.2.0", NEXT)
        assert (await client.check()).available is True
        assert (await client.update(on_progress=hear)).variants[0].outcome == "updated"
        assert (await client.repair()).variants[0].outcome == "up to date"
        assert said((await client.rollback()).entry) == b"one\n"
        assert (await client.status()).variants[0].current is not None
        assert len((await client.uninstall()).removed) == 2
        with pytest.raises(NotInstalled):
            await client.update()

    asyncio.run(life())


def test_events_end_with_the_result_also_for_a_listener_that_sleeps(shop: Shop, tmp_path: Path) -> None:
    async def follow() -> list[ProgressEvent | Finished[InstallResult]]:
        events: list[ProgressEvent | Finished[InstallResult]] = []
        async with aclosing(asynchronous(shop, tmp_path / "data").install_events()) as stream:
            async for event in stream:
                if not events:
                    await asyncio.sleep(0.3)  # the install is over meanwhile
                events.append(event)
        return events

    events = asyncio.run(follow())
    assert isinstance(events[-1], Finished)
    assert said(events[-1].unwrap().entry) == b"one\n"
    shares = [event.share for event in events if isinstance(event, ProgressEvent)]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_the_event_loop_goes_on_while_an_install_works(
    shop: Shop, tmp_path: Path, stalling: tuple[RangeServer, threading.Event]
) -> None:
    server, stalls = stalling

    async def both() -> int:
        install = asyncio.create_task(asynchronous(shop, tmp_path / "data", server.url).install())
        turns = 0
        while not stalls.is_set():
            turns += 1
            await asyncio.sleep(0)
        install.cancel()
        with pytest.raises(asyncio.CancelledError):
            await install
        return turns

    assert asyncio.run(both()) > 1


Ending = Callable[[asyncio.Task[InstallResult]], None]


@pytest.mark.parametrize("often", [1, 3], ids=["once", "impatiently"])
def test_cancelling_the_task_cancels_the_install_and_waits_for_its_end(
    shop: Shop, tmp_path: Path, stalling: tuple[RangeServer, threading.Event], often: int
) -> None:
    server, stalls = stalling
    data = tmp_path / "data"

    async def cancelled() -> None:
        install = asyncio.create_task(asynchronous(shop, data, server.url).install())
        await asyncio.to_thread(stalls.wait, 30)
        for _ in range(often):
            install.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await install
        assert nothing_half_done(data), "at this very moment"

    asyncio.run(cancelled())
    assert client_of(shop, data).status().variants[0].current is None
    server.faults.clear()
    assert said(client_of(shop, data, server.url).install().entry) == b"one\n"


def test_leaving_the_events_cancels_the_install(
    shop: Shop, tmp_path: Path, stalling: tuple[RangeServer, threading.Event]
) -> None:
    server, stalls = stalling
    data = tmp_path / "data"

    async def leave() -> None:
        async with aclosing(asynchronous(shop, data, server.url).install_events()) as stream:
            async for _ in stream:
                if await asyncio.to_thread(stalls.wait, 30):
                    break

    asyncio.run(leave())
    assert nothing_half_done(data)


def test_what_an_asynchronous_listener_raises_cancels_the_install(shop: Shop, tmp_path: Path) -> None:
    async def refuse(event: ProgressEvent) -> None:
        raise ConnectionError(event.phase)

    with pytest.raises(ConnectionError):
        asyncio.run(asynchronous(shop, tmp_path / "data").install(on_progress=refuse))

    assert nothing_half_done(tmp_path / "data")


# --- what it brings along ---------------------------------------------------------------------------------------------

BUILD_SIDE = {
    "boto3", "botocore", "click", "elftools", "httpx", "hypothesis", "nox", "pathspec", "pefile", "pygments", "pytest",
    "rich", "setuptools", "typer", "yaml",
    *(f"lading.{room}" for room in (
        "cli", "freeze", "launch", "linkage", "pack", "publish", "report", "reproduce", "road", "sign", "verify",
    )),
}  # fmt: skip

# As on a machine that has only what the client needs: securesystemslib tries the publishers' libraries when it is
# imported, and takes them in where they happen to be installed.
INSTALL = """\
import json, sys
from pathlib import Path
for publishers in ("PyKCS11", "azure", "boto3", "botocore", "google", "hvac", "sigstore"):
    sys.modules[publishers] = None
before = set(sys.modules)
from lading.client import AsyncClient, Client
client = Client(Path(sys.argv[1]), source=sys.argv[2], root=Path(sys.argv[3]).read_bytes(), app=sys.argv[4])
result = client.install()
assert client.check().checked
print(json.dumps({"entry": result.entry, "modules": sorted(set(sys.modules) - before)}))
"""

# Everything outside of the standard library and of Lading that an install imports. What is not in this list is new in
# every frozen program that embeds the client: add it knowingly.
LIBRARIES = {
    "_cffi_backend", "_openssl", "annotated_types", "attr", "attrs", "backports", "cryptography", "cython_runtime",
    "filelock", "hdiffpatch", "packaging", "psutil", "pydantic", "pydantic_core", "pynvml", "securesystemslib", "socks",
    "tenacity", "truststore", "tuf", "typing_extensions", "typing_inspection", "urllib3", "zstandard",
}  # fmt: skip


@pytest.mark.parametrize("way", ["folder", "http"])
def test_an_install_imports_nothing_of_the_build_side_and_nothing_unknown(shop: Shop, tmp_path: Path, way: str) -> None:
    root = tmp_path / "root.json"
    root.write_bytes(shop.root)
    script = tmp_path / "program.py"
    script.write_text(dedent(INSTALL))
    with serving(shop.store) as server:
        source = str(shop.store) if way == "folder" else server.url
        argv: list[str | Path] = [sys.executable, "-I", script, tmp_path / "data", source, root, APP]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)

    assert said(told["entry"]) == b"one\n"
    modules = set(told["modules"])
    forbidden = {name for name in modules if any(name == bad or name.startswith(f"{bad}.") for bad in BUILD_SIDE)}
    assert forbidden == set()
    tops = {name.partition(".")[0] for name in modules} - set(sys.stdlib_module_names) - {"lading"}
    assert {name for name in tops if not name.startswith(("_sysconfigdata", "_cython_"))} <= LIBRARIES
