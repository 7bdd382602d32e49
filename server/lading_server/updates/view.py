"""What the status endpoint shows, put together from what Lading's client says. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from lading.host.assess import no_gpu_reason
from lading.host.choice import Assessment
from lading.host.hints import hints
from lading.host.record import HostFacts
from lading.host.visible import visible_gpus
from lading.store.builds import Builds
from lading.store.status import Status, VariantStatus, VersionStatus
from lading.store.update import UpdateCheck
from lading_server.updates.records import Build, Check, Elsewhere, Failure, Gpu, Host, Resumable
from lading_server.updates.refusals import Discreet, stored_failure


@dataclass(frozen=True, kw_only=True)
class Backend:
    """The CUDA backend, as it lies on the disk.

    Attributes:
        found: What is there of it; none when there is nothing at all.
        version: The version in use.
        available: It is installed, and its executable is there.
    """

    found: VariantStatus | None
    version: VersionStatus | None
    available: bool

    @property
    def anything(self) -> bool:
        """There is something to delete."""
        found = self.found
        return found is not None and bool(found.versions or found.damaged or found.unfinished)


def backend_of(status: Status | None) -> Backend:
    """Find the CUDA backend.

    Args:
        status: What is installed; none when nobody knows.
    """
    found = next((one for one in status.variants if one.variant == "cuda"), None) if status is not None else None
    version = next((one for one in found.versions if one.in_use), None) if found is not None else None
    return Backend(found=found, version=version, available=version is not None and Path(version.entry).is_file())


def fields_of(backend: Backend, status: Status | None) -> dict[str, Any]:
    """Those fields of the status that are about what is installed."""
    found, version = backend.found, backend.version
    return {
        "available": backend.available,
        "binary_path": _relative_path(version, Path(status.data)) if status is not None and version else None,
        "installed_version": version.version if version else None,
        "cuda_libs_version": version.label if version else None,
        "flavor": version.flavor if version else None,
        "size_bytes": _size(found) if found and version else None,
        "whole": version.whole if version else None,
        "previous_version": found.previous if found else None,
        "held": found.held if found else None,
        "resumable": _resumable(found),
    }


def is_another(backend: Backend, executable: Path) -> bool:
    """Whether a CUDA server is not the one that is in use by now.

    Args:
        backend: What is in use.
        executable: The server's own executable.
    """
    if backend.version is None:
        return False
    return not executable.resolve().is_relative_to(Path(backend.version.entry).resolve().parent)


def _size(found: VariantStatus) -> int:
    """What all versions take; of files that several share, only the largest version's are counted once."""
    return sum(one.bytes_own for one in found.versions) + max((one.bytes_shared for one in found.versions), default=0)


def _relative_path(version: VersionStatus, data: Path) -> str:
    """Where the executable lies in the data directory; its name alone when it lies elsewhere."""
    entry = PurePath(version.entry)
    return entry.relative_to(data).as_posix() if entry.is_relative_to(data) else entry.name


def _resumable(found: VariantStatus | None) -> Resumable | None:
    """What an unfinished download has left."""
    left = [one for one in (found.unfinished if found is not None else ()) if one.what == "install"]
    largest = max(left, key=lambda one: one.bytes, default=None)
    return None if largest is None else Resumable(version=largest.version, bytes=largest.bytes)


def elsewhere(status: Status | None, *, ours: bool, pid: int) -> Elsewhere | None:
    """Who else changes the data directory.

    Args:
        status: What is known of it.
        ours: This server is changing it.
        pid: This server's process.
    """
    busy = status.busy if status is not None else None
    if busy is None or (ours and busy.pid == pid):
        return None
    return Elsewhere(pid=busy.pid, program=busy.program, doing=busy.doing, since=busy.since)


def last_failure(backend: Backend, discreet: Discreet) -> Failure | None:
    """What the data directory remembers of the last change that failed."""
    return stored_failure(backend.found.last_failure if backend.found is not None else None, discreet)


def check_of(found: UpdateCheck, at: int, discreet: Discreet) -> Check:
    """An answer about updates, as it is shown."""
    return Check(
        checked=found.checked,
        available=found.available,
        installed=found.installed,
        newest=found.newest,
        reason=discreet(found.reason),
        at=at,
        failure=stored_failure(found.failure, discreet),
    )


def builds_of(found: Builds | None) -> list[Build] | None:
    """What can be downloaded, as it is shown."""
    if found is None:
        return None
    resolution = found.resolution
    shown = []
    for build in found.builds:
        judged = resolution.of(build.flavor)
        shown.append(
            Build(
                flavor=build.flavor,
                version=build.version,
                libs_version=build.label,
                archive_bytes=build.archive_bytes,
                disk_bytes=build.disk_bytes,
                fits=judged.verdict if judged is not None else "unknown",
                why=_reason(judged),
                chosen=build.flavor == resolution.chosen,
            )
        )
    return shown


def _reason(judged: Assessment | None) -> str:
    return next((reason.text for reason in judged.reasons if reason.verdict == judged.verdict), "") if judged else ""


def host_of(facts: HostFacts, builds: Builds | None) -> Host:
    """Whether a CUDA build runs here: by what the builds need, else by whether there is a GPU at all."""
    nothing = no_gpu_reason(facts, visible_gpus(facts.gpu.gpus, facts.visible))
    gpus = [Gpu(name=gpu.name, capability=gpu.capability, memory_bytes=gpu.memory) for gpu in facts.gpu.gpus]
    shown = Host(fits=None, why="", driver=facts.gpu.driver, cuda=facts.gpu.cuda, gpus=gpus, remedies=[])
    if builds is not None:
        resolution = builds.resolution
        verdicts = {found.verdict for found in resolution.assessments}
        fits = "fits" if resolution.chosen else "unknown" if "unknown" in verdicts else "no"
        helps = list(dict.fromkeys(remedy.text for remedy in resolution.remedies))
        return shown.model_copy(update={"fits": fits, "why": resolution.why.text, "remedies": helps})
    if nothing is not None:
        return shown.model_copy(update={"fits": "no", "why": nothing.text, "remedies": _todo(facts)})
    return shown


def _todo(facts: HostFacts) -> Sequence[str]:
    return list(dict.fromkeys(hint.todo for hint in hints(facts) if hint.todo))
