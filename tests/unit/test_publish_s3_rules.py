"""The pure rules of publishing to object stores: parts, refusals, headers, leases, patience."""

from __future__ import annotations

import hashlib
import io
import os
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.exceptions as native
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import (
    AssetTooLarge,
    Busy,
    ClockSkewed,
    ConfigError,
    CredentialsMissing,
    CredentialsRefused,
    DestinationFull,
    DestinationMissing,
    DestinationRefuses,
    DestinationUnreachable,
    LadingError,
    PermissionMissing,
    RateLimited,
    Unavailable,
)
from lading.manifest.base import canonical_json
from lading.publish import lease
from lading.publish.attempts import Passing, Patience, persist
from lading.publish.headers import headers_of
from lading.publish.lease import Found, Holder, Lease, died, machine, me, names
from lading.publish.s3_errors import (
    NoConditions,
    Precondition,
    Refusal,
    UploadGone,
    failure,
    local_failure,
    refusal_of,
)
from lading.publish.s3_parts import MOST_PARTS, SMALLEST_PART, Digests, PartThere, counts, part_length, parts_of
from lading.publish.section import SENT_AT_ONCE, FileSection, Mark

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


# --- parts -------------------------------------------------------------------------------------------------------


@given(size=st.integers(1, 5 * 2**40), wanted=st.integers(1, 2**30))
def test_any_file_is_cut_into_equal_parts_that_every_host_takes(size: int, wanted: int) -> None:
    length = part_length(size, wanted)
    count = -(-size // length)
    assert count <= MOST_PARTS
    assert length >= SMALLEST_PART
    assert length % 2**20 == 0 or length == wanted


@given(size=st.integers(1, 2000), length=st.integers(1, 300))
def test_parts_cover_a_file_without_gap_or_overlap(size: int, length: int) -> None:
    parts = parts_of(size, length)
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.start for part in parts] == [sum(p.length for p in parts[:i]) for i in range(len(parts))]
    assert sum(part.length for part in parts) == size
    assert {part.length for part in parts[:-1]} <= {length}
    assert 0 < parts[-1].length <= length


def test_a_part_counts_only_with_its_own_length_and_digest() -> None:
    part = parts_of(100, 60)[1]
    assert counts(part, "m", {2: PartThere(length=40, etag="m")})
    assert not counts(part, "m", {2: PartThere(length=41, etag="m")})
    assert not counts(part, "m", {2: PartThere(length=40, etag="n")})
    assert not counts(part, "m", {1: PartThere(length=40, etag="m")})


def test_a_file_is_digested_as_a_whole_and_in_parts() -> None:
    data = os.urandom(1000)
    digests = Digests()
    found = list(digests.read(io.BytesIO(data), parts_of(1000, 300)))
    assert [md5 for _, md5 in found] == [hashlib.md5(data[i : i + 300]).hexdigest() for i in range(0, 1000, 300)]
    assert (digests.stored.size, digests.stored.sha256) == (1000, hashlib.sha256(data).hexdigest())


def test_a_file_that_ends_early_gives_no_short_part() -> None:
    digests = Digests()
    assert len(list(digests.read(io.BytesIO(bytes(500)), parts_of(1000, 300)))) == 1
    assert digests.stored.size == 500


def test_a_section_is_a_file_of_its_own_and_tells_what_was_sent_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    data = os.urandom(2 * SENT_AT_ONCE + 100)
    path.write_bytes(data)
    heard: list[int] = []
    mark = Mark(heard.append)
    length = SENT_AT_ONCE + 20
    with FileSection(path, 10, length, mark) as section:
        assert len(section) == length
        assert section.read(5) == data[10:15]
        assert section.read() == data[15 : 10 + length]
        assert (section.seek(0, io.SEEK_END), section.tell(), heard) == (length, length, [])
        section.sending = True
        section.seek(0)
        assert section.read(5) == data[10 : 10 + SENT_AT_ONCE], "more than was asked for"
    with FileSection(path, 10, length, mark) as again:
        again.sending = True
        assert b"".join(iter(lambda: again.read(1000) or b"", b"")) == data[10 : 10 + length]
        assert again.seek(-5, io.SEEK_CUR) == length - 5
    assert heard == [SENT_AT_ONCE, 20]


@pytest.mark.parametrize(
    ("path", "kind", "cache"),
    [
        ("assets/core/1.0.0/a.tar.zst", "application/zstd", "immutable"),
        ("assets/core/1.0.0/a.tar.zst.001", "application/octet-stream", "immutable"),
        ("assets/core/1.0.0/a.tar.zst.sha256", "text/plain; charset=utf-8", "immutable"),
        ("assets/core/1.0.0/a-from-0.9.0.patch", "application/octet-stream", "immutable"),
        ("metadata/1.root.json", "application/json", "immutable"),
        ("metadata/timestamp.json", "application/json", "no-cache"),
        ("targets/x/timestamp.json", "application/json", "immutable"),
    ],
)
def test_headers_follow_the_path(path: str, kind: str, cache: str) -> None:
    assert headers_of(path).content_type == kind
    assert cache in headers_of(path).cache_control


# --- refusals ----------------------------------------------------------------------------------------------------

FINAL: list[tuple[int, str, type[LadingError]]] = [
    (403, "InvalidAccessKeyId", CredentialsRefused),
    (403, "SignatureDoesNotMatch", CredentialsRefused),
    (401, "Unauthorized", CredentialsRefused),
    (400, "ExpiredToken", CredentialsRefused),
    (403, "RequestTimeTooSkewed", ClockSkewed),
    (403, "AccessDenied", PermissionMissing),
    (403, "403", PermissionMissing),
    (409, "ObjectLockedByBucketPolicy", PermissionMissing),
    (404, "NoSuchBucket", DestinationMissing),
    (301, "PermanentRedirect", DestinationMissing),
    (400, "AuthorizationHeaderMalformed", DestinationMissing),
    (400, "EntityTooLarge", AssetTooLarge),
    (403, "QuotaExceeded", DestinationFull),
    (507, "InsufficientStorage", DestinationFull),
    (400, "InvalidPart", DestinationRefuses),
    (405, "MethodNotAllowed", DestinationRefuses),
]


@pytest.mark.parametrize(("status", "code", "kind"), FINAL)
def test_every_refusal_is_told_in_its_own_words(status: int, code: str, kind: type[LadingError]) -> None:
    found = failure(Refusal(status=status, code=code, message="AKIASECRET"), "s3://b", "writing x", NOW)
    assert type(found) is kind
    assert isinstance(found, LadingError)
    assert "s3://b" in found.what
    assert "writing x" in found.what
    assert found.usually
    assert found.todo
    assert "AKIASECRET" not in str(found)


@pytest.mark.parametrize(
    ("status", "code", "final"),
    [
        (429, "TooMuchConcurrency", RateLimited),
        (503, "SlowDown", RateLimited),
        (500, "InternalError", DestinationUnreachable),
        (502, "502", DestinationUnreachable),
        (503, "ServiceUnavailable", DestinationUnreachable),
        (400, "RequestTimeout", DestinationUnreachable),
        (409, "ConditionalRequestConflict", DestinationUnreachable),
        (400, "XAmzContentSHA256Mismatch", DestinationUnreachable),
    ],
)
def test_what_may_pass_says_how_long_to_wait(status: int, code: str, final: type[LadingError]) -> None:
    found = failure(Refusal(status=status, code=code, retry_after=7.0), "s3://b", "writing x", NOW)
    assert isinstance(found, Passing)
    assert (type(found.final), found.retry_after) == (final, 7.0)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "PreconditionFailed", Precondition),
        (501, "NotImplemented", NoConditions),
        (404, "NoSuchUpload", UploadGone),
    ],
)
def test_what_the_caller_decides_about_is_no_failure(status: int, code: str, kind: type[Exception]) -> None:
    assert type(failure(Refusal(status=status, code=code), "s3://b", "writing x", NOW)) is kind


def test_a_wrong_clock_is_told_with_the_difference() -> None:
    refusal = Refusal(status=403, code="RequestTimeTooSkewed", date=NOW + timedelta(hours=2, minutes=5))
    assert "2 h 5 min earlier here" in str(failure(refusal, "s3://b", "listing", NOW))


def test_an_answer_is_read_whatever_it_lacks() -> None:
    assert refusal_of({}) == Refusal(status=0, code="")
    headers = {"retry-after": "5", "date": "Fri, 20 Nov 2026 12:00:00 GMT"}
    found = refusal_of({"ResponseMetadata": {"HTTPStatusCode": 503, "HTTPHeaders": headers}, "Error": {"Code": "X"}})
    assert found == Refusal(status=503, code="X", retry_after=5.0, date=NOW)
    assert refusal_of({"ResponseMetadata": {"HTTPHeaders": {"retry-after": "soon", "date": "never"}}}).date is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (native.NoCredentialsError(), CredentialsMissing),
        (native.PartialCredentialsError(provider="env", cred_var="AWS_SECRET_ACCESS_KEY"), CredentialsMissing),
        (native.InvalidRegionError(region_name="?"), ConfigError),
        (native.SSLError(endpoint_url="https://x", error=OSError("self-signed")), DestinationUnreachable),
    ],
)
def test_failures_of_this_side_are_final(error: native.BotoCoreError, kind: type[LadingError]) -> None:
    assert type(local_failure(error, "s3://b", "listing")) is kind


@pytest.mark.parametrize(
    "error",
    [
        native.EndpointConnectionError(endpoint_url="http://x", error=OSError("refused")),
        native.ReadTimeoutError(endpoint_url="http://x", error=OSError("timed out")),
        native.ConnectionClosedError(endpoint_url="http://x", request=None),
        native.IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ],
)
def test_a_network_that_fails_may_come_back(error: native.BotoCoreError) -> None:
    assert isinstance(local_failure(error, "s3://b", "listing"), Passing)


# --- patience ----------------------------------------------------------------------------------------------------


def passing(retry_after: float | None = None) -> Passing:
    return Passing(Unavailable("not now"), retry_after=retry_after)


def test_waits_grow_and_end() -> None:
    slept: list[float] = []

    def fail() -> int:
        raise passing()

    with pytest.raises(Unavailable, match="not now"):
        persist(fail, Patience(attempts=5, first=1.0, longest=4.0, sleep=slept.append))
    assert len(slept) == 4
    assert all(pause <= min(4.0, 2.0**number) for number, pause in enumerate(slept))


def test_what_an_earlier_attempt_achieved_is_taken() -> None:
    calls: list[str] = []

    def lose_the_answer() -> str:
        calls.append("sent")
        raise passing()

    found = persist(lose_the_answer, Patience(sleep=lambda _: None), lambda: "there" if calls else None)
    assert (found, calls) == ("there", ["sent"])


def test_nothing_is_looked_for_before_the_first_attempt() -> None:
    assert persist(lambda: "new", Patience(), lambda: "old") == "new"


def test_a_failure_while_looking_is_a_failed_attempt_too() -> None:
    tries: list[int] = []

    def fail() -> str:
        tries.append(1)
        raise passing()

    def look() -> str | None:
        tries.append(2)
        raise passing()

    with pytest.raises(Unavailable):
        persist(fail, Patience(attempts=4, sleep=lambda _: None), look)
    assert tries == [1, 2, 2, 2]


# --- leases ------------------------------------------------------------------------------------------------------


class Leases:
    """Leases in a dictionary, which create once and compare before they renew."""

    def __init__(self) -> None:
        self.held: dict[int, bytes] = {}
        self.ages: dict[int, float] = {}
        self.lock = threading.Lock()

    def leases(self) -> tuple[Found, ...]:
        with self.lock:
            return tuple(Found(number=number, age=self.ages.get(number, 0.0)) for number in self.held)

    def read(self, number: int) -> bytes | None:
        return self.held.get(number)

    def create(self, number: int, data: bytes) -> bool:
        with self.lock:
            return self.held.setdefault(number, data) == data

    def renew(self, number: int, data: bytes) -> bool:
        with self.lock:
            return self.held.get(number) == data

    def remove(self, number: int) -> None:
        with self.lock:
            self.held.pop(number, None)


def other(**changes: object) -> Holder:
    return me(60.0).model_copy(update={"token": "other", "machine": "elsewhere", **changes})


def test_a_lease_is_one_object_while_it_is_held_and_none_afterwards() -> None:
    store = Leases()
    with Lease(store, "s3").held():
        assert list(store.held) == [1]
    assert store.held == {}


def test_a_lease_that_is_alive_keeps_others_out_and_says_whose_it_is() -> None:
    store = Leases()
    store.held[4], store.ages[4] = canonical_json(other(host="ci-7", pid=99)), 59.0
    with pytest.raises(Busy, match="process 99 on ci-7, which gave its last sign 59 s ago"), Lease(store, "s3").held():
        raise AssertionError
    assert list(store.held) == [4]


def test_a_lease_without_a_sign_is_followed_and_cleared_away() -> None:
    store = Leases()
    store.held[4], store.ages[4] = canonical_json(other()), 61.0
    with Lease(store, "s3").held():
        assert sorted(store.held) == [4, 5]
    assert store.held == {}


def test_a_lease_of_an_unknown_form_is_respected_by_its_age() -> None:
    store = Leases()
    store.held[1], store.ages[1] = b"of another version", 119.0
    with pytest.raises(Busy, match="119 s ago"), Lease(store, "s3", ttl=120.0).held():
        raise AssertionError
    store.ages[1] = 121.0
    with Lease(store, "s3", ttl=120.0).held():
        assert sorted(store.held) == [1, 2]


def test_only_one_of_many_that_begin_at_once_gets_the_lease() -> None:
    for _ in range(50):
        store = Leases()
        inside: list[int] = []
        most: list[int] = []
        ready = threading.Barrier(6)

        def go(store: Leases = store, ready: threading.Barrier = ready, inside: list[int] = inside) -> None:
            ready.wait()
            with suppress(Busy), Lease(store, "s3").held():
                inside.append(1)
                most.append(len(inside))  # noqa: B023 (joined before the next round)
                inside.pop()

        threads = [threading.Thread(target=go) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(most) == {1}
        assert store.held == {}


def test_a_holder_that_was_followed_is_told_and_leaves_the_other_lease_alone() -> None:
    store = Leases()
    mine = Lease(store, "s3")
    with mine.held():
        mine.check()
        store.held[2] = canonical_json(other())
        with pytest.raises(Busy, match="took over"):
            mine.check()
    assert 2 in store.held


def test_a_lease_that_was_cleared_away_and_taken_anew_is_not_ours() -> None:
    store = Leases()
    mine = Lease(store, "s3")
    with mine.held():
        store.held[1] = canonical_json(other())
        with pytest.raises(Busy):
            mine.check()
    assert list(store.held) == [1]


def test_holding_twice_is_a_mistake_of_the_caller() -> None:
    mine = Lease(Leases(), "s3")
    with mine.held(), pytest.raises(RuntimeError), mine.held():
        raise AssertionError


def test_a_process_is_dead_only_if_it_can_be_known() -> None:
    here = machine()
    assert not died(other(pid=2**22 + 5), here), "of another machine"
    assert died(me(1.0).model_copy(update={"pid": 2**22 + 5}), here)
    assert died(me(1.0), here), "ours, and not given back"
    assert died(me(1.0).model_copy(update={"pid": os.getppid(), "started": 1.0}), here), "its number is used again"


def test_other_objects_are_no_leases() -> None:
    keys = {"p/lease/7.json": 3.0, "p/lease/x.json": 1.0, "p/lease/7": 1.0, "p/lease/a/8.json": 1.0}
    assert names(keys, "p/lease/") == (Found(number=7, age=3.0),)
    assert lease.highest(()) is None
