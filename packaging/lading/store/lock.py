"""One lock for a data directory, across processes and threads: it decides admission before anything else is looked at.

One for all variants, because which variant an install is for may only be known after it has asked the repository.
The operating system lets go of it when its holder dies, so there is no stale lock. Who holds it is written beside it,
for messages only. The lock's file is never deleted while anybody could wait for it: two processes would then hold two
locks of one name.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from lading.atomic import as_host_error, write_atomic
from lading.errors import Busy, FormatInvalid
from lading.manifest.base import Record, canonical_json, read_record

TRUST_PATIENCE = 60.0  # seconds; refreshing metadata is short, so a second client waits for it instead of giving up
_TRIES = 3  # the folder of a lock may be deleted between making it and opening the lock in it


class Holder(Record):
    """Who holds a lock.

    Attributes:
        pid: The process.
        program: What it is called.
        since: When it took the lock, seconds since 1970.
        doing: What it does, for a person: ``installing``.
    """

    schema_: Literal["lading/lock/1"] = "lading/lock/1"
    pid: int
    program: str
    since: int
    doing: str

    def describe(self, now: float) -> str:
        """One clause for a message: ``process 4711 (lading, installing, since 14:03:12, for 5 s)``."""
        at = time.strftime("%H:%M:%S", time.localtime(self.since))
        seconds = max(0, round(now - self.since))
        return f"process {self.pid} ({self.program}, {self.doing}, since {at}, for {seconds} s)"


def holder_file(lock: Path) -> Path:
    """Where a lock's holder is written."""
    return lock.with_name(f"{lock.name}.holder")


def read_holder(lock: Path) -> Holder | None:
    """Who says that it holds a lock and still lives; none while nobody does."""
    path = holder_file(lock)
    try:
        holder = read_record(Holder, path.read_bytes(), origin=str(path))
    except (OSError, FormatInvalid):  # it may be finishing at this moment
        return None
    import psutil  # noqa: PLC0415 (only for a lock that somebody left)

    return holder if psutil.pid_exists(holder.pid) else None


@contextmanager
def hold(
    lock: Path, doing: str = "changing it", *, refusal: Callable[[Path, Holder | None], Busy] | None = None
) -> Iterator[None]:
    """Hold a data directory's lock while the block runs.

    Args:
        lock: Its file.
        doing: What for, for those who find it taken.
        refusal: Makes the error when it is taken, for a lock of another purpose.

    Raises:
        Busy: Another process or thread holds it; told at once.
        AccessDenied, DiskFull, DiskFailing: The folder cannot be written; or the block met such an error of the system
            that nothing in it had translated.
    """
    with _taken(lock, 0, named=True, refusal=refusal):
        program = Path(sys.argv[0] or sys.executable).name
        holder = Holder(pid=os.getpid(), program=program, since=int(time.time()), doing=doing)
        write_atomic(holder_file(lock), canonical_json(holder), durable=False)
        try:
            yield
        except OSError as error:
            translated = as_host_error(error, f"{doing} in {lock.parent}")
            if translated is error:
                raise
            raise translated from error
        finally:
            with suppress(OSError):  # whose name it is says nothing once the lock is free
                holder_file(lock).unlink(missing_ok=True)


@contextmanager
def hold_patiently(lock: Path) -> Iterator[None]:
    """Hold a short-lived lock, waiting for its turn.

    Raises:
        Busy: It did not come in :data:`TRUST_PATIENCE` seconds.
        AccessDenied, DiskFull: The folder cannot be written.
    """
    with _taken(lock, TRUST_PATIENCE, named=False):
        yield


@contextmanager
def _taken(
    lock: Path, patience: float, *, named: bool, refusal: Callable[[Path, Holder | None], Busy] | None = None
) -> Iterator[None]:
    native = FileLock(lock, timeout=patience)
    try:
        _acquire(native, lock)
    except Timeout as error:
        raise (refusal or _busy)(lock, read_holder(lock) if named else None) from error
    except OSError as error:
        raise as_host_error(error, f"locking {lock}") from error
    try:
        yield
    finally:
        native.release()


def _acquire(native: FileLock, lock: Path) -> None:
    for left in reversed(range(_TRIES)):
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            native.acquire()
        except FileNotFoundError:
            if not left:
                raise
        else:
            return


def _busy(lock: Path, holder: Holder | None) -> Busy:
    who = holder.describe(time.time()) if holder else "another process"
    return Busy(
        f"{lock.parent} is being changed by {who}.",
        usually="Another install, update or removal is running.",
        todo="Wait for it to end, then run the same command again. What is installed can be used meanwhile.",
    )
