"""One lock a variant, across processes: it decides admission before anything else is looked at.

The operating system lets go of it when its holder dies, so there is no stale lock. Who holds it is written beside it,
for the message only.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lading.atomic import as_host_error, write_atomic
from lading.errors import Busy

HOLDER = "lock.holder"
TRUST_PATIENCE = 60.0  # seconds; refreshing metadata is short, so a second client waits for it instead of giving up


@contextmanager
def hold(lock: Path) -> Iterator[None]:
    """Hold a variant's lock while the block runs.

    Raises:
        Busy: Another process or task holds it; told at once.
        AccessDenied: The folder cannot be written.
    """
    holder = lock.with_name(HOLDER)
    with _taken(lock, 0, holder):
        write_atomic(holder, f"{os.getpid()} {Path(sys.argv[0]).name}\n".encode(), durable=False)
        try:
            yield
        finally:
            holder.unlink(missing_ok=True)


@contextmanager
def hold_patiently(lock: Path) -> Iterator[None]:
    """Hold a short-lived lock, waiting for its turn.

    Raises:
        Busy: It did not come in :data:`TRUST_PATIENCE` seconds.
        AccessDenied: The folder cannot be written.
    """
    with _taken(lock, TRUST_PATIENCE, None):
        yield


@contextmanager
def _taken(lock: Path, patience: float, holder: Path | None) -> Iterator[None]:
    native = FileLock(lock, timeout=patience)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        native.acquire()
    except Timeout as error:
        raise _busy(lock, holder) from error
    except OSError as error:
        raise as_host_error(error, f"locking {lock}") from error
    try:
        yield
    finally:
        native.release()


def _busy(lock: Path, holder: Path | None) -> Busy:
    who = "another process"
    if holder is not None:
        with suppress(OSError, ValueError):  # the holder may be finishing at this moment
            number, name = holder.read_text("utf-8").split(maxsplit=1)
            who = f"process {number} ({name.strip()})"
    return Busy(
        f"{lock.parent} is being changed by {who}.",
        usually="Another install, update or removal is running.",
        todo="Wait for it to end, then run the same command again.",
    )
