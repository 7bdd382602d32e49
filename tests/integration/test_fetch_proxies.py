"""Proxies of both kinds, as the environment names them: real proxies in processes of their own, plain and encrypted."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme
from tests.packed_release import APP, ENTRY, Shop, program
from tests.range_server import RangeServer, serving

from lading.errors import ConfigError, SourceUnreachable
from lading.fetch.address import open_source
from lading.fetch.http import HttpSource
from lading.store.install import install
from lading.store.result import InstallResult

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclass(frozen=True)
class RunningProxy:
    """A proxy that asks for ``me`` and ``secret``.

    Attributes:
        port: Where it listens.
        log: Where it writes a line for every connection.
    """

    port: int
    log: Path

    def used(self, kind: str) -> int:
        """How many connections of a kind it was asked for."""
        return sum(line.startswith(f"{kind} ") for line in self.log.read_text().splitlines())


@contextmanager
def proxy(folder: Path) -> Iterator[RunningProxy]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / "proxy.log"
    argv = [sys.executable, "-u", "-m", "pproxy", "-v", "-l", f"http+socks4+socks5://127.0.0.1:{port}#me:secret"]
    with log.open("wb") as out, subprocess.Popen(argv, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            while b"Serving on" not in log.read_bytes():
                assert process.poll() is None, log.read_text()
            yield RunningProxy(port, log)
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "shop")
    made.release("0.1.0", {ENTRY: program("one")}, {"_internal/nvidia/lib.so": bytes(100_000)})
    return made


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []

    def nap(_event: object) -> Callable[[float], None]:
        return slept.append

    monkeypatch.setattr("tenacity.nap.time.sleep", slept.append)
    monkeypatch.setattr("lading.fetch.frames.sleep_using_event", nap)
    return slept


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
        monkeypatch.delenv(variable.lower(), raising=False)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[RunningProxy]:
    with proxy(tmp_path) as made:
        yield made


@pytest.fixture(params=["http", "https"])
def server(
    request: pytest.FixtureRequest, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RangeServer]:
    """The repository, plain or encrypted with a certificate that the environment names."""
    context = None
    if request.param == "https":
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(tmp_path / "bundle.pem"))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    with serving(shop.store, context) as made:
        yield made


@dataclass(frozen=True)
class Installing:
    """Calling it installs."""

    shop: Shop
    server: RangeServer
    data: Path

    def __call__(self) -> InstallResult:
        return install(self.server.url, self.shop.root, self.data, app=APP)


@pytest.fixture
def installing(shop: Shop, server: RangeServer, tmp_path: Path) -> Installing:
    return Installing(shop, server, tmp_path / "data")


def variable_of(server: RangeServer) -> str:
    return server.url.partition(":")[0].upper() + "_PROXY"


@pytest.mark.proves("X-33")
@pytest.mark.parametrize("variable", ["own", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http", "socks4a", "socks5", "socks5h", "socks"])
def test_an_install_goes_through_the_proxy_that_a_variable_names(
    installing: Installing, running: RunningProxy, monkeypatch: pytest.MonkeyPatch, scheme: str, variable: str
) -> None:
    name = variable_of(installing.server) if variable == "own" else variable
    user = "me:secret@" if scheme != "socks4a" else "me%3Asecret@"  # one field, which this proxy compares as a whole
    monkeypatch.setenv(name, f"{scheme}://{user}127.0.0.1:{running.port}")
    assert Path(installing().entry).is_file()
    assert running.used("socks5" if scheme in {"socks5h", "socks"} else scheme.rstrip("a")) > 0


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_wants_another_password_is_named_without_the_password(
    server: RangeServer, running: RunningProxy, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:mistaken@127.0.0.1:{running.port}")
    with pytest.raises(SourceUnreachable) as caught:
        list(HttpSource(server.url).stream("metadata/timestamp.json") or [])
    said = str(caught.value)
    assert "proxy" in said
    assert "mistaken" not in said
    assert not server.requests


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_proxy_that_is_not_there_is_named_and_not_the_server(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("ALL_PROXY", f"{scheme}://me:secret@127.0.0.1:{port}")
    with pytest.raises(SourceUnreachable) as caught:
        HttpSource(server.url).stream("metadata/timestamp.json")
    assert f"the proxy {scheme}://127.0.0.1:{port} failed" in caught.value.what
    assert "NO_PROXY" in caught.value.todo
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "example.org,127.0.0.1"])
def test_what_no_proxy_lists_is_asked_directly(
    server: RangeServer, running: RunningProxy, monkeypatch: pytest.MonkeyPatch, exception: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", f"http://me:secret@127.0.0.1:{running.port}")
    monkeypatch.setenv("NO_PROXY", exception)
    assert HttpSource(server.url).stream("metadata/timestamp.json") is not None
    assert running.used("http") == 0


def test_a_variable_that_names_no_proxy_is_an_error_of_its_own(
    server: RangeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ALL_PROXY", "ftp://me:secret@127.0.0.1:1")
    with (
        closing(open_source(server.url)) as source,
        pytest.raises(ConfigError, match=r"The proxy 127\.0\.0\.1:1") as caught,
    ):
        source.stream("metadata/timestamp.json")
    assert "secret" not in str(caught.value)


def test_a_bundle_that_is_none_is_an_error_of_its_own(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    for named in ("nothing.pem", "empty.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / named))
        with pytest.raises(ConfigError, match=f"SSL_CERT_FILE names .*{named}"):
            install("https://127.0.0.1:1", shop.root, tmp_path / "data", app=APP)
