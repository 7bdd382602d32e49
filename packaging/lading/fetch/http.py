"""A repository behind HTTP.

Only single ranges are ever asked for: of the hosts that releases lie at, one answers 501 to several ranges at once,
others send the whole object. What a server can do wrong is told apart here, because "digest mismatch" would send
people looking in the wrong place: it ignores ranges, answers with a web page, compresses on its own, stops early.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from urllib.parse import quote

import httpx

from lading.errors import SourceUnreachable
from lading.fetch.source import Stream, Temporary, Traffic

CONNECT_TIMEOUT = 15.0  # seconds
SILENCE_TIMEOUT = 30.0  # seconds without a byte; a slow line is no error, a silent one is
CONNECTIONS = 16

_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_NOT_THERE = frozenset({403, 404, 410})  # S3 answers 403 for a key that is not there when listing is forbidden
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")


class HttpSource:
    """Reads a repository's files by HTTP or HTTPS; may be used by several threads at once.

    Proxies and certificate bundles come from the usual environment variables.

    Args:
        base: The repository's base address.
        client: Instead of a client of its own.
    """

    def __init__(self, base: str, *, client: httpx.Client | None = None) -> None:
        self._base = base.rstrip("/")
        self._client = client or httpx.Client(
            follow_redirects=True,
            timeout=httpx.Timeout(SILENCE_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
            limits=httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
            headers={"Accept-Encoding": "identity", "User-Agent": f"lading/{version('lading')}"},
        )
        self.traffic = Traffic()

    def describe(self, path: str) -> str:
        """The file's URL."""
        return f"{self._base}/{quote(path)}"

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there."""
        blocks = self._whole(path)
        if next(blocks) is None:  # the status has to be seen before there is anything to iterate
            blocks.close()
            return None
        return _bytes_of(blocks)

    def _whole(self, path: str) -> Generator[bytes | None, None, None]:
        with self._answer(path, {}) as response:
            if response.status_code in _NOT_THERE:
                yield None
                return
            self._check(response, expected=200)
            yield b""
            yield from self._body(response)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start`` of a file of ``total`` bytes."""
        received = 0
        with self._answer(path, {"Range": f"bytes={start}-{start + size - 1}"}) as response:
            self._check(response, expected=206)
            _check_range(response, start, size, total)
            for block in self._body(response):
                received += len(block)
                if received > size:
                    raise _wrong(response, f"it sent more than the {size} bytes that it promised")
                yield block
            if received < size:
                raise Temporary(f"{_url(response)} ended after {received} of {size} bytes.")

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    @contextmanager
    def _answer(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        url = self.describe(path)
        self.traffic.request()
        try:
            with self._client.stream("GET", url, headers=headers) as response:
                yield response
        except httpx.TooManyRedirects as error:
            raise SourceUnreachable(
                f"{url} redirects in a circle ({error}).",
                usually="The server or a proxy before it is set up wrongly.",
                todo="Use another source, or tell the publisher.",
            ) from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise SourceUnreachable(
                f"{url} is not an address that can be fetched ({error}).",
                todo="Give a folder, or an address that begins with https:// or http://.",
            ) from error
        except httpx.TransportError as error:
            raise Temporary(f"{url} did not answer: {type(error).__name__}: {error}") from error

    def _check(self, response: httpx.Response, *, expected: int) -> None:
        status = response.status_code
        if status in _TEMPORARY:
            raise Temporary(f"{_url(response)} answered {status}.", retry_after=_retry_after(response))
        if status not in {200, 206}:
            raise _wrong(response, f"it answered {status} {response.reason_phrase}".rstrip())
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _wrong(response, f"it answered {status} with a web page (text/html)")
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise _wrong(response, f"it compressed the answer on its own ({response.headers['Content-Encoding']})")
        if status != expected:
            what = "it ignored the Range header and sent the whole file" if status == 200 else "it sent a part"  # noqa: PLR2004 (a status code)
            raise _wrong(response, f"{what} (status {status})")

    def _body(self, response: httpx.Response) -> Iterator[bytes]:
        for block in response.iter_raw():
            self.traffic.received(len(block))
            yield block


def _bytes_of(blocks: Generator[bytes | None, None, None]) -> Stream:
    with closing(blocks):
        for block in blocks:
            if block is not None:
                yield block


def _check_range(response: httpx.Response, start: int, size: int, total: int) -> None:
    header = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.match(header)
    wanted = f"bytes {start}-{start + size - 1}/{total}"
    if (
        match is None
        or match[3] not in {"*", str(total)}
        or (int(match[1]), int(match[2])) != (start, start + size - 1)
    ):
        raise _wrong(response, f"it sent Content-Range {header!r} where {wanted!r} was asked for")


def _url(response: httpx.Response) -> str:
    """The address that was asked for, without a redirect's signature."""
    first = response.history[0] if response.history else response
    return str(first.request.url)


def _wrong(response: httpx.Response, what: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{_url(response)} cannot be used: {what}.",
        usually="The address is wrong, or a portal, proxy or cache answers in the server's place.",
        todo="Open the address in a browser to see who answers; use another network or source.",
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait: a number, or the time until a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
