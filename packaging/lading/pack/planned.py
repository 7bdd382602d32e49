"""What is to be packed as one component, and what packing it gave."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.manifest.base import Component, Platform
from lading.manifest.buildinfo import OwnedEntry
from lading.manifest.release import ComponentRecord, TorchBuild


@dataclass(frozen=True, kw_only=True)
class ComponentPlan:
    """What is to be packed, and under which names.

    Attributes:
        app, component, version, flavor, platform: As in :class:`lading.manifest.release.ComponentRecord`.
        archive: The archive's file name.
        entries: The component's entries.
        torch: For libs.
        budget: Largest archive in bytes, or none.
        budget_unpacked: Largest sum of the files, or none.
    """

    app: str
    component: Component
    version: str
    flavor: str
    platform: Platform
    archive: str
    entries: tuple[OwnedEntry, ...]
    torch: TorchBuild | None = None
    budget: int | None = None
    budget_unpacked: int | None = None

    @property
    def unpacked(self) -> int:
        """Bytes of all files."""
        return sum(entry.size for entry in self.entries)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed component.

    Attributes:
        record: Its record.
        folder: Where its assets are.
        reused: Whether it was there already.
    """

    record: ComponentRecord
    folder: Path
    reused: bool
