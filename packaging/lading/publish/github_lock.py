"""One publisher at a time: a branch that exists while somebody publishes, and says who.

GitHub creates a reference only if there is none, and moves it only forward: that makes one of two publishers win. A
publisher that dies leaves the branch behind; it is taken over when its lease is over, or at once when it is known to be
dead: a process of this machine that no longer runs, or an earlier attempt of the same workflow run.

The lock spares two publishers work in vain. That nothing is mixed up does not depend on it: metadata is moved forward
from the state that was read (:mod:`lading.publish.github_branch`), and published releases are never changed.

All times are the server's. What is written names no machine and no user but by a digest: the repository may be public.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import psutil

from lading.errors import Busy, FormatInvalid, LadingError
from lading.manifest.base import Record, canonical_json, read_record
from lading.manifest.github_layout import LOCK_BRANCH
from lading.publish.attempts import LOG
from lading.publish.github_api import GitHubApi
from lading.publish.github_branch import (
    BLOB,
    FILE,
    CommitAnswer,
    Pointed,
    branch_head,
    make_commit,
    move_branch,
)
from lading.publish.github_errors import NOT_FOUND, UNPROCESSABLE

LEASE = 900.0  # seconds after its last sign of life for which a publisher keeps the lock
RENEWAL = 180.0  # seconds between signs of life
_TRIES = 3  # the lock may be let go between finding it taken and looking who has it


class Holder(Record):
    """Who publishes.

    Attributes:
        machine: A digest of its name.
        pid, born: The process, and when it was started, by its own machine's clock.
        run, attempt: Of a workflow on GitHub; empty and 0 elsewhere.
        nonce: Tells two locks of one process apart.
    """

    schema_: Literal["lading/publishing/1"] = "lading/publishing/1"
    machine: str
    pid: int
    born: int
    run: str = ""
    attempt: int = 0
    nonce: str

    def describe(self) -> str:
        """One clause for a message."""
        return f"workflow run {self.run}, attempt {self.attempt}" if self.run else f"process {self.pid}"


def this_holder(environment: Mapping[str, str] = os.environ) -> Holder:
    """This process."""
    attempt = environment.get("GITHUB_RUN_ATTEMPT", "")
    return Holder(
        machine=hashlib.sha256(socket.gethostname().encode()).hexdigest()[:16],
        pid=os.getpid(),
        born=int(psutil.Process().create_time()),
        run=environment.get("GITHUB_RUN_ID", ""),
        attempt=int(attempt) if attempt.isdecimal() else 0,
        nonce=os.urandom(8).hex(),
    )


def may_take_over(there: Holder | None, age: float, us: Holder, *, lives: Callable[[Holder], bool]) -> bool:
    """Whether a lock may be taken from whoever has it. Pure.

    Args:
        there: Who has it; none when the branch is not a lock of ours, which is never touched.
        age: Seconds since its last sign of life, by the server's clock.
        us: Who asks.
        lives: Says whether a process of this machine still runs.
    """
    if there is None:
        return False
    if age > LEASE:
        return True
    if there.run and (there.run, there.attempt) != (us.run, us.attempt):
        return there.run == us.run and there.attempt < us.attempt
    return there.machine == us.machine and not lives(there)


def process_lives(holder: Holder) -> bool:
    """Whether the process of a holder on this machine still runs."""
    try:
        process = psutil.Process(holder.pid)
        return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - holder.born) <= 1
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


class RemoteLock:
    """The lock of one repository.

    Args:
        api: Sends requests.
        us: Who asks for it.
        clock: Tells seconds, for the signs of life.
    """

    def __init__(self, api: GitHubApi, us: Holder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._us = us
        self._clock = clock
        self._mine: str | None = None
        self._tree = ""
        self._renewed = 0.0

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold it while the block runs.

        Raises:
            Busy: Another publisher has it; told at once.
        """
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def renew(self) -> None:
        """Give a sign of life when it is time for one; called often.

        Raises:
            Busy: Somebody has taken the lock over.
        """
        if self._mine is None or self._clock() - self._renewed < RENEWAL:
            return
        self._renewed = self._clock()  # first: sending this may come by here again
        commit = self._commit(self._mine)
        if not move_branch(self._api, LOCK_BRANCH, commit, expected=self._mine):
            self._mine = None
            raise Busy(
                f"Another publisher has taken over {self._api.repository.page}.",
                usually=f"This one gave no sign of life for {LEASE / 60:.0f} minutes.",
                todo="Run the same command again when the other one has ended.",
            )
        self._mine = commit

    def _acquire(self) -> None:
        self._tree = self._make_tree()
        for _ in range(_TRIES):
            there = branch_head(self._api, LOCK_BRANCH)
            if there is not None:
                self._check_takeover(there)
            commit = self._commit(there)
            if move_branch(self._api, LOCK_BRANCH, commit, expected=there):
                self._mine, self._renewed = commit, self._clock()
                return
        raise self._busy("somebody who comes and goes")

    def _check_takeover(self, there: str) -> None:
        found = self._api.get(CommitAnswer, f"/git/commits/{there}", doing="looking who publishes")
        if found is None:  # the branch was deleted, and its commit with it: gone in the meantime
            return
        holder = _holder_of(found.message)
        age = self._api.now - found.committer.date.timestamp()
        if not may_take_over(holder, age, self._us, lives=process_lives):
            who = holder.describe() if holder else f"a branch {LOCK_BRANCH} that Lading did not make"
            raise self._busy(f"{found.committer.name} ({who}, last sign of life {max(0.0, age):.0f} s ago)")
        LOG.warning("taking over the lock of a publisher that is gone (last sign of life %.0f s ago)", age)

    def _busy(self, who: str) -> Busy:
        return Busy(
            f"{self._api.repository.page} is being published to by {who}.",
            usually="Two jobs publish at the same time, or one was killed a moment ago.",
            todo=f"Wait for it to end; a lock without a sign of life for {LEASE / 60:.0f} minutes is taken over. "
            f"If nobody publishes, delete the branch {LOCK_BRANCH}.",
        )

    def _make_tree(self) -> str:
        doing = "locking it for publishing"
        entry = {"path": "publishing", "mode": FILE, "type": BLOB, "content": "Somebody publishes.\n"}
        answer = self._api.call("POST", "/git/trees", doing=doing, json={"tree": [entry]})
        return self._api.parsed(Pointed, answer).sha

    def _commit(self, parent: str | None) -> str:
        return make_commit(self._api, canonical_json(self._us).decode(), self._tree, parent)

    def _release(self) -> None:
        """Let it go; whatever happened, and if that fails, it passes by itself."""
        if self._mine is None:
            return
        try:
            if branch_head(self._api, LOCK_BRANCH) == self._mine:
                gone = frozenset({NOT_FOUND, UNPROCESSABLE})
                self._api.call("DELETE", f"/git/refs/heads/{LOCK_BRANCH}", doing="unlocking it", also=gone)
        except LadingError as error:
            LOG.warning("the lock stays for %.0f minutes: %s", LEASE / 60, error.what)
        self._mine = None


def _holder_of(message: str) -> Holder | None:
    try:
        return read_record(Holder, message.encode(), origin=LOCK_BRANCH)
    except FormatInvalid:
        return None
