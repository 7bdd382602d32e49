"""A repository behind HTTP.

Only single ranges are ever asked for: of the hosts that releases lie at, one answers 501 to several ranges at once,
others send the whole object. What a server can do wrong is told apart here, because "digest mismatch" would send
people looking in the wrong place: it ignores ranges, answers with a web page, compresses on its own, stops early,
replaces the file midway.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from string import Formatter
from urllib.parse import quote

from lading.errors import SourceUnreachable
from lading.fetch.failures import proxy_wants_login
from lading.fetch.source import Stream, Temporary, Traffic, Waits
from lading.fetch.throttle import Throttle
from lading.fetch.transport import Reply, Transport, shown_url
from lading.fetch.validators import Validators

BLOCK = 256 * 2**10  # bytes received at once at the most; what is there is taken, so a slow line gives smaller ones

_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_GONE = frozenset({404, 410})
_NOT_THERE = _GONE | {403}  # S3 answers 403 for a key that is not there when listing is forbidden
_REFUSED = frozenset({400, 401, 403})  # what hosts answer to a signature that has expired
_CONTENT_RANGE = re.compile(r"^bytes (\d+)-(\d+)/(\d+|\*)$")
_OK, _PART, _PROXY_LOGIN, _BEYOND = 200, 206, 407, 416


class HttpSource:
    """Reads a repository's files by HTTP or HTTPS; may be used by several threads at once.

    Proxies and certificate bundles come from the usual environment variables.

    Args:
        base: The repository's base address, or a pattern such as
            ``https://github.com/o/r/releases/download/{version}/{name}`` with the fields ``path``, ``name``, and for
            assets ``component`` and ``version``.
        throttle: Holds a bandwidth limit.
        waits: How long the server may take.
        clock: Tells seconds.
    """

    def __init__(
        self,
        base: str,
        *,
        throttle: Throttle | None = None,
        waits: Waits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pattern = base if "{" in base else base.rstrip("/") + "/{path}"
        self._fields = {field for _, field, _, _ in Formatter().parse(self._pattern) if field}
        self._throttle = throttle
        self._waits = waits or Waits()
        self._clock = clock
        self._validators = Validators()
        self.traffic = Traffic()
        self._transport = Transport(waits=self._waits, count=self.traffic.request)

    def describe(self, path: str) -> str:
        """The file's URL, without user and password."""
        return shown_url(self._url(path) or self._pattern)

    def stream(self, path: str) -> Stream | None:
        """Read a whole file, or give none when it is not there."""
        blocks = self._whole(path)
        if next(blocks) is None:  # the status has to be seen before there is anything to iterate
            blocks.close()
            return None
        return _bytes_of(blocks)

    def stream_range(self, path: str, start: int, size: int, total: int) -> Stream:
        """Read exactly ``size`` bytes from ``start`` of a file of ``total`` bytes."""
        url = self._url(path)
        if url is None:
            raise _wrong(self.describe(path), f"no {path} belongs there")
        condition = self._validators.condition(path)
        headers = {"Range": f"bytes={start}-{start + size - 1}", **condition}
        with self._transport.get(url, headers) as reply:
            self._check_usable(reply)
            if reply.status == _OK and (start, size) != (0, total):
                raise self._whole_instead(path, reply, conditional=bool(condition))
            if reply.status == _PART:
                _check_range(reply, start, size, total)
            _check_length(reply, size)
            if changed := self._validators.change(path, reply.headers):
                raise _changed(reply, changed)
            yield from self._body(reply, size)

    def distrust(self, path: str, why: str) -> None:
        """Nothing: there is one place to read from."""

    def interrupt(self) -> None:
        """Let the threads that wait for bytes fail now."""
        self._transport.interrupt()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def _url(self, path: str) -> str | None:
        """Where a file lies; none when the pattern has no place for it."""
        parts = path.split("/")
        values = {"path": quote(path), "name": quote(parts[-1])}
        if parts[0] == "assets" and len(parts) == len(("assets", "component", "version", "name")):
            values |= {"component": quote(parts[1]), "version": quote(parts[2])}
        return self._pattern.format_map(values) if self._fields <= values.keys() else None

    def _whole(self, path: str) -> Generator[bytes | None, None, None]:
        url = self._url(path)
        if url is None:
            yield None
            return
        with self._transport.get(url, {}) as reply:
            if reply.status in _NOT_THERE and not _is_expired(reply):
                yield None
                return
            self._check_usable(reply)
            if reply.status != _OK:
                raise _wrong(reply.url, f"it sent a part (status {reply.status})")
            yield b""
            yield from self._body(reply, None)

    def _check_usable(self, reply: Reply) -> None:
        status = reply.status
        if status in _TEMPORARY:
            raise Temporary(f"{reply.url} answered {status}.", retry_after=_retry_after(reply))
        if _is_expired(reply):
            raise Temporary(f"{reply.url} redirects to an address that answered {status}; it has probably expired.")
        if status == _PROXY_LOGIN:
            raise proxy_wants_login(reply.url, reply.proxy)
        if status == _BEYOND:
            there = reply.headers.get("Content-Range", "")
            raise _wrong(reply.url, f"it answered 416, the file there ends earlier ({there or 'no size given'})")
        if status in _GONE:
            raise SourceUnreachable(
                f"{reply.url} is not there: it answered {status} {reply.reason}.",
                usually="The mirror is incomplete or behind, or the address is wrong.",
                todo="Use another source, or tell the publisher.",
            )
        if status not in {_OK, _PART}:
            raise _wrong(reply.url, f"it answered {status} {reply.reason}".rstrip())
        if reply.headers.get("Content-Type", "").startswith("text/html"):
            raise _wrong(reply.url, f"it answered {status} with a web page (text/html)")
        if (encoding := reply.headers.get("Content-Encoding", "identity")) != "identity":
            raise _wrong(reply.url, f"it compressed the answer on its own ({encoding})")

    def _whole_instead(self, path: str, reply: Reply, *, conditional: bool) -> SourceUnreachable:
        if not conditional:
            return _wrong(reply.url, f"it ignored the Range header and sent the whole file (status {reply.status})")
        self._validators.forget(path)
        return _changed(reply, "it sent the whole file instead of the rest of the one before")

    def _body(self, reply: Reply, size: int | None) -> Stream:
        """The body's blocks; exactly so many bytes when a size is given."""
        largest = self._throttle.block(BLOCK) if self._throttle else BLOCK
        pace = _Pace(self._waits, self._clock)
        received = 0
        while block := pace.timed(reply, largest):
            received += len(block)
            self.traffic.received(len(block))
            if size is not None and received > size:
                raise _wrong(reply.url, f"it sent more than the {size} bytes that were asked for")
            if self._throttle is not None:
                self._throttle.pay(len(block))
            yield block
        if size is not None and received < size:
            raise Temporary(f"{reply.url} ended after {received} of {size} bytes.")


class _Pace:
    """Notices an answer that drips so slowly that it will never end; time spent elsewhere does not count."""

    def __init__(self, waits: Waits, clock: Callable[[], float]) -> None:
        self._waits = waits
        self._clock = clock
        self._waited = 0.0
        self._received = 0

    def timed(self, reply: Reply, size: int) -> bytes:
        """Read a block."""
        began = self._clock()
        block = reply.read(size)
        self._waited += self._clock() - began
        self._received += len(block)
        if block and self._waited >= self._waits.window:
            if self._received < self._waits.slowest * self._waited:
                raise Temporary(f"{reply.url} sent only {self._received} bytes in {self._waited:.0f} s.")
            self._waited, self._received = 0.0, 0
        return block


def _bytes_of(blocks: Generator[bytes | None, None, None]) -> Stream:
    with closing(blocks):
        for block in blocks:
            if block is not None:
                yield block


def _is_expired(reply: Reply) -> bool:
    """Whether a refusal concerns the signed address that we were sent to, and not the file."""
    return reply.hops > 0 and reply.status in _REFUSED


def _check_range(reply: Reply, start: int, size: int, total: int) -> None:
    header = reply.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.match(header)
    wanted = f"bytes {start}-{start + size - 1}/{total}"
    if (
        match is None
        or match[3] not in {"*", str(total)}
        or (int(match[1]), int(match[2])) != (start, start + size - 1)
    ):
        raise _wrong(reply.url, f"it sent Content-Range {header!r} where {wanted!r} was asked for")


def _check_length(reply: Reply, size: int) -> None:
    length = reply.headers.get("Content-Length")
    if length is not None and length.strip() != str(size):
        raise Temporary(f"{reply.url} announced {length} bytes where {size} were asked for.")


def _changed(reply: Reply, how: str) -> Temporary:
    return Temporary(
        f"{reply.url} changed while it was being fetched: {how}.",
        usually="The publisher or a cache replaced the file, or several servers behind this name do not agree.",
        todo="Run the same command again: what is verified already is not fetched twice.",
    )


def _wrong(url: str, what: str) -> SourceUnreachable:
    return SourceUnreachable(
        f"{url} cannot be used: {what}.",
        usually="The address is wrong, or a portal, proxy or cache answers in the server's place.",
        todo="Open the address in a browser to see who answers; use another network or source.",
    )


def _retry_after(reply: Reply) -> float | None:
    """Seconds to wait: a number, or the time until a date."""
    text = reply.headers.get("Retry-After", "").strip()
    if text.isdecimal() and text.isascii():
        return float(text)
    try:
        return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return None
