"""What a release builds, and where: the jobs' matrices, computed from the manifests. Builds nothing.

Every flavor (``cpu`` and each toolkit) is built for every platform that its manifest names a lock for. It prints lines
``name=value`` for ``$GITHUB_OUTPUT``:

    builds      one entry a build: flavor, platform, runner, lock
    checks      those of them that a machine with a GPU must verify
    rebuilds    those that are built a second time on another machine and compared
    app         the program's name
    version     its version
    limit       the largest asset that every destination takes, in bytes
    publish     whether this run may publish

    python workflows/matrix.py [PROJECT]

The environment says which destinations (``LADING_DESTINATIONS``), and by ``GITHUB_REF_TYPE``, ``GITHUB_REF_NAME`` and
``PUBLISH`` what was asked for. A tag that is not the version, and publishing without a tag, end the run here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from lading.errors import LadingError
from lading.manifest.base import Platform
from lading.manifest.plan import CPU, make_plan
from lading.manifest.project import Project, load_project

# Hosted runners. The oldest image: what is frozen on it runs on every newer glibc.
RUNNERS: Mapping[Platform, str] = {
    "linux-x86_64": "ubuntu-22.04",
    "linux-aarch64": "ubuntu-22.04-arm",
    "windows-x86_64": "windows-2022",
}
FAILED = 70


class Refused(Exception):
    """This run must not go on; says why."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """One build.

    Attributes:
        flavor: ``cpu``, or a toolkit's name.
        platform: For which platform.
        runner: On which hosted runner.
        lock: The lock of its environment.
    """

    flavor: str
    platform: Platform
    runner: str
    lock: str


def builds_of(project: Project) -> Iterator[Build]:
    """Every build that the manifests have a lock for, the small ones first."""
    for flavor in (CPU, *sorted(project.toolkits)):
        for platform in get_args(Platform):
            lock = make_plan(project, flavor, platform).lock
            if lock is not None:
                yield Build(flavor=flavor, platform=platform, runner=RUNNERS[platform], lock=lock)


def largest_asset(project: Project, destinations: Sequence[str]) -> int:
    """The largest asset that all of some destinations take; of all in the manifests when none is named."""
    names = destinations or list(project.destinations)
    return min(project.destination(name).asset_limit for name in names)


def may_publish(version: str, environment: Mapping[str, str]) -> bool:
    """Whether this run publishes.

    Args:
        version: The program's.
        environment: What the run was started with.

    Raises:
        Refused: A tag is not the version; or publishing was asked for without a tag, or without destinations.
    """
    tag = environment.get("GITHUB_REF_NAME", "") if environment.get("GITHUB_REF_TYPE") == "tag" else None
    if tag is not None and tag != f"v{version}":
        message = f"the tag is {tag}, and the program's version is {version}"
        raise Refused(message)
    asked = environment.get("PUBLISH", "") == "true"
    if asked and tag is None:
        message = f"only a tag is published, and this run is for {environment.get('GITHUB_REF_NAME', 'no ref')}"
        raise Refused(message)
    if asked and not environment.get("LADING_DESTINATIONS", "").split():
        message = "the variable LADING_DESTINATIONS names no destination"
        raise Refused(message)
    return asked


def outputs(project: Project, environment: Mapping[str, str]) -> dict[str, str]:
    """The lines for ``$GITHUB_OUTPUT``.

    Raises:
        Refused: See :func:`may_publish`; or there is nothing to build.
        LadingError: A destination does not exist.
    """
    publish = may_publish(project.version, environment)
    builds = list(builds_of(project))
    if not builds:
        message = "the manifests name no lock, so that nothing can be built"
        raise Refused(message)
    groups = {
        "builds": builds,
        "checks": [build for build in builds if build.flavor != CPU and build.platform == "linux-x86_64"],
        "rebuilds": [build for build in builds if build.flavor == CPU],
    }
    found = {name: json.dumps([asdict(build) for build in group]) for name, group in groups.items()}
    destinations = environment.get("LADING_DESTINATIONS", "").split()
    limit = str(largest_asset(project, destinations))
    named = {"app": project.app.name, "version": project.version}
    return found | named | {"limit": limit, "publish": "true" if publish else "false"}


def main(arguments: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Print the lines; 70 when the run must not go on."""
    try:
        lines = outputs(load_project(Path(arguments[0] if arguments else ".")), environment)
    except (Refused, LadingError) as error:
        print(f"::error::{error}", file=sys.stderr)
        return FAILED
    for name, value in lines.items():
        print(f"{name}={value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
