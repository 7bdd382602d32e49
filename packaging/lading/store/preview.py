"""What an install would do, said without doing anything: not even the metadata seen is kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lading.fetch.source import Source
from lading.fetch.tally import Tally
from lading.host.platform import this_platform
from lading.manifest.base import Platform
from lading.manifest.release import Release
from lading.progress import Progress, Silent
from lading.store.home import Home, version_id
from lading.store.indexes import Seeker
from lading.store.installed import installed_versions, versions_in_use
from lading.store.journal import JOURNAL, journaled_frames
from lading.store.planned import PlanReport, report_plan
from lading.store.present import files_of, find_present, free_room
from lading.store.safety import check_release
from lading.store.staging import TREE
from lading.store.survey import Survey
from lading.store.unfinished import resumable
from lading.store.wish import Machine, Wish, copied_trust, opened, trusted_choice


def plan_install(
    source: Source | str | Sequence[str],
    root: bytes,
    data: Path,
    *,
    app: str,
    channel: str = "stable",
    version: str | None = None,
    flavor: str | None = None,
    platform: Platform | None = None,
    host: Machine | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PlanReport:
    """Say what :func:`install` would do, and change nothing: not even the metadata seen is kept.

    Args:
        source, root, data, app, channel, version, flavor, platform, host, force: As for :func:`install`.
        progress: Hears why a flavor was chosen.

    Raises:
        LadingError: As :func:`install`, without those about writing.
    """
    wish = Wish(
        source=source,
        root=root,
        app=app,
        channel=channel,
        version=version,
        flavor=flavor,
        platform=platform or this_platform(),
        host=host,
        force=force,
        take_withdrawn=force,
        installed=versions_in_use(data, app),
        progress=progress or Silent(),
    )
    with opened(source) as repository:
        return plan_wish(repository, data, wish)


def plan_wish(source: Source, data: Path, wish: Wish) -> PlanReport:
    """Say what installing from an open repository would do; raises as :func:`plan_install`."""
    with copied_trust(data) as scratch:
        release = trusted_choice(source, scratch, wish, keeps=False).release
        return _report(source, release, Home(data, release.variant), scratch)


def _report(source: Source, release: Release, home: Home, scratch: Path) -> PlanReport:
    installed = installed_versions(home)
    free = free_room(home.data)
    found = find_present(release, installed)
    if found.whole is not None:
        return PlanReport(version_id=version_id(release), installed=True, disk_free=free)
    staging = resumable(home, release) or home.staging(release)
    seeker = Seeker(
        source=source,
        release=release,
        installed=installed,
        staging=staging,
        into=scratch,
        begin=lambda: None,
        progress=Silent(),
        tally=Tally(source.traffic),
    )
    known = seeker.acquire()
    indexes = {name: item.index for name, item in known.items()}
    check_release(release, indexes)
    survey = Survey(
        release,
        known,
        files_of(installed, release, indexes),
        versions=home.versions,
        staged_tree=staging / "version" / TREE,
        staged=lambda: journaled_frames(staging / JOURNAL, release),
        can_link=True,
        damaged=found.damaged_files,
        thorough=False,
        progress=Silent(),
    )
    acquired = {name: item.acquired for name, item in known.items()}
    return report_plan(
        survey.settled(),
        acquired,
        version_id=version_id(release),
        metadata=seeker.tally.bytes()["metadata"],
        free=free,
    )
