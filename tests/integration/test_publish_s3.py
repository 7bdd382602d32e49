"""Publishing to object stores: nothing overwritten, nothing sent twice, and every failure said in its own words."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.compat
import pytest
from tests.doubles.faults import Asked, Fault, Gateway, gateway
from tests.doubles.faults import Kind as FaultKind
from tests.doubles.fixtures import Kind, MakePlace
from tests.doubles.moto_iam import Moto
from tests.doubles.places import NOTHING, PART, PREFIX, QUICK, Place, environment
from tests.doubles.s3_client import plain_client
from tests.doubles.swift import Swift
from tests.integration.publish_race import race
from tests.packed_release import APP, ENTRY, Files, program, write_packed

from lading.digest import sha256_bytes
from lading.errors import (
    Busy,
    ClockSkewed,
    ConfigError,
    CredentialsMissing,
    CredentialsRefused,
    DestinationMissing,
    DestinationUnreachable,
    DigestMismatch,
    Interrupted,
    LadingError,
    ObjectTaken,
    PermissionMissing,
    RateLimited,
    ToolMissing,
)
from lading.manifest.base import canonical_json
from lading.manifest.destination import S3Destination as Manifest
from lading.publish import lease
from lading.publish.attempts import Patience
from lading.publish.destination import Stored
from lading.publish.folder import open_destination
from lading.publish.headers import headers_of
from lading.publish.publisher import publish
from lading.publish.s3 import OURS, S3Destination, open_bucket, open_s3
from lading.publish.s3_bucket import Bucket
from lading.publish.s3_client import Settings
from lading.sign.keys import development_keys
from lading.store.install import install

LARGE = 4 * PART + 12345  # five parts
PATH = "assets/libs/cu126-v1/demo-app-libs-cu126-v1-linux-x86_64.tar.zst"
TIMESTAMP = "metadata/timestamp.json"
ONCE = Patience(attempts=1)
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 30_000}
LIBS: Files = {"_internal/nvidia/lib.so": os.urandom(200_000)}


def ignore(_: int) -> None:
    pass


def stored(data: bytes) -> Stored:
    return Stored(size=len(data), sha256=sha256_bytes(data))


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "volume"
    path.write_bytes(os.urandom(LARGE))
    return path


def once_each(parts: int = 5) -> Counter[tuple[str, str]]:
    return Counter({(f"{PREFIX}/{PATH}", str(number)): 1 for number in range(1, parts + 1)})


def parts_stored(between: Gateway) -> Counter[tuple[str, str]]:
    return Counter({found: count for found, count in between.stored().items() if found[1] != "0"})


# --- what lies there ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["swift", "moto", "r2"])
def test_objects_say_what_they_are_and_how_long_they_may_be_kept(
    make_place: MakePlace, large: Path, kind: Kind
) -> None:
    place = make_place(kind)
    destination = place.open()
    destination.put_file(PATH, large, stored(large.read_bytes()), ignore)
    destination.put_bytes(f"{PATH}.sha256", b"digest  name\n")
    destination.put_bytes("metadata/1.root.json", b"{}")
    destination.put_bytes(TIMESTAMP, b"{}")
    client = plain_client(place.store, place.key, place.secret)
    heads = {
        path: client.head_object(Bucket=place.bucket, Key=f"{PREFIX}/{path}")
        for path in (PATH, f"{PATH}.sha256", "metadata/1.root.json", TIMESTAMP)
    }
    assert {path: (head["ContentType"], head["CacheControl"]) for path, head in heads.items()} == {
        PATH: ("application/zstd", "public, max-age=31536000, immutable"),
        f"{PATH}.sha256": ("text/plain; charset=utf-8", "public, max-age=31536000, immutable"),
        "metadata/1.root.json": ("application/json", "public, max-age=31536000, immutable"),
        TIMESTAMP: ("application/json", "no-cache"),
    }
    assert not any(head.get("ContentEncoding") for head in heads.values())
    assert heads[PATH]["Metadata"] == {"sha256": sha256_bytes(large.read_bytes())}


@pytest.mark.parametrize("kind", ["swift", "moto", "r2"])
def test_a_name_that_is_taken_is_never_written_over(make_place: MakePlace, large: Path, kind: Kind) -> None:
    place = make_place(kind)
    destination = place.open()
    data = large.read_bytes()
    destination.put_bytes("metadata/1.root.json", b"mine")
    destination.put_bytes("metadata/1.root.json", b"mine")
    with pytest.raises(ObjectTaken, match="left as it is"):
        destination.put_bytes("metadata/1.root.json", b"other")
    other = data[:-1] + bytes([data[-1] ^ 1])
    plain_client(place.store, place.key, place.secret).put_object(
        Bucket=place.bucket, Key=f"{PREFIX}/{PATH}", Body=other
    )
    with pytest.raises(ObjectTaken, match=sha256_bytes(other)):
        destination.put_file(PATH, large, stored(data), ignore)
    assert place.contents() == {"metadata/1.root.json": b"mine", PATH: other}
    assert place.unfinished() == []


def test_an_object_that_another_program_put_there_is_read_back(swift_place: Place, large: Path) -> None:
    data = large.read_bytes()
    client = plain_client(swift_place.store, swift_place.key, swift_place.secret)
    client.put_object(Bucket=swift_place.bucket, Key=f"{PREFIX}/{PATH}", Body=data)
    destination = swift_place.open()
    assert destination.stat(PATH) == stored(data)
    destination.put_file(PATH, large, stored(data), ignore)  # the same bytes: left alone
    assert (
        "Metadata" not in client.head_object(Bucket=swift_place.bucket, Key=f"{PREFIX}/{PATH}")
        or not (client.head_object(Bucket=swift_place.bucket, Key=f"{PREFIX}/{PATH}")["Metadata"])
    )
    assert swift_place.unfinished() == []


# --- nothing is sent twice ---------------------------------------------------------------------------------------


def test_an_upload_that_was_cut_off_goes_on_from_the_parts_that_are_there(
    swift_place: Place, between: Gateway, large: Path
) -> None:
    data, place = large.read_bytes(), swift_place.through(between.url)
    between.once(Fault(kind="reset", after=1000), "UploadPart", skip=3, times=99)
    with pytest.raises(DestinationUnreachable, match="sending part"):
        place.open(patience=ONCE).put_file(PATH, large, stored(data), ignore)
    between.settle()
    between.rules.clear()
    had = parts_stored(between)
    assert len(had) == 3
    heard: list[int] = []
    assert place.open().begun(PATH, stored(data)) == 3 * PART
    assert place.open().put_file(PATH, large, stored(data), heard.append) == LARGE - 3 * PART
    assert place.open().begun(PATH, stored(data)) == 0
    assert place.contents() == {PATH: data}
    assert sum(heard) == LARGE
    assert parts_stored(between) == once_each()
    assert place.unfinished() == []


@pytest.mark.parametrize(
    "operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "PutObject", "ListParts"]
)
def test_a_lost_answer_is_recognised_and_nothing_is_sent_again(
    swift_place: Place, between: Gateway, large: Path, operation: str
) -> None:
    data, place = large.read_bytes(), swift_place.through(between.url)
    between.once(Fault(kind="drop"), operation)
    destination = place.open()
    destination.put_file(PATH, large, stored(data), ignore)
    destination.put_bytes(f"{PATH}.sha256", b"small")
    assert place.contents() == {PATH: data, f"{PATH}.sha256": b"small"}
    assert parts_stored(between) == once_each()
    assert between.stored()[f"{PREFIX}/{PATH}.sha256", "0"] == 1
    assert place.unfinished() == []


def test_whoever_hears_of_progress_may_end_it_and_the_next_run_goes_on(
    swift_place: Place, between: Gateway, large: Path
) -> None:
    place, data = swift_place.through(between.url), stored(large.read_bytes())
    heard: list[int] = []

    def stop(amount: int) -> None:
        heard.append(amount)
        if sum(heard) > 2 * PART:
            raise Interrupted("asked to stop")

    with pytest.raises(Interrupted, match="asked to stop"):
        place.open().put_file(PATH, large, data, stop)
    between.settle()
    assert swift_place.open().stat(PATH) is None
    assert not between.asked("CompleteMultipartUpload")
    place.open().put_file(PATH, large, data, ignore)
    assert swift_place.open().stat(PATH) == data
    assert parts_stored(between) == once_each()


def test_an_upload_that_was_begun_for_other_content_is_given_up(
    swift_place: Place, between: Gateway, large: Path
) -> None:
    place = swift_place.through(between.url)
    between.once(Fault(kind="cut", after=1), "UploadPart", skip=2, times=99)
    with pytest.raises(DestinationUnreachable):
        place.open(patience=ONCE).put_file(PATH, large, stored(large.read_bytes()), ignore)
    between.settle()
    between.rules.clear()
    data = large.read_bytes()
    data = data[:-1] + bytes([data[-1] ^ 1])  # the same size, and all parts but the last the same
    large.write_bytes(data)
    place.open().put_file(PATH, large, stored(data), ignore)
    assert place.open().stat(PATH) == stored(data)
    assert place.contents() == {PATH: data}
    assert place.unfinished() == []


def test_an_upload_that_the_host_began_late_is_ended_with_the_one_that_was_finished(
    swift_place: Place, between: Gateway, large: Path
) -> None:
    data, client = large.read_bytes(), plain_client(swift_place.store, swift_place.key, swift_place.secret)

    def late(asked: Asked) -> None:
        if asked.operation == "UploadPart" and asked.query["partNumber"] == "1":
            client.create_multipart_upload(Bucket=swift_place.bucket, Key=f"{PREFIX}/{PATH}")

    between.rules.append(late)
    swift_place.through(between.url).open().put_file(PATH, large, stored(data), ignore)
    assert swift_place.contents() == {PATH: data}
    assert swift_place.unfinished() == []


def test_a_part_that_is_there_with_other_bytes_is_sent_again(swift_place: Place, large: Path) -> None:
    data = large.read_bytes()
    bucket = open_bucket_of(swift_place)
    uploads = S3Destination(bucket, PREFIX)._uploads
    note, there = uploads.take(f"{PREFIX}/{PATH}", stored(data), PART, headers_of(PATH))
    assert not there
    client = plain_client(swift_place.store, swift_place.key, swift_place.secret)
    client.upload_part(Bucket=swift_place.bucket, Key=note.key, UploadId=note.upload, PartNumber=2, Body=bytes(PART))
    swift_place.open().put_file(PATH, large, stored(data), ignore)
    assert swift_place.contents() == {PATH: data}


def open_bucket_of(place: Place) -> Bucket:
    with environment(place.environment()):
        return open_bucket(place.settings(), patience=QUICK)


def test_unfinished_uploads_that_nobody_goes_on_with_are_given_up_after_days(
    swift_place: Place, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(swift_place.store) as between:
        between.once(Fault(kind="cut", after=1), "UploadPart", skip=1, times=99)
        with pytest.raises(DestinationUnreachable):
            swift_place.through(between.url).open(patience=ONCE).put_file(
                PATH, large, stored(large.read_bytes()), ignore
            )
        between.settle()
    with swift_place.open().hold():
        pass
    assert len(swift_place.unfinished()) == 2, "an upload and its note, kept for the next run"
    monkeypatch.setattr("lading.publish.s3.ABANDONED", -1.0)
    with swift_place.open().hold():
        pass
    assert swift_place.unfinished() == []


def test_memory_does_not_grow_with_the_file(swift_place: Place, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as stream:
        for _ in range(24):
            stream.write(os.urandom(PART))
    data = Stored(size=24 * PART, sha256=sha256_bytes(big.read_bytes()))
    destination = swift_place.open()
    tracemalloc.start()
    try:
        destination.put_file(PATH, big, data, ignore)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * PART, "less than two parts, with four under way"


# --- the network -------------------------------------------------------------------------------------------------

OPERATIONS = (
    "ListObjects",
    "HeadObject",
    "GetObject",
    "PutObject",
    "DeleteObject",
    "ListMultipartUploads",
    "CreateMultipartUpload",
    "UploadPart",
    "CompleteMultipartUpload",
)


def pack(folder: Path, version: str = "0.1.0") -> Path:
    """A release whose libs are one volume of several parts."""
    return write_packed(folder, version, CORE, {"_internal/nvidia/lib.so": os.urandom(2 * PART + 999)})


@pytest.mark.proves("S0-23")
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["cut", "reset", "drop", "short", "answer"])
def test_a_failure_in_any_request_is_survived_and_everything_is_stored_once(
    swift_place: Place, between: Gateway, tmp_path: Path, operation: str, kind: FaultKind
) -> None:
    place = swift_place.through(between.url)
    file = pack(tmp_path / "packed")
    between.once(Fault(kind=kind, after=100, status=503, code="SlowDown"), operation, skip=1)
    between.once(Fault(kind=kind, after=0, status=500, code="InternalError"), operation)
    result = publish(tmp_path / "packed", file, place.open(), development_keys(tmp_path / "keys"))
    assert set(place.contents()) == {item.path for item in (*result.uploaded, *result.metadata)}
    twice = {found: count for found, count in between.stored().items() if count > 1 and OURS not in found[0]}
    assert twice == {}
    assert place.unfinished() == []


@pytest.mark.proves("S0-23")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_failure_that_stays_ends_the_run_and_the_next_one_goes_on(
    swift_place: Place, between: Gateway, tmp_path: Path, operation: str
) -> None:
    place = swift_place.through(between.url)
    file, keys = pack(tmp_path / "packed"), development_keys(tmp_path / "keys")
    seldom = {"CreateMultipartUpload", "ListMultipartUploads", "CompleteMultipartUpload", "DeleteObject"}
    between.once(Fault(kind="reset"), operation, skip=0 if operation in seldom else 1, times=1000)
    with pytest.raises(DestinationUnreachable) as caught:
        publish(tmp_path / "packed", file, place.open(patience=ONCE), keys)
    assert "Run the same command again" in caught.value.todo
    assert TIMESTAMP not in swift_place.contents()
    between.rules.clear()
    between.settle()
    publish(tmp_path / "packed", file, place.open(), keys)
    twice = {found: count for found, count in between.stored().items() if count > 1 and OURS not in found[0]}
    assert twice == {}
    assert place.unfinished() == []


def test_a_host_that_asks_to_wait_is_waited_for(swift_place: Place, between: Gateway) -> None:
    slept: list[float] = []
    between.once(Fault(kind="answer", status=429, code="SlowDown", headers=(("Retry-After", "17"),)), "PutObject")
    place = swift_place.through(between.url)
    place.open(patience=replace(QUICK, longest=60.0, sleep=slept.append)).put_bytes("metadata/1.root.json", b"x")
    assert slept == [17.0]
    assert place.contents() == {"metadata/1.root.json": b"x"}


def test_a_host_that_asks_to_wait_too_long_is_not_waited_for(swift_place: Place, between: Gateway) -> None:
    slept: list[float] = []
    between.once(
        Fault(kind="answer", status=503, code="SlowDown", headers=(("Retry-After", "3600"),)), "PutObject", times=9
    )
    place = swift_place.through(between.url)
    with pytest.raises(RateLimited, match="wants no more requests"):
        place.open(patience=replace(QUICK, sleep=slept.append)).put_bytes("metadata/1.root.json", b"x")
    assert slept == []
    assert place.contents() == {}


def test_a_host_that_never_answers_is_given_up(swift_place: Place, between: Gateway) -> None:
    between.once(Fault(kind="silent"), "PutObject", times=9)
    place = swift_place.through(between.url)
    with environment(place.environment()):
        bucket = open_bucket(replace(place.settings(), silence=0.3), patience=replace(QUICK, attempts=2))
    with pytest.raises(DestinationUnreachable, match="Read timed out"):
        S3Destination(bucket, PREFIX).put_bytes("metadata/1.root.json", b"x")
    assert place.contents() == {}


def test_what_arrives_altered_is_not_taken(swift_place: Place, between: Gateway, large: Path) -> None:
    """A file that changes between being digested and being sent is refused by the store: the signature covers it."""
    data = large.read_bytes()
    changed = threading.Event()

    def change(asked: Asked) -> None:
        if asked.operation == "CreateMultipartUpload":
            large.write_bytes(bytes(len(data)))
            changed.set()

    between.rules.append(change)
    with pytest.raises(DigestMismatch):
        swift_place.through(between.url).open().put_file(PATH, large, stored(data), ignore)
    assert changed.is_set()
    assert swift_place.contents() == {}
    assert swift_place.unfinished() == []


# --- one publisher at a time -------------------------------------------------------------------------------------


def holder(*, ttl: float, machine: str = "another", pid: int = 1, started: float = 0.0) -> bytes:
    return canonical_json(lease.Holder(token="t" * 32, host="ci-7", pid=pid, machine=machine, started=started, ttl=ttl))


def leave_lease(place: Place, data: bytes, number: int = 1) -> None:
    key = f"{PREFIX}/{OURS}/lease/{number}.json"
    plain_client(place.store, place.key, place.secret).put_object(Bucket=place.bucket, Key=key, Body=data)


def test_busy_says_who_it_is(swift_place: Place) -> None:
    leave_lease(swift_place, holder(ttl=600))
    with pytest.raises(Busy, match="process 1 on ci-7") as caught, swift_place.open().hold():
        raise AssertionError
    assert "600 s" in caught.value.todo


@pytest.mark.parametrize("kind", ["swift", "moto", "r2"])
def test_a_publisher_that_gives_no_sign_is_followed(make_place: MakePlace, kind: Kind) -> None:
    place = make_place(kind)
    leave_lease(place, holder(ttl=0.0), 1)
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while True:  # the host's clock tells ages in whole seconds
        try:
            with place.open().hold():
                assert set(place.contents()) == {f"{OURS}/lease/1.json", f"{OURS}/lease/2.json"}
            break
        except Busy:
            assert datetime.now(UTC) < deadline
    assert place.contents() == {}


def test_a_publisher_of_this_machine_that_died_is_followed_at_once(swift_place: Place) -> None:
    leave_lease(swift_place, holder(ttl=3600, machine=lease.machine(), pid=os.getppid(), started=1.0))
    with swift_place.open().hold():
        pass
    assert swift_place.contents() == {}


def test_the_lease_is_kept_alive_as_long_as_it_is_held(swift_place: Place) -> None:
    with swift_place.open(ttl=3.0).hold():
        threading.Event().wait(6.0)
        with pytest.raises(Busy), swift_place.open(ttl=3.0).hold():
            raise AssertionError
    assert swift_place.contents() == {}


@pytest.mark.parametrize("kind", ["swift", "moto"])
def test_a_publisher_that_was_followed_writes_no_metadata_any_more(make_place: MakePlace, kind: Kind) -> None:
    place = make_place(kind)
    slept = place.open()
    with slept.hold():
        slept.read(TIMESTAMP)
        leave_lease(place, holder(ttl=600), 2)
        with pytest.raises(Busy, match="took over"):
            slept.put_bytes("metadata/2.targets.json", b"late")
    assert set(place.contents()) >= {f"{OURS}/lease/2.json"}
    assert "metadata/2.targets.json" not in place.contents()


@pytest.mark.parametrize("kind", ["moto", "r2"])
def test_a_timestamp_that_somebody_else_replaced_is_left_alone(make_place: MakePlace, kind: Kind) -> None:
    """Where the host compares and swaps (Swift does not), even a publisher without a lease cannot go backwards."""
    place = make_place(kind)
    slept = place.open()
    assert slept.read(TIMESTAMP) is None
    place.open().put_bytes(TIMESTAMP, b"newer")
    with pytest.raises(Busy, match="replaced by somebody else"):
        slept.put_bytes(TIMESTAMP, b"older")
    assert place.contents() == {TIMESTAMP: b"newer"}


def test_two_publishers_at_once_make_one_sound_repository(swift_place: Place, tmp_path: Path) -> None:
    keys = development_keys(tmp_path / "keys")
    first = write_packed(tmp_path / "0.1.0", "0.1.0", CORE, LIBS)
    publish(tmp_path / "0.1.0", first, swift_place.open(), keys)

    def go(version: str) -> None:
        file = write_packed(tmp_path / version, version, {**CORE, "v": version.encode()}, LIBS)
        publish(tmp_path / version, file, swift_place.open(), keys)

    done = race(go, "0.2.0", "0.3.0")
    root = swift_place.contents()["metadata/1.root.json"]
    assert install(f"{swift_place.public}/{PREFIX}", root, tmp_path / "data", app=APP).version == max(done)
    assert swift_place.unfinished() == []


# --- bad input ---------------------------------------------------------------------------------------------------

Change = Callable[[Place, Swift, Moto], Place]

BAD: dict[str, tuple[Kind, Change, type[LadingError], int, str]] = {
    "unknown key": ("moto", lambda p, _s, _m: replace(p, key="AKIANOBODY"), CredentialsRefused, 17, "not accept"),
    "wrong secret": ("moto", lambda p, _s, _m: replace(p, secret="wrong"), CredentialsRefused, 17, "not accept"),
    "wrong secret, strict store": (
        "swift", lambda p, _s, _m: replace(p, secret="wrong"), CredentialsRefused, 17, "not accept",
    ),
    "no permission at all": (
        "moto", lambda p, _s, m: replace(p, key=m.blind, secret=m.blind_secret), PermissionMissing, 18, "not allow",
    ),
    "may only read": (
        "moto", lambda p, _s, m: replace(p, key=m.reader, secret=m.reader_secret), PermissionMissing, 18, "writing",
    ),
    "may only read, strict store": (
        "swift", lambda p, s, _m: replace(p, key=s.reader, secret=s.reader_secret), PermissionMissing, 18, "writing",
    ),
    "no such bucket": (
        "moto", lambda p, _s, _m: replace(p, bucket="nobody-made-it"), DestinationMissing, 22, "no such bucket",
    ),
    "no such bucket, strict store": (
        "swift", lambda p, _s, _m: replace(p, bucket="nobody-made-it"), DestinationMissing, 22, "no such bucket",
    ),
    "wrong region": ("r2", lambda p, _s, _m: replace(p, region="mars-1"), DestinationMissing, 22, "region"),
    "nobody listens": (
        "moto", lambda p, _s, _m: replace(p, url="http://127.0.0.1:9"), DestinationUnreachable, 24, "could not be",
    ),
    "not a URL": ("moto", lambda p, _s, _m: replace(p, url="storage"), ConfigError, 19, "as it is configured"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_before_anything_is_published(
    request: pytest.FixtureRequest, make_place: MakePlace, tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    kind, change, error, code, says = BAD[case]
    good = make_place(kind)
    bad = change(good, request.getfixturevalue("swift_store"), request.getfixturevalue("moto_store"))
    file = write_packed(tmp_path / "packed", "0.1.0", CORE, LIBS)
    caplog.set_level(logging.DEBUG, "lading")
    with pytest.raises(error, match=says) as caught:
        publish(
            tmp_path / "packed", file, bad.open(patience=replace(QUICK, attempts=2)), development_keys(tmp_path / "k")
        )
    assert (type(caught.value), caught.value.exit_code) == (error, code)
    assert caught.value.usually
    assert caught.value.todo
    for told in (str(caught.value), caplog.text):
        assert bad.secret not in told
        assert bad.key not in told
    assert good.contents() == {}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        ({}, "none were found"),
        ({"AWS_ACCESS_KEY_ID": "AKIAHALF"}, "Partial"),
        ({"AWS_PROFILE": "nobody"}, "nobody"),
    ],
)
def test_credentials_that_are_not_there_are_told_without_asking_the_network(
    variables: dict[str, str], says: str
) -> None:
    settings = Settings(bucket="releases", endpoint="http://127.0.0.1:9", region="us-east-1")
    with environment({**NOTHING, **variables}), pytest.raises(CredentialsMissing, match=says) as caught:
        open_bucket(settings)
    assert caught.value.exit_code == 80
    assert "AWS_ACCESS_KEY_ID" in caught.value.todo
    assert "AKIAHALF" not in str(caught.value)


def test_credentials_come_from_the_standard_files_too(swift_place: Place, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text(
        f"[releases]\naws_access_key_id = {swift_place.key}\naws_secret_access_key = {swift_place.secret}\n"
    )
    variables = {**NOTHING, "AWS_SHARED_CREDENTIALS_FILE": str(file), "AWS_PROFILE": "releases"}
    variables["AWS_CONFIG_FILE"] = str(tmp_path / "none")
    with environment(variables):
        bucket = open_bucket(swift_place.settings(), patience=QUICK)
    S3Destination(bucket, PREFIX).put_bytes("metadata/1.root.json", b"x")
    assert swift_place.contents() == {"metadata/1.root.json": b"x"}


@pytest.mark.parametrize(("hours", "says"), [(-26, "26 h 0 min earlier here"), (26, "26 h 0 min later here")])
def test_a_wrong_clock_is_told_with_both_times(
    swift_place: Place, monkeypatch: pytest.MonkeyPatch, hours: int, says: str
) -> None:
    real = botocore.compat.get_current_datetime
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda *words, **more: real(*words, **more) + timedelta(hours=hours)
    )
    with environment(swift_place.environment()):
        bucket = open_bucket(swift_place.settings(), patience=QUICK)
    bucket._clock = lambda: datetime.now(UTC) + timedelta(hours=hours)
    with pytest.raises(ClockSkewed, match=says) as caught, S3Destination(bucket, PREFIX).hold():
        raise AssertionError
    assert caught.value.exit_code == 81
    monkeypatch.undo()
    assert swift_place.contents() == {}


def test_an_expired_session_is_told_as_such(swift_place: Place, between: Gateway) -> None:
    between.once(Fault(kind="answer", status=400, code="ExpiredToken"), "ListObjects")
    with pytest.raises(CredentialsRefused, match="have expired"), swift_place.through(between.url).open().hold():
        raise AssertionError


# --- settings ----------------------------------------------------------------------------------------------------

ACCOUNT = "0123456789abcdef0123456789abcdef"


def r2_manifest(**more: object) -> Manifest:
    return Manifest.model_validate({"kind": "s3", "preset": "r2", "bucket": "releases", "prefix": "a/b/", **more})


def test_an_r2_bucket_needs_only_its_account() -> None:
    with environment({**NOTHING, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}):
        destination = open_s3(r2_manifest(account=ACCOUNT), "r2", environment={})
    assert destination.name == "r2 (s3://releases/a/b)"
    endpoint = destination._bucket._client.meta.endpoint_url
    assert endpoint == f"https://{ACCOUNT}.r2.cloudflarestorage.com"
    assert destination._bucket._client.meta.region_name == "auto"


def test_an_account_in_the_environment_and_a_jurisdiction_are_heeded() -> None:
    with environment({**NOTHING, "AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"}):
        destination = open_s3(r2_manifest(jurisdiction="eu"), "r2", environment={"CLOUDFLARE_ACCOUNT_ID": ACCOUNT})
    assert destination._bucket._client.meta.endpoint_url == f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"


def test_a_client_that_is_not_installed_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("lading.publish.s3")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.exceptions", None)
    with pytest.raises(ToolMissing, match="botocore") as caught:
        open_destination("r2", root)
    assert "lading[s3]" in caught.value.todo


@pytest.mark.parametrize("account", ["", "my-company", ACCOUNT[:-1], f"{ACCOUNT}.example.org/"])
def test_what_is_no_account_is_refused_before_a_host_is_made_of_it(account: str) -> None:
    with pytest.raises(ConfigError, match="32 hexadecimal digits"):
        open_s3(r2_manifest(), "r2", environment={"CLOUDFLARE_ACCOUNT_ID": account})


# --- the command -------------------------------------------------------------------------------------------------


def test_the_command_publishes_to_a_bucket_of_the_manifests_and_never_prints_a_secret(
    swift_place: Place, tmp_path: Path, root: Path
) -> None:
    project, packed = tmp_path / "project", tmp_path / "packed"
    shutil.copytree(root / "manifests", project / "manifests")
    version = Path("server/lading_server/_version.py")
    (project / version).parent.mkdir(parents=True)
    shutil.copy(root / version, project / version)
    manifest = (
        "schema: lading/destinations/1\ndestinations:\n  store:\n    kind: s3\n"
        f"    bucket: {swift_place.bucket}\n    prefix: {PREFIX}\n    endpoint: {swift_place.url}\n"
    )
    (project / "manifests/destinations.yaml").write_text(manifest)
    write_packed(packed, "0.1.0", CORE, LIBS)
    words: list[str | Path] = [sys.executable, "-m", "lading", "publish", packed, "--to", "store", "--project", project]
    words += ["--keys", tmp_path / "keys", "-vv"]

    def run(secret: str) -> subprocess.CompletedProcess[str]:
        variables = {**os.environ, **replace(swift_place, secret=secret).environment()}
        return subprocess.run(words, env=variables, capture_output=True, text=True, check=False, timeout=120)

    refused = run("not-the-secret-of-anybody")
    assert refused.returncode == 17, refused.stderr
    assert "not-the-secret" not in refused.stdout + refused.stderr
    assert swift_place.contents() == {}
    done = run(swift_place.secret)
    assert done.returncode == 0, done.stderr
    assert f"store (s3://{swift_place.bucket}/{PREFIX})" in done.stdout
    assert TIMESTAMP in swift_place.contents()
    assert swift_place.unfinished() == []
