"""Checks that this program can start itself again, which a frozen program does unlike any other.

As a worker, by the hidden argument; and as a child of :mod:`multiprocessing`, which libraries use on their own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import Any

from lading_server.selftest.report import CheckFailedError, Evidence
from lading_server.variant import variant_of
from lading_server.workers import echo
from lading_server.workers.command import popen_options, worker_command

SECONDS = 60  # a cold start of a frozen program from a slow disk, many times over
ARGUMENT = "selftest"


def check_worker() -> Evidence:
    """Start the echo worker, ask it something, and let it end.

    Raises:
        CheckFailedError: It does not start, does not answer, answers wrongly, or does not end by itself.
    """
    command = worker_command(echo.__name__, ARGUMENT)
    asked = {"token": secrets.token_hex(8)}
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asked) + "\n",
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=SECONDS,
            check=False,
            **popen_options(),
        )
    except subprocess.TimeoutExpired as error:
        raise CheckFailedError(f"the worker did not end in {SECONDS} s", {"command": command}) from error
    evidence: dict[str, Any] = {"command": command, "returncode": done.returncode, "stderr": done.stderr[-2000:]}
    if done.returncode != 0:
        raise CheckFailedError(f"the worker ended with status {done.returncode}", evidence)
    evidence["answer"] = answer = json.loads(done.stdout)
    expected = {
        "echo": asked,
        "executable": sys.executable,
        "frozen": bool(getattr(sys, "frozen", False)),
        "variant": variant_of(sys.executable),
        "arguments": [ARGUMENT],
    }
    for key, value in expected.items():
        if answer.get(key) != value:
            raise CheckFailedError(f"the worker answered {key} = {answer.get(key)!r}, expected {value!r}", evidence)
    if answer["pid"] == os.getpid():
        raise CheckFailedError("the worker is this very process", evidence)
    return evidence


def _answer(to_parent: Connection, token: str) -> None:
    to_parent.send((token, os.getpid()))


def check_multiprocessing() -> Evidence:
    """Start a child process by ``spawn``, the way of multiprocessing that runs the executable again.

    Raises:
        CheckFailedError: It does not answer in time, answers wrongly, or ends with an error.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    token = secrets.token_hex(8)
    child = context.Process(target=_answer, args=(sender, token), daemon=True)
    child.start()
    sender.close()
    try:
        if not receiver.poll(SECONDS):
            raise CheckFailedError(f"the child did not answer in {SECONDS} s")
        said, pid = receiver.recv()
        child.join(SECONDS)
    except EOFError as error:
        child.join(SECONDS)
        raise CheckFailedError(f"the child ended with status {child.exitcode} and no answer") from error
    finally:
        receiver.close()
        if child.is_alive():
            child.kill()
    if (said, child.exitcode) != (token, 0) or pid == os.getpid():
        raise CheckFailedError(f"the child answered {said!r} for {token!r} and ended with status {child.exitcode}")
    return {"pid": pid}
