"""Where a running launcher's control interface is, for programs of the same user; and that only one runs.

The lock says who is the launcher of a data directory, and is free again when he dies, however he dies. The file says
where he is asked. Both lie in ``launch/`` of the data directory.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import psutil
from pydantic import Field

from lading.atomic import write_atomic
from lading.errors import AccessDenied, Busy, DiskFailing, DiskFull, FormatInvalid, LauncherAbsent
from lading.manifest.base import Record, canonical_json, read_record
from lading.store.home import control_file, launcher_lock
from lading.store.lock import Holder, hold

OWNER_ONLY = 0o600  # Windows has its own rights: what lies in a user's folders is the user's alone


class Address(Record):
    """Where the control interface is.

    Attributes:
        url: Its address on loopback.
        token: What a request has to carry.
        pid: The launcher's process.
    """

    schema_: Literal["lading/control/1"] = Field(default="lading/control/1", alias="schema")
    url: str
    token: str
    pid: int


def write_address(data: Path, address: Address) -> None:
    """Tell where the control interface is, to the user alone.

    Raises:
        AccessDenied, DiskFull: The system refuses.
    """
    write_atomic(control_file(data), canonical_json(address), mode=OWNER_ONLY, durable=False)


def remove_address(data: Path, address: Address) -> None:
    """Take an address away, unless another launcher's has taken its place."""
    with suppress(OSError, LauncherAbsent):
        if read_address(data) == address:
            control_file(data).unlink()


def read_address(data: Path) -> Address:
    """Where the control interface of a running launcher is.

    Raises:
        LauncherAbsent: No launcher runs there.
        AccessDenied: It belongs to another user.
    """
    path = control_file(data)
    try:
        address = read_record(Address, path.read_bytes(), origin=str(path))
    except FileNotFoundError as error:
        raise absent(data) from error
    except FormatInvalid as error:
        raise absent(data) from error
    except PermissionError as error:
        raise AccessDenied(
            f"{path} may not be read.",
            usually="The launcher was started by another user.",
            todo="Run this as the user who started it.",
        ) from error
    if not psutil.pid_exists(address.pid):
        raise absent(data)
    return address


def absent(data: Path) -> LauncherAbsent:
    """The error where no launcher runs."""
    return LauncherAbsent(
        f"No launcher runs for {data}.",
        usually="It was not started, has ended, or runs for another data directory.",
        todo="Start it with `lading run`, or name its data directory with --data.",
    )


@contextmanager
def only_launcher(data: Path) -> Iterator[str | None]:
    """Be the one launcher of a data directory while the block runs.

    Yields:
        A note when there is no telling, because nothing can be written there.

    Raises:
        Busy: Another launcher is.
    """
    lock = launcher_lock(data)
    holding = hold(lock, "running the server", refusal=_busy)
    try:
        holding.__enter__()
    except (AccessDenied, DiskFull, DiskFailing) as error:
        # Who cannot write there may still run what is installed there.
        yield f"other launchers of this data directory are not noticed: {error.what}"
        return
    try:
        yield None
    finally:
        holding.__exit__(None, None, None)


def _busy(lock: Path, holder: Holder | None) -> Busy:
    who = holder.describe(time.time()) if holder else "another process"
    return Busy(
        f"A launcher runs already for {lock.parent.parent}: {who}.",
        usually="The server was started before, in another window or by the system.",
        todo="`lading control status` says how it is; `lading control stop` ends it.",
    )
