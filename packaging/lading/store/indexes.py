"""Come by the index of each component in the fewest bytes: kept here, made by a patch, or fetched.

What proves wrong with a patch is told and the index is fetched: nothing is lost but the patch's bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from lading.delta.container import PatchFile
from lading.digest import sha256_file
from lading.errors import FormatInvalid, Unavailable, Untrusted
from lading.fetch.indexes import fetch_index, fits, pack_index, read_index, unpack_index
from lading.fetch.patches import fetch_patch, patch_file, received
from lading.fetch.source import Source
from lading.fetch.tally import Tally
from lading.manifest.base import Component
from lading.manifest.index import Index
from lading.manifest.release import ComponentRecord, Release
from lading.progress import Progress
from lading.store.installed import Installed, kept_index
from lading.store.patching import carried_files, new_index, read_patch_file
from lading.store.plan import PatchUse, taken_unseen, usable_patches
from lading.store.planned import Acquired


@dataclass(frozen=True, kw_only=True)
class Known:
    """A component's index, and the patch that can be used for its files.

    Attributes:
        component: Which.
        data: The index, compressed, to be kept with the version.
        index: The index.
        acquired: How it was come by.
        use: The patch that could be used, or none.
        patch: The patch, when it is here and was read.
    """

    component: ComponentRecord
    data: bytes
    index: Index
    acquired: Acquired
    use: PatchUse | None = None
    patch: PatchFile | None = None


@dataclass(frozen=True, kw_only=True)
class Seeker:
    """What is needed to come by indexes and patches.

    Attributes:
        source: The repository.
        release: What is to be installed.
        installed: Installed versions, the preferred one first.
        staging: The folder of the unfinished install, which may have indexes and patches.
        into: Where patches are put.
        begin: Called before anything is put there.
        progress: Hears of bytes and of what proved wrong.
        tally: Counts bytes.
        cancel: Ends it half-way.
    """

    source: Source
    release: Release
    installed: Sequence[Installed]
    staging: Path
    into: Path
    begin: Callable[[], None]
    progress: Progress
    tally: Tally
    cancel: threading.Event | None = None
    _trees: dict[str, Mapping[Component, str]] = field(default_factory=dict)

    def acquire(self) -> dict[Component, Known]:
        """Come by the index of every component.

        Raises:
            SourceUnreachable, DigestMismatch, FormatInvalid: An index is not there or is not the right one.
            Interrupted: It was cancelled.
            AccessDenied, DiskFull: A patch cannot be kept.
        """
        return {component.component: self._one(component) for component in self.release.components}

    def _one(self, component: ComponentRecord) -> Known:
        use = self._usable(component)
        data = kept_index([self.staging, *(version.folder for version in self.installed)], component)
        if data is not None:
            known = Known(
                component=component, data=data, index=read_index(data, component), acquired=Acquired(), use=use
            )
            return self.fetch(known) if use is not None and not use.left else known
        if use is not None and taken_unseen(use, component):
            known_or_why = self._by_patch(component, use)
            if isinstance(known_or_why, Known):
                return known_or_why
            return self._fetched(component, None, refused=known_or_why)
        return self._fetched(component, use)

    def _fetched(self, component: ComponentRecord, use: PatchUse | None, refused: str | None = None) -> Known:
        with self.tally.of("indexes"):
            data = fetch_index(self.source, component, stop=self.cancel)
        acquired = Acquired(index_bytes=len(data), refused=refused)
        return Known(component=component, data=data, index=read_index(data, component), acquired=acquired, use=use)

    def fetch(self, known: Known) -> Known:
        """Fetch the patch of a component whose index is known, and read it.

        Returns:
            The component with the patch; or without, when it proved wrong.

        Raises:
            Interrupted, AccessDenied, DiskFull: As :meth:`acquire`.
        """
        if known.use is None:
            return known
        found = self._by_patch(known.component, known.use, known)
        if isinstance(found, Known):
            return found
        return replace(known, use=None, acquired=known.acquired.model_copy(update={"refused": found}))

    def _usable(self, component: ComponentRecord) -> PatchUse | None:
        starts = {
            tree: version.name
            for version in reversed(self.installed)
            if (tree := self._trees_of(version).get(component.component)) is not None
        }
        have = {
            patch.asset.sha256: max(
                received(patch_file(folder, component, patch.asset), patch.asset)
                for folder in (self.staging, self.into)
            )
            for patch in self.release.patches
        }
        return next(iter(usable_patches(self.release, component, starts, have)), None)

    def _trees_of(self, version: Installed) -> Mapping[Component, str]:
        if version.name not in self._trees:
            try:
                self._trees[version.name] = {part.component: part.tree for part in version.release().components}
            except FormatInvalid:
                self._trees[version.name] = {}  # its records are damaged: nothing is known of it
        return self._trees[version.name]

    def _by_patch(self, component: ComponentRecord, use: PatchUse, known: Known | None = None) -> Known | str:
        """The component with its patch fetched and read; or why the patch cannot be used."""
        version = next(version for version in self.installed if version.name == use.version)
        try:
            old = self._older_index(version, component.component)
            path = self._file(component, use)
            patch = read_patch_file(path, use, component, old)
            data = known.data if known else self._made_index(patch, component, old)
        except (Unavailable, Untrusted) as error:
            self.progress.note(f"the patch from {use.record.from_version} cannot be used: {error.what}")
            return error.what
        index = read_index(data, component)
        base = {entry.path: entry for entry in version.entries()}
        before = known.acquired if known else Acquired()
        return Known(
            component=component,
            data=data,
            index=index,
            acquired=before.model_copy(update={"patch_bytes": before.patch_bytes + use.left}),
            use=replace(use, left=0, files=carried_files(patch, index, base)),
            patch=patch,
        )

    def _older_index(self, version: Installed, name: Component) -> bytes:
        record = version.release().component(name)
        data = kept_index([version.folder], record) if record else None
        if record is None or data is None:
            raise FormatInvalid(f"The index of {version.name} is missing or damaged.")
        return unpack_index(data, record.index.name)

    def _file(self, component: ComponentRecord, use: PatchUse) -> Path:
        """The patch, whole and with the right digest."""
        asset = use.record.asset
        there, path = (patch_file(folder, component, asset) for folder in (self.staging, self.into))
        if there != path and there.is_file() and sha256_file(there) == asset.sha256:
            return there
        self.begin()
        label = f"patch from {use.record.from_version}"
        with self.tally.of("patches"), self.progress.task(label, use.left) as task:
            fetch_patch(self.source, component, asset, path, task.advance, stop=self.cancel)
        return path

    def _made_index(self, patch: PatchFile, component: ComponentRecord, old: bytes) -> bytes:
        """The newer index, proven: the patch says its digest, and the release the patch's and what is in it."""
        data = pack_index(new_index(patch, old, component.index.name))
        if not fits(read_index(data, component), component):
            raise FormatInvalid(
                f"{patch.path.name} gives an index that does not list {component.component} {component.version}."
            )
        return data


def used(known: Mapping[Component, Known]) -> dict[Component, PatchUse]:
    """The patches that could be used."""
    return {name: item.use for name, item in known.items() if item.use is not None}
