"""How the network is used here, and what a repository answers.

With a trusted root the repository is verified as an install would do it, in a scratch copy of the metadata seen, so
that nothing is kept. Without one, a single small file is asked for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lading.doctor.record import SourceFacts, Trouble
from lading.errors import LadingError, SourceUnreachable, Untrusted
from lading.fetch.proxies import proxy_for
from lading.fetch.source import Source, fetch_small
from lading.fetch.trust import Trust
from lading.manifest.base import Platform
from lading.manifest.layout import METADATA
from lading.manifest.release import Release
from lading.store.choice import newest_of_each
from lading.store.home import trust_folder
from lading.store.rollout import Asked as AskedOfChannel
from lading.store.wish import copied_trust, opened

_VARIABLES = (
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
)  # fmt: skip
_LARGEST_TIMESTAMP = 65536  # bytes
_CLOCK_DOUBT = timedelta(days=1)  # time zones and slow clocks are not worth a word

Clock = Callable[[], datetime]


def now() -> datetime:
    """The machine's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What to ask a repository for.

    Attributes:
        sources: Addresses or folders, the preferred one first.
        root: A trusted root, or none.
        app, channel, platform, version: Which releases.
    """

    sources: Sequence[str]
    root: bytes | None
    app: str
    channel: str
    platform: Platform
    version: str | None = None


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What it answered: the facts, and the newest release of each flavor."""

    facts: SourceFacts
    releases: tuple[Release, ...] = ()


def without_password(address: str) -> str:
    """An address that can be shown to others; a folder's path stays as it is."""
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    place, slash, path = rest.partition("/")
    return f"{scheme}://{place.rpartition('@')[2]}{slash}{path}"


def network_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables in force that decide how the network is used, without passwords.

    Args:
        environment: The process's variables; lower case counts before upper case, as everywhere.
    """
    found = {name: environment.get(name.lower()) or environment.get(name) for name in _VARIABLES}
    return {name: value if name == "NO_PROXY" else _shown(value) for name, value in found.items() if value}


def _shown(value: str) -> str:
    """A variable's value; a proxy may be written without its scheme."""
    return without_password(value) if "://" in value else value.rpartition("@")[2]


def ask_source(asked: Asked, data: Path, *, clock: Clock = now) -> Answered:
    """Ask a repository. What goes wrong is a finding.

    Args:
        asked: What for.
        data: The data directory, with the metadata seen; not changed.
        clock: What time it is.
    """
    began = time.monotonic()
    address = ", ".join(without_password(text) for text in asked.sources)
    facts = SourceFacts(address=address, reachable=False, seconds=0.0)
    releases: tuple[Release, ...] = ()
    update: dict[str, object] = {}
    try:
        update["proxy"] = _proxy(asked.sources[0])
        with opened(asked.sources) as source:
            try:
                found, releases = _verified(source, asked, data, clock) if asked.root else (_reached(source), ())
                update |= {"reachable": True, **found}
            except LadingError as error:
                update |= {"reachable": isinstance(error, Untrusted), "trouble": trouble_of(error)}
            update |= {"requests": source.traffic.requests, "bytes_received": source.traffic.bytes}
    except LadingError as error:  # what was written is no source, or its proxy is none
        update["trouble"] = trouble_of(error)
    update["seconds"] = round(time.monotonic() - began, 3)
    return Answered(facts=facts.model_copy(update=update), releases=releases)


def trouble_of(error: LadingError) -> Trouble:
    """An error as a finding."""
    return Trouble(kind=error.kind, exit_code=error.exit_code, what=error.what, usually=error.usually, todo=error.todo)


def _proxy(address: str) -> str | None:
    proxy = proxy_for(address) if "://" in address else None
    return proxy.url if proxy is not None else None


def _reached(source: Source) -> dict[str, object]:
    path = f"{METADATA}/timestamp.json"
    data = fetch_small(source, path, _LARGEST_TIMESTAMP)
    if data is None:
        raise SourceUnreachable(
            f"{source.describe(path)} is not there.",
            usually="The address or folder is wrong, or nothing was published there yet.",
            todo="Give the base under which metadata, targets and assets lie.",
        )
    return {"expires": _expires(data)}


def _expires(timestamp: bytes) -> str | None:
    try:
        return str(json.loads(timestamp)["signed"]["expires"])
    except (ValueError, KeyError, TypeError):
        return None


def _verified(source: Source, asked: Asked, data: Path, clock: Clock) -> tuple[dict[str, object], tuple[Release, ...]]:
    with copied_trust(data) as scratch:
        folder = trust_folder(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        trust = Trust(source, asked.root or b"", folder)
        channel = trust.channel(asked.app, asked.channel)
        entries = newest_of_each(channel, AskedOfChannel(platform=asked.platform, version=asked.version))
        releases = tuple(trust.release(entry, asked.app) for entry in entries)
        expires = _expires((folder / "timestamp.json").read_bytes())
    newest = max(release.provenance.epoch for release in releases)
    behind = clock() + _CLOCK_DOUBT < datetime.fromtimestamp(newest, UTC)
    return {"verified": True, "expires": expires, "clock": "behind" if behind else "plausible"}, releases
