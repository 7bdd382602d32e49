"""The GitHub double and our requests are held to GitHub's own description of its API, by Prism in both directions.

Prism needs Node; it is installed once into a cache folder of the user. Without either, these tests are skipped.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import platformdirs
import pytest
from filelock import FileLock
from tests.doubles.github import Fault, GitHubDouble, running
from tests.doubles.github_http import Reply, Request, served
from tests.packed_release import ENTRY, program, write_packed

from lading.manifest.github_layout import GitHubRepository
from lading.publish.github import GitHubDestination
from lading.publish.prune import Wanted, prune
from lading.publish.publisher import publish
from lading.publish.together import Signing
from lading.sign.keys import development_keys

VERSION = "5.14.2"
DESCRIPTION = Path(__file__).parent.parent / "doubles" / "github_openapi.json"
READY = 60.0  # seconds; Prism takes one or two


@pytest.fixture(scope="module")
def prism() -> list[str]:
    """How Prism is started."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("needs Node and npm for Prism: the double is not held to GitHub's description here")
    folder = platformdirs.user_cache_path("lading-tests", appauthor=False) / f"prism-{VERSION}"
    program = folder / "node_modules" / "@stoplight" / "prism-cli" / "dist" / "index.js"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not program.is_file():
            words = [npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund"]
            done = subprocess.run(
                [*words, f"@stoplight/prism-cli@{VERSION}"], capture_output=True, text=True, timeout=500, check=False
            )
            if not program.is_file():
                pytest.skip(f"Prism cannot be installed: {done.stderr[-300:]}")
    return [node, str(program)]


@contextmanager
def started(prism: list[str], *words: str) -> Iterator[str]:
    """Prism as a server while the block runs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command, *rest = words
    process = subprocess.Popen(
        [*prism, command, "--errors", "--port", str(port), "--verboseLevel", "silent", *rest], stdout=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + READY
        while True:
            assert process.poll() is None, f"Prism ended with {process.returncode}"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < end, "Prism does not listen"
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def exchanges(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Request, Reply]]:
    """Every kind of request that publishing makes, and what the double answered."""
    folder = tmp_path_factory.mktemp("contract")
    with running() as double:
        double.add_repo()
        seconds = iter(range(0, 10**6, 200))
        destination = GitHubDestination(
            GitHubRepository(name="owner/name", web=double.web), "t0ken", sleep=lambda _: None,
            clock=lambda: float(next(seconds)),
        )  # fmt: skip
        keys = development_keys(folder / "keys")
        for version in ("0.1.0", "0.2.0"):
            if version == "0.2.0":
                _make_trouble(double)
            file = write_packed(folder / version, version, {ENTRY: program(version)}, {"lib": b"l" * 5000})
            result = publish(folder / version, file, destination, keys)
            assert result.uploaded
        file = next((folder / "0.2.0").glob("*.release.json"))
        again = publish(folder / "0.2.0", file, destination, keys)
        assert again.uploaded == ()
        pruned = prune([destination], Wanted(keep=1, grace=0), Signing(keys=keys))
        assert len(pruned.destinations[0].removed) == 1
        return double.log


def _make_trouble(double: GitHubDouble) -> None:
    """Two drafts where one should be, a broken upload, an answer that gets lost."""
    tag = "demo-app-core-0.2.0-cu126-linux-x86_64"
    wanted = {"tag_name": tag, "body": "<!-- made by lading -->", "draft": True}
    for _ in range(2):
        httpx.post(
            f"{double.api}/repos/owner/name/releases", json=wanted, headers={"Authorization": "Bearer t0ken"}
        ).raise_for_status()
    double.faults += [Fault("POST", "/assets", "starter"), Fault("PATCH", "/releases/", "lost")]


def replayed(request: Request, base: str, **headers: str) -> httpx.Response:
    """A recorded request, sent to another server. The description has no media types but its own."""
    kept = {name: request.headers[name] for name in ("content-type", "x-github-api-version") if name in request.headers}
    path = request.path.removeprefix("/api/v3").removeprefix("/api/uploads")
    body = request.kept or (b"x" if request.length else None)
    url = f"{base}{path}?{request.query}" if request.query else f"{base}{path}"
    return httpx.request(request.method, url, content=body, headers=kept | headers)


def described(request: Request) -> tuple[str, str]:
    """A request's method and path without what differs between requests."""
    parts = request.path.removeprefix("/api/v3").removeprefix("/api/uploads").split("/")[4:]
    ours = ("lading-", "demo-app-")
    named = ["*" if part.isdecimal() or len(part) == 40 or part.startswith(ours) else part for part in parts]
    return request.method.lower(), "/".join(named).replace("matching-refs/tags", "matching-refs/*")


def test_every_operation_of_the_description_is_exercised(exchanges: list[tuple[Request, Reply]]) -> None:
    paths = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"]
    wanted = {
        (method, "/".join("*" if part.startswith("{") else part for part in path.split("/")[4:]))
        for path, methods in paths.items()
        for method in methods
    }
    assert wanted - {described(request) for request, _ in exchanges} == {("get", "releases/assets/*")}


def test_what_we_send_is_what_github_describes(prism: list[str], exchanges: list[tuple[Request, Reply]]) -> None:
    with started(prism, "mock", str(DESCRIPTION)) as mock:
        for request, _ in exchanges:
            answer = replayed(request, mock)
            assert answer.status_code < 400, (described(request), answer.text)
        wrong = httpx.post(f"{mock}/repos/owner/name/releases", json={"draft": "yes"})
        assert wrong.status_code == 422


def test_what_the_double_answers_is_what_github_describes(
    prism: list[str], exchanges: list[tuple[Request, Reply]]
) -> None:
    replies = [reply for _, reply in exchanges]
    incomplete = next(reply for reply in replies if b'"assets_url"' in reply.body and reply.body[:1] == b"{")
    short = json.loads(bytes(incomplete.body))
    del short["assets_url"]
    creation = next(request for request, _ in exchanges if described(request) == ("post", "releases"))
    cases = [*exchanges, (creation, replace(incomplete, status=201, body=json.dumps(short).encode()))]

    def play(request: Request) -> Reply:
        request.drain()
        return cases[int(request.headers["x-number"])][1]

    with served(play) as player, started(prism, "proxy", str(DESCRIPTION), player) as proxy:
        for number, (request, reply) in enumerate(exchanges):
            if reply.status == 502 or b'"state": "starter"' in reply.body:
                continue  # a failure of the host, and what it leaves: only in the description's prose
            answer = replayed(request, proxy, **{"x-number": str(number)})
            assert answer.status_code == reply.status, (described(request), answer.text)
        answer = replayed(creation, proxy, **{"x-number": str(len(exchanges))})
        assert answer.status_code == 500
        assert "assets_url" in answer.text
