"""Checks of a folder with a release's assets, as packed or as published: level *bytes*.

Does not: unpack anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from backports import zstd

from lading.digest import sha256_bytes, sha256_file
from lading.errors import FormatInvalid
from lading.manifest.base import Component, canonical_json, read_record
from lading.manifest.index import Index
from lading.manifest.layout import asset_folder
from lading.manifest.names import checksum_name
from lading.manifest.release import Asset, ComponentRecord, Release
from lading.manifest.tree import tree_digest
from lading.progress import Progress
from lading.verify.archive import read_archive
from lading.verify.engine import Outcome, Rule, failed, from_problems, passed, skipped
from lading.verify.signed import check_signed

INDEX_LIMIT = 256 * 2**20  # decompressed; a real one has one or two megabytes


@dataclass(kw_only=True)
class PackedContext:
    """What the checks of a folder look at.

    Attributes:
        folders: Where assets may lie: the folder, and others such as that of published libs.
        record: The release record's file, or none when the release was given.
        release: The release; set by the first check when it comes from a file.
        threads: Threads for digests and decoding.
        progress: Where to report.
        root: Root metadata from which the signatures of a published release are followed.
        indexes: What the index checks found, by component.
    """

    folders: Sequence[Path]
    record: Path | None
    release: Release | None
    threads: int
    progress: Progress
    root: bytes | None = None
    indexes: dict[Component, Index] = field(default_factory=dict)

    def the_release(self) -> Release:
        """The release, once the first check has passed."""
        if self.release is None:
            message = "a check that needs the release was put before the one that reads it"
            raise RuntimeError(message)
        return self.release

    def find(self, component: ComponentRecord, name: str) -> Path | None:
        """Where an asset lies: beside the record, or in its place in a published repository."""
        places = (path for folder in self.folders for path in (folder / name, folder / asset_folder(component) / name))
        return next((path for path in places if path.is_file()), None)


def _assets(release: Release) -> Iterator[tuple[ComponentRecord, Asset]]:
    for component in release.components:
        yield component, component.index
        for volume in component.volumes:
            yield component, volume
    for patch in release.patches:
        owner = release.component(patch.component)
        if owner is not None:
            yield owner, patch.asset


def _release_record(context: PackedContext) -> Outcome:
    if context.record is None:
        return passed("given by the caller")
    data = context.record.read_bytes()
    context.release = read_record(Release, data, origin=context.record.name)
    if data != canonical_json(context.release):
        return failed(f"{context.record.name} is not written in its canonical form, so that its digest means nothing")
    release = context.release
    return passed(f"{release.app} {release.version} {release.flavor} {release.platform}", sha256=sha256_bytes(data))


def _assets_present(context: PackedContext) -> Outcome:
    problems = []
    count = size = 0
    for component, asset in _assets(context.the_release()):
        path = context.find(component, asset.name)
        if path is None:
            problems.append(f"{asset.name} is missing")
        elif (have := path.stat().st_size) != asset.size:
            problems.append(f"{asset.name} has {have:,} bytes, the release says {asset.size:,}")
        count += 1
        size += asset.size
    return from_problems(problems, f"{count} assets", assets=count, bytes=size)


def _asset_digests(context: PackedContext) -> Outcome:
    wanted = [(context.find(component, asset.name), asset) for component, asset in _assets(context.the_release())]
    total = sum(asset.size for _, asset in wanted)
    with context.progress.task("asset digests", total) as task, ThreadPoolExecutor(context.threads) as pool:
        found = pool.map(lambda pair: sha256_file(pair[0], task.advance) if pair[0] else "", wanted)
        problems = [
            f"{asset.name} has SHA-256 {digest[:16]}…, the release says {asset.sha256[:16]}…"
            for (_, asset), digest in zip(wanted, found, strict=True)
            if digest != asset.sha256
        ]
    return from_problems(problems, f"SHA-256 of {len(wanted)} assets", bytes=total)


def _checksum_files(context: PackedContext) -> Outcome:
    problems = []
    count = 0
    for component, asset in _assets(context.the_release()):
        name = checksum_name(asset.name)
        path = context.find(component, name)
        count += 1
        if path is None:
            problems.append(f"{name} is missing")
        elif path.read_bytes() != f"{asset.sha256}  {asset.name}\n".encode():
            problems.append(f"{name} does not say what `sha256sum -c` needs: the digest, two spaces, {asset.name}")
    return from_problems(problems, f"{count} checksum files agree")


def _component(context: PackedContext, name: Component) -> ComponentRecord | None:
    return context.the_release().component(name)


def _check_index(context: PackedContext, name: Component) -> Outcome:
    component = _component(context, name)
    if component is None:
        return skipped(f"this release has no {name}")
    path = context.find(component, component.index.name)
    if path is None:
        return failed(f"{component.index.name} is missing")
    data = _decompress(path)
    index = read_record(Index, data, origin=component.index.name)
    context.indexes[name] = index
    entries = index.files
    paths = {entry.path for entry in entries}
    facts: tuple[tuple[str, object, object], ...] = (
        ("canonical form", data == canonical_json(index), True),
        ("number of entries", len(entries), component.files),
        ("sum of sizes", sum(entry.size for entry in entries), component.unpacked),
        ("archive size", sum(frame.size for frame in index.frames), component.size),
        ("number of different paths", len(paths), len(entries)),
        ("tree digest", tree_digest(entries), component.tree),
    )
    problems = [f"{what}: {found}, the component record says {said}" for what, found, said in facts if found != said]
    return from_problems(problems, f"{len(entries):,} entries, {len(index.frames):,} frames", frames=len(index.frames))


def _decompress(path: Path) -> bytes:
    decoder = zstd.ZstdDecompressor()
    try:
        data = decoder.decompress(path.read_bytes(), max_length=INDEX_LIMIT)
    except zstd.ZstdError as error:
        raise FormatInvalid(
            f"{path.name} cannot be decompressed: {error}", usually="It was cut off or altered.", todo="Fetch it again."
        ) from error
    if not decoder.eof:
        raise FormatInvalid(
            f"{path.name} is cut off, or larger than {INDEX_LIMIT:,} bytes.",
            usually="It was altered.",
            todo="Fetch it again.",
        )
    return data


def _whole_tree(context: PackedContext) -> Outcome:
    release = context.the_release()
    if missing := [part.component for part in release.components if part.component not in context.indexes]:
        return skipped(f"because the index of {' and '.join(missing)} was not read")
    entries = [entry for index in context.indexes.values() for entry in index.files]
    paths = [entry.path for entry in entries]
    problems = []
    if len(set(paths)) != len(paths):
        seen: set[str] = set()
        twice = sorted({path for path in paths if path in seen or seen.add(path)})  # type: ignore[func-returns-value]
        problems += [f"{path} is in both components" for path in twice]
    if (found := tree_digest(entries)) != release.tree:
        problems.append(f"core and libs together have tree digest {found[:16]}…, the release says {release.tree[:16]}…")
    program = next((entry for entry in entries if entry.path == release.entry), None)
    if program is None or program.type != "file" or program.mode != 0o755:  # noqa: PLR2004 (a mode)
        problems.append(f"the entry {release.entry} is not an executable file of the tree")
    return from_problems(problems, f"{len(entries):,} entries", tree=release.tree)


def _check_archive(context: PackedContext, name: Component) -> Outcome:
    component = _component(context, name)
    if component is None:
        return skipped(f"this release has no {name}")
    index = context.indexes[name]
    volumes = [path for volume in component.volumes if (path := context.find(component, volume.name)) is not None]
    raw = sum(frame.raw for frame in index.frames)
    with context.progress.task(f"verifying {name}", raw) as task:
        findings = read_archive(volumes, index, threads=context.threads, task=task)
    if findings.sha256 != component.sha256:
        findings.problems.append(f"the whole archive has SHA-256 {findings.sha256[:16]}…, the record says another")
    return from_problems(
        findings.problems,
        f"{findings.members:,} members in normal form, every frame and file digest agrees",
        members=findings.members, raw=findings.raw, size=findings.size, volumes=len(volumes),
    )  # fmt: skip


def _signatures(context: PackedContext) -> Outcome:
    return check_signed(context.folders, context.record, context.the_release(), context.root)


SIGNATURES: Rule[PackedContext] = Rule(name="signatures", level="bytes", run=_signatures, needs=("release-record",))
"""Put to a published release only: a packed folder is not signed yet."""

RULES: tuple[Rule[PackedContext], ...] = (
    Rule(name="release-record", level="bytes", run=_release_record),
    Rule(name="assets-present", level="bytes", run=_assets_present, needs=("release-record",)),
    Rule(name="asset-digests", level="bytes", run=_asset_digests, needs=("assets-present",)),
    Rule(name="checksum-files", level="bytes", run=_checksum_files, needs=("release-record",)),
    Rule(
        name="index-core", level="bytes", run=lambda context: _check_index(context, "core"), needs=("release-record",)
    ),
    Rule(
        name="index-libs", level="bytes", run=lambda context: _check_index(context, "libs"), needs=("release-record",)
    ),
    Rule(name="whole-tree", level="bytes", run=_whole_tree, needs=("index-core",)),
    Rule(
        name="archive-core",
        level="bytes",
        run=lambda context: _check_archive(context, "core"),
        needs=("assets-present", "index-core"),
    ),
    Rule(
        name="archive-libs",
        level="bytes",
        run=lambda context: _check_archive(context, "libs"),
        needs=("assets-present", "index-libs"),
    ),
)
