"""A CUDA build proves itself before it is started: its version, and one kernel on the GPU.

In processes of their own, under a keeper as every server, within a bounded time, and only where the answer is not known
yet: whoever asks decides that (:mod:`lading.launch.choose`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lading.launch.child import server_environment
from lading.launch.choose import Proof
from lading.launch.examine import Build
from lading.launch.kept import Kept, Sink
from lading.launch.probe import plain_version, probe_patience, read_answer
from lading.launch.selftest import QUICK, QUICK_VARIABLE, proof_problem

KERNEL_FACTOR = 4  # times the patience for a version: libraries of gigabytes are loaded from a cold disk
END_PATIENCE = 0.5  # seconds for what has no answer any more


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a program answered.

    Attributes:
        stdout, stderr: What it printed.
        status: Its exit status; none when it was ended, because its time was up.
    """

    stdout: str
    stderr: str
    status: int | None


def ask(
    build: Build,
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    patience: float,
    hand: Callable[[Kept], None],
) -> Answer:
    """Start a build's program, and wait for what it answers.

    Args:
        build: The build.
        arguments: Its arguments.
        environment: Further variables.
        patience: Seconds until it is ended.
        hand: Gets the process, so that somebody else may end it.

    Raises:
        ServerUnhealthy: The system cannot run it.
    """
    with tempfile.TemporaryDirectory(prefix="lading-probe-", ignore_cleanup_errors=True) as scratch:
        out, errors = Path(scratch) / "out", Path(scratch) / "err"
        sink = Sink(log=out, errors=errors)
        process = Kept(
            build.tree, build.entry, arguments, environment=server_environment("probe", environment), sink=sink
        )
        hand(process)
        status = process.wait(patience)
        if status is None:
            process.end(END_PATIENCE)
        printed = [path.read_text("utf-8", "replace") if path.exists() else "" for path in (out, errors)]
        return Answer(stdout=printed[0], stderr=printed[1], status=status)


def prove(
    build: Build,
    proof: Proof,
    *,
    environment: Mapping[str, str],
    hand: Callable[[Kept], None],
    patience: float | None = None,
) -> str | None:
    """Let a build prove itself.

    Args:
        build: The build.
        proof: How far.
        environment: Further variables of its environment.
        hand: As for :func:`ask`.
        patience: Seconds for the version; as the system needs when none.

    Returns:
        Why it is refused; none when it proved itself.

    Raises:
        ServerUnhealthy: The system cannot run it.
    """
    seconds = patience or probe_patience()
    if proof == "none":
        return None
    if (why := _version_problem(build, environment, seconds, hand)) is not None or proof == "version":
        return why
    longer = seconds * KERNEL_FACTOR
    quick = {**environment, QUICK_VARIABLE: QUICK}
    words = ("--selftest", "--json", "--require-gpu")
    answer = ask(build, words, environment=quick, patience=longer, hand=hand)
    if answer.status is None:
        return f"its self-test did not end within {longer:g} s"
    return proof_problem(answer.stdout, answer.stderr, answer.status)


def _version_problem(
    build: Build, environment: Mapping[str, str], patience: float, hand: Callable[[Kept], None]
) -> str | None:
    answer = ask(build, ("--version",), environment=environment, patience=patience, hand=hand)
    if answer.status is None:
        return f"it did not answer --version in {patience:g} s"
    version, why = read_answer(answer.stdout, answer.stderr, answer.status)
    if version is None:
        return why
    if build.version is not None and version != plain_version(build.version):
        return f"it says that it is {version}, and was installed as {build.version}"
    return None
