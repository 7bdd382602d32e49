"""What a caller wants to have, and which verified release that is.

Knows nothing of what is installed.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from lading.fetch.address import open_source
from lading.fetch.source import Source
from lading.fetch.trust import Trust
from lading.host.choice import Resolution
from lading.host.record import HostFacts
from lading.manifest.base import Platform
from lading.manifest.release import Release
from lading.progress import Progress
from lading.store.choice import choose_release
from lading.store.collect import KEEP
from lading.store.home import trust_folder
from lading.store.lock import hold_patiently


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the caller asked for; the fields are those of :func:`install`."""

    source: Source | str | Sequence[str]
    root: bytes
    app: str
    channel: str
    version: str | None
    flavor: str | None
    platform: Platform
    host: HostFacts | None = None
    force: bool = False
    keep: int = KEEP
    repair: bool = False
    limit: float | None = None
    progress: Progress
    cancel: threading.Event | None = None


@contextmanager
def opened(source: Source | str | Sequence[str], *, limit: float | None = None) -> Iterator[Source]:
    """Open what a person wrote as a source; an object is the caller's own, to close or to use again."""
    if not isinstance(source, str | Sequence):
        yield source
        return
    with closing(open_source(source, limit=limit)) as repository:
        yield repository


def trusted_release(source: Source, data: Path, wish: Wish) -> Release:
    """Find out which release is wished for, and get its verified manifest; keeps the metadata seen.

    Raises:
        LadingError: As :func:`install`.
    """
    folder = trust_folder(data)
    with hold_patiently(folder / "lock"):
        trust = Trust(source, wish.root, folder)
        release, choice = choose_release(
            trust.channel(wish.app, wish.channel),
            lambda entry: trust.release(entry, wish.app),
            platform=wish.platform,
            flavor=wish.flavor,
            version=wish.version,
            host=wish.host,
            force=wish.force,
        )
    if choice is not None:
        _tell(choice, wish.progress)
    return release


def _tell(choice: Resolution, progress: Progress) -> None:
    """Say why this flavor, and what is to be known about it."""
    told = [f"{choice.chosen}: {choice.why.text}", *choice.notes]
    told += [remedy.text for remedy in choice.remedies if not choice.forced]
    if choice.visible is not None:
        told.append(f"Run it with CUDA_VISIBLE_DEVICES={choice.visible}: it cannot use the other GPUs.")
    if choice.needs_kernel_test:
        told.append("Check it after the installation: `lading verify --require-gpu`.")
    for line in told:
        progress.note(line)


@contextmanager
def copied_trust(data: Path) -> Iterator[Path]:
    """A scratch data directory with a copy of the metadata seen, for those who must change nothing."""
    with tempfile.TemporaryDirectory(prefix="lading-plan-") as scratch:
        if trust_folder(data).is_dir():
            shutil.copytree(trust_folder(data), trust_folder(Path(scratch)), symlinks=True)
        yield Path(scratch)
