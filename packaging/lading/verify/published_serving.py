"""How a destination serves files: what a client needs of it beside the right bytes.

An install asks for single ranges of archives, several at once, and goes on in the middle after a cut; an update begins
at a timestamp that must not come from an old cache. A folder is read and not served, so none of this holds for it.

Rules, over what was answered:
    1. A range is answered 206 with exactly that range; a server that sends the whole file instead cannot be used.
    2. ``If-Range`` with the file's own validator changes nothing.
    3. ``HEAD``, where it is supported, says the size and the same validator. Clients do not need it; CDNs and download
       managers do.
    4. A cache may keep the timestamp for :data:`FRESH` seconds at the most.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lading.fetch.source import Temporary, Waits, retrying
from lading.fetch.transport import Transport
from lading.fetch.validators import validator_of

SAMPLE = 4096  # bytes of a range that is asked for
FRESH = 600  # seconds; raw files of a branch are cached for 300 by the host of releases
_OK, _PART, _TOO_MANY, _SERVER_ERROR = 200, 206, 429, 500
_NO_HEAD = frozenset({403, 405, 501})
_AGE = re.compile(r"(?:s-maxage|max-age)\s*=\s*\"?(\d+)")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a server answered.

    Attributes:
        status: The status code.
        headers: Its headers, names in lower case.
        body: At most one byte more than was asked for.
    """

    status: int
    headers: Mapping[str, str]
    body: int

    @property
    def validator(self) -> str | None:
        """What may stand in ``If-Range``."""
        return validator_of(
            {"ETag": self.headers.get("etag", ""), "Last-Modified": self.headers.get("last-modified", "")}
        )


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The part of a file that is asked for.

    Attributes:
        start, size: The range.
        total: The file's bytes.
    """

    start: int
    size: int
    total: int

    @property
    def header(self) -> str:
        """What stands in ``Range``."""
        return f"bytes={self.start}-{self.start + self.size - 1}"

    @property
    def content_range(self) -> str:
        """What must be answered."""
        return f"bytes {self.start}-{self.start + self.size - 1}/{self.total}"


def samples_of(total: int) -> tuple[Sample, ...]:
    """A range in the middle of a file and one at its end; none of a file that is too small to have any."""
    size = min(SAMPLE, total // 3)
    starts = (total // 3, total - size) if size else ()
    return tuple(Sample(start=start, size=size, total=total) for start in starts)


def range_problems(answer: Answer, sample: Sample, *, asked: str = "a Range request") -> list[str]:
    """How the answer to a range is wrong; rule 1."""
    if answer.status == _OK:
        return [f"{asked} was answered 200 with the whole file: there is no Range support"]
    if answer.status != _PART:
        return [f"{asked} was answered {answer.status}"]
    problems = []
    if (found := answer.headers.get("content-range", "")) != sample.content_range:
        problems.append(f"{asked} was answered with Content-Range {found!r}, not {sample.content_range!r}")
    length = answer.headers.get("content-length", str(sample.size))
    if length != str(sample.size):
        problems.append(f"{asked} for {sample.size} bytes was answered with Content-Length {length}")
    if answer.body != sample.size:
        more = "more than " if answer.body > sample.size else ""
        problems.append(f"{asked} for {sample.size} bytes brought {more}{min(answer.body, sample.size)}")
    return problems


def head_problems(answer: Answer, sample: Sample, validator: str | None) -> list[str]:
    """How the answer to ``HEAD`` is wrong; rule 3."""
    if answer.status in _NO_HEAD:
        return []
    if answer.status != _OK:
        return [f"HEAD was answered {answer.status}"]
    problems = []
    length = answer.headers.get("content-length")
    if length is not None and length != str(sample.total):
        problems.append(f"HEAD says {length} bytes, the file has {sample.total}")
    if validator and answer.validator and answer.validator != validator:
        problems.append(f"HEAD says {answer.validator}, a Range request {validator}: the servers do not agree")
    return problems


def cache_problems(headers: Mapping[str, str]) -> list[str]:
    """How the timestamp could be served from an old cache; rule 4."""
    control = headers.get("cache-control", "")
    if "immutable" in control:
        return [f"metadata/timestamp.json is served with Cache-Control: {control}; it must not be immutable"]
    if "no-cache" in control or "no-store" in control:
        return []
    ages = [int(age) for age in _AGE.findall(control)]
    if ages and max(ages) > FRESH:
        return [f"metadata/timestamp.json may be cached for {max(ages)} s ({control}); {FRESH} s are the most"]
    return []


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a server showed.

    Attributes:
        problems: What keeps clients from using it.
        remarks: What is worth knowing.
    """

    problems: Sequence[str]
    remarks: Sequence[str]


class Server:
    """Asks one destination's server.

    Args:
        waits: How long it may take.
    """

    def __init__(self, waits: Waits | None = None) -> None:
        self._transport = Transport(waits=waits or Waits(), count=lambda: None)

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def ask(self, url: str, headers: Mapping[str, str], *, method: str = "GET", at_most: int = SAMPLE) -> Answer:
        """Send one request, again after what may pass, and read at most one byte more than ``at_most``.

        Raises:
            SourceUnreachable: Nobody answers.
        """

        def attempt() -> Answer:
            with self._transport.get(url, headers, method=method) as reply:
                if reply.status == _TOO_MANY or (reply.status >= _SERVER_ERROR and reply.status not in _NO_HEAD):
                    raise Temporary(f"{reply.url} answered {reply.status}.")
                body = 0
                while body <= at_most and method != "HEAD" and (block := reply.read(at_most + 1 - body)):
                    body += len(block)
                named = {name.lower(): value for name, value in reply.headers.items()}
                return Answer(status=reply.status, headers=named, body=body)

        return retrying()(attempt)

    def ranges(self, url: str, total: int) -> Serving:
        """Ask for ranges of a file.

        Args:
            url: Its address.
            total: Its bytes.

        Raises:
            SourceUnreachable: Nobody answers.
        """
        problems: list[str] = []
        validator = None
        samples = samples_of(total)
        for sample in samples:
            answer = self.ask(url, {"Range": sample.header})
            problems += range_problems(answer, sample)
            validator = validator or answer.validator
        if not samples or problems:
            return Serving(problems=problems, remarks=())
        if validator is not None:
            again = self.ask(url, {"Range": samples[0].header, "If-Range": validator})
            problems += range_problems(again, samples[0], asked="a Range request with If-Range")
        head = self.ask(url, {}, method="HEAD")
        problems += head_problems(head, samples[0], validator)
        return Serving(problems=problems, remarks=tuple(_remarks(head, validator)))

    def timestamp(self, url: str) -> Serving:
        """Look how long the timestamp may be cached.

        Args:
            url: Its address.

        Raises:
            SourceUnreachable: Nobody answers.
        """
        answer = self.ask(url, {}, at_most=2**20)
        control = answer.headers.get("cache-control")
        remark = f"Cache-Control: {control}" if control else "no Cache-Control: caches guess for how long it is fresh"
        return Serving(problems=cache_problems(answer.headers), remarks=(remark,))


def _remarks(head: Answer, validator: str | None) -> list[str]:
    found = []
    if validator is None:
        found.append("no ETag and no date: a file that is replaced midway is found by its digest alone")
    if head.status in _NO_HEAD:
        found.append(f"HEAD is not supported ({head.status})")
    return found
