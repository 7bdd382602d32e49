"""Pack a frozen tree into a folder of assets: the steps in order.

1. Read the tree and hold it against its build information; refuse names that cannot travel.
2. Divide it into core and libs.
3. Pack libs (or reuse them), then core.
4. Make patches from earlier releases.
5. Write the release manifest last: a folder with it is complete.

Nothing is written before step 3, so a tree that cannot be shipped, a label that is taken and a budget that the files
alone exceed leave no trace; from then on no other packer works in the folder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version as distribution_version
from pathlib import Path

from backports import zstd

from lading.digest import sha256_bytes
from lading.errors import FileChanged, ManifestInvalid, TreeInvalid, listed
from lading.host.facts import usable_cpus
from lading.manifest.app import Budgets
from lading.manifest.base import Component, canonical_json
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.index import FRAME_LIMIT, Index
from lading.manifest.names import core_archive_name, libs_archive_name, release_name
from lading.manifest.release import Asset, PatchRecord, Release, Requirements
from lading.manifest.toolkit import Toolkit
from lading.manifest.tree import TreeEntry, tree_digest
from lading.pack.archive import MEMORY, frame_cost
from lading.pack.assets import keep_checksum, read_index, write_asset
from lading.pack.component import check_budgets, pack_component
from lading.pack.earlier import earlier_releases, older_component, patches_from
from lading.pack.filenames import check_names
from lading.pack.outfolder import hold_folder
from lading.pack.planned import ComponentPlan, Packed
from lading.pack.profiles import Profile
from lading.pack.published import refuse_other_content
from lading.pack.scan import scan_tree
from lading.pack.split import split
from lading.pack.volumes import check_limit
from lading.progress import Progress

VOLUME_LIMIT = 2_000_000_000  # below GitHub's 2 GiB an asset


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """How to pack.

    Attributes:
        profile: How hard to compress.
        channel: The channel that the release is meant for.
        volume_limit: Largest asset in bytes.
        threads: Threads for digests and compression. By default one a processor, and as many large frames at once as
            300 MB of memory allow; when given, so many, at about 110 MB each.
        published: Folders with what is already published.
        previous: Folders with earlier packed or published releases, from which patches are made.
        patches: From how many earlier releases.
        portable_names: Refuse names that another system cannot have.
    """

    profile: Profile = "fast"
    channel: str = "stable"
    volume_limit: int = VOLUME_LIMIT
    threads: int | None = None
    published: tuple[Path, ...] = ()
    previous: tuple[Path, ...] = ()
    patches: int = 0
    portable_names: bool = True


@dataclass(frozen=True, kw_only=True)
class PackResult:
    """What packing gave.

    Attributes:
        release: The release.
        release_file: Its manifest, in the folder with all assets.
        components: core first.
    """

    release: Release
    release_file: Path
    components: tuple[Packed, ...]


def check_asked(tree: Path, info: BuildInfo, toolkit: Toolkit | None, folder: Path, limit: int) -> None:
    """Refuse what contradicts itself, before anything is read.

    Raises:
        ManifestInvalid: The toolkit is not the one that was frozen, the assets would lie in the tree, or the volume
            limit is too small.
    """
    check_limit(limit)
    asked = toolkit.name if toolkit else None
    if asked != info.toolkit:
        raise ManifestInvalid(
            f"The tree was frozen with {info.toolkit or 'no toolkit (CPU)'}; it is to be packed with "
            f"{asked or 'no toolkit (CPU)'}.",
            usually="--toolkit or --cpu names another build than the tree's, or the project's manifests are not given.",
            todo="Leave these options out, and name the project with --project; or freeze with that toolkit.",
        )
    if folder.resolve().is_relative_to(tree.resolve()):
        raise ManifestInvalid(
            f"The assets would lie in {folder}, inside the tree {tree} that is packed.",
            usually="--out names the wrong folder.",
            todo="Pack into a folder outside the tree.",
        )


def hold_against(found: Sequence[TreeEntry], info: BuildInfo) -> None:
    """Compare a tree as it is with what the freeze step said. Pure.

    Raises:
        FileChanged: They differ; names the first files.
    """
    said = {entry.path: entry.tree_entry() for entry in info.files}
    seen = {entry.path: entry for entry in found}
    lines = [f"{path}: not in the build information" for path in sorted(seen.keys() - said.keys())]
    lines += [f"{path}: missing from the tree" for path in sorted(said.keys() - seen.keys())]
    lines += [
        f"{path}: changed since the freeze" for path in sorted(seen.keys() & said.keys()) if seen[path] != said[path]
    ]
    if lines:
        raise FileChanged(
            f"The tree is not what buildinfo.json says; {len(lines)} difference(s):{listed(lines)}",
            usually="The frozen program was run from the build folder and wrote into it, or a file was edited by hand.",
            todo="Freeze again, then pack.",
        )


def _plans(info: BuildInfo, toolkit: Toolkit | None, budgets: Budgets) -> dict[Component, ComponentPlan]:
    parts = split(info.files, toolkit)
    flavor = toolkit.name if toolkit else "cpu"
    plans: dict[Component, ComponentPlan] = {
        "core": ComponentPlan(
            app=info.app,
            component="core",
            version=info.version,
            flavor=flavor,
            platform=info.platform,
            archive=core_archive_name(info.app, info.version, flavor, info.platform),
            entries=parts["core"],
            budget=budgets.core,
            budget_unpacked=budgets.core_unpacked,
        )
    }
    if toolkit is not None:
        plans["libs"] = ComponentPlan(
            app=info.app,
            component="libs",
            version=toolkit.label,
            flavor=flavor,
            platform=info.platform,
            archive=libs_archive_name(info.app, toolkit.label, info.platform),
            entries=parts["libs"],
            torch=info.torch,
            budget=toolkit.budgets.libs,
            budget_unpacked=toolkit.budgets.libs_unpacked,
        )
    return plans


def _release(
    info: BuildInfo,
    toolkit: Toolkit | None,
    components: Sequence[Packed],
    patches: tuple[PatchRecord, ...],
    channel: str,
) -> Release:
    records = tuple(packed.record for packed in components)
    system = info.platform.partition("-")[0]
    driver = None
    if toolkit is not None:
        driver = toolkit.driver.windows if system == "windows" else toolkit.driver.linux
    return Release(
        app=info.app,
        version=info.version,
        channel=channel,
        platform=info.platform,
        flavor=toolkit.name if toolkit else "cpu",
        entry=info.entry,
        tree=tree_digest(info.files),
        features=info.features,
        components=records,
        patches=patches,
        requirements=Requirements(
            driver=driver,
            archs=info.torch.archs if info.torch and toolkit else (),
            glibc=info.glibc,
            disk=sum(record.unpacked for record in records),
        ),
        provenance=info.provenance.model_copy(
            update={"zstd": zstd.zstd_version, "lading": distribution_version("lading")}
        ),
    )


def pack(
    tree: Path,
    info: BuildInfo,
    toolkit: Toolkit | None,
    folder: Path,
    *,
    options: PackOptions,
    progress: Progress,
    budgets: Budgets | None = None,
) -> PackResult:
    """Pack a tree.

    Args:
        tree: The frozen tree.
        info: What the freeze step said about it, or :func:`lading.pack.adopt.adopt` found out.
        toolkit: The toolkit of a CUDA build; none for a CPU build.
        folder: Gets the assets.
        options: How to pack.
        progress: Where to report.
        budgets: The app's budgets for core.

    Returns:
        The release and its components.

    Raises:
        ManifestInvalid: What is asked for contradicts itself; see :func:`check_asked`.
        TreeInvalid, LinkEscapes, NameForbidden, FileChanged: The tree cannot be shipped.
        NoNvidiaFiles: A CUDA build without NVIDIA's files.
        Busy: Another packer works in the folder.
        LabelTaken, BudgetExceeded, DiskFull, AccessDenied: See :func:`lading.pack.component.pack_component`.
        FormatInvalid: What lies in one of the other folders is damaged.
    """
    check_asked(tree, info, toolkit, folder, options.volume_limit)
    # 1
    hold_against(scan_tree(tree, progress, threads=options.threads), info)
    if not any(entry.path == info.entry for entry in info.files):
        raise TreeInvalid(
            f"The tree has no {info.entry}, which its build information names as the executable.",
            usually="buildinfo.json belongs to another build.",
            todo="Freeze again, then pack.",
        )
    if options.portable_names or info.platform.startswith("windows"):
        check_names(entry.path for entry in info.files)
    # 2
    plans = _plans(info, toolkit, budgets or Budgets())
    places = (*options.previous, *options.published)
    releases = earlier_releases(places, info, plans["core"].flavor)
    olders = {name: _older_index(releases, plan, places) for name, plan in plans.items()}
    for name, plan in plans.items():  # what is known before anything is compressed
        refuse_other_content(plan, options.published)
        check_budgets(plan, None, olders[name])
    with hold_folder(folder):
        # 3
        components = _pack_components(tree, plans, folder, olders=olders, options=options, progress=progress)
        # 4
        patches = patches_from(releases[: options.patches], components, folder, places=places, progress=progress)
        # 5
        release = _release(info, toolkit, components, patches, options.channel)
        file = _write_release(folder, release)
    return PackResult(release=release, release_file=file, components=components)


def _older_index(releases: Sequence[Release], plan: ComponentPlan, places: Sequence[Path]) -> Index | None:
    older = older_component(releases, plan, places)
    return read_index(older[0], older[1].index) if older else None


def _pack_components(
    tree: Path,
    plans: Mapping[Component, ComponentPlan],
    folder: Path,
    *,
    olders: Mapping[Component, Index | None],
    options: PackOptions,
    progress: Progress,
) -> tuple[Packed, ...]:
    """Libs first, since they seldom change and are then done; core first in the answer."""
    packed: dict[Component, Packed] = {}
    for name, plan in sorted(plans.items(), reverse=True):
        packed[name] = pack_component(
            tree,
            plan,
            folder,
            profile=options.profile,
            limit=options.volume_limit,
            threads=options.threads or usable_cpus(),
            progress=progress,
            published=options.published,
            older=olders[name],
            memory=MEMORY if options.threads is None else options.threads * frame_cost(FRAME_LIMIT),
        )
    return tuple(component for _, component in sorted(packed.items()))


def _write_release(folder: Path, release: Release) -> Path:
    """Write the release manifest, unless it is there as it should be."""
    name = release_name(release.app, release.version, release.flavor, release.platform)
    file, data = folder / name, canonical_json(release)
    if file.is_file() and file.read_bytes() == data:
        keep_checksum(folder, Asset(name=name, size=len(data), sha256=sha256_bytes(data)))
        return file
    file.unlink(missing_ok=True)  # first: beside a new checksum the older one would look damaged
    write_asset(folder, name, data)
    return file
