"""A tiny valid packed folder from given files, written straight from the format's description.

It shares nothing with the real packer but the records, so that the client is tested against the format and not against
one writer of it.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from backports.zstd import compress

from lading.delta.codec import encode
from lading.delta.container import write_patch
from lading.delta.parts import cut
from lading.digest import sha256_bytes
from lading.manifest.base import Component, Platform, Variant, canonical_json
from lading.manifest.index import INDEX_LEVEL, Frame, Index, IndexEntry
from lading.manifest.names import (
    checksum_name,
    component_name,
    core_archive_name,
    index_name,
    libs_archive_name,
    patch_name,
    release_name,
    volume_name,
)
from lading.manifest.patchfile import PatchBlob, PatchHeader
from lading.manifest.release import Asset, ComponentRecord, PatchRecord, Provenance, Release, Requirements
from lading.manifest.tree import tree_digest
from lading.publish.folder import FolderDestination
from lading.publish.outcome import PublishResult
from lading.publish.publisher import publish
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeySet, development_keys
from lading.store.home import Home
from lading.store.installed import current_version

APP = "demo-app"
PLATFORM: Platform = "linux-x86_64"
ENTRY = "demo-server"
FRAME = 8192  # raw bytes; small, so that tiny files have several frames


@dataclass(frozen=True)
class Link:
    """A symbolic link to put into a tree."""

    target: str


class Executable(bytes):
    """A file's bytes, with the executable bit whatever its name."""


Files = Mapping[str, bytes | Link]


def program(text: str) -> bytes:
    """An executable that prints a text."""
    return f"#!/bin/sh\necho {text}\n".encode()


def index_of(files: Files, frame: int = FRAME) -> tuple[Index, list[bytes]]:
    """Lay files out as a tar of independent frames.

    Returns:
        The index and the compressed frames.
    """
    entries: list[IndexEntry] = []
    raw: list[bytes] = []
    group = b""
    for path, content in files.items():
        member, offset = _member(path, content)
        if group and len(group) + len(member) > frame:
            raw.append(group)
            group = b""
        start = len(group) + offset
        entries.append(_entry(path, content, frame=len(raw) + start // frame, offset=start % frame))
        group += member
        whole = (len(group) - 1) // frame  # frames that are full; the last one waits for what follows
        raw += [group[number * frame : (number + 1) * frame] for number in range(whole)]
        group = group[whole * frame :]
    raw += [part for part in (group, bytes(1024)) if part]
    stored = [compress(part, 3) for part in raw]
    table = [
        Frame(sha256=sha256_bytes(part), raw=len(part), size=len(data)) for part, data in zip(raw, stored, strict=True)
    ]
    return Index(files=tuple(entries), frames=tuple(table)), stored


def _member(path: str, content: bytes | Link) -> tuple[bytes, int]:
    info = tarfile.TarInfo(path)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if isinstance(content, Link):
            info.type, info.linkname = tarfile.SYMTYPE, content.target
            archive.addfile(info)
        else:
            info.size, info.mode = len(content), mode_of(path, content)
            archive.addfile(info, io.BytesIO(content))
        length = archive.offset
    header = length if isinstance(content, Link) else length - -(-len(content) // 512) * 512
    return stream.getvalue()[:length], header


def mode_of(path: str, content: bytes) -> int:
    """The mode of a file in a release."""
    return 0o755 if path == ENTRY or path.endswith(".sh") or isinstance(content, Executable) else 0o644


def _entry(path: str, content: bytes | Link, *, frame: int, offset: int) -> IndexEntry:
    if isinstance(content, Link):
        return IndexEntry(path=path, type="link", target=content.target, frame=frame, offset=offset)
    return IndexEntry(
        path=path,
        mode=mode_of(path, content),
        size=len(content),
        sha256=sha256_bytes(content),
        frame=frame,
        offset=offset,
    )


def write_asset(folder: Path, name: str, data: bytes) -> Asset:
    """Write a file with its checksum file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = sha256_bytes(data)
    (folder / name).write_bytes(data)
    (folder / checksum_name(name)).write_text(f"{digest}  {name}\n")
    return Asset(name=name, size=len(data), sha256=digest)


def write_component(
    folder: Path,
    component: Component,
    version: str,
    flavor: str,
    files: Files,
    *,
    volume: int,
    frame: int = FRAME,
    level: int = INDEX_LEVEL,
) -> ComponentRecord:
    """Write one component's assets and its record."""
    index, stored = index_of(files, frame)
    archive = _archive(component, version, flavor)
    volumes: list[bytes] = [b""]
    for data in stored:
        if volumes[-1] and len(volumes[-1]) + len(data) > volume:
            volumes.append(b"")
        volumes[-1] += data
    entries = [entry.tree_entry() for entry in index.files]
    whole = b"".join(volumes)
    record = ComponentRecord(
        app=APP,
        component=component,
        version=version,
        flavor=flavor,
        platform=PLATFORM,
        tree=tree_digest(entries),
        files=len(entries),
        unpacked=sum(entry.size for entry in entries),
        size=len(whole),
        sha256=sha256_bytes(whole),
        index=write_asset(folder, index_name(archive), compress(canonical_json(index), level)),
        volumes=tuple(
            write_asset(folder, volume_name(archive, number, len(volumes)), data)
            for number, data in enumerate(volumes, start=1)
        ),
        profile="fast",
    )
    write_asset(folder, component_name(archive), canonical_json(record))
    return record


def _archive(component: Component, version: str, flavor: str) -> str:
    if component == "core":
        return core_archive_name(APP, version, flavor, PLATFORM)
    return libs_archive_name(APP, version, PLATFORM)


@dataclass(frozen=True)
class Earlier:
    """A component of an earlier release, from which a patch is to lead."""

    component: Component
    version: str
    files: Files


def _tree_of(files: Files) -> str:
    return tree_digest(entry.tree_entry() for entry in index_of(files)[0].files)


def patch_bytes(component: ComponentRecord, files: Files, earlier: Earlier) -> bytes:
    """The patch that leads from an earlier component to a newer one, as the format's description says."""
    old, new = index_of(earlier.files)[0], index_of(files)[0]
    before, after = canonical_json(old), canonical_json(new)
    have = {entry.sha256 for entry in old.files}
    blobs: list[tuple[PatchBlob, bytes]] = []
    for path, content in files.items():
        digest = None if isinstance(content, Link) else sha256_bytes(content)
        if isinstance(content, Link) or digest in have:
            continue
        have.add(digest)
        base = earlier.files.get(path)
        blobs += _file_blobs(path, bytes(content), bytes(base) if isinstance(base, bytes) else b"")
    method, index_blob = encode(before, after)
    header = PatchHeader(
        app=APP,
        component=component.component,
        from_tree=_tree_of(earlier.files),
        to_tree=component.tree,
        from_index=sha256_bytes(before),
        to_index=sha256_bytes(after),
        to_index_size=len(after),
        index=PatchBlob(method=method, size=len(index_blob)),
        files=tuple(blob for blob, _ in blobs),
    )
    return write_patch(header, [index_blob, *(data for _, data in blobs)])


def _file_blobs(path: str, new: bytes, old: bytes) -> list[tuple[PatchBlob, bytes]]:
    parts = cut(len(new), len(old))
    found = []
    for part in parts:
        before = old[part.old_start : part.old_start + part.old_size]
        method, data = encode(before, new[part.start : part.start + part.size])
        piece = {} if method == "zstd" or part.old_size == len(old) else {"start": part.old_start}
        blob = PatchBlob(
            method=method,
            size=len(data),
            path=path,
            old=None if method == "zstd" else path,
            raw=part.size if len(parts) > 1 else None,
            old_start=piece.get("start"),
            old_size=part.old_size if piece else None,
        )
        found.append((blob, data))
    return found


def write_packed(
    folder: Path,
    version: str,
    core: Files,
    libs: Files | None = None,
    *,
    label: str = "cu126-v1",
    volume: int = 10**9,
    channel: str = "stable",
    entry: str = ENTRY,
    earlier: Sequence[Earlier] = (),
    frame: int = FRAME,
    level: int = INDEX_LEVEL,
) -> Path:
    """Write a whole packed folder.

    Args:
        folder: Where; made if need be.
        version: The app's version.
        core, libs: Files by path; no libs for a CPU release.
        label: The libs label.
        volume: Largest volume in bytes.
        channel: The channel.
        entry: The executable.
        earlier: Components from which patches are to lead.
        frame: Raw bytes of a frame.
        level: zstd's level for the indexes.

    Returns:
        The release manifest.
    """
    flavor = "cpu" if libs is None else label.partition("-")[0]
    components = [write_component(folder, "core", version, flavor, core, volume=volume, frame=frame, level=level)]
    if libs is not None:
        components.append(write_component(folder, "libs", label, flavor, libs, volume=volume, frame=frame, level=level))
    release = release_of(version, flavor, components, core, libs, channel=channel, entry=entry)
    patches = [
        PatchRecord(
            component=old.component,
            from_version=old.version,
            from_tree=_tree_of(old.files),
            asset=write_asset(
                folder, patch_name(_archive(old.component, record.version, flavor), old.version),
                patch_bytes(record, files, old),
            ),
        )
        for record, files in zip(components, (core, libs), strict=False)
        for old in earlier
        if files is not None and record.component == old.component and record.tree != _tree_of(old.files)
    ]  # fmt: skip
    release = release.model_copy(update={"patches": tuple(patches)})
    path = folder / release_name(APP, version, flavor, PLATFORM)
    path.write_bytes(canonical_json(release))
    return path


def release_of(
    version: str,
    flavor: str,
    components: list[ComponentRecord],
    core: Files,
    libs: Files | None,
    *,
    channel: str = "stable",
    entry: str = ENTRY,
) -> Release:
    """The release that binds components."""
    entries = [
        _entry(path, content, frame=0, offset=0).tree_entry()
        for files in (core, libs or {})
        for path, content in files.items()
    ]
    return Release(
        app=APP,
        version=version,
        channel=channel,
        platform=PLATFORM,
        flavor=flavor,
        entry=entry,
        tree=tree_digest(entries),
        components=tuple(components),
        requirements=Requirements(disk=0),
        provenance=Provenance(commit="unknown", epoch=0, python="3.11", pyinstaller="6", zstd="1.5.7", lading="0"),
    )


def run_entry(data: Path, variant: Variant = "cuda") -> str:
    """Run the program that is in use, and give what it prints."""
    version = current_version(Home(data, variant))
    assert version is not None
    return subprocess.run([version.entry], check=True, capture_output=True, text=True).stdout.strip()


def tree_files(tree: Path) -> dict[str, bytes | Link]:
    """What a folder holds, in the form that :func:`write_packed` takes."""
    found: dict[str, bytes | Link] = {}
    for path in sorted(tree.rglob("*")):
        name = path.relative_to(tree).as_posix()
        if path.is_symlink():
            found[name] = Link(str(path.readlink()))
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


@dataclass(frozen=True)
class Shop:
    """A publisher with its keys, and the folder that it publishes to.

    Attributes:
        folder: Everything of it.
        volume: Largest volume in bytes.
        level: zstd's level for the indexes.
        components: What was released, by component and version.
    """

    folder: Path
    volume: int = 10**9
    level: int = INDEX_LEVEL
    components: dict[tuple[Component, str], Files] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The published repository."""
        return self.folder / "store"

    @property
    def root(self) -> bytes:
        """The root metadata that clients embed."""
        return (self.store / "metadata" / "1.root.json").read_bytes()

    @property
    def keys(self) -> KeySet:
        """The publisher's keys."""
        return development_keys(self.folder / "keys")

    def packed(self, version: str) -> Path:
        """A version's packed folder."""
        return self.folder / f"packed-{version}"

    def release(
        self,
        version: str,
        core: Files,
        libs: Files | None = None,
        *,
        label: str = "cu126-v1",
        clock: Clock = system_clock,
        patches: Sequence[str] = (),
    ) -> PublishResult:
        """Pack and publish a version, with patches from some earlier versions and labels."""
        earlier = [Earlier(name, old, files) for (name, old), files in self.components.items() if old in patches]
        file = write_packed(
            self.packed(version),
            version,
            core,
            libs,
            label=label,
            volume=self.volume,
            earlier=earlier,
            level=self.level,
        )
        self.components["core", version] = core
        if libs is not None:
            self.components["libs", label] = libs
        return publish(self.packed(version), file, FolderDestination(self.store), self.keys, clock)
