"""A publisher killed at many moments and repeated while a client polls: nothing is sent twice, no half is ever seen."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from tests.doubles.faults import Asked, Fault, Gateway
from tests.doubles.places import PART, PREFIX, Place
from tests.packed_release import APP, ENTRY, Files, program, write_packed

from lading.manifest.layout import METADATA
from lading.publish.headers import TIMESTAMP
from lading.publish.packed import read_packed
from lading.publish.publisher import publish
from lading.publish.s3 import OURS
from lading.sign.keys import KeySet, development_keys
from lading.store.install import install

MOMENTS = 32
SEED = 20_261_120
VOLUME = 22 * 2**20  # five parts of 5 MiB
Point = Literal["before", "within", "after"]
HERE = Path(__file__).parent


@dataclass(frozen=True, kw_only=True)
class Moment:
    """When the publisher is killed.

    Attributes:
        request: Its how-manieth request.
        point: Before anything of it is sent on, within its body, or after the store did it and before the answer.
        share: How much of the body gets through.
    """

    request: int
    point: Point
    share: float


def moments(requests: int) -> list[Moment]:
    """Different moments all over a publication: drawn once and for all, so that a failure can be repeated."""
    draw = random.Random(SEED)
    numbers = [1 + index * requests // MOMENTS for index in range(MOMENTS)]
    points: Sequence[Point] = ("within", "after", "before")
    return [
        Moment(request=number, point=points[index % 3], share=draw.random()) for index, number in enumerate(numbers)
    ]


@dataclass
class Client:
    """Installs again and again what it sees.

    Attributes:
        address: Of the repository.
        root: What it trusts.
        folder: Where it installs.
        seen: Every version that it installed whole.
        errors: What went wrong.
    """

    address: str
    root: bytes
    folder: Path
    seen: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def poll(self) -> None:
        while not self.over.wait(0.1):
            try:
                done = install(self.address, self.root, self.folder, app=APP)
                said = subprocess.run([done.entry], capture_output=True, text=True, check=True).stdout.strip()
                assert said == done.version
                self.seen.append(done.version)
            except BaseException as error:  # noqa: BLE001 (told by the test)
                self.errors.append(error)
                return

    @contextmanager
    def polling(self) -> Iterator[None]:
        thread = threading.Thread(target=self.poll)
        thread.start()
        try:
            yield
        finally:
            self.over.set()
            thread.join()


class Publisher:
    """Packs releases and publishes them over a proxy."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        self.folder = folder
        self.keys_folder = folder / "keys"
        self.volume = os.urandom(VOLUME)
        self.expected: dict[str, bytes] = {}

    @property
    def keys(self) -> KeySet:
        return development_keys(self.keys_folder)

    def pack(self, number: int) -> tuple[Path, Path]:
        """A release with libs of a label of their own: everything of it has to be sent."""
        version = f"0.1.{number}"
        packed = self.folder / version
        core: Files = {ENTRY: program(version)}
        libs: Files = {"_internal/nvidia/lib.so": number.to_bytes(4, "big") + self.volume}
        file = write_packed(packed, version, core, libs, label=f"cu126-v{number}", frame=2**20, level=1)
        for item in read_packed(packed, file).objects:
            data = item.data if item.source is None else item.source.read_bytes()
            assert data is not None
            self.expected[item.path] = data
        return packed, file

    def start(self, packed: Path, file: Path) -> subprocess.Popen[str]:
        words = {
            "settings": asdict(self.place.settings()),
            "part": PART,
            "packed": str(packed),
            "file": str(file),
            "keys": str(self.keys_folder),
        }
        child = subprocess.Popen(
            [sys.executable, str(HERE / "publish_once.py")],
            env={**os.environ, **self.place.environment()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(json.dumps(words))
        child.stdin.close()
        assert child.stdout.readline() == "ready\n"
        return child


def kill_at(between: Gateway, child: subprocess.Popen[str], moment: Moment) -> None:
    """Kill a process at a moment, from where its requests pass."""
    first = len(between.seen)

    def rule(asked: Asked) -> Fault | None:
        if len(between.seen) - first != moment.request:
            return None
        if moment.point == "before":
            child.kill()
            return Fault(kind="cut")
        length = int(asked.headers.get("content-length", "0"))
        if moment.point == "within" and length:
            return Fault(kind="cut", after=int(length * moment.share), then=child.kill)
        return Fault(kind="drop", then=child.kill)

    between.rules[:] = [rule]


@pytest.mark.proves("S0-23", "P-04")
@pytest.mark.timeout(1500)
def test_killed_at_any_moment_and_repeated_it_ends_right_and_no_client_sees_a_half(
    swift_place: Place, between: Gateway, tmp_path: Path
) -> None:
    place = swift_place.through(between.url)
    publisher = Publisher(place, tmp_path)
    packed, file = publisher.pack(1)
    child = publisher.start(packed, file)
    assert child.wait() == 0
    assert child.stdout is not None
    child.stdout.close()
    whole = len(between.seen)
    assert between.stored()[f"{PREFIX}/assets/libs/cu126-v1/{APP}-libs-cu126-v1-linux-x86_64.tar.zst", "5"] == 1
    root = swift_place.contents()[f"{METADATA}/1.root.json"]
    client = Client(f"{swift_place.public}/{PREFIX}", root, tmp_path / "data")
    killed = 0
    with client.polling():
        for number, moment in enumerate(moments(whole), 2):
            packed, file = publisher.pack(number)
            child = publisher.start(packed, file)
            kill_at(between, child, moment)
            killed += child.wait() == -9
            assert child.stdout is not None
            child.stdout.close()
            between.rules.clear()
            between.settle()
            publish(packed, file, place.open(), publisher.keys)
            assert not client.errors, (moment, client.errors)
            shutil.rmtree(packed)
    assert killed >= MOMENTS - 2, "the last requests of a run may be fewer than those of the first"
    assert not client.errors
    there = swift_place.contents()
    assert {path: data for path, data in there.items() if path.startswith("assets/")} == publisher.expected
    assert not [path for path in there if path.startswith(OURS)]
    assert swift_place.unfinished() == []
    counted = Counter({key: n for key, n in between.stored().items() if OURS not in key[0] and n > 1})
    counted.pop((f"{PREFIX}/{TIMESTAMP}", "0"))
    assert not counted, "each object and each part was stored once"
    final = install(client.address, root, tmp_path / "fresh", app=APP)
    assert final.version == f"0.1.{MOMENTS + 1}"
    assert len(set(client.seen)) > MOMENTS // 4, "the client saw many of the releases while they were made"
