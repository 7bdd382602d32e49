"""Servers that do it wrong: each is told apart, named, and survived where that is possible."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.packed_release import APP, ENTRY, Files, Shop, program, tree_files
from tests.range_server import Answer, Fault, RangeServer, serving

from lading.errors import DigestMismatch, FormatInvalid, LadingError, SourceUnreachable
from lading.fetch.http import HttpSource
from lading.store.home import Home
from lading.store.install import InstallResult, install
from lading.store.installed import current_version, status

LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(80_000), "_internal/nvidia/b.so": os.urandom(20_000)}
ONE: Files = {ENTRY: program("one"), "_internal/a.pyc": os.urandom(30_000)}
TWO: Files = {ENTRY: program("two"), "_internal/a.pyc": os.urandom(40_000)}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", ONE, LIBS)
    return made


@pytest.fixture
def server(shop: Shop) -> Iterator[RangeServer]:
    with serving(shop.store) as running:
        yield running


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited."""
    slept: list[float] = []

    def nap(_event: object) -> Callable[[float], None]:
        return slept.append

    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    monkeypatch.setattr("lading.fetch.frames.sleep_using_event", nap)
    return slept


@dataclass(frozen=True)
class Update:
    """The first version installed, the second published; calling it updates."""

    shop: Shop
    server: RangeServer
    data: Path

    def __call__(self) -> InstallResult:
        return install(self.server.url, self.shop.root, self.data, app=APP)


@pytest.fixture
def updating(shop: Shop, server: RangeServer, tmp_path: Path) -> Update:
    update = Update(shop, server, tmp_path / "data")
    update()
    shop.release("0.2.0", TWO, {**LIBS, "_internal/nvidia/b.so": b"new" * 5000}, label="cu126-v2")
    server.requests.clear()
    return update


def run_entry(data: Path) -> str:
    entry = data / "backends/cuda/current/tree" / ENTRY
    return subprocess.run([entry], check=True, capture_output=True, text=True).stdout.strip()


def on(part: str, change: Callable[[Answer], None], times: int | None = None) -> Fault:
    """A fault for paths that contain a text, for a number of times."""
    left = [times]

    def fault(answer: Answer) -> None:
        if part in answer.path and left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            change(answer)

    return fault


def unavailable(answer: Answer) -> None:
    answer.status, answer.body, answer.headers = 503, b"later", {"Retry-After": "3"}


def ignores_range(answer: Answer) -> None:
    answer.status = 200
    answer.headers.pop("Content-Range", None)


def web_page(answer: Answer) -> None:
    answer.status, answer.body = 200, b"<html>please log in</html>"
    answer.headers = {"Content-Type": "text/html; charset=utf-8"}


def web_page_as_range(answer: Answer) -> None:
    answer.headers["Content-Type"] = "text/html"


def wrong_bytes(answer: Answer) -> None:
    middle = len(answer.body) // 2
    answer.body = answer.body[:middle] + bytes([answer.body[middle] ^ 1]) + answer.body[middle + 1 :]


def truncated(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body))
    answer.drop_after = len(answer.body) // 2


def short_and_honest(answer: Answer) -> None:
    answer.body = answer.body[:-1]


def shifted(answer: Answer) -> None:
    answer.headers["Content-Range"] = "bytes 7-8/9"


def compressed(answer: Answer) -> None:
    answer.headers["Content-Encoding"] = "gzip"


def gone(answer: Answer) -> None:
    answer.status, answer.headers, answer.body = 404, {}, b"not here"


def forbidden(answer: Answer) -> None:
    answer.status, answer.headers, answer.body = 418, {}, b"no"


def circle(answer: Answer) -> None:
    answer.status, answer.headers, answer.body = 302, {"Location": f"/{answer.path}"}, b""


def too_long(answer: Answer) -> None:
    answer.body += b"extra"


@pytest.mark.parametrize(
    "change", [unavailable, truncated, short_and_honest, wrong_bytes], ids=lambda change: change.__name__
)
@pytest.mark.parametrize("part", ["-libs-cu126-v2-linux-x86_64.tar.zst", "index.zst"])
def test_what_passes_is_survived(
    updating: Update,
    change: Callable[[Answer], None],
    part: str,
) -> None:
    updating.server.faults.append(on(part, change, times=1))
    result = updating()
    assert tree_files(Path(result.tree)) == {**TWO, **LIBS, "_internal/nvidia/b.so": b"new" * 5000}
    assert run_entry(updating.data) == "two"


def test_what_the_server_asks_to_wait_is_waited(updating: Update, naps: list[float]) -> None:
    updating.server.faults.append(on("timestamp.json", unavailable, times=1))
    updating.server.faults.append(on("tar.zst", unavailable, times=1))
    updating()
    assert naps.count(3.0) >= 2


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (unavailable, SourceUnreachable, "answered 503"),
        (ignores_range, SourceUnreachable, "ignored the Range header"),
        (web_page, SourceUnreachable, "web page"),
        (web_page_as_range, SourceUnreachable, "web page"),
        (wrong_bytes, DigestMismatch, "is wrong"),
        (truncated, SourceUnreachable, "tar.zst"),
        (short_and_honest, SourceUnreachable, r"ended after \d+ of \d+ bytes"),
        (shifted, SourceUnreachable, "Content-Range 'bytes 7-8/9' where"),
        (compressed, SourceUnreachable, "compressed the answer"),
        (gone, SourceUnreachable, "answered 404"),
        (forbidden, SourceUnreachable, "answered 418"),
        (circle, SourceUnreachable, "redirects in a circle"),
        (too_long, SourceUnreachable, "more than the"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_an_archive_that_cannot_be_had_leaves_the_old_version_running(
    updating: Update,
    change: Callable[[Answer], None],
    error: type[LadingError],
    said: str,
) -> None:
    updating.server.faults.append(on("tar.zst", change))
    with pytest.raises(error, match=said) as caught:
        updating()
    assert updating.server.url in caught.value.what
    assert ".tar.zst" in caught.value.what
    assert run_entry(updating.data) == "one"
    version = current_version(Home(updating.data, "cuda"))
    assert version is not None
    assert version.looks_whole()
    assert tree_files(version.tree) == {**ONE, **LIBS}
    told = status(updating.data).variants[0].last_failure
    assert told is not None
    assert told.kind == error.__name__
    updating.server.faults.clear()
    updating()
    assert run_entry(updating.data) == "two"
    assert status(updating.data).variants[0].last_failure is None


@pytest.mark.proves("S0-13")
def test_corrupt_bytes_stay_out_of_the_installed_versions(updating: Update) -> None:
    """Bytes go to the staging folder; a frame is checked before it counts, a file before the version appears."""
    before = sorted((updating.data / "backends/cuda/versions").rglob("*"))
    updating.server.faults.append(on("tar.zst", wrong_bytes))
    with pytest.raises(DigestMismatch):
        updating()
    assert sorted((updating.data / "backends/cuda/versions").rglob("*")) == before
    assert len(updating.server.asked("tar.zst")) >= 3  # tried again before giving up


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (web_page, SourceUnreachable),
        (gone, SourceUnreachable),
        (wrong_bytes, DigestMismatch),
        (too_long, FormatInvalid),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("part", [".index.zst", ".release.json", ".stable.json"])
def test_small_files_that_are_wrong_change_nothing(
    updating: Update,
    change: Callable[[Answer], None],
    error: type[LadingError],
    part: str,
) -> None:
    updating.server.faults.append(on(part, change))
    with pytest.raises(error) as caught:
        updating()
    assert updating.server.url in caught.value.what
    assert run_entry(updating.data) == "one"


def test_endless_metadata_is_cut_off(updating: Update) -> None:
    def endless(answer: Answer) -> None:
        answer.body = answer.body + b" " * 10_000_000

    updating.server.faults.append(on("timestamp.json", endless))
    with pytest.raises(FormatInvalid, match=r"timestamp\.json is longer than the 16384 bytes"):
        updating()
    assert run_entry(updating.data) == "one"


def test_an_address_where_nobody_answers_is_named(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.store) as server:
        url = server.url
    with pytest.raises(SourceUnreachable, match=r"127\.0\.0\.1.*did not answer"):
        install(url, shop.root, tmp_path / "data", app=APP)
    assert not (tmp_path / "data/backends").exists()


def test_a_redirect_to_another_place_is_followed(shop: Shop, server: RangeServer, tmp_path: Path) -> None:
    with serving(shop.store) as elsewhere:

        def moved(answer: Answer) -> None:
            answer.status, answer.body = 302, b""
            answer.headers = {"Location": f"{elsewhere.url}/{answer.path}?signature=secret"}

        server.faults.append(on("assets/", moved))
        install(server.url, shop.root, tmp_path / "data", app=APP)
        assert elsewhere.asked("tar.zst")
        elsewhere.faults.append(on("assets/", gone))
        with pytest.raises(SourceUnreachable) as caught:
            install(server.url, shop.root, tmp_path / "again", app=APP)
    assert "secret" not in str(caught.value)
    assert run_entry(tmp_path / "data") == "one"


def test_only_single_ranges_are_asked_for_and_only_of_archives(updating: Update) -> None:
    updating()
    ranges = [(path, header) for path, header in updating.server.requests if header is not None]
    assert ranges
    for path, header in ranges:
        assert ".tar.zst" in path
        assert header is not None
        assert "," not in header


def test_a_source_gives_none_for_what_is_not_there(server: RangeServer) -> None:
    source = HttpSource(server.url)
    assert source.stream("nothing") is None
    stream = source.stream("metadata/timestamp.json")
    assert stream is not None
    assert b"".join(stream).startswith(b"{")
    assert source.traffic.requests == 2
    source.close()
