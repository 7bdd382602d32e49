"""Pack one component, or reuse what is already packed: archive, index, checksums and component record.

Invariants:
    * The component record is written last. A folder that has it has everything else; a folder that has not holds
      nothing that anybody will take for whole.
    * Before a component is replaced, the release manifests that name it are removed, then its record.
    * What is published is never made anew with other bytes.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lading.atomic import as_host_error, fsync_folder
from lading.errors import BudgetExceeded, listed
from lading.manifest.base import canonical_json
from lading.manifest.index import Index
from lading.manifest.names import checksum_name, component_name, index_name
from lading.manifest.release import Asset, ComponentRecord
from lading.manifest.tree import tree_digest
from lading.pack.archive import MEMORY, Written, write_archive
from lading.pack.assets import keep_checksum, write_asset, write_index
from lading.pack.layout import plan_layout
from lading.pack.outfolder import STAGING_SUFFIX, retract_releases, staging_prefix
from lading.pack.planned import ComponentPlan, Packed
from lading.pack.profiles import Profile
from lading.pack.published import find_reusable, refuse_other_bytes
from lading.progress import Progress


def _over_budget(plan: ComponentPlan, size: int, budget: int, kind: str, older: Index | None) -> BudgetExceeded:
    before = {entry.path: entry.size for entry in older.files} if older else {}
    growth = sorted(((entry.size - before.get(entry.path, 0), entry) for entry in plan.entries), key=lambda g: -g[0])
    word = "grew by" if older else "has"
    lines = [f"{entry.path} ({entry.owner or 'no owner'}) {word} {by / 1e6:,.1f} MB" for by, entry in growth if by > 0]
    return BudgetExceeded(
        f"{plan.component} {kind} has {size / 1e6:,.1f} MB; its budget is {budget / 1e6:,.1f} MB. "
        f"{'Files that grew' if older else 'Largest files'}:{listed(lines)}",
        usually="A dependency brought data or libraries that the product does not need.",
        todo="Exclude them in the toolkit manifest (with a reason), or raise the budget on purpose.",
    )


def check_budgets(plan: ComponentPlan, size: int | None, older: Index | None) -> None:
    """Hold a component against its budgets.

    Args:
        plan: The component.
        size: Bytes of its archive; none where it is not known or does not count.
        older: An earlier version's index, against which growth is told.

    Raises:
        BudgetExceeded: It is too large; names the files that grew.
    """
    if plan.budget_unpacked is not None and plan.unpacked > plan.budget_unpacked:
        raise _over_budget(plan, plan.unpacked, plan.budget_unpacked, "unpacked", older)
    if size is not None and plan.budget is not None and size > plan.budget:
        raise _over_budget(plan, size, plan.budget, "packed", older)


def _record(plan: ComponentPlan, written: Written, index: Asset, profile: Profile) -> ComponentRecord:
    return ComponentRecord(
        app=plan.app,
        component=plan.component,
        version=plan.version,
        flavor=plan.flavor,
        platform=plan.platform,
        tree=tree_digest(plan.entries),
        files=len(plan.entries),
        unpacked=plan.unpacked,
        size=written.size,
        sha256=written.sha256,
        index=index,
        volumes=written.volumes,
        profile=profile,
        torch=plan.torch,
    )


def _remove_older(folder: Path, plan: ComponentPlan) -> None:
    """Remove what an earlier, unpublished build left under the same name; what makes it look whole goes first."""
    retract_releases(folder, index_name(plan.archive))
    record, index = component_name(plan.archive), index_name(plan.archive)
    (folder / record).unlink(missing_ok=True)
    others = {checksum_name(record), index, checksum_name(index)}
    for path in folder.iterdir():
        if path.name in others or path.name.startswith(plan.archive):
            path.unlink()


def _move_into_place(staging: Path, folder: Path, record: str) -> None:
    """Move everything; the component record last."""
    for path in sorted(staging.iterdir(), key=lambda path: (path.name == record, path.name)):
        path.replace(folder / path.name)
    fsync_folder(folder)


def pack_component(
    root: Path,
    plan: ComponentPlan,
    folder: Path,
    *,
    profile: Profile,
    limit: int,
    threads: int,
    progress: Progress,
    published: Sequence[Path] = (),
    older: Index | None = None,
    memory: int = MEMORY,
) -> Packed:
    """Pack a component, unless it is already packed or published.

    The folder is held by the caller (:func:`lading.pack.outfolder.hold_folder`).

    Args:
        root: The tree.
        plan: Entries and names.
        folder: Gets the assets.
        profile: How hard to compress.
        limit: Largest volume in bytes.
        threads: Threads that compress.
        progress: Where to report.
        published: Folders with published assets; what is there under the same name must be the same.
        older: An earlier version's index, against which growth is told.
        memory: As for :func:`lading.pack.archive.write_archive`.

    Returns:
        The record and whether it was reused.

    Raises:
        LabelTaken: The label is published with other content.
        BudgetExceeded: The component is too large; nothing is left behind.
        FileChanged, DiskFull, AccessDenied: See :func:`lading.pack.archive.write_archive`.
    """
    if reused := find_reusable(plan, folder, profile=profile, limit=limit, published=published):
        check_budgets(plan, reused.record.size if profile == "release" else None, older)
        progress.note(f"{plan.component} {plan.version}: reused, {reused.record.size / 1e6:,.1f} MB already packed")
        return reused
    check_budgets(plan, None, older)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=staging_prefix(plan.component), suffix=STAGING_SUFFIX, dir=folder))
    except OSError as error:
        raise as_host_error(error, f"writing into {folder}") from error
    try:
        with progress.task(f"packing {plan.component}", plan.unpacked) as task:
            written = write_archive(
                root,
                plan_layout(plan.entries),
                staging,
                archive=plan.archive,
                profile=profile,
                limit=limit,
                threads=threads,
                task=task,
                memory=memory,
            )
        # Only the release profile's size is what users download; a development build is larger on purpose.
        check_budgets(plan, written.size if profile == "release" else None, older)
        record = _stage_records(staging, plan, written, profile)
        refuse_other_bytes(plan, record, published)
        _remove_older(folder, plan)
        _move_into_place(staging, folder, component_name(plan.archive))
    except OSError as error:
        raise as_host_error(error, f"packing {plan.component}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Packed(record=record, folder=folder, reused=False)


def _stage_records(staging: Path, plan: ComponentPlan, written: Written, profile: Profile) -> ComponentRecord:
    """Write index, checksums and component record beside the volumes."""
    index = write_index(staging, plan.archive, written.index)
    for volume in written.volumes:
        keep_checksum(staging, volume)
    record = _record(plan, written, index, profile)
    write_asset(staging, component_name(plan.archive), canonical_json(record), durable=False)
    return record
