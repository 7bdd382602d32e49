"""The real release to three hosts at once, killed again and again, while clients poll: nothing twice, no half seen."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests import packed_release
from tests.doubles import swift
from tests.doubles.faults import Asked, Fault, Gateway, gateway
from tests.doubles.github import GitHubDouble, Rate, running
from tests.doubles.places import NOTHING
from tests.doubles.s3_client import plain_client
from tests.packed_release import ENTRY, program, write_packed
from tests.system.product import ROOT, Product

from lading.fetch.github import GitHubSource
from lading.fetch.http import HttpSource
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.manifest.github_layout import GitHubRepository, asset_place
from lading.publish.headers import TIMESTAMP
from lading.publish.packed import release_objects
from lading.publish.s3 import OURS
from lading.store.install import install

pytestmark = pytest.mark.system

KILLS = 50
SEED = 20_261_121
BUCKET, PREFIX, NAME = "releases", "repo", "owner/name"
MEMORY = 200 * 2**20
MIB = 2**20
LONG = 900.0  # seconds: moto puts 2 GB together in one request
PATIENCE = 120.0  # seconds: three hosts and a publisher share two processors
Sizes = Callable[[str], int | None]


@dataclass
class Host:
    """One of the three.

    Attributes:
        name: As the manifest calls it.
        source: Where clients read.
        size: Bytes of an object that clients can fetch whole, or none.
        polls: How often a client looked, and which versions it saw.
        errors: What a client found wrong.
    """

    name: str
    source: Callable[[], Source]
    size: Sizes
    polls: Counter[tuple[str, ...]] = field(default_factory=Counter)
    errors: list[BaseException] = field(default_factory=list)

    def look(self, root: bytes, folder: Path, app: str) -> None:
        """Read what is offered as a client does, and make sure that all of it could be fetched whole."""
        source = self.source()
        try:
            trust = Trust(source, root, folder)
            channel = trust.channel(app, "stable")
            for entry in channel.releases:
                for item in release_objects(trust.release(entry, app)):
                    assert self.size(item.path) == item.size, (entry.version, item.path)
            self.polls[tuple(entry.version for entry in channel.releases)] += 1
        finally:
            source.close()


@contextmanager
def polling(hosts: Sequence[Host], root: bytes, folder: Path, app: str) -> Iterator[None]:
    """A client for each host that looks all the time, and remembers what it saw."""
    over = threading.Event()

    def poll(host: Host) -> None:
        try:
            while not over.wait(0.2):
                host.look(root, folder / host.name, app)
        except BaseException as error:  # noqa: BLE001 (told by the test)
            host.errors.append(error)

    threads = [threading.Thread(target=poll, args=(host,)) for host in hosts]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@dataclass(kw_only=True)
class Stage:
    """Everything that the test works with.

    Attributes:
        folder: For temporary files.
        buckets: The proxies in front of Swift and moto, by name.
        github: The double.
        hosts: All three, as clients see them.
        key, secret: For both object stores.
        peak: The most memory that a publisher had.
    """

    folder: Path
    buckets: Mapping[str, Gateway]
    github: GitHubDouble
    hosts: Sequence[Host]
    key: str
    secret: str
    peak: int = 0

    def start(self, packed: Path) -> subprocess.Popen[str]:
        """Publish a packed folder to all three, as a person would."""
        project = self.folder / "project"
        words = [sys.executable, "-m", "lading", "publish", str(packed), "--json", "--project", str(project)]
        words += ["--keys", str(self.folder / "keys")]
        for host in self.hosts:
            words += ["--to", host.name]
        environment = {
            **os.environ, **NOTHING, "AWS_ACCESS_KEY_ID": self.key, "AWS_SECRET_ACCESS_KEY": self.secret,
            "GH_TOKEN": "t0ken",
        }  # fmt: skip
        return subprocess.Popen(
            words, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder
        )

    def publish(self, packed: Path) -> Mapping[str, object]:
        """Publish to the end."""
        child = self.start(packed)
        watched = threading.Thread(target=self.watch, args=(child,))
        watched.start()
        said, errors = child.communicate()
        watched.join()
        assert child.returncode == 0, (said, errors)
        found: Mapping[str, object] = json.loads(said)
        return found

    def watch(self, child: subprocess.Popen[str]) -> None:
        """Note the peak of a process's memory, as long as it lives."""
        status = Path(f"/proc/{child.pid}/status")
        while child.poll() is None:
            try:
                told = status.read_text().partition("VmHWM:")[2].split()
            except OSError:
                return
            self.peak = max(self.peak, int(told[0]) * 1024 if told else 0)
            threading.Event().wait(0.1)

    def kill_at(self, child: subprocess.Popen[str], where: str, count: int, share: float) -> bool:
        """Kill it when so many requests have come; whether it did.

        At GitHub, when an upload has come so many MiB further, or when so many assets were stored.
        """
        if where == "github":
            left = iter(range(count, -1, -1))
            self.github.moment = lambda: child.kill() if next(left, None) == 0 else None
        elif where == "github, stored":
            had = len(self.github.uploads)
            self.github.moment = lambda: child.kill() if len(self.github.uploads) >= had + count else None
        else:
            between = self.buckets[where]
            first = len(between.seen)

            def rule(asked: Asked) -> Fault | None:
                if len(between.seen) - first != count:
                    return None
                length = int(asked.headers.get("content-length", "0"))
                return Fault(kind="cut", after=int(length * share), then=child.kill)

            between.rules[:] = [rule]
        watched = threading.Thread(target=self.watch, args=(child,))
        watched.start()
        child.communicate()
        watched.join()
        self.github.moment = lambda: None
        for between in self.buckets.values():
            between.rules.clear()
            between.settle()
        return child.returncode == -9


@pytest.fixture
def stage() -> Iterator[Stage]:
    """Swift, moto and the double of GitHub, empty, with room for the real release."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lading-publish-")))
        store = stack.enter_context(swift.running(folder / "swift"))
        public = store.publish(BUCKET)
        moto = stack.enter_context(_moto())
        _readable(moto, store)
        double = stack.enter_context(running())
        double.spool = folder
        double.add_repo(NAME)
        double.rate = Rate(limit=100_000, remaining=100_000, reset=double.now + 7200)
        buckets = {
            "swift": stack.enter_context(gateway(store.url, patience=LONG)),
            "moto": stack.enter_context(gateway(moto, patience=LONG)),
        }
        repository = GitHubRepository(name=NAME, web=double.web)
        clients = {url: plain_client(url, store.key, store.secret) for url in (store.url, moto)}

        def listed(url: str) -> Sizes:
            def size(path: str) -> int | None:
                found = clients[url].list_objects_v2(Bucket=BUCKET, Prefix=f"{PREFIX}/{path}").get("Contents", [])
                return next((item["Size"] for item in found if item["Key"] == f"{PREFIX}/{path}"), None)

            return size

        def fetched(path: str) -> int | None:
            place = asset_place(path)
            assert place is not None
            address = f"{repository.assets}/{place.tag}/{place.name}"
            answer = httpx.get(address, headers={"Range": "bytes=0-0"}, follow_redirects=True, timeout=PATIENCE)
            return int(answer.headers["Content-Range"].split("/")[1]) if answer.status_code == 206 else None

        hosts = (
            Host("swift", lambda: HttpSource(f"{public}/{PREFIX}"), listed(store.url)),
            Host("moto", lambda: HttpSource(f"{moto}/{BUCKET}/{PREFIX}"), listed(moto)),
            Host("github", lambda: GitHubSource(repository), fetched),
        )
        _project(folder / "project", {name: between.url for name, between in buckets.items()}, double.api)
        yield Stage(folder=folder, buckets=buckets, github=double, hosts=hosts, key=store.key, secret=store.secret)


@contextmanager
def _moto() -> Iterator[str]:
    """moto as a process of its own: it puts 2 GB together in memory, and nothing else may wait for that."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet) as server:
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "moto did not start"
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()


def _readable(url: str, store: swift.Swift) -> None:
    """A bucket of moto's that everybody may read."""
    client = plain_client(url, store.key, store.secret)
    client.create_bucket(Bucket=BUCKET)
    resource = f"arn:aws:s3:::{BUCKET}/*"
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": resource}
    client.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))


def _project(folder: Path, buckets: Mapping[str, str], api: str) -> None:
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    version = Path("server/lading_server/_version.py")
    (folder / version).parent.mkdir(parents=True)
    shutil.copy(ROOT / version, folder / version)
    lines = ["schema: lading/destinations/1", "destinations:"]
    for name, url in buckets.items():
        lines += [f"  {name}:", "    kind: s3", f"    bucket: {BUCKET}", f"    prefix: {PREFIX}"]
        lines += [f"    endpoint: {url}", "    asset_limit: 2 GB"]
    lines += ["  github:", "    kind: github", f"    repository: {NAME}", f"    api: {api}"]
    (folder / "manifests/destinations.yaml").write_text("\n".join(lines) + "\n")


def kills(size: int) -> list[tuple[str, int, float]]:
    """Where, when, and how much of a body gets through: drawn once and for all.

    At the object stores each run gets some parts further. GitHub takes no parts, so its moments go over the whole of
    the large volume; those after it was stored are reached only once and come last.
    """
    draw = random.Random(SEED)
    stores = [(("swift", "moto")[number % 2], draw.randrange(1, 14), draw.random()) for number in range(KILLS * 2 // 3)]
    within = sorted(draw.randrange(1, size // MIB - 100) for _ in range(KILLS - len(stores) - 4))
    after = [("github, stored", 1, 0.0)] * 4
    return [*stores, *(("github", moment, 0.0) for moment in within), *after]


@pytest.mark.proves("S0-23")
@pytest.mark.timeout(3600)
def test_the_real_release_killed_at_fifty_moments_and_repeated_ends_right_everywhere(
    cuda: Product, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = cuda.release
    monkeypatch.setattr(packed_release, "APP", release.app)
    core, libs = {ENTRY: program("older")}, {"_internal/nvidia/lib.so": b"older" * 1000}
    write_packed(stage.folder / "older", "0.0.1", core, libs, label="cu126-v9")
    stage.publish(stage.folder / "older")
    root = stage.github.repos[NAME].git.file("lading-metadata", "metadata/1.root.json")
    assert root is not None
    objects = release_objects(release)
    size = sum(item.size for item in objects)
    killed: Counter[str] = Counter()
    with polling(stage.hosts, root, stage.folder / "trust", release.app):
        for where, count, share in kills(size):
            child = stage.start(cuda.assets)
            killed[where] += stage.kill_at(child, where, count, share)
            assert not [host.errors for host in stage.hosts if host.errors], (where, count)
        last = stage.publish(cuda.assets)
        again = stage.publish(cuda.assets)
        threading.Event().wait(5)
    for host in stage.hosts:
        assert not host.errors, host.name
        newest = (release.version, "0.0.1")
        assert set(host.polls) == {("0.0.1",), newest}, f"the client of {host.name} saw one, then both"
    print(f"killed {sum(killed.values())} times {dict(killed)}; peak {stage.peak / MIB:.0f} MiB; {size / 1e6:,.0f} MB")
    print({host.name: dict(host.polls) for host in stage.hosts})
    print({one["destination"]: one["result"]["bytes_sent"] for one in last["destinations"]})  # type: ignore[attr-defined]
    assert sum(killed.values()) == KILLS
    assert stage.peak <= MEMORY
    assert all(not one["result"]["uploaded"] for one in again["destinations"])  # type: ignore[attr-defined]
    _check_buckets(stage, {item.path: item.size for item in objects})
    _check_github(stage, {item.path.rpartition("/")[2]: item.sha256 for item in objects})
    source = stage.hosts[0].source()
    done = install(source, root, stage.folder / "data", app=release.app, flavor=release.flavor)
    said = subprocess.run([done.entry, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    assert said == f"{release.app} {release.version}"


def _check_buckets(stage: Stage, sizes: Mapping[str, int]) -> None:
    """Every object and every part was stored once, and nothing else is there."""
    for between in stage.buckets.values():
        client = plain_client(between.url, stage.key, stage.secret)
        there = {
            item["Key"].removeprefix(f"{PREFIX}/"): item["Size"]
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
            for item in page.get("Contents", [])
        }
        assert {path: there.get(path) for path in sizes} == sizes
        assert not [path for path in there if path.startswith(OURS)]
        assert not client.list_multipart_uploads(Bucket=BUCKET).get("Uploads")
        twice = {found: times for found, times in between.stored().items() if times > 1 and OURS not in found[0]}
        assert twice.pop((f"{PREFIX}/{TIMESTAMP}", "0"), 0) == 2, "one for each of two releases"
        assert not twice


def _check_github(stage: Stage, digests: Mapping[str, str]) -> None:
    """Every asset was stored whole once, with the right bytes, and no draft is left."""
    published = {name: sha for assets in stage.github.published(NAME).values() for name, sha in assets.items()}
    assert {name: published.get(name) for name in digests} == digests
    assert stage.github.drafts(NAME) == []
    assert set(stage.github.uploads.values()) == {1}
