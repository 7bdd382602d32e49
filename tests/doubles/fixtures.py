"""The stores as fixtures: each is started once, when the first test wants it."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
from tests.doubles import moto_iam, r2, swift
from tests.doubles.faults import Gateway, gateway
from tests.doubles.places import Place
from tests.doubles.s3_client import plain_client

Kind = Literal["swift", "moto", "r2"]
MakePlace = Callable[[Kind], Place]
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def swift_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[swift.Swift]:
    """Swift, running."""
    home = tmp_path_factory.mktemp("swift") / "home"
    try:
        with swift.running(home) as running:
            yield running
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def moto_store() -> Iterator[moto_iam.Moto]:
    """moto, running with IAM."""
    with moto_iam.running() as running:
        yield running


@pytest.fixture(scope="session")
def r2_checks(moto_store: moto_iam.Moto) -> Iterator[Gateway]:
    """R2's rules in front of moto."""
    with r2.strict(moto_store.url) as running:
        yield running


@pytest.fixture
def make_place(request: pytest.FixtureRequest) -> MakePlace:
    """Makes an empty bucket on a store."""

    def make(kind: Kind) -> Place:
        bucket = f"lading-{next(_NUMBERS)}"
        if kind == "swift":
            store: swift.Swift = request.getfixturevalue("swift_store")
            public = store.publish(bucket)
            return Place(
                url=store.url, store=store.url, key=store.key, secret=store.secret, bucket=bucket, public=public
            )
        moto: moto_iam.Moto = request.getfixturevalue("moto_store")
        plain_client(moto.url, moto.key, moto.secret).create_bucket(Bucket=bucket)
        place = Place(url=moto.url, store=moto.url, key=moto.key, secret=moto.secret, bucket=bucket)
        if kind == "r2":
            checks: Gateway = request.getfixturevalue("r2_checks")
            return Place(url=checks.url, store=moto.url, key=moto.key, secret=moto.secret, bucket=bucket, region="auto")
        return place

    return make


@pytest.fixture
def swift_place(make_place: MakePlace) -> Place:
    """An empty bucket on Swift."""
    return make_place("swift")


@pytest.fixture
def between(swift_place: Place) -> Iterator[Gateway]:
    """A proxy in front of Swift that counts and breaks what it is told to."""
    with gateway(swift_place.store) as running:
        yield running
