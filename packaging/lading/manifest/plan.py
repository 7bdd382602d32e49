"""What a build would make, and what each destination would get. Pure: reads only the project's records.

Sizes are the budgets, the largest that may come out; nothing is known before a build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lading.manifest.base import Component, Name, Platform, Record, Variant
from lading.manifest.destination import Destination, FolderDestination, GitHubDestination
from lading.manifest.index import FRAME_LIMIT
from lading.manifest.layout import METADATA, channel_target, stored_target
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
from lading.manifest.project import Project
from lading.manifest.toolkit import Exclusion, Toolkit, TorchOffer

CPU = "cpu"
MAX_FRAME = FRAME_LIMIT + 2**20  # bytes: a frame that does not compress, and its header
METADATA_FILES = ("<n>.root.json", "<n>.targets.json", "<n>.snapshot.json", "timestamp.json")


class PlannedArchive(Record):
    """One archive.

    Attributes:
        component: core or libs.
        version: The app's version, or the libs label.
        archive: The archive's name; its volumes have ``.001`` and so on after it.
        budget: Largest packed size in bytes, when the manifest limits it.
        budget_unpacked: Largest unpacked size in bytes, when the manifest limits it.
        beside: The files that accompany it at every destination.
        patches: The patches from older versions, when there are any.
    """

    component: Component
    version: str
    archive: str
    budget: int | None = None
    budget_unpacked: int | None = None
    beside: tuple[str, ...]
    patches: str | None = None


class PlannedUpload(Record):
    """What one destination gets in one folder of the repository.

    Attributes:
        folder: The folder, relative to the destination's base.
        files: File names. ``<sha256>``, ``<n>`` and ``<older>`` stand for what only a build knows.
        volumes: Number of volumes that the archive is cut into at most; none when no budget says so.
    """

    folder: str
    files: tuple[str, ...]
    volumes: int | None = None


class PlannedDestination(Record):
    """One destination.

    Attributes:
        name: Its name in the manifest.
        kind: folder, github or s3.
        where: The folder, repository or bucket.
        asset_limit: Its largest asset in bytes.
        uploads: What it gets.
    """

    name: Name
    kind: Literal["folder", "github", "s3"]
    where: str
    asset_limit: int
    uploads: tuple[PlannedUpload, ...]


class PlannedCuda(Record):
    """The CUDA side of a build.

    Attributes:
        toolkit, label, cuda, torch: As in the toolkit's manifest.
        driver_linux, driver_windows: Lowest drivers.
        archs: Compute capabilities that this torch has machine code for, as far as is known before the build.
        ptx: Compute capability with PTX, when there is one.
        exclude: What is kept out of the tree, and why.
        notes: What a maintainer should know.
    """

    toolkit: Name
    label: str
    cuda: str
    torch: str
    driver_linux: str
    driver_windows: str
    archs: tuple[str, ...]
    ptx: str | None = None
    exclude: tuple[Exclusion, ...] = ()
    notes: str = ""


class Plan(Record):
    """What would be built and published.

    Attributes:
        app, version, flavor, variant, platform, channel: Which release.
        executable: The frozen executable's name.
        python: Versions of Python that may freeze it.
        modules: How modules are stored.
        lock: The lock of the build; none when only ``--reuse-env`` can make it.
        cuda: The CUDA side, when there is one.
        archives: core, and libs for a CUDA build.
        release: The release manifest's name.
        destinations: Who gets what.
    """

    app: Name
    version: str
    flavor: Name
    variant: Variant
    platform: Platform
    channel: Name
    executable: str
    python: str
    modules: str
    lock: str | None = None
    cuda: PlannedCuda | None = None
    archives: tuple[PlannedArchive, ...]
    release: str
    destinations: tuple[PlannedDestination, ...]


def make_plan(project: Project, flavor: str, platform: Platform, destinations: Sequence[str] = ()) -> Plan:
    """Say what would be built.

    Args:
        project: The project.
        flavor: ``cpu``, or a toolkit's name.
        platform: For which platform.
        destinations: Names of destinations; all when empty.

    Returns:
        The plan.

    Raises:
        ManifestInvalid: There is no such toolkit or destination.
    """
    app = project.app
    toolkit = None if flavor == CPU else project.toolkit(flavor)
    executable = app.executable.cpu if toolkit is None else app.executable.cuda
    archives = _archives(project, toolkit, platform)
    release = release_name(app.name, project.version, flavor, platform)
    names = destinations or tuple(project.destinations)
    return Plan(
        app=app.name,
        version=project.version,
        flavor=flavor,
        variant="cpu" if toolkit is None else "cuda",
        platform=platform,
        channel=app.channel,
        executable=f"{executable}.exe" if platform.startswith("windows") else executable,
        python=app.python,
        modules=app.modules,
        lock=(app.cpu_locks if toolkit is None else toolkit.locks).get(platform),
        cuda=_cuda(toolkit) if toolkit else None,
        archives=archives,
        release=release,
        destinations=tuple(_destination(project, project.destination(name), name, archives, release) for name in names),
    )


def _archives(project: Project, toolkit: Toolkit | None, platform: Platform) -> tuple[PlannedArchive, ...]:
    app, version = project.app, project.version
    core = core_archive_name(app.name, version, toolkit.name if toolkit else CPU, platform)
    planned = [
        PlannedArchive(
            component="core",
            version=version,
            archive=core,
            budget=app.budgets.core,
            budget_unpacked=app.budgets.core_unpacked,
            beside=(index_name(core), component_name(core)),
            patches=patch_name(core, "<older>") if app.patches else None,
        )
    ]
    if toolkit is not None:
        libs = libs_archive_name(app.name, toolkit.label, platform)
        planned.append(
            PlannedArchive(
                component="libs",
                version=toolkit.label,
                archive=libs,
                budget=toolkit.budgets.libs,
                budget_unpacked=toolkit.budgets.libs_unpacked,
                beside=(index_name(libs), component_name(libs)),
            )
        )
    return tuple(planned)


def _offer(toolkit: Toolkit) -> TorchOffer:
    """The offer that has the toolkit's torch; the manifest's own rule says that there is one."""
    line = toolkit.torch.rpartition(".")[0]
    return next(offer for offer in toolkit.offers if line in offer.torch)


def _cuda(toolkit: Toolkit) -> PlannedCuda:
    offer = _offer(toolkit)
    return PlannedCuda(
        toolkit=toolkit.name,
        label=toolkit.label,
        cuda=toolkit.cuda,
        torch=toolkit.torch,
        driver_linux=toolkit.driver.linux,
        driver_windows=toolkit.driver.windows,
        archs=offer.archs,
        ptx=offer.ptx,
        exclude=toolkit.exclude,
        notes=toolkit.notes,
    )


def _where(destination: Destination) -> str:
    match destination:
        case FolderDestination(path=path):
            return path
        case GitHubDestination(repository=repository):
            return repository
        case _:
            return "/".join(part for part in (destination.bucket, destination.prefix.strip("/")) if part)


def volume_count(budget: int | None, limit: int) -> int | None:
    """How many volumes an archive of at most ``budget`` bytes has at most; none without a budget.

    Volumes are cut at frame borders, so that each but the last may lack up to one frame; the count allows for that.
    """
    if budget is None:
        return None
    usable = limit if budget <= limit else limit - MAX_FRAME
    return max(1, -(-budget // usable))


def _single(path: str) -> PlannedUpload:
    folder, _, file = path.rpartition("/")
    return PlannedUpload(folder=folder, files=(file,))


def _upload(archive: PlannedArchive, limit: int) -> PlannedUpload:
    count = volume_count(archive.budget, limit)
    if count is None or count == 1:
        volumes = [volume_name(archive.archive, 1, 1)]
    else:
        volumes = [volume_name(archive.archive, number, count) for number in range(1, count + 1)]
    assets = [*volumes, *archive.beside, *([archive.patches] if archive.patches else [])]
    files = [name for asset in assets for name in (asset, checksum_name(asset))]
    return PlannedUpload(folder=f"assets/{archive.component}/{archive.version}", files=tuple(files), volumes=count)


def _destination(
    project: Project, destination: Destination, name: str, archives: tuple[PlannedArchive, ...], release: str
) -> PlannedDestination:
    app = project.app
    targets = (f"releases/{app.name}/{project.version}/{release}", channel_target(app.name, app.channel))
    uploads = [_upload(archive, destination.asset_limit) for archive in archives]
    uploads += [_single(stored_target(target, "<sha256>")) for target in targets]
    uploads.append(PlannedUpload(folder=METADATA, files=METADATA_FILES))
    return PlannedDestination(
        name=name,
        kind=destination.kind,
        where=_where(destination),
        asset_limit=destination.asset_limit,
        uploads=tuple(uploads),
    )
