"""A tiny valid packed folder from given files, written straight from the format's description.

It shares nothing with the real packer but the records, so that the client is tested against the format and not against
one writer of it.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from backports.zstd import compress

from lading.digest import sha256_bytes
from lading.manifest.base import Component, Platform, canonical_json
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.names import (
    checksum_name,
    component_name,
    core_archive_name,
    index_name,
    libs_archive_name,
    release_name,
    volume_name,
)
from lading.manifest.release import Asset, ComponentRecord, Provenance, Release, Requirements
from lading.manifest.tree import tree_digest
from lading.publish.folder import FolderDestination
from lading.publish.publisher import PublishResult, publish
from lading.sign.clock import Clock, system_clock
from lading.sign.keys import KeySet, development_keys

APP = "demo-app"
PLATFORM: Platform = "linux-x86_64"
ENTRY = "demo-server"
FRAME = 8192  # raw bytes; small, so that tiny files have several frames


@dataclass(frozen=True)
class Link:
    """A symbolic link to put into a tree."""

    target: str


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
        while len(group) > frame:
            raw.append(group[:frame])
            group = group[frame:]
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
            info.size, info.mode = len(content), _mode(path)
            archive.addfile(info, io.BytesIO(content))
        length = archive.offset
    header = length if isinstance(content, Link) else length - -(-len(content) // 512) * 512
    return stream.getvalue()[:length], header


def _mode(path: str) -> int:
    return 0o755 if path == ENTRY or path.endswith(".sh") else 0o644


def _entry(path: str, content: bytes | Link, *, frame: int, offset: int) -> IndexEntry:
    if isinstance(content, Link):
        return IndexEntry(path=path, type="link", target=content.target, frame=frame, offset=offset)
    return IndexEntry(
        path=path, mode=_mode(path), size=len(content), sha256=sha256_bytes(content), frame=frame, offset=offset
    )


def write_asset(folder: Path, name: str, data: bytes) -> Asset:
    """Write a file with its checksum file beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    digest = sha256_bytes(data)
    (folder / name).write_bytes(data)
    (folder / checksum_name(name)).write_text(f"{digest}  {name}\n")
    return Asset(name=name, size=len(data), sha256=digest)


def write_component(
    folder: Path, component: Component, version: str, flavor: str, files: Files, *, volume: int, frame: int = FRAME
) -> ComponentRecord:
    """Write one component's assets and its record."""
    index, stored = index_of(files, frame)
    archive = (
        core_archive_name(APP, version, flavor, PLATFORM)
        if component == "core"
        else libs_archive_name(APP, version, PLATFORM)
    )
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
        index=write_asset(folder, index_name(archive), compress(canonical_json(index), 3)),
        volumes=tuple(
            write_asset(folder, volume_name(archive, number, len(volumes)), data)
            for number, data in enumerate(volumes, start=1)
        ),
        profile="fast",
    )
    write_asset(folder, component_name(archive), canonical_json(record))
    return record


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

    Returns:
        The release manifest.
    """
    flavor = "cpu" if libs is None else label.partition("-")[0]
    components = [write_component(folder, "core", version, flavor, core, volume=volume)]
    if libs is not None:
        components.append(write_component(folder, "libs", label, flavor, libs, volume=volume))
    release = release_of(version, flavor, components, core, libs, channel=channel, entry=entry)
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
    """

    folder: Path
    volume: int = 10**9

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
    ) -> PublishResult:
        """Pack and publish a version."""
        file = write_packed(self.packed(version), version, core, libs, label=label, volume=self.volume)
        return publish(self.packed(version), file, FolderDestination(self.store), self.keys, clock)
