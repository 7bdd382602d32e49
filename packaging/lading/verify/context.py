"""What the checks of a tree look at, and what they leave for each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from lading.host.record import HostFacts
from lading.linkage.record import Linkage
from lading.manifest.base import Platform, Variant
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.progress import Progress
from lading.verify.selftest import SelftestRun

Digests = Literal["full", "essentials", "none"]


@dataclass(kw_only=True)
class TreeContext:
    """A tree and what it should be.

    Attributes:
        tree: Its folder.
        entry: The executable, relative to it.
        platform: What it is made for.
        release: The release that it should be, when known.
        name, version, variant: What the program should say of itself, as far as known.
        glibc: The glibc floor that was stated, when one was.
        expected: What should be in it, by path; none when that is not known.
        own: Paths that the installer writes beside the release's files, such as its marker.
        digests: How many files' bytes are compared.
        payload: The payload folder.
        host: This machine.
        require_gpu: Whether a check that needs a GPU fails where there is none.
        environment: Variables for the program.
        threads: Threads for digests.
        progress: Where to report.
        linkage: What the linkage checks found.
        selftest: How the program's own test ended.
        loaded: Paths of all libraries that were seen in its processes.
    """

    tree: Path
    entry: str
    platform: Platform
    release: Release | None = None
    name: str | None = None
    version: str | None = None
    variant: Variant | None = None
    glibc: str | None = None
    expected: Mapping[str, TreeEntry] | None = None
    own: frozenset[str] = frozenset()
    digests: Digests = "full"
    payload: str = "_internal"
    host: HostFacts
    require_gpu: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1
    progress: Progress
    linkage: Linkage | None = None
    selftest: SelftestRun | None = None
    loaded: set[str] = field(default_factory=set)

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run the tree at all."""
        return self.platform == self.host.platform
