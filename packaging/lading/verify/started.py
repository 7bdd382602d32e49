"""Checks that run the frozen program: levels *start*, *provenance* and *gpu*."""

from __future__ import annotations

import re
import subprocess

from pydantic import JsonValue

from lading.launch.selftest import OwnCheck
from lading.launch.server import running
from lading.linkage.resolve import operating_system
from lading.verify.context import TreeContext
from lading.verify.engine import SHOWN, Outcome, failed, from_problems, passed, skipped
from lading.verify.health import health_problems
from lading.verify.loaded import family, libraries_of, sort_out
from lading.verify.selftest import VERSION_TIMEOUT, SelftestRun, call, last_lines, run_selftest


def _elsewhere(context: TreeContext) -> Outcome | None:
    if context.runs_here:
        return None
    return skipped(f"a {context.platform} program does not run on {context.host.platform}")


def check_version(context: TreeContext) -> Outcome:
    """``--version`` prints the name and version, and nothing else."""
    if (no := _elsewhere(context)) is not None:
        return no
    try:
        done = call(
            context.tree, context.entry, ["--version"], environment=context.environment, timeout=VERSION_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return failed(f"--version did not answer within {VERSION_TIMEOUT:g} s")
    except OSError as error:
        return failed(f"{context.entry} cannot be started: {error.strerror or error}")
    if done.returncode != 0:
        return failed(f"--version ended with exit code {done.returncode}: {last_lines(done)}")
    return _judge_version(done.stdout.strip(), context.name, context.version)


def _judge_version(said: str, name: str | None, version: str | None) -> Outcome:
    if name and version:
        wanted = f"{name} {version}"
        return passed(said) if said == wanted else failed(f"--version printed {said[:200]!r}, should print {wanted!r}")
    if re.fullmatch(r"\S+ v?[0-9]+\.[0-9]+\S*", said) is None:
        return failed(f"--version printed {said[:200]!r}, which is no name and version")
    return passed(said)


def _own_checks(run: SelftestRun, status: str) -> list[OwnCheck]:
    return [check for check in run.report.checks if check.status == status] if run.report is not None else []


def check_selftest(context: TreeContext) -> Outcome:
    """``--selftest`` passes, and says that it is this version and variant."""
    if (no := _elsewhere(context)) is not None:
        return no
    wants_gpu = context.require_gpu or (context.host.has_gpu and context.variant == "cuda")
    run, loaded = run_selftest(context.tree, context.entry, require_gpu=wants_gpu, environment=context.environment)
    context.selftest, context.loaded = run, context.loaded | loaded
    if run.report is None:
        return failed(f"--selftest gave no report: {run.problem}")
    report = run.report
    problems = [f"{check.name}: {check.reason or 'failed'}" for check in _own_checks(run, "fail")]
    if not report.passed and not problems:
        problems.append("it says that it did not pass, and not why")
    if report.passed != (run.returncode == 0):
        problems.append(f"it says passed={report.passed} and ended with exit code {run.returncode}")
    for what, said, wanted in (
        ("version", report.version, context.version),
        ("variant", report.variant, context.variant),
    ):
        if wanted is not None and said != wanted:
            problems.append(f"it says {what} {said!r}, should say {wanted!r}")
    own: list[JsonValue] = [check.model_dump(mode="json", exclude_none=True) for check in report.checks]
    ended = {word: len(_own_checks(run, word)) for word in ("pass", "skipped")}
    found = f"{ended['pass']} own checks passed, {ended['skipped']} skipped"
    return from_problems(problems, found, own_checks=own, device=report.device, torch=report.torch)


def check_server(context: TreeContext) -> Outcome:
    """The server starts in its own folder, and its ``/health`` says who it is."""
    if (no := _elsewhere(context)) is not None:
        return no
    with running(context.tree, context.entry, environment=context.environment) as server:
        for pid in family(server.pid):
            context.loaded |= libraries_of(pid)
        health = server.health
    problems = health_problems(health, context.host)
    if context.version is not None and health.version != context.version:
        problems.append(f"/health says version {health.version!r}, should say {context.version!r}")
    if context.variant is not None and health.backend_variant != context.variant:
        problems.append(f"/health says variant {health.backend_variant!r}, should say {context.variant!r}")
    said: JsonValue = health.model_dump(mode="json", exclude={"instance_id"})
    seconds = round(server.seconds, 2)
    return from_problems(problems, f"healthy after {seconds:.1f} s", health=said, ready_seconds=seconds)


def check_loaded(context: TreeContext) -> Outcome:
    """Every CUDA and torch library that the processes had loaded comes from the tree."""
    if (no := _elsewhere(context)) is not None:
        return no
    if not context.loaded:
        return skipped("no process of the program was seen long enough to look at its libraries")
    found = sort_out(context.loaded, str(context.tree.resolve()), system=operating_system(context.platform))
    problems = [f"{path} was loaded from outside the tree" for path in found.strays]
    if not found.cuda and context.variant == "cuda":
        problems.append("the CUDA program loaded no CUDA library at all")
    driver: list[JsonValue] = list(found.driver)
    other: list[JsonValue] = list(found.other[:SHOWN])
    cuda: list[JsonValue] = [path.replace("\\", "/").rsplit("/", 1)[-1] for path in found.cuda]
    summary = f"{len(found.cuda)} CUDA and torch libraries, all from the tree"
    return from_problems(
        problems, summary, cuda=cuda, driver=driver, other=other, system=len(found.system), seen=len(context.loaded)
    )


def check_gpu(context: TreeContext) -> Outcome:
    """The frozen program computed on the GPU, and got the right results."""
    lacking = context.host.gpu.detail or str(context.host.gpu.reason)
    if not context.host.has_gpu:
        if context.require_gpu:
            return failed(f"a GPU is required and this machine has none: {lacking}", why=context.host.gpu.reason)
        return skipped(f"this machine has no NVIDIA GPU ({context.host.gpu.reason}: {lacking})")
    if context.variant == "cpu":
        return failed("a GPU is required, and this is the CPU build") if context.require_gpu else skipped("a CPU build")
    if (no := _elsewhere(context)) is not None:
        return no
    run = context.selftest
    if run is None or run.report is None:
        return failed("the self-test gave no report, so that nothing was seen to run on the GPU")
    problems = [f"{check.name}: {check.reason or 'failed'}" for check in _own_checks(run, "fail")]
    if not problems and not run.report.passed:
        problems.append("the self-test with --require-gpu did not pass")
    untested: list[JsonValue] = [f"{check.name}: {check.reason}" for check in _own_checks(run, "skipped")]
    device = context.host.gpu.gpus[0]
    return from_problems(
        problems, f"on {device.name}, driver {context.host.gpu.driver}", device=run.report.device, untested=untested
    )
