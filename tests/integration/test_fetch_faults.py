"""Servers that do it wrong: each is told apart, named, leaves no trace, and is survived if one mirror is sound.

``KINDS`` is the list: what a server does, and what comes of it when it is the only one. Beside a sound mirror every one
of them ends in an installed version, and the report says which mirror did what.
"""

from __future__ import annotations

import gzip
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
import trustme
from tests.packed_release import APP, ENTRY, Files, Shop, program, run_entry, tree_files
from tests.range_server import Answer, Fault, RangeServer, serving
from typing_extensions import override

from lading.errors import (
    DigestMismatch,
    FormatInvalid,
    LadingError,
    LengthExceeded,
    SignatureInvalid,
    SourceUnreachable,
    Untrusted,
)
from lading.fetch.address import open_source
from lading.fetch.http import HttpSource
from lading.fetch.mirrors import MirrorReport, MirrorSource
from lading.fetch.source import ATTEMPTS, Source, Waits
from lading.store.home import Home
from lading.store.install import install
from lading.store.installed import current_version
from lading.store.result import InstallResult
from lading.store.status import status

LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(80_000), "_internal/nvidia/b.so": os.urandom(20_000)}
ONE: Files = {ENTRY: program("one"), "_internal/a.pyc": os.urandom(30_000)}
TWO: Files = {ENTRY: program("two"), "_internal/a.pyc": os.urandom(40_000)}
NEW_LIBS: Files = {**LIBS, "_internal/nvidia/b.so": b"new" * 5000}
SILENCE = 0.5  # seconds that are waited for servers of which silence is expected, and for no others


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", ONE, LIBS)
    return made


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """No waiting between attempts; what would have been waited."""
    slept: list[float] = []

    def nap(_event: object) -> Callable[[float], None]:
        return slept.append

    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    for module in ("frames", "patches"):
        monkeypatch.setattr(f"lading.fetch.{module}.sleep_using_event", nap)
    return slept


@dataclass(frozen=True)
class Update:
    """The first version installed, the second published; calling it updates."""

    shop: Shop
    server: RangeServer
    data: Path

    def __call__(self, source: Source | str | Sequence[str] | None = None) -> InstallResult:
        return install(source or self.server.url, self.shop.root, self.data, app=APP)

    def versions(self) -> list[Path]:
        return sorted((self.data / "backends/cuda/versions").rglob("*"))


@pytest.fixture
def updating(shop: Shop, server: RangeServer, tmp_path: Path) -> Update:
    update = Update(shop, server, tmp_path / "data")
    update()
    shop.release("0.2.0", TWO, NEW_LIBS, label="cu126-v2")
    server.requests.clear()
    server.headers.clear()
    return update


def assert_as_before(update: Update, versions: list[Path], error: LadingError) -> None:
    """The first version is whole and runs, nothing else is there but what the next run goes on with."""
    assert run_entry(update.data) == "one"
    version = current_version(Home(update.data, "cuda"))
    assert version is not None
    assert version.looks_whole()
    assert tree_files(version.tree) == {**ONE, **LIBS}
    assert update.versions() == versions
    told = status(update.data).variants[0].last_failure
    assert told is not None
    assert told.kind == error.kind


def assert_updated(update: Update, result: InstallResult) -> None:
    assert tree_files(Path(result.tree)) == {**TWO, **NEW_LIBS}
    assert run_entry(update.data) == "two"
    assert status(update.data).variants[0].last_failure is None
    assert not list((update.data / "backends/cuda/partial").iterdir())


def on(part: str, change: Callable[[Answer], None], times: int | None = None) -> Fault:
    """A fault for paths that contain a text, for a number of times."""
    left = [times]

    def fault(answer: Answer) -> None:
        if part in answer.path and left[0] != 0:
            left[0] = None if left[0] is None else left[0] - 1
            change(answer)

    return fault


# --- what servers do --------------------------------------------------------------------------------------------------


def plain(answer: Answer, status: int, body: bytes = b"no", **headers: str) -> None:
    answer.status, answer.body = status, body
    answer.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def ignores_range(answer: Answer) -> None:
    answer.status = 200
    answer.headers.pop("Content-Range", None)
    answer.body = b"the whole file" * 10_000


def other_range(answer: Answer) -> None:
    answer.headers["Content-Range"] = "bytes 7-8/9"


def no_content_range(answer: Answer) -> None:
    answer.headers.pop("Content-Range", None)


def lies_about_total(answer: Answer) -> None:
    answer.headers["Content-Range"] = answer.headers["Content-Range"].rpartition("/")[0] + "/12345678"


def announces_more(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body) + 100)
    answer.drop_after = len(answer.body)


def announces_less(answer: Answer) -> None:
    answer.headers["Content-Length"] = str(len(answer.body) - 100)


def truncates(answer: Answer) -> None:
    answer.drop_after = len(answer.body) // 2


def truncates_honestly(answer: Answer) -> None:
    answer.body = answer.body[:-1]


def truncates_chunked(answer: Answer) -> None:
    answer.chunked, answer.body = True, answer.body[:-1]


def sends_more(answer: Answer) -> None:
    answer.chunked, answer.body = True, answer.body + b"extra"


def stalls(answer: Answer) -> None:
    answer.stall_after = len(answer.body) // 2


def never_answers(answer: Answer) -> None:
    answer.silent = True


def resets(answer: Answer) -> None:
    answer.reset_after = len(answer.body) // 2


def closes_at_once(answer: Answer) -> None:
    answer.raw = b""


def garbage(answer: Answer) -> None:
    answer.raw = b"\x16\x03\x01 this is not HTTP\r\n\r\n"


def circle(answer: Answer) -> None:
    plain(answer, 302, b"", Location=f"/{answer.path}")


def leads_out_of_http(answer: Answer) -> None:
    plain(answer, 302, b"", Location="ftp://127.0.0.1/file?signature=secret")


def portal(answer: Answer) -> None:
    """Sends everybody to a login page first."""
    plain(answer, 302, b"", Location="/portal/login")


def portal_page(answer: Answer) -> None:
    plain(answer, 200, b"<html>please log in</html>", Content_Type="text/html; charset=utf-8")


def web_page(answer: Answer) -> None:
    portal_page(answer)


def web_page_as_range(answer: Answer) -> None:
    answer.headers["Content-Type"] = "text/html"


def compresses(answer: Answer) -> None:
    answer.headers["Content-Encoding"] = "gzip"
    answer.body = gzip.compress(answer.body)


def beyond(answer: Answer) -> None:
    plain(answer, 416, b"", Content_Range="bytes */10")


def gone(answer: Answer) -> None:
    plain(answer, 404)


def teapot(answer: Answer) -> None:
    plain(answer, 418)


def no_content(answer: Answer) -> None:
    plain(answer, 204, b"")


def one_range_at_a_time(answer: Answer) -> None:
    plain(answer, 501)


def failing(answer: Answer) -> None:
    plain(answer, 500)


def overloaded(answer: Answer) -> None:
    plain(answer, 503, Retry_After="3")


def too_many(answer: Answer) -> None:
    plain(answer, 429, Retry_After="7")


def too_many_for_an_hour(answer: Answer) -> None:
    plain(answer, 429, Retry_After="3600")


def flipped_bit(answer: Answer) -> None:
    middle = len(answer.body) // 2
    answer.body = answer.body[:middle] + bytes([answer.body[middle] ^ 1]) + answer.body[middle + 1 :]


def replaced(answer: Answer) -> None:
    """The file is another one of the same size, under the same ETag."""
    answer.body = bytes(len(answer.body))


def zero_bytes(answer: Answer) -> None:
    answer.status = 200
    answer.headers.pop("Content-Range", None)
    answer.body = b""


def slow_to_begin(answer: Answer) -> None:
    answer.pause = 0.05


def chunked(answer: Answer) -> None:
    answer.chunked = True


def old_http(answer: Answer) -> None:
    answer.version = "HTTP/1.0"


class Restless:
    """Gives another ETag every time, as several servers behind one name may do."""

    def __init__(self) -> None:
        self.number = 0

    def __call__(self, answer: Answer) -> None:
        self.number += 1
        answer.headers["ETag"] = f'"{self.number}"'


def cold_cache(answer: Answer) -> None:
    """Only a weak ETag: not fit for ``If-Range``."""
    answer.headers["ETag"] = 'W/"1"'


@dataclass(frozen=True)
class Kind:
    """Something that a server does.

    Attributes:
        does: The fault.
        error: What comes of it when there is no other; none when it is no obstacle.
        said: What the error says.
        waits: It may pass, so it is tried again.
    """

    does: Callable[[Answer], None]
    error: type[LadingError] | None = SourceUnreachable
    said: str = ""
    waits: bool = False

    @override
    def __str__(self) -> str:
        return getattr(self.does, "__name__", type(self.does).__name__)


KINDS = [
    Kind(ignores_range, said=r"cannot be used: it ignored the Range header and sent the whole file"),
    Kind(other_range, said=r"it sent Content-Range 'bytes 7-8/9' where 'bytes \d+-\d+/\d+' was asked for"),
    Kind(no_content_range, said=r"it sent Content-Range '' where"),
    Kind(lies_about_total, said=r"it sent Content-Range 'bytes \d+-\d+/12345678' where"),
    Kind(announces_more, said=r"announced \d+ bytes where \d+ were asked for", waits=True),
    Kind(announces_less, said=r"announced \d+ bytes where \d+ were asked for", waits=True),
    Kind(truncates, said=r"broke off: it ended after \d+ bytes, \d+ are missing", waits=True),
    Kind(truncates_honestly, said=r"announced \d+ bytes where \d+ were asked for", waits=True),
    Kind(truncates_chunked, said=r"ended after \d+ of \d+ bytes", waits=True),
    Kind(sends_more, said=r"it sent more than the \d+ bytes that were asked for"),
    Kind(stalls, said=r"broke off: no byte within 0\.5 s", waits=True),
    Kind(never_answers, said=r"did not answer: no byte within 0\.5 s", waits=True),
    Kind(resets, said=r"broke off: (the connection was reset|it ended after)", waits=True),
    Kind(closes_at_once, said=r"did not answer: it closed the connection", waits=True),
    Kind(garbage, said=r"did not answer: it does not speak HTTP", waits=True),
    Kind(circle, said=r"redirects in a circle"),
    Kind(leads_out_of_http, said=r"redirects to ftp:, which is not HTTP"),
    Kind(portal, said=r"it answered 200 with a web page"),
    Kind(web_page, said=r"it answered 200 with a web page \(text/html\)"),
    Kind(web_page_as_range, said=r"it answered 206 with a web page \(text/html\)"),
    Kind(compresses, said=r"it compressed the answer on its own \(gzip\)"),
    Kind(beyond, said=r"it answered 416, the file there ends earlier \(bytes \*/10\)"),
    Kind(gone, said=r"is not there: it answered 404 Not Found"),
    Kind(teapot, said=r"it answered 418"),
    Kind(no_content, said=r"it answered 204"),
    Kind(one_range_at_a_time, said=r"it answered 501 Not Implemented"),
    Kind(failing, said=r"answered 500", waits=True),
    Kind(overloaded, said=r"answered 503", waits=True),
    Kind(too_many, said=r"answered 429", waits=True),
    Kind(too_many_for_an_hour, said=r"answered 429"),
    Kind(flipped_bit, DigestMismatch, said=r"Frame \d+ of .* is wrong"),
    Kind(replaced, DigestMismatch, said=r"Frame \d+ of .* is wrong"),
    Kind(zero_bytes, said=r"it ignored the Range header|announced 0 bytes"),
    Kind(slow_to_begin, error=None),
    Kind(chunked, error=None),
    Kind(old_http, error=None),
    Kind(Restless(), error=None),
    Kind(cold_cache, error=None),
]
kinds = pytest.mark.parametrize("kind", KINDS, ids=str)


def mirrors(*urls: str, kind: Kind | None = None) -> MirrorSource:
    """Mirrors, of which the first does something."""
    silent = kind is not None and kind.does in {stalls, never_answers}
    waits = [Waits(silence=SILENCE) if silent and number == 0 else Waits() for number in range(len(urls))]
    return MirrorSource([HttpSource(url, waits=wait) for url, wait in zip(urls, waits, strict=True)])


def broken(server: RangeServer, kind: Kind) -> None:
    server.faults += [on(".tar.zst", kind.does), on("portal/", portal_page)]


@kinds
def test_alone_it_is_named_and_the_old_version_runs_on(updating: Update, naps: list[float], kind: Kind) -> None:
    broken(updating.server, kind)
    before = updating.versions()
    source = mirrors(updating.server.url, kind=kind)
    if kind.error is None:
        assert_updated(updating, updating(source))
        return
    with pytest.raises(kind.error, match=kind.said) as caught:
        updating(source)
    assert updating.server.url in caught.value.what
    assert ".tar.zst" in caught.value.what
    assert "secret" not in str(caught.value)
    assert type(caught.value).exit_code == kind.error.exit_code
    assert (sum(naps) > 0) == kind.waits
    assert_as_before(updating, before, caught.value)

    updating.server.faults.clear()
    assert_updated(updating, updating())


@kinds
def test_beside_a_sound_mirror_it_is_survived_and_named(updating: Update, naps: list[float], kind: Kind) -> None:
    broken(updating.server, kind)
    with serving(updating.shop.store) as sound:
        source = mirrors(updating.server.url, sound.url, kind=kind)
        result = updating(source)
        assert_updated(updating, result)
    bad, good = source.report()
    assert good.failed == 0
    assert sum(naps) == 0, "nobody waits while a mirror is left"
    if kind.error is None and not isinstance(kind.does, Restless):
        assert (bad.failed, good.requests) == (0, 0)
    elif kind.error is not None:
        assert any(failure.why and ".tar.zst" in failure.path for failure in bad.failures)
        assert updating.server.url in bad.failures[0].why
        assert good.bytes > 0


@pytest.mark.parametrize("part", ["timestamp.json", ".index.zst"])
@pytest.mark.parametrize(
    "kind",
    [kind for kind in KINDS if "range" not in str(kind) and kind.does not in {beyond, lies_about_total}],
    ids=str,
)
def test_small_files_come_from_the_sound_mirror_too(updating: Update, naps: list[float], kind: Kind, part: str) -> None:
    updating.server.faults += [on(part, kind.does), on("portal/", portal_page)]
    with serving(updating.shop.store) as sound:
        assert_updated(updating, updating(mirrors(updating.server.url, sound.url, kind=kind)))
    assert sum(naps) == 0


CUT = {announces_less, truncates_honestly, truncates_chunked}  # a timestamp has no digest that could tell it is not all


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        pytest.param(kind, part, id=f"{kind}-{part}")
        for kind in KINDS
        for part in ("-libs-cu126-v2-linux-x86_64.tar.zst", "index.zst", "timestamp.json")
        if kind.waits and not (part == "timestamp.json" and kind.does in CUT)
    ],
)
def test_what_passes_is_survived_without_another_mirror(updating: Update, kind: Kind, part: str) -> None:
    updating.server.faults.append(on(part, kind.does, times=2))
    assert_updated(updating, updating(mirrors(updating.server.url, kind=kind)))


def test_a_bit_that_flips_once_on_the_way_is_survived(updating: Update) -> None:
    updating.server.faults.append(on(".tar.zst", flipped_bit, times=2))
    assert_updated(updating, updating(mirrors(updating.server.url)))


def test_every_mirror_is_named_with_its_reason_when_none_is_sound(updating: Update) -> None:
    broken(updating.server, Kind(gone))
    before = updating.versions()
    with serving(updating.shop.store) as other, serving(updating.shop.store) as third:
        other.faults.append(on(".tar.zst", ignores_range))
        third.faults.append(on(".tar.zst", web_page))
        with pytest.raises(
            SourceUnreachable, match=r"(?s)No mirror gives assets/.*404.*Range header.*web page"
        ) as told:
            updating(mirrors(updating.server.url, other.url, third.url))
    for server in (updating.server, other, third):
        assert server.url in told.value.what
    assert_as_before(updating, before, told.value)


def test_mirrors_that_all_lie_are_all_named(updating: Update) -> None:
    broken(updating.server, Kind(flipped_bit))
    with serving(updating.shop.store) as other:
        other.faults.append(on(".tar.zst", replaced))
        with pytest.raises(DigestMismatch, match="Every mirror gives wrong bytes") as told:
            updating(mirrors(updating.server.url, other.url))
        assert other.url in told.value.what
    assert updating.server.url in told.value.what


@pytest.mark.parametrize("missing", [0, 1])
def test_two_mirrors_each_with_half_of_the_files_make_a_whole(updating: Update, missing: int) -> None:
    with serving(updating.shop.store) as other:
        lacking = [updating.server, other] if missing else [other, updating.server]
        lacking[0].faults.append(on("assets/core", gone))
        lacking[1].faults.append(on("assets/libs", gone))
        assert_updated(updating, updating(mirrors(updating.server.url, other.url)))


def test_a_mirror_that_holds_assets_alone_serves_them(updating: Update) -> None:
    """A host of releases cannot replace a file, so it has no metadata; it is still the one to load from."""
    updating.server.faults += [on("metadata/", gone), on("targets/", gone)]
    with serving(updating.shop.store) as other:
        assert_updated(updating, updating(mirrors(updating.server.url, other.url)))
        assert not other.asked("assets/")
    assert updating.server.asked("assets/")


def test_a_mirror_under_a_pattern_of_addresses_serves_a_flat_list_of_assets(updating: Update, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    for file in updating.shop.store.glob("assets/*/*/*"):
        place = flat / "download" / file.parent.name / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(file.read_bytes())
    with serving(flat) as host:
        pattern = host.url + "/download/{version}/{name}"
        result = updating([pattern, updating.server.url])
        assert_updated(updating, result)
        assert host.asked(".tar.zst")
        assert not host.asked("metadata")
    assert not updating.server.asked("assets/")


# --- metadata -----------------------------------------------------------------------------------------------------


@pytest.mark.proves("S1-13", "S0-14")
@pytest.mark.parametrize(
    ("change", "error", "part"),
    [
        (web_page, SourceUnreachable, ".index.zst"),
        (gone, SourceUnreachable, ".index.zst"),
        (flipped_bit, DigestMismatch, ".index.zst"),
        (sends_more, LengthExceeded, ".index.zst"),
        (zero_bytes, DigestMismatch, ".index.zst"),
        (web_page, SourceUnreachable, ".release.json"),
        (gone, SourceUnreachable, ".release.json"),
        (flipped_bit, DigestMismatch, ".release.json"),
        (sends_more, LengthExceeded, ".release.json"),
        (zero_bytes, DigestMismatch, ".release.json"),
        (flipped_bit, DigestMismatch, ".stable.json"),
        (zero_bytes, FormatInvalid, "timestamp.json"),
        (web_page, SourceUnreachable, "timestamp.json"),
        (gone, SourceUnreachable, "timestamp.json"),
        (compresses, SourceUnreachable, "timestamp.json"),
    ],
)
def test_small_files_that_are_wrong_change_nothing(
    updating: Update, change: Callable[[Answer], None], error: type[LadingError], part: str
) -> None:
    updating.server.faults.append(on(part, change))
    with pytest.raises(error) as caught:
        updating()
    assert caught.value.exit_code == error.exit_code
    assert updating.server.url in caught.value.what
    assert run_entry(updating.data) == "one"


@pytest.mark.parametrize("body", [b'{"error": "quota exceeded"}', b"{}", b"null", b"[1]"], ids=repr)
def test_json_that_is_no_metadata_is_refused_and_the_next_mirror_asked(updating: Update, body: bytes) -> None:
    def quota(answer: Answer) -> None:
        plain(answer, 200, body, Content_Type="application/json")

    updating.server.faults.append(on("timestamp.json", quota))
    with pytest.raises((FormatInvalid, SignatureInvalid), match=r"timestamp\.json"):
        updating()
    with serving(updating.shop.store) as sound:
        source = mirrors(updating.server.url, sound.url)
        assert_updated(updating, updating(source))
    assert "timestamp.json" in source.report()[0].failures[0].path


def test_a_stale_mirror_does_not_win(updating: Update, tmp_path: Path) -> None:
    """A mirror that stands still is passed over by those who have seen newer metadata, and it is named."""
    with serving(updating.shop.store) as sound:
        updating(mirrors(sound.url))
        updating.shop.release("0.3.0", {**TWO, ENTRY: program("three")}, NEW_LIBS, label="cu126-v2")
        old = (updating.shop.store / "metadata/timestamp.json").read_bytes()
        updating.shop.release("0.4.0", {**TWO, ENTRY: program("four")}, NEW_LIBS, label="cu126-v2")
        updating(mirrors(sound.url))

        def stale(answer: Answer) -> None:
            answer.body = old

        updating.server.faults.append(on("timestamp.json", stale))
        with pytest.raises(Untrusted):
            updating(mirrors(updating.server.url))
        updating.shop.release("0.5.0", {**TWO, ENTRY: program("five")}, NEW_LIBS, label="cu126-v2")
        source = mirrors(updating.server.url, sound.url)
        updating(source)
    assert run_entry(updating.data) == "five"
    assert "goes back" in source.report()[0].failures[0].why


def test_endless_metadata_is_cut_off(updating: Update) -> None:
    def endless(answer: Answer) -> None:
        answer.body = answer.body + b" " * 10_000_000

    updating.server.faults.append(on("timestamp.json", endless))
    with pytest.raises(LengthExceeded, match=r"timestamp\.json is longer than the 16384 bytes"):
        updating()
    assert run_entry(updating.data) == "one"


# --- waiting ------------------------------------------------------------------------------------------------------


def test_what_the_server_asks_to_wait_is_waited(updating: Update, naps: list[float]) -> None:
    updating.server.faults.append(on("timestamp.json", overloaded, times=1))
    updating.server.faults.append(on("tar.zst", too_many, times=1))
    updating()
    assert naps == [3.0, 7.0]


def test_a_date_is_waited_for_as_well(updating: Update, naps: list[float]) -> None:
    def until(answer: Answer) -> None:
        plain(answer, 503, Retry_After=format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True))

    updating.server.faults.append(on("timestamp.json", until, times=1))
    updating()
    assert len(naps) == 1
    assert 18 <= naps[0] <= 20


def test_mirrors_that_are_all_busy_are_waited_for_once_a_round_and_asked_again(
    updating: Update, naps: list[float]
) -> None:
    with serving(updating.shop.store) as other:
        updating.server.faults.append(on("timestamp.json", too_many, times=2))
        other.faults.append(on("timestamp.json", overloaded, times=2))
        assert_updated(updating, updating(mirrors(updating.server.url, other.url)))
        assert naps == [3.0, 3.0], "as long as the more willing one asks, once for both"
        assert len(other.asked("timestamp.json")) + len(updating.server.asked("timestamp.json")) == 5


def test_metadata_that_no_mirror_gives_names_all_of_them(updating: Update, naps: list[float]) -> None:
    before = updating.versions()
    with serving(updating.shop.store) as other:
        updating.server.faults.append(on("timestamp.json", failing))
        other.faults.append(on("timestamp.json", web_page))
        with pytest.raises(SourceUnreachable) as caught:
            updating(mirrors(updating.server.url, other.url))
        assert len(updating.server.asked("timestamp.json")) == ATTEMPTS
        assert len(naps) == ATTEMPTS - 1
    said = str(caught.value)
    assert f"{updating.server.url}/metadata/timestamp.json answered 500" in said
    assert f"{other.url}/metadata/timestamp.json cannot be used" in said
    assert updating.versions() == before
    assert run_entry(updating.data) == "one"


@pytest.mark.parametrize("text", ["soon", "-5", "²", ""])
def test_a_wait_that_makes_no_sense_is_one_of_our_own(updating: Update, naps: list[float], text: str) -> None:
    def odd(answer: Answer) -> None:
        plain(answer, 503, Retry_After=text.encode().decode("latin-1"))

    updating.server.faults.append(on("timestamp.json", odd, times=1))
    updating()
    assert len(naps) == 1
    assert 0 <= naps[0] <= 0.5


def test_attempts_end_some_time_and_each_waits_longer(updating: Update, naps: list[float]) -> None:
    updating.server.faults.append(on("timestamp.json", failing))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("random.uniform", lambda _low, high: high)
        with pytest.raises(SourceUnreachable, match="answered 500"):
            updating()
    assert len(updating.server.asked("timestamp.json")) == ATTEMPTS
    assert naps == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.proves("S0-14")
def test_every_failed_attempt_is_logged_with_its_address_and_reason(updating: Update, lines: list[str]) -> None:
    updating.server.faults.append(on("timestamp.json", failing))
    with pytest.raises(SourceUnreachable):
        updating()
    url = f"{updating.server.url}/metadata/timestamp.json"
    assert lines.count(f"{url} answered 500.") == ATTEMPTS


# --- files that change ------------------------------------------------------------------------------------------------


def first_then(first: Callable[[Answer], None], then: Callable[[Answer], None]) -> Callable[[Answer], None]:
    """Something once, and something else ever after."""
    asked: list[Answer] = []

    def change(answer: Answer) -> None:
        (then if asked else first)(answer)
        asked.append(answer)

    return change


def nothing(_answer: Answer) -> None:
    pass


LARGE = 40_000  # bytes of a file with several ranges, when a range is at most RANGE


def ranges_of(source: HttpSource, path: str, total: int) -> bytes:
    return b"".join(b"".join(source.stream_range(path, start, 1000, total)) for start in range(0, total, 1000))


@pytest.fixture
def file(server: RangeServer) -> bytes:
    data = os.urandom(LARGE)
    (server.folder / "file").write_bytes(data)
    return data


def test_the_etag_of_the_first_range_is_the_condition_of_the_others(server: RangeServer, file: bytes) -> None:
    assert ranges_of(HttpSource(server.url), "file", LARGE) == file
    conditions = [headers.get("if-range") for headers in server.headers]
    assert conditions[0] is None
    assert len(set(conditions[1:])) == 1
    assert str(conditions[1]).startswith('"')


def test_a_date_is_the_condition_where_there_is_no_strong_etag(server: RangeServer, file: bytes) -> None:
    def dated(answer: Answer) -> None:
        answer.headers["Last-Modified"] = "Sun, 06 Nov 1994 08:49:37 GMT"
        answer.headers["ETag"] = 'W/"weak"'

    server.faults.append(dated)
    source = HttpSource(server.url)
    list(source.stream_range("file", 0, 1000, LARGE))
    with pytest.raises(SourceUnreachable, match="changed while it was being fetched"):
        list(source.stream_range("file", 1000, 1000, LARGE))  # the server is strict: to it the condition fails
    assert server.headers[1]["if-range"] == "Sun, 06 Nov 1994 08:49:37 GMT"


def test_a_file_that_is_replaced_midway_is_noticed_then_its_digests_decide(server: RangeServer, file: bytes) -> None:
    source = HttpSource(server.url)
    list(source.stream_range("file", 0, 1000, LARGE))
    (server.folder / "file").write_bytes(file[::-1])
    with pytest.raises(SourceUnreachable, match=r"/file changed while it was being fetched: it sent the whole file"):
        list(source.stream_range("file", 1000, 1000, LARGE))
    assert b"".join(source.stream_range("file", 1000, 1000, LARGE)) == file[::-1][1000:2000]
    assert "if-range" not in server.headers[-1]


def test_another_etag_is_noticed_where_the_server_ignores_the_condition(server: RangeServer, file: bytes) -> None:
    server.faults.append(Restless())
    source = HttpSource(server.url)

    def careless(answer: Answer) -> None:
        if answer.status == 200:
            answer.status, answer.body = 206, file[1000:2000]
            answer.headers["Content-Range"] = f"bytes 1000-1999/{LARGE}"

    server.faults.append(careless)
    list(source.stream_range("file", 0, 1000, LARGE))
    with pytest.raises(SourceUnreachable, match='changed while it was being fetched: "1" became "2"'):
        list(source.stream_range("file", 1000, 1000, LARGE))
    assert b"".join(source.stream_range("file", 1000, 1000, LARGE)) == file[1000:2000]


def test_a_server_that_sends_all_for_a_range_that_is_all_is_sound(server: RangeServer, file: bytes) -> None:
    def whole(answer: Answer) -> None:
        answer.status = 200
        answer.headers.pop("Content-Range")

    server.faults.append(whole)
    assert b"".join(HttpSource(server.url).stream_range("file", 0, LARGE, LARGE)) == file


# --- redirects --------------------------------------------------------------------------------------------------------


def test_a_redirect_is_followed_anew_for_every_request_and_never_shown(
    shop: Shop, server: RangeServer, tmp_path: Path
) -> None:
    with serving(shop.store) as elsewhere:

        def moved(answer: Answer) -> None:
            plain(answer, 302, b"", Location=f"{elsewhere.url}/{answer.path}?signature=secret")

        server.faults.append(on("assets/", moved))
        install(server.url, shop.root, tmp_path / "data", app=APP)
        assert len(server.asked("tar.zst")) == len(elsewhere.asked("tar.zst")) > 0
        elsewhere.faults.append(on("assets/", gone))
        with pytest.raises(SourceUnreachable, match="is not there") as caught:
            install(server.url, shop.root, tmp_path / "again", app=APP)
    assert "secret" not in str(caught.value)
    assert run_entry(tmp_path / "data") == "one"


def test_a_signed_address_that_expired_is_asked_for_anew(
    shop: Shop, server: RangeServer, tmp_path: Path, naps: list[float]
) -> None:
    with serving(shop.store) as elsewhere:

        def moved(answer: Answer) -> None:
            plain(answer, 302, b"", Location=f"{elsewhere.url}/{answer.path}?signature=secret")

        def expired(answer: Answer) -> None:
            plain(answer, 403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")

        server.faults.append(on("assets/", moved))
        elsewhere.faults.append(on("assets/", expired, times=2))
        install(server.url, shop.root, tmp_path / "data", app=APP)
        assert run_entry(tmp_path / "data") == "one"
        assert naps
        elsewhere.faults.append(on("assets/", expired))
        with pytest.raises(SourceUnreachable, match="redirects to an address that answered 403; it has prob") as caught:
            install(server.url, shop.root, tmp_path / "again", app=APP)
    assert "secret" not in str(caught.value)


def test_a_password_goes_to_its_own_host_alone_and_is_never_shown(
    shop: Shop, server: RangeServer, tmp_path: Path
) -> None:
    with serving(shop.store) as elsewhere:

        def moved(answer: Answer) -> None:
            plain(answer, 302, b"", Location=f"{elsewhere.url}/{answer.path}")

        server.faults.append(on("assets/", moved))
        url = server.url.replace("http://", "http://user:secret@")
        install(url, shop.root, tmp_path / "data", app=APP)
        assert {headers.get("authorization") for headers in server.headers} == {"Basic dXNlcjpzZWNyZXQ="}
        assert {headers.get("authorization") for headers in elsewhere.headers} == {None}
        elsewhere.faults.append(on("assets/", gone))
        with closing(open_source(url)) as source, pytest.raises(SourceUnreachable) as caught:
            install(source, shop.root, tmp_path / "again", app=APP)
    told = str(caught.value) + str(source.report())
    assert server.url in told
    assert "secret" not in told


# --- names, ports, certificates ---------------------------------------------------------------------------------------


def unreachable(shop: Shop, tmp_path: Path, url: str) -> tuple[SourceUnreachable, MirrorReport]:
    """What an address that cannot be reached says alone; beside a sound mirror it is only reported."""
    with pytest.raises(SourceUnreachable) as caught:
        install(mirrors(url), shop.root, tmp_path / "alone", app=APP)
    assert not list((tmp_path / "alone").rglob("versions/*"))
    with serving(shop.store) as sound:
        source = mirrors(url, sound.url)
        install(source, shop.root, tmp_path / "data", app=APP)
    assert run_entry(tmp_path / "data") == "one"
    return caught.value, source.report()[0]


def test_an_address_where_nobody_listens_is_named(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.store) as server:
        url = server.url
    error, report = unreachable(shop, tmp_path, url)
    assert error.what == f"{url}/metadata/2.root.json did not answer: connection refused."
    assert report.failures[0].why == error.what


def test_a_name_that_cannot_be_resolved_is_named(shop: Shop, tmp_path: Path) -> None:
    error, report = unreachable(shop, tmp_path, "https://downloads.invalid/releases")
    assert "its name downloads.invalid cannot be resolved" in error.what
    assert "misspelt" in error.usually
    assert report.failed


def test_nobody_who_accepts_is_given_up_after_a_while(shop: Shop, tmp_path: Path) -> None:
    """A full queue of connections: the system neither refuses nor accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
        source = HttpSource(f"http://127.0.0.1:{port}", waits=Waits(connect=0.2, silence=0.2))
        with pytest.raises(SourceUnreachable, match=r"did not answer: no (connection|byte) within 0\.2 s"):
            source.stream("file")
        for filler in fillers:
            filler.close()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls(authority: trustme.CA, name: str, *, until: datetime | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    begin = until and until - timedelta(days=30)
    authority.issue_cert(name, not_before=begin, not_after=until).configure_cert(context)
    return context


def test_a_certificate_of_the_organisation_is_believed_when_a_variable_names_it(
    shop: Shop, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    with serving(shop.store, tls(authority, "127.0.0.1")) as server:
        for number, variable in enumerate(("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")):
            with monkeypatch.context() as patch:
                for other in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
                    patch.delenv(other, raising=False)
                patch.setenv(variable, str(bundle))
                install(server.url, shop.root, tmp_path / f"data{number}", app=APP)
    assert run_entry(tmp_path / "data0") == "one"


def test_a_certificate_of_a_stranger_is_named_with_what_to_do(
    shop: Shop, tmp_path: Path, authority: trustme.CA, naps: list[float]
) -> None:
    with serving(shop.store, tls(authority, "127.0.0.1")) as server:
        error, _ = unreachable(shop, tmp_path, server.url)
    assert "cannot be trusted: certificate verification failed (unable to get local issuer certificate)" in error.what
    assert "SSL_CERT_FILE" in error.todo
    assert naps == [], "waiting changes nothing about a certificate"


def test_a_certificate_for_another_name_is_named(
    shop: Shop, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with serving(shop.store, tls(authority, "elsewhere.example.org")) as server:
        error, _ = unreachable(shop, tmp_path, server.url)
    assert "IP address mismatch" in error.what
    assert "Another server answers in its place" in error.usually


def test_a_certificate_past_its_date_is_named(
    shop: Shop, tmp_path: Path, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with serving(shop.store, tls(authority, "127.0.0.1", until=datetime(2020, 2, 1, tzinfo=UTC))) as server:
        error, _ = unreachable(shop, tmp_path, server.url)
    assert "certificate has expired" in error.what
    assert "clock" in error.todo


def test_a_server_that_does_not_encrypt_is_named(shop: Shop, tmp_path: Path) -> None:
    with serving(shop.store) as server:
        error, _ = unreachable(shop, tmp_path, server.url.replace("http:", "https:"))
    assert "did not answer: encryption failed" in error.what


# --- the protocol -----------------------------------------------------------------------------------------------------


def test_only_single_ranges_are_asked_for_and_only_of_archives(updating: Update) -> None:
    updating()
    ranges = [(path, header) for path, header in updating.server.requests if header is not None]
    assert ranges
    for path, header in ranges:
        assert ".tar.zst" in path
        assert header is not None
        assert "," not in header
    assert {headers["accept-encoding"] for headers in updating.server.headers} == {"identity"}


@pytest.mark.proves("S0-13")
def test_corrupt_bytes_stay_out_of_the_installed_versions(updating: Update) -> None:
    """A frame is checked before it is handed on, a file before the version appears."""
    before = updating.versions()
    updating.server.faults.append(on("tar.zst", flipped_bit))
    with pytest.raises(DigestMismatch):
        updating()
    assert updating.versions() == before
    assert len(updating.server.asked("tar.zst")) >= 3  # tried again before giving up


def test_a_source_gives_none_for_what_is_not_there(server: RangeServer) -> None:
    source = HttpSource(server.url)
    assert source.stream("nothing") is None
    stream = source.stream("metadata/timestamp.json")
    assert stream is not None
    assert b"".join(stream).startswith(b"{")
    assert source.traffic.requests == 2
    source.close()


def test_connections_are_kept_and_one_that_the_server_closed_is_no_failure(server: RangeServer, file: bytes) -> None:
    source = HttpSource(server.url)
    for start in range(0, 5000, 1000):
        list(source.stream_range("file", start, 1000, LARGE))
    assert server.connections == 1
    server.faults.append(on("file", closes_at_once, times=1))  # as one does whose patience with a kept one is over
    assert b"".join(source.stream_range("file", 0, 1000, LARGE)) == file[:1000]
    assert (source.traffic.requests, server.connections) == (7, 2)


def test_whoever_waits_can_be_woken(server: RangeServer, file: bytes) -> None:
    server.faults.append(stalls)
    source = HttpSource(server.url, waits=Waits(silence=60))
    blocks = source.stream_range("file", 0, 1000, LARGE)
    assert next(blocks) == file[:500]
    source.interrupt()
    with pytest.raises(SourceUnreachable, match="broke off"):
        next(blocks)


def test_an_answer_that_only_drips_is_given_up(server: RangeServer, file: bytes) -> None:
    clock = iter(range(0, 10_000, 60))  # every read takes a minute
    source = HttpSource(server.url, waits=Waits(window=60, slowest=100), clock=lambda: next(clock))
    with pytest.raises(SourceUnreachable, match=r"/file sent only \d+ bytes in 60 s"):
        list(source.stream_range("file", 0, 1000, LARGE))
    patient = HttpSource(server.url, waits=Waits(window=60, slowest=1), clock=lambda: next(clock))
    assert b"".join(patient.stream_range("file", 0, 1000, LARGE)) == file[:1000]
