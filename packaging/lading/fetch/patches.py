"""A patch: fetched by one request into a file, never in memory as a whole, and not used before its digest is right.

What has been received survives a crash: the next run asks for the rest. Whether the beginning is still what was
received is seen at the end, by the digest of all of it; when that is wrong, everything is fetched again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from threading import Event

from tenacity.nap import sleep_using_event

from lading.atomic import as_host_error
from lading.cancel import stop_if
from lading.digest import sha256_file
from lading.errors import DigestMismatch
from lading.fetch.source import Source, retrying
from lading.manifest.layout import asset_path
from lading.manifest.release import Asset, ComponentRecord


def patch_file(folder: Path, component: ComponentRecord, asset: Asset) -> Path:
    """Where a patch is kept while it is needed; another patch has another name."""
    return folder / f"{component.component}-{asset.sha256[:8]}.patch"


def received(path: Path, asset: Asset) -> int:
    """Bytes of a patch that an earlier run received; none of one that is too long to be it."""
    size = path.stat().st_size if path.is_file() else 0
    return size if size <= asset.size else 0


def fetch_patch(
    source: Source,
    component: ComponentRecord,
    asset: Asset,
    path: Path,
    advance: Callable[[int], None],
    *,
    stop: Event | None = None,
) -> None:
    """Fetch a patch, or the rest of it.

    Args:
        source: Where from.
        component: What it leads to.
        asset: The patch's name, size and digest, from the release manifest.
        path: Its file, which may hold the beginning.
        advance: Gets received bytes.
        stop: Set by whoever wants this to end early.

    Raises:
        SourceUnreachable: It is not there, or cannot be reached; what came is kept.
        DigestMismatch: It is another one, even when fetched again; nothing is kept.
        Interrupted: ``stop`` was set; what came is kept.
        DiskFull, AccessDenied: It cannot be written.
    """
    remote = asset_path(component, asset.name)

    def attempt() -> None:
        stop_if(stop)
        have = received(path, asset)
        try:
            with path.open("r+b" if have else "wb") as file:
                file.seek(have)
                for block in _rest(source, remote, asset, have):
                    stop_if(stop)
                    file.write(block)
                    advance(len(block))
            found = sha256_file(path)
            if found != asset.sha256:
                path.unlink()
        except OSError as error:
            raise as_host_error(error, f"writing {path}") from error
        if found != asset.sha256:
            wrong = _wrong(source.describe(remote), found, asset)
            if not have:  # else it may be the beginning, which lay on this machine's disk, that went bad
                source.distrust(remote, wrong.what)
            raise wrong

    retrying(sleep_using_event(stop or Event()))(attempt)


def _rest(source: Source, remote: str, asset: Asset, have: int) -> Iterator[bytes]:
    if have < asset.size:
        with closing(source.stream_range(remote, have, asset.size - have, asset.size)) as blocks:
            yield from blocks


def _wrong(where: str, found: str, asset: Asset) -> DigestMismatch:
    return DigestMismatch(
        f"{where} has SHA-256 {found}; the release says {asset.sha256}.",
        usually="It was damaged at the source or altered on the way.",
        todo="Nothing: the update goes on without the patch.",
    )
