"""Verify a running server by what it says, and by what it has loaded when its process is known."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from lading.host.facts import host_facts
from lading.host.record import HostFacts
from lading.launch.health import Health, NoHealth, ask
from lading.manifest.base import OperatingSystem
from lading.manifest.release import Release
from lading.verify.engine import Outcome, Rule, conclude, failed, from_problems, put, skipped
from lading.verify.health import health_problems
from lading.verify.loaded import family, libraries_of, sort_out
from lading.verify.record import Verification
from lading.verify.subject import Watch, describe


@dataclass(frozen=True, kw_only=True)
class ServerContext:
    """What the checks of a running server look at.

    Attributes:
        url: Its base URL.
        tree: The tree that it should run from.
        pid: Its process, on this machine.
        release: The release that it should be.
        require_gpu: It must be able to use a GPU.
        host: This machine.
    """

    url: str
    tree: Path | None
    pid: int | None
    release: Release | None
    require_gpu: bool
    host: HostFacts


def _health_problems(health: Health, context: ServerContext) -> list[str]:
    problems = health_problems(health, context.host)
    if context.release is not None:
        said = {"version": health.version, "variant": health.backend_variant}
        wanted = {"version": context.release.version, "variant": context.release.variant}
        problems += [
            f"it says {key} {said[key]!r}, should say {wanted[key]!r}" for key in said if said[key] != wanted[key]
        ]
    if context.require_gpu and not health.gpu_available:
        problems.append("a GPU is required, and it says that it can use none")
    return problems


def check_health(context: ServerContext) -> Outcome:
    """It answers, is well, and is what it should be."""
    try:
        health = ask(context.url)
    except NoHealth as error:
        return failed(f"{context.url}/health gives no health record: {error}")
    said: JsonValue = health.model_dump(mode="json", exclude={"instance_id"})
    return from_problems(_health_problems(health, context), f"{health.version} {health.backend_variant}", health=said)


def check_libraries(context: ServerContext) -> Outcome:
    """Every CUDA and torch library that its processes have loaded comes from its tree."""
    if context.pid is None or context.tree is None:
        return skipped("its process and its tree were not given")
    loaded = {path for pid in family(context.pid) for path in libraries_of(pid)}
    if not loaded:
        return skipped(f"process {context.pid} does not run here or may not be looked at")
    system: OperatingSystem = "windows" if context.host.platform.startswith("windows") else "linux"
    found = sort_out(loaded, str(context.tree.resolve()), system=system)
    problems = [f"{path} was loaded from outside the tree" for path in found.strays]
    return from_problems(problems, f"{len(found.cuda)} CUDA and torch libraries, all from the tree", seen=len(loaded))


SERVER_RULES: tuple[Rule[ServerContext], ...] = (
    Rule(name="health", level="start", run=check_health),
    Rule(name="loaded-libraries", level="provenance", run=check_libraries, needs=("health",)),
)


def verify_server(
    url: str,
    *,
    tree: Path | None = None,
    pid: int | None = None,
    release: Release | None = None,
    require_gpu: bool = False,
    host: HostFacts | None = None,
    watch: Watch | None = None,
) -> Verification:
    """Verify a running server.

    Args:
        url: Its base URL.
        tree: The tree that it should run from.
        pid: Its process, on this machine.
        release: The release that it should be.
        require_gpu: It must be able to use a GPU.
        host: This machine; looked at when none.
        watch: Told every answer at once.

    Returns:
        The report.
    """
    began = time.monotonic()
    context = ServerContext(
        url=url.rstrip("/"), tree=tree, pid=pid, release=release, require_gpu=require_gpu, host=host or host_facts()
    )
    checks = put(SERVER_RULES, context, watch)
    return conclude(describe("server", url, release), context.host, checks, began=began)
