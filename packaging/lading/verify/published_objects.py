"""The objects of a published release: which there must be, whether they are there with the right bytes, which else are.

Every byte is fetched through the public address, in blocks, and digested; nothing is kept. What is asked for is what a
client asks for; only :func:`listing` asks for more, where a destination can be listed by anybody.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal

from lading.errors import SourceUnreachable
from lading.fetch.http import BLOCK
from lading.fetch.source import Source, Waits, retrying
from lading.fetch.transport import Transport
from lading.manifest.github_layout import asset_place, parse_address
from lading.manifest.layout import asset_folder, asset_path
from lading.manifest.names import checksum_name, component_name
from lading.manifest.release import ComponentRecord, Release
from lading.progress import Task
from lading.publish.packed import release_objects

ANSWER = 5_000_000  # bytes of an answer of GitHub's API, at the most
PAGE = 100  # entries that it gives at once

Kind = Literal["asset", "checksum", "record"]


@dataclass(frozen=True, kw_only=True)
class PublishedObject:
    """One object that must be there.

    Attributes:
        path: Where, relative to the repository's base.
        kind: An asset that the release manifest names, a checksum file, or a component's record.
        size, sha256: What its bytes must be.
    """

    path: str
    kind: Kind
    size: int
    sha256: str


def objects_of(releases: Iterable[Release]) -> tuple[PublishedObject, ...]:
    """All objects of some releases, each once, in the order in which they are published."""
    found = {item.path: item for release in releases for item in release_objects(release)}
    return tuple(
        PublishedObject(path=item.path, kind=_kind(item.path), size=item.size, sha256=item.sha256)
        for item in found.values()
    )


def _kind(path: str) -> Kind:
    return "checksum" if path.endswith(checksum_name("")) else "record" if path.endswith(".json") else "asset"


@dataclass(kw_only=True)
class Findings:
    """What fetching some objects showed.

    Attributes:
        missing: Paths that are not there.
        altered: Paths whose bytes are others, each with how.
        count, bytes: What was fetched and is right.
    """

    missing: list[str] = field(default_factory=list)
    altered: dict[str, str] = field(default_factory=dict)
    count: int = 0
    bytes: int = 0

    @property
    def problems(self) -> list[str]:
        """One line for each."""
        return [f"{path} is missing" for path in self.missing] + [f"{path} {how}" for path, how in self.altered.items()]


def fetch_all(source: Source, objects: Sequence[PublishedObject], task: Task) -> Findings:
    """Fetch objects and compare them.

    Args:
        source: Where from.
        objects: Which.
        task: Advanced by bytes, each counted once.

    Raises:
        SourceUnreachable: The source does not answer, so that nothing can be said of the rest.
    """
    findings = Findings()
    for item in objects:
        digested = _digested(source, item, task)
        if digested is None:
            findings.missing.append(item.path)
            continue
        size, sha256 = digested
        if (size, sha256) == (item.size, item.sha256):
            findings.count += 1
            findings.bytes += size
        elif size == item.size:
            findings.altered[item.path] = f"has SHA-256 {sha256[:16]}…, the release says {item.sha256[:16]}…"
        else:
            more = "more than " if size > item.size else ""
            findings.altered[item.path] = f"has {more}{min(size, item.size):,} bytes, the release says {item.size:,}"
    return findings


def _digested(source: Source, item: PublishedObject, task: Task) -> tuple[int, str] | None:
    """Size and digest of what is there; reading ends one byte after what may be there."""
    told = 0

    def attempt() -> tuple[int, str] | None:
        nonlocal told
        stream = source.stream(item.path)
        if stream is None:
            return None
        digest, size = hashlib.sha256(), 0
        with closing(stream) as blocks:
            for block in blocks:
                digest.update(block)
                size += len(block)
                task.advance(max(0, min(size, item.size) - told))
                told = max(told, min(size, item.size))
                if size > item.size:
                    break
        return size, digest.hexdigest()

    return retrying()(attempt)


def listing(address: str, component: ComponentRecord) -> Sequence[str] | None:
    """The names that lie where a component's assets lie, and that could be taken for parts of its archive.

    Args:
        address: The destination's public address.
        component: Which.

    Returns:
        The names; none where nobody but the owner can list.

    Raises:
        LadingError: The listing fails.
        OSError: A folder cannot be read.
    """
    stem = component_name(component.volumes[0].name.removesuffix(".001")).removesuffix(".json")
    if (repository := parse_address(address)) is not None:
        place = asset_place(asset_path(component, component.index.name))
        assert place is not None  # the path of an asset
        return _github_names(f"{repository.api}/repos/{repository.name}/releases", place.tag)
    if "://" in address:
        return None
    folder = Path(address).expanduser() / asset_folder(component)
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if name.startswith((f"{stem}.", f"{stem}-from-"))]


def _github_names(releases: str, tag: str) -> list[str]:
    """The assets of a release, asked for as a stranger: GitHub allows that 60 times an hour."""
    transport = Transport(waits=Waits(), count=lambda: None)
    with closing(transport):
        release = _answer(transport, f"{releases}/tags/{tag}")
        names, page = list[str](), 1
        while release is not None and page:
            assets = _answer(transport, f"{releases}/{release['id']}/assets?per_page={PAGE}&page={page}") or []
            names += [asset["name"] for asset in assets]
            page = page + 1 if len(assets) == PAGE else 0
    return sorted(names)


def _answer(transport: Transport, url: str) -> Any:
    """What GitHub's API answers; none when there is no such thing."""
    with transport.get(url, {"Accept": "application/vnd.github+json"}) as reply:
        if reply.status == HTTPStatus.NOT_FOUND:
            return None
        if reply.status != HTTPStatus.OK:
            raise SourceUnreachable(
                f"{reply.url} answered {reply.status} {reply.reason}".rstrip() + ".",
                usually="GitHub answers strangers 60 times an hour, all those behind one address together.",
                todo="Try again in an hour.",
            )
        data = bytearray()
        while len(data) <= ANSWER and (block := reply.read(BLOCK)):
            data += block
    return json.loads(data)


def extra_files(
    address: str, expected: Sequence[Release], others: Callable[[], Iterable[Release]]
) -> tuple[str, ...] | None:
    """Files that lie beside a release's own and that no release of the channel names.

    Args:
        address: The destination's public address.
        expected: The releases that were looked at.
        others: Gives the channel's other releases, which may have patches of the same libs; asked only when needed.

    Returns:
        Their paths; none where nobody but the owner can list.

    Raises:
        LadingError: The listing fails.
        OSError: A folder cannot be read.
    """
    components = [component for release in expected for component in release.components]
    found: dict[str, None] = {}
    for component in components:
        names = listing(address, component)
        if names is None:
            return None
        found |= dict.fromkeys(asset_path(component, name) for name in names)
    unknown = [path for path in found if path not in _paths(expected)]
    if unknown:
        known = _paths(others())
        unknown = [path for path in unknown if path not in known]
    return tuple(unknown)


def _paths(releases: Iterable[Release]) -> frozenset[str]:
    return frozenset(item.path for item in objects_of(releases))
