"""Verify a folder of packed assets, or a tree: which checks, in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from lading.host.facts import host_facts, usable_cpus
from lading.host.record import HostFacts
from lading.linkage.scan import guess_platform, scan
from lading.manifest.base import Platform
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.index import Index
from lading.manifest.layout import METADATA
from lading.manifest.release import Release
from lading.manifest.tree import TreeEntry
from lading.progress import Progress, Silent
from lading.verify.context import Digests, TreeContext
from lading.verify.engine import Rule, conclude, put
from lading.verify.layout import check_digests, check_entry, check_files, check_links, check_modes
from lading.verify.linked import check_glibc, check_readable, check_resolved, check_search_paths
from lading.verify.packed import RULES as PACKED_RULES
from lading.verify.packed import SIGNATURES, PackedContext
from lading.verify.record import Check, Subject, Verification
from lading.verify.started import check_gpu, check_loaded, check_selftest, check_server, check_version

Watch = Callable[[Check], None]

TREE_RULES: tuple[Rule[TreeContext], ...] = (
    Rule(name="layout-entry", level="layout", run=check_entry),
    Rule(name="layout-files", level="layout", run=check_files),
    Rule(name="layout-modes", level="layout", run=check_modes),
    Rule(name="layout-links", level="layout", run=check_links),
    Rule(name="file-digests", level="bytes", run=check_digests),
    Rule(name="linkage-readable", level="linkage", run=check_readable),
    Rule(name="linkage-resolved", level="linkage", run=check_resolved),
    Rule(name="linkage-search-paths", level="linkage", run=check_search_paths),
    Rule(name="linkage-glibc", level="linkage", run=check_glibc),
    Rule(name="start-version", level="start", run=check_version, needs=("layout-entry",)),
    Rule(name="start-selftest", level="start", run=check_selftest, needs=("start-version",)),
    Rule(name="start-server", level="start", run=check_server, needs=("start-version",)),
    Rule(name="loaded-libraries", level="provenance", run=check_loaded, needs=("start-version",)),
    Rule(name="gpu", level="gpu", run=check_gpu),
)


def verify_packed(
    folder: Path,
    release: Release | Path,
    *,
    also: Sequence[Path] = (),
    root: bytes | None = None,
    host: HostFacts | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Verification:
    """Verify a release's assets in a folder: the packer's, or a published repository.

    Args:
        folder: Where they lie.
        release: The release, or the file with its record.
        also: Further folders where assets may lie, such as that of libs published before.
        root: Root metadata that is trusted: the release must be signed, beginning there. A published release is
            followed from its repository's first root when none is given.
        host: This machine; looked at when none.
        progress: Where to report.
        threads: Threads for digests and decoding; one a processor when none.
        watch: Told every answer at once.

    Returns:
        The report; a broken asset is a failed check, not an exception.
    """
    began = time.monotonic()
    context = PackedContext(
        folders=(folder, *also),
        record=release if isinstance(release, Path) else None,
        release=None if isinstance(release, Path) else release,
        threads=threads or usable_cpus(),
        progress=progress or Silent(),
        root=root,
    )
    published = root is not None or (folder / METADATA).is_dir()
    checks = put((*PACKED_RULES, SIGNATURES) if published else PACKED_RULES, context, watch)
    found = context.release
    subject = describe("packed", str(release if isinstance(release, Path) else folder), found)
    return conclude(subject, host or host_facts(), checks, began=began)


def describe(kind: str, where: str, release: Release | None) -> Subject:
    """Say what was verified, with what is known of its release."""
    known = {} if release is None else {
        "app": release.app, "version": release.version, "flavor": release.flavor,
        "platform": release.platform, "tree": release.tree,
    }  # fmt: skip
    return Subject.model_validate({"kind": kind, "where": where, **known})


def _expected(indexes: Iterable[Index], buildinfo: BuildInfo | None) -> dict[str, TreeEntry] | None:
    given = list(indexes)
    if given:
        return {entry.path: entry for index in given for entry in index.files}
    return None if buildinfo is None else {entry.path: entry.tree_entry() for entry in buildinfo.files}


def tree_context(
    tree: Path,
    *,
    entry: str,
    release: Release | None = None,
    indexes: Iterable[Index] = (),
    buildinfo: BuildInfo | None = None,
    own: Iterable[str] = (),
    digests: Digests = "full",
    require_gpu: bool = False,
    environment: Mapping[str, str] | None = None,
    host: HostFacts | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
) -> TreeContext:
    """Put together what the checks of a tree need; arguments as in :func:`verify_tree`."""
    platform: Platform
    linkage = None
    record = release or buildinfo
    if record is not None:
        platform = record.platform
    else:
        linkage = scan(tree)
        platform = guess_platform(linkage.objects)
    stated = release.requirements.glibc if release is not None else buildinfo.glibc if buildinfo is not None else None
    return TreeContext(
        tree=tree,
        entry=entry,
        platform=platform,
        release=release,
        name=None if record is None else record.app,
        version=None if record is None else record.version,
        variant=None if record is None else record.variant,
        glibc=stated,
        expected=_expected(indexes, buildinfo),
        own=frozenset(own),
        digests=digests,
        host=host or host_facts(),
        require_gpu=require_gpu,
        environment=environment or {},
        threads=threads or usable_cpus(),
        progress=progress or Silent(),
        linkage=linkage,
    )


def verify_tree(
    tree: Path,
    *,
    entry: str,
    release: Release | None = None,
    indexes: Iterable[Index] = (),
    buildinfo: BuildInfo | None = None,
    own: Iterable[str] = (),
    digests: Digests = "full",
    require_gpu: bool = False,
    environment: Mapping[str, str] | None = None,
    host: HostFacts | None = None,
    progress: Progress | None = None,
    threads: int | None = None,
    watch: Watch | None = None,
    rules: Sequence[Rule[TreeContext]] = TREE_RULES,
) -> Verification:
    """Verify a tree: just frozen, unpacked, or installed.

    Args:
        tree: Its folder.
        entry: The executable, relative to it.
        release: The release that it should be, when known.
        indexes: The indexes of core and libs, from which it is known what should be in the tree.
        buildinfo: The build record, which does instead of release and indexes for a tree that was just frozen.
        own: Paths, and folders ending with ``/``, that the installer keeps beside the release's files.
        digests: Whether the bytes of all files, of the essential ones, or of none are compared.
        require_gpu: A check that needs a GPU fails where there is none.
        environment: Variables for the program.
        host: This machine; looked at when none.
        progress: Where to report.
        threads: Threads for digests; one a processor when none.
        watch: Told every answer at once.
        rules: Which checks, in order.

    Returns:
        The report.

    Raises:
        OSError: Without a release or build record the tree itself must be readable, and is not.
    """
    began = time.monotonic()
    context = tree_context(
        tree, entry=entry, release=release, indexes=indexes, buildinfo=buildinfo, own=own, digests=digests,
        require_gpu=require_gpu, environment=environment, host=host, progress=progress, threads=threads,
    )  # fmt: skip
    checks = put(rules, context, watch)
    subject = describe("tree", str(tree), release)
    if release is None and buildinfo is not None:
        known = {"app": buildinfo.app, "version": buildinfo.version, "platform": buildinfo.platform}
        subject = subject.model_copy(update=known)
    return conclude(subject, context.host, checks, began=began)
