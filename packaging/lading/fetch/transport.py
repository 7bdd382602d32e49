"""One HTTP request: connections that are kept, proxies, certificates, redirects, and what went wrong in plain words.

Redirects are followed here and anew in every request: the addresses that hosts redirect to are signed for minutes, so
they are never kept, and they and any user name in an address are never shown. What an answer means is decided by
whoever asked (:mod:`lading.fetch.http`).

urllib3 does the work: on loopback it needs less than half of the processor time of httpx
(docs/measurements/transport.md), and python-tuf brings it anyway.
"""

from __future__ import annotations

import base64
import http.client
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from threading import Lock
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import urllib3
from urllib3 import exceptions as broken

from lading.errors import SourceUnreachable
from lading.fetch.certificates import tls_context
from lading.fetch.failures import explain, is_stale
from lading.fetch.proxies import Proxy, proxy_for
from lading.fetch.source import Waits

CONNECTIONS = 16  # kept for each host
REDIRECTS = 8
_MOVED = frozenset({301, 302, 303, 307, 308})
_SMALL = 65_536  # bytes of a redirect's own page that are read to keep its connection


@dataclass(kw_only=True)
class Reply:
    """An answer whose body has not been read.

    Attributes:
        url: What was asked for, fit to be shown.
        hops: How many redirects led here.
        headers: The answer's.
    """

    url: str
    hops: int
    _response: urllib3.BaseHTTPResponse
    _proxy: Proxy | None
    _waits: Waits

    @property
    def status(self) -> int:
        """The status code."""
        return self._response.status

    @property
    def reason(self) -> str:
        """What the server calls it."""
        return self._response.reason or ""

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, their names in any case."""
        return self._response.headers

    @property
    def proxy(self) -> str:
        """The proxy that it came through, for messages."""
        return self._proxy.url if self._proxy else "of the environment"

    def read(self, size: int) -> bytes:
        """The next bytes of the body as they come, at most so many; none at its end.

        Raises:
            Temporary, SourceUnreachable: It broke off.
        """
        try:
            return self._response.read1(size, decode_content=False)
        except (broken.HTTPError, OSError, http.client.HTTPException) as error:
            raise explain(error, self.url, self._proxy, self._waits, begun=True) from error


class Transport:
    """Sends requests; may be used by several threads at once.

    Args:
        waits: How long a server may take.
        count: Called for every request that is sent.
    """

    def __init__(self, *, waits: Waits, count: Callable[[], None]) -> None:
        self._waits = waits
        self._count = count
        self._lock = Lock()
        self._managers: dict[tuple[Proxy | None, str], urllib3.PoolManager] = {}
        self._open: set[urllib3.BaseHTTPResponse] = set()

    @contextmanager
    def get(self, url: str, headers: Mapping[str, str], *, method: str = "GET") -> Iterator[Reply]:
        """Ask, following redirects; the answer is let go with the block.

        Args:
            url: The address; user and password in it are sent to its own host alone.
            headers: Beside the usual ones.
            method: ``HEAD`` to be told and sent nothing.

        Raises:
            Temporary, SourceUnreachable: Nobody answered, or not in HTTP.
            ConfigError: The proxy or certificates that the environment names cannot be used.
        """
        shown, here = shown_url(url), url
        for hop in range(REDIRECTS + 1):
            response, proxy = self._send(here, shown, headers, home=url, method=method)
            try:
                moved = _location(response, here) if response.status in _MOVED else None
                if moved is None:
                    with self._watched(response):
                        yield Reply(url=shown, hops=hop, _response=response, _proxy=proxy, _waits=self._waits)
                    return
                self._pass(response, shown, proxy)
                here = _checked(moved, shown)
            finally:
                if not response.closed:
                    response.close()
        raise SourceUnreachable(
            f"{shown} redirects in a circle, or more than {REDIRECTS} times.",
            usually="The server or a proxy before it is set up wrongly, or wants you to log in.",
            todo="Open the address in a browser to see where it leads; use another source, or tell the publisher.",
        )

    def interrupt(self) -> None:
        """Let whoever waits for bytes fail now."""
        with self._lock:
            waiting = list(self._open)
        for response in waiting:
            with suppress(OSError, ValueError, RuntimeError):  # it is over already
                response.shutdown()

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            managers = list(self._managers.values())
        for manager in managers:
            manager.clear()

    def _send(
        self, here: str, shown: str, headers: Mapping[str, str], *, home: str, method: str
    ) -> tuple[urllib3.BaseHTTPResponse, Proxy | None]:
        proxy = proxy_for(here)
        manager = self._manager(proxy, urlsplit(here).scheme)
        sent = {**self._usual, **_login(here, home), **headers}
        for kept in (True, False):
            self._count()
            try:
                response = manager.request(
                    method, _without_login(here), headers=sent, preload_content=False, redirect=False, retries=False
                )
            except (broken.HTTPError, OSError, http.client.HTTPException, ValueError) as error:
                if not (kept and is_stale(error)):
                    raise explain(error, shown, proxy, self._waits, begun=False) from error
            else:
                return response, proxy
        raise AssertionError("the second time either returns or raises")

    @cached_property
    def _usual(self) -> dict[str, str]:
        return {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": user_agent()}

    @contextmanager
    def _watched(self, response: urllib3.BaseHTTPResponse) -> Iterator[None]:
        with self._lock:
            self._open.add(response)
        try:
            yield
        finally:
            with self._lock:
                self._open.discard(response)

    def _pass(self, response: urllib3.BaseHTTPResponse, shown: str, proxy: Proxy | None) -> None:
        """Read a redirect's own page when it is short, because only then its connection can be used again."""
        with suppress(ValueError):
            if int(response.headers.get("Content-Length", "")) <= _SMALL:
                Reply(url=shown, hops=0, _response=response, _proxy=proxy, _waits=self._waits).read(_SMALL)

    def _manager(self, proxy: Proxy | None, scheme: str) -> urllib3.PoolManager:
        with self._lock:
            if (proxy, scheme) not in self._managers:
                self._managers[proxy, scheme] = _make_manager(proxy, scheme, self._waits)
            return self._managers[proxy, scheme]


def user_agent() -> str:
    """How this program calls itself; without a version where it is frozen into a server, without its own record."""
    name = "lading"  # no literal in the call: PyInstaller would take the record of whatever happens to be installed
    try:
        return f"{name}/{version(name)}"
    except PackageNotFoundError:
        return name


def shown_url(url: str) -> str:
    """An address as it may be printed: without user, password and what is signed."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _make_manager(proxy: Proxy | None, scheme: str, waits: Waits) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "num_pools": 8,
        "maxsize": CONNECTIONS,
        "timeout": urllib3.Timeout(connect=waits.connect, read=waits.silence),
        "ssl_context": tls_context() if scheme == "https" else None,
    }
    if proxy is None:
        return urllib3.PoolManager(**options)
    if proxy.is_socks:
        from urllib3.contrib.socks import SOCKSProxyManager  # noqa: PLC0415 (few need it, and it costs an import)

        return SOCKSProxyManager(proxy.url, proxy.user, proxy.password, **options)
    login = {"Proxy-Authorization": _basic(proxy.user, proxy.password)} if proxy.user else None
    context = tls_context() if proxy.scheme == "https" else None
    return urllib3.ProxyManager(proxy.url, proxy_headers=login, proxy_ssl_context=context, **options)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port


def _login(here: str, home: str) -> dict[str, str]:
    parts = urlsplit(home)
    if not parts.username or _origin(here) != _origin(home):
        return {}
    return {"Authorization": _basic(unquote(parts.username), unquote(parts.password or ""))}


def _basic(user: str, password: str | None) -> str:
    """The value of a login; its header is written as all servers know it, some of them in no other case."""
    return "Basic " + base64.b64encode(f"{user}:{password or ''}".encode()).decode()


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _location(response: urllib3.BaseHTTPResponse, here: str) -> str | None:
    text = response.headers.get("Location")
    return urljoin(here, text) if text else None


def _checked(url: str, shown: str) -> str:
    if urlsplit(url).scheme in {"http", "https"}:
        return url
    raise SourceUnreachable(
        f"{shown} redirects to {urlsplit(url).scheme}:, which is not HTTP.",
        usually="The server or a proxy before it is set up wrongly.",
        todo="Use another source, or tell the publisher.",
    )
