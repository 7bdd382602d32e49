"""Where things lie under the user's data directory (docs/reference/repository.md)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lading.manifest.base import Variant
from lading.manifest.release import Release

DIGEST_IN_NAME = 8  # hexadecimal digits: enough to tell two builds of one version apart
DIGEST_IN_PARTIAL = 16  # short, because every path below it counts against Windows's limit


def version_id(release: Release) -> str:
    """The name of a version's folder: ``0.1.0+cu126-v1-3f9a0c12``, or ``0.1.0-3f9a0c12`` without libs."""
    libs = release.component("libs")
    label = f"+{libs.version}" if libs else ""
    return f"{release.version}{label}-{release.tree[:DIGEST_IN_NAME]}"


def trust_folder(data: Path) -> Path:
    """The newest TUF metadata seen."""
    return data / "trust"


def lock_file(data: Path) -> Path:
    """The data directory's one lock."""
    return data / "lading.lock"


def launch_folder(data: Path) -> Path:
    """What the launcher keeps."""
    return data / "launch"


def choice_file(data: Path) -> Path:
    """The user's choice of a backend."""
    return launch_folder(data) / "choice.json"


def control_file(data: Path) -> Path:
    """Where a running launcher's control interface is."""
    return launch_folder(data) / "control.json"


def launcher_lock(data: Path) -> Path:
    """Held by the one launcher of the data directory."""
    return launch_folder(data) / "launcher.lock"


@dataclass(frozen=True)
class Home:
    """One variant's folder.

    Attributes:
        data: The data directory.
        variant: ``cpu`` or ``cuda``.
    """

    data: Path
    variant: Variant

    @property
    def folder(self) -> Path:
        """Everything of this variant."""
        return self.data / "backends" / self.variant

    @property
    def versions(self) -> Path:
        """Complete versions, never modified."""
        return self.folder / "versions"

    @property
    def partial(self) -> Path:
        """Unfinished installs and unfinished removals."""
        return self.folder / "partial"

    @property
    def current(self) -> Path:
        """The pointer to the version in use."""
        return self.folder / "current"

    @property
    def state(self) -> Path:
        """History, the last failure, and what was left by a roll back."""
        return self.folder / "state.json"

    @property
    def origin(self) -> Path:
        """Where it was installed from, so that an update needs nothing to be said again."""
        return self.folder / "origin.json"

    @property
    def trials(self) -> Path:
        """How each version did on this machine."""
        return self.folder / "trials"

    @property
    def lock(self) -> Path:
        """Held by whoever changes anything in the data directory, whatever the variant."""
        return lock_file(self.data)

    def staging(self, release: Release) -> Path:
        """Where a release is put together."""
        return self.partial / release.tree[:DIGEST_IN_PARTIAL]
