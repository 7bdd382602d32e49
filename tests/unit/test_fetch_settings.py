"""What people and environments write: rates, proxies, addresses, and what is remembered of files."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import ConfigError, SourceUnreachable
from lading.fetch.address import open_source
from lading.fetch.folder import FolderSource
from lading.fetch.http import HttpSource
from lading.fetch.proxies import Proxy, parse_proxy, proxy_for
from lading.fetch.throttle import BURST, SMALLEST, Throttle, parse_rate
from lading.fetch.transport import shown_url
from lading.fetch.validators import Validators, validator_of

# --- rates ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("5M", 5 * 2**20),
        ("500k", 500 * 1024),
        ("1.5M", 1.5 * 2**20),
        ("2GiB", 2 * 2**30),
        ("1000", 1000),
        ("8MB/s", 8 * 2**20),
        (" 1 ".strip(), 1),
    ],
)
def test_a_rate_is_read_as_other_programs_read_it(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "0K", "-5M", "5T", "fast", "5 M B", "nan", "inf", "1e3"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="500K or 5M"):
        parse_rate(text)


class Time:
    """A clock that only sleeping moves; the sleeps of several threads add up as those of one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@given(st.floats(100, 1e8), st.lists(st.integers(1, 2**20), min_size=1, max_size=50))
def test_whatever_comes_the_rate_holds(rate: float, blocks: list[int]) -> None:
    time = Time()
    throttle = Throttle(rate, clock=time.clock, sleep=time.sleep)
    for block in blocks:
        throttle.pay(block)
    assert time.now >= sum(blocks) / rate - BURST - 1e-6
    assert time.now <= sum(blocks) / rate + 1e-6


def test_who_was_idle_may_not_make_up_for_it() -> None:
    time = Time()
    throttle = Throttle(1000, clock=time.clock, sleep=time.sleep)
    throttle.pay(1000)
    time.now += 3600
    time.slept.clear()
    throttle.pay(1000)
    assert time.slept == [pytest.approx(1 - BURST)]


def test_threads_wait_in_turn() -> None:
    slept: list[float] = []
    throttle = Throttle(1000, clock=lambda: 0.0, sleep=slept.append)
    threads = [threading.Thread(target=throttle.pay, args=(500,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(slept) == [pytest.approx(0.5 * turn - BURST) for turn in range(1, 5)]


def test_blocks_are_small_when_the_rate_is() -> None:
    assert Throttle(50_000).block(2**18) == SMALLEST
    assert Throttle(2**20).block(2**18) == 2**16
    assert Throttle(2**30).block(2**18) == 2**18
    with pytest.raises(TypeError):
        Throttle(0)


# --- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://proxy:3128", Proxy(scheme="http", place="proxy:3128")),
        ("proxy:3128", Proxy(scheme="http", place="proxy:3128")),
        ("https://proxy", Proxy(scheme="https", place="proxy")),
        ("socks5h://u:p%40ss@proxy:1080/", Proxy(scheme="socks5h", place="proxy:1080", user="u", password="p@ss")),
        ("socks://[::1]:1080", Proxy(scheme="socks5h", place="[::1]:1080")),
        ("SOCKS4A://proxy:1", Proxy(scheme="socks4a", place="proxy:1")),
    ],
)
def test_a_proxys_address_is_read(text: str, wanted: Proxy) -> None:
    assert parse_proxy(text) == wanted
    assert "p@ss" not in wanted.url


@pytest.mark.parametrize("text", ["ftp://user:secret@proxy", "http://", "://", "http://user:secret@"])
def test_what_is_no_proxy_is_refused_without_its_password(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_proxy(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "proxies", "place"),
    [
        ("https://host/x", {"https": "a:1", "http": "b:1", "all": "c:1"}, "a:1"),
        ("http://host/x", {"https": "a:1", "http": "b:1"}, "b:1"),
        ("http://host/x", {"https": "a:1"}, None),
        ("http://host/x", {"https": "a:1", "all": "c:1"}, "c:1"),
        ("http://host/x", {"all": "c:1", "no": "host"}, None),
        ("http://cdn.host/x", {"all": "c:1", "no": ".host"}, None),
        ("http://other/x", {"all": "c:1", "no": "host, .example.org"}, "c:1"),
        ("http://user:pw@host:8080/x", {"all": "c:1", "no": "host:8080"}, None),
        ("http://host/x", {"all": "c:1", "no": "*"}, None),
        ("http://host/x", {}, None),
    ],
)
def test_the_proxy_is_decided_by_the_address(url: str, proxies: dict[str, str], place: str | None) -> None:
    found = proxy_for(url, proxies)
    assert (found and found.place) == place


# --- addresses --------------------------------------------------------------------------------------------------------


def test_several_addresses_are_mirrors_in_their_order_and_none_is_opened_twice(tmp_path: Path) -> None:
    source = open_source(["https://a.example.org/r/", str(tmp_path), "https://a.example.org/r/"])
    assert [report.where for report in source.report()] == ["https://a.example.org/r/", str(tmp_path)]


def test_a_folder_may_be_written_as_an_address(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    (tmp_path / "a b" / "file").write_bytes(b"data")
    stream = open_source((tmp_path / "a b").as_uri()).stream("file")
    assert stream is not None
    assert b"".join(stream) == b"data"


@pytest.mark.parametrize("text", ["ftp://user:secret@host/x", "htps://host", "s3://bucket/key?token=secret"])
def test_an_address_of_another_kind_is_refused_at_once(text: str) -> None:
    with pytest.raises(SourceUnreachable, match="not an address that can be fetched") as caught:
        open_source(text)
    assert "secret" not in str(caught.value)


def test_no_address_at_all_is_misuse() -> None:
    with pytest.raises(TypeError):
        open_source([])


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://h/r/", "metadata/1.root.json", "https://h/r/metadata/1.root.json"),
        ("https://h/r", "assets/core/1.0+a/x y", "https://h/r/assets/core/1.0%2Ba/x%20y"),
        ("https://h/{version}/{name}", "assets/libs/cu126-v1/x.tar.zst.001", "https://h/cu126-v1/x.tar.zst.001"),
        ("https://h/{component}-{version}/{name}", "assets/core/0.1.0/x", "https://h/core-0.1.0/x"),
        ("https://h/{path}?token=secret", "metadata/timestamp.json", "https://h/metadata/timestamp.json"),
        ("https://me:secret@h/r", "x", "https://h/r/x"),
    ],
)
def test_where_a_file_lies(base: str, path: str, url: str) -> None:
    assert HttpSource(base).describe(path) == url


def test_a_pattern_that_has_no_place_for_a_file_does_not_have_it() -> None:
    source = HttpSource("https://downloads.invalid/{version}/{name}")
    assert source.stream("metadata/timestamp.json") is None
    with pytest.raises(SourceUnreachable, match=r"no metadata/timestamp\.json belongs there"):
        next(source.stream_range("metadata/timestamp.json", 0, 1, 1))
    assert source.traffic.requests == 0


def test_what_is_shown_of_an_address_holds_no_secret() -> None:
    assert shown_url("https://u:secret@h:1/p/x?sig=secret#secret") == "https://h:1/p/x"


# --- folders ----------------------------------------------------------------------------------------------------------


def test_a_flat_folder_of_downloads_is_a_repository(tmp_path: Path) -> None:
    (tmp_path / "timestamp.json").write_bytes(b"time")
    (tmp_path / "core.tar.zst").write_bytes(b"0123456789")
    source = FolderSource(tmp_path)
    assert b"".join(source.stream("metadata/timestamp.json") or []) == b"time"
    assert b"".join(source.stream_range("assets/core/1/core.tar.zst", 2, 3, 10)) == b"234"
    assert source.describe("assets/core/1/core.tar.zst") == str(tmp_path / "core.tar.zst")


def test_the_path_counts_before_the_name(tmp_path: Path) -> None:
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "timestamp.json").write_bytes(b"right")
    (tmp_path / "timestamp.json").write_bytes(b"wrong")
    assert b"".join(FolderSource(tmp_path).stream("metadata/timestamp.json") or []) == b"right"


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda _: None, "There is no folder"),
        (lambda folder: folder.mkdir(), "assets/libs/1/x.zst is not there"),
        (lambda folder: (folder.mkdir(), (folder / "x.zst").write_bytes(b"short")), "has 5 bytes, not 10"),
    ],
    ids=["no folder", "no file", "other size"],
)
def test_what_a_folder_lacks_is_named(tmp_path: Path, make: Callable[[Path], object], said: str) -> None:
    make(tmp_path / "stick")
    with pytest.raises(SourceUnreachable, match=said) as caught:
        list(FolderSource(tmp_path / "stick").stream_range("assets/libs/1/x.zst", 0, 10, 10))
    assert "stick" in caught.value.what


def test_a_folder_that_appears_later_is_found_then(tmp_path: Path) -> None:
    source = FolderSource(tmp_path / "stick")
    with pytest.raises(SourceUnreachable):
        source.stream("x")
    (tmp_path / "stick").mkdir()
    assert source.stream("x") is None


def test_a_file_that_becomes_shorter_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(2**19))
    blocks = FolderSource(tmp_path).stream_range("x", 0, 2**19, 2**19)
    next(blocks)
    (tmp_path / "x").write_bytes(b"")
    with pytest.raises(SourceUnreachable, match="ended 262144 bytes too early"):
        list(blocks)


def test_a_file_that_cannot_be_read_is_the_sources_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(b"data")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceUnreachable, match="cannot be read: Input/output error"):
        list(FolderSource(tmp_path).stream("x") or [])


# --- validators -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "validator"),
    [
        ({"ETag": '"a"', "Last-Modified": "then"}, '"a"'),
        ({"ETag": 'W/"a"', "Last-Modified": "then"}, "then"),
        ({"ETag": 'W/"a"'}, None),
        ({}, None),
    ],
)
def test_only_what_is_strong_is_a_validator(headers: dict[str, str], validator: str | None) -> None:
    assert validator_of(headers) == validator


def test_the_first_answer_is_remembered_and_a_change_told_once() -> None:
    known = Validators()
    assert known.condition("x") == {}
    assert known.change("x", {"ETag": '"1"'}) is None
    assert known.condition("x") == {"If-Range": '"1"'}
    assert known.condition("y") == {}
    assert known.change("x", {}) is None, "a server that says nothing has not changed anything"
    assert known.change("x", {"ETag": '"2"'}) == '"1" became "2"'
    assert known.condition("x") == {}
    assert known.change("x", {"ETag": '"3"'}) is None, "from then on the digests decide"
    known.forget("y")
    assert known.change("y", {"ETag": '"1"'}) is None
    assert known.condition("y") == {}
