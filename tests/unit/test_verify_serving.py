"""What is asked of a server that clients read from, judged over answers; and where clients read a destination."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import TypeAdapter

from lading.errors import ConfigError, ManifestInvalid
from lading.manifest.destination import Destination
from lading.manifest.public_address import find_address, is_address, public_address
from lading.verify.published_checks import Mirror
from lading.verify.published_serving import (
    SAMPLE,
    Answer,
    Sample,
    cache_problems,
    head_problems,
    range_problems,
    samples_of,
)

PART = Sample(start=100, size=10, total=1000)
RIGHT = {"content-range": "bytes 100-109/1000", "content-length": "10"}


def answer(status: int = 206, body: int = 10, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status=status, headers=named if headers else RIGHT, body=body)


def test_a_right_part_has_no_problem() -> None:
    assert range_problems(answer(), PART) == []
    assert PART.header == "bytes=100-109"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer(200, 11, content_length="1000"), "there is no Range support"),
        (answer(416, 0), "answered 416"),
        (answer(404, 0), "answered 404"),
        (answer(206, 10, content_range="bytes 0-9/1000"), "not 'bytes 100-109/1000'"),
        (answer(206, 10, content_range="bytes 100-109/999"), "not 'bytes 100-109/1000'"),
        (answer(206, 10, content_length="10"), "Content-Range ''"),
        (answer(206, 10, content_range="bytes 100-109/1000", content_length="9"), "Content-Length 9"),
        (answer(206, 9), "brought 9"),
        (answer(206, 11), "brought more than 10"),
    ],
)
def test_any_other_answer_to_a_range_is_a_problem(given: Answer, says: str) -> None:
    assert says in " ".join(range_problems(given, PART))


@pytest.mark.parametrize("status", [403, 405, 501])
def test_a_server_without_head_is_no_problem(status: int) -> None:
    assert head_problems(answer(status, 0), PART, '"a"') == []


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (answer(200, 0, content_length="999", etag='"a"'), "HEAD says 999 bytes, the file has 1000"),
        (answer(200, 0, content_length="1000", etag='"b"'), "the servers do not agree"),
        (answer(404, 0), "HEAD was answered 404"),
    ],
)
def test_a_head_that_contradicts_the_file_is_a_problem(given: Answer, says: str) -> None:
    assert says in " ".join(head_problems(given, PART, '"a"'))


def test_a_weak_tag_is_none_and_a_date_will_do() -> None:
    assert answer(200, 0, etag='W/"a"').validator is None
    assert answer(200, 0, etag='W/"a"', last_modified="Thu, 01 Jan 2026 00:00:00 GMT").validator is not None


@pytest.mark.parametrize("control", ["", "no-cache", "no-store", "max-age=300", "max-age=60, s-maxage=600", "private"])
def test_a_timestamp_that_is_fresh_soon_is_no_problem(control: str) -> None:
    assert cache_problems({"cache-control": control} if control else {}) == []


@pytest.mark.parametrize(
    "control", ["max-age=601", "public, s-maxage=86400", "immutable", "max-age=31536000, immutable"]
)
def test_a_timestamp_from_an_old_cache_is_a_problem(control: str) -> None:
    assert "metadata/timestamp.json" in cache_problems({"cache-control": control})[0]


def test_parts_lie_inside_the_file_and_are_never_the_whole_of_it() -> None:
    for total in (3, 10, SAMPLE, 3 * SAMPLE, 2_000_000_000):
        for part in samples_of(total):
            assert 0 < part.size < total
            assert part.start + part.size <= total
    assert samples_of(2) == ()


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ({"kind": "folder", "path": "out/store"}, str(Path("project") / "out/store")),
        ({"kind": "github", "repository": "o/n"}, "github:o/n"),
        ({"kind": "github", "repository": "o/n", "api": "https://g.example/api/v3"}, "github:https://g.example/o/n"),
        ({"kind": "s3", "bucket": "some", "public": "https://d.example/r"}, "https://d.example/r"),
    ],
)
def test_every_destination_has_the_address_under_which_clients_read_it(given: dict[str, str], address: str) -> None:
    destination: Destination = TypeAdapter(Destination).validate_python(given)

    assert public_address(destination, "it", Path("project")) == address


def test_a_bucket_without_a_public_address_is_told(root: Path) -> None:
    destination: Destination = TypeAdapter(Destination).validate_python({"kind": "s3", "bucket": "some"})
    with pytest.raises(ConfigError, match="does not say under which address"):
        public_address(destination, "it", root)


@pytest.mark.parametrize("text", ["https://a.example/b", "github:o/n", "./store", "a/b", ".", "..", "/abs"])
def test_addresses_and_folders_are_taken_as_they_are(text: str, root: Path) -> None:
    assert is_address(text)
    assert find_address(text, root) == text


def test_a_name_is_looked_up_in_the_manifests(root: Path) -> None:
    assert find_address("local", root) == str(root / "out/store")
    with pytest.raises(ManifestInvalid, match="no destination 'gihtub'"):
        find_address("gihtub", root)


@pytest.mark.parametrize(
    ("address", "served"), [("https://a", True), ("HTTP://a", True), ("github:o/n", True), ("./a", False)]
)
def test_a_folder_is_not_served(address: str, served: bool) -> None:  # noqa: FBT001 (a case's value)
    assert Mirror(name="x", address=address).served is served
    assert Mirror(name="x", address=address).shown == f"x ({address})"
    assert Mirror(name=address, address=address).shown == address
