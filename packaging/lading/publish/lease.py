"""Who may write to an object store: a lease, because a bucket has no locks.

The lease is an object ``NUMBER.json`` that its holder writes again while it works. The highest number counts. One that
its holder has not written for too long is followed by the next number; an object is only created where none is, so one
of several that follow wins. Ages are the host's own, so the clocks of publishers do not matter.

What it does not do: keep a publisher out that slept through the end of its lease in the very moment before a write.
Names that are used once protect the repository then, and ``timestamp.json`` is replaced only if it is the one that was
read, where the host can do that.
"""

from __future__ import annotations

import os
import platform
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import psutil
from pydantic import Field

from lading.digest import sha256_bytes
from lading.errors import Busy, FormatInvalid, LadingError
from lading.manifest.base import Record, canonical_json, read_record
from lading.publish.attempts import LOG

TTL = 120.0  # seconds after which a holder that gave no sign is taken to be gone
_ACTIVE: set[str] = set()  # what this process holds at the moment
_TRIES = 3  # a lease may end between being seen and being read
_SAME = 2.0  # seconds that two readings of one process's start may differ by


class Holder(Record):
    """Who holds a lease.

    Attributes:
        schema: Names this format.
        token: Tells this holder from every other.
        host, pid: Where it runs, for messages.
        machine: Digest of what tells its machine from others; the same process ids on another one mean nothing.
        started: When the process started, seconds since 1970.
        ttl: Seconds after which it is taken to be gone.
    """

    schema_: Literal["lading/lease/1"] = Field(default="lading/lease/1", alias="schema")
    token: str
    host: str
    pid: int
    machine: str
    started: float
    ttl: float

    def describe(self, age: float) -> str:
        """One clause for a message."""
        return f"process {self.pid} on {self.host}, which gave its last sign {age:.0f} s ago"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A lease that is there.

    Attributes:
        number: Its number.
        age: Seconds since it was written, by the host's clock.
    """

    number: int
    age: float


class LeaseStore(Protocol):
    """Where leases lie; each method asks the host once or again, until it has an answer."""

    def leases(self) -> tuple[Found, ...]:
        """All that are there."""

    def read(self, number: int) -> bytes | None:
        """One of them, or none."""

    def create(self, number: int, data: bytes) -> bool:
        """Write one if there is none of this number; whether these bytes are there now."""

    def renew(self, number: int, data: bytes) -> bool:
        """Write one again; false if it is another's by now, where the host can tell."""

    def remove(self, number: int) -> None:
        """Remove one, if it is there."""


def me(ttl: float) -> Holder:
    """This process as a holder."""
    process = psutil.Process()
    return Holder(
        token=secrets.token_hex(16),
        host=platform.node() or "an unnamed machine",
        pid=process.pid,
        machine=machine(),
        started=process.create_time(),
        ttl=ttl,
    )


def machine() -> str:
    """What tells this machine, since it started, and this container on it from all others."""
    namespace = ""
    with suppress(OSError):  # only Linux has them
        namespace = str(Path("/proc/self/ns/pid").readlink())
    return sha256_bytes(f"{platform.node()}|{psutil.boot_time():.0f}|{namespace}".encode())[:32]


def died(holder: Holder, here: str) -> bool:
    """Whether a holder is a process of this machine that has ended.

    Args:
        holder: Of a lease.
        here: This machine, as :func:`machine` says it.
    """
    if holder.machine != here:
        return False
    if holder.pid == os.getpid():
        return holder.token not in _ACTIVE  # one that could not be given back
    try:
        return abs(psutil.Process(holder.pid).create_time() - holder.started) > _SAME
    except psutil.NoSuchProcess:
        return True
    except psutil.AccessDenied:
        return False


def highest(found: tuple[Found, ...]) -> Found | None:
    """The lease that counts."""
    return max(found, key=lambda lease: lease.number, default=None)


class Lease:
    """Keeps other publishers out while a block runs.

    Args:
        store: Where leases lie.
        name: The destination, for messages.
        ttl: Seconds after which a holder that gave no sign is taken to be gone.
    """

    def __init__(self, store: LeaseStore, name: str, *, ttl: float = TTL) -> None:
        self._store = store
        self._name = name
        self._ttl = ttl
        self._number: int | None = None
        self._data = b""
        self._lost = ""

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lease while the block runs.

        Raises:
            Busy: Another publisher holds it; told at once.
            RuntimeError: It is held by this very object.
        """
        if self._number is not None:
            message = "this destination is held already"
            raise RuntimeError(message)
        holder = me(self._ttl)
        self._data, self._lost = canonical_json(holder), ""
        _ACTIVE.add(holder.token)
        try:
            with self._beating():
                yield
        finally:
            _ACTIVE.discard(holder.token)

    @contextmanager
    def _beating(self) -> Iterator[None]:
        self._number = self._acquire()
        ended = threading.Event()
        beat = threading.Thread(target=self._beat, args=(ended,), name="lading-lease", daemon=True)
        beat.start()
        try:
            yield
        finally:
            ended.set()
            beat.join()
            self._release(self._number)
            self._number = None

    def check(self) -> None:
        """Make sure that the lease is still ours, at the host; nothing when none is held.

        Raises:
            Busy: It is not: this process slept for too long, and another publisher took over.
        """
        if self._number is None:
            return
        if not self._lost:
            top = highest(self._store.leases())
            if top is None or top.number != self._number or self._store.read(self._number) != self._data:
                self._lost = "another publisher took over"
        if self._lost:
            raise Busy(
                f"The lease on {self._name} is lost: {self._lost}.",
                usually="This machine slept or had no network for a while, and was taken to be gone.",
                todo="Run the same command again: what is there is not sent twice.",
            )

    def _acquire(self) -> int:
        for _ in range(_TRIES):
            top = highest(self._store.leases())
            number = 1 if top is None else top.number + 1
            if top is not None and not self._is_over(top):
                continue  # it ended while we looked
            if self._store.create(number, self._data):
                return self._confirmed(number)
        raise self._busy("several others begin at the same moment")

    def _is_over(self, top: Found) -> bool:
        """Whether the lease that counts may be followed; false when it is gone by now.

        Raises:
            Busy: Its holder lives.
        """
        data = self._store.read(top.number)
        if data is None:
            return False
        holder = _holder(data)
        if top.age > (holder.ttl if holder else self._ttl) or (holder is not None and died(holder, machine())):
            LOG.info("following the lease %d of %s", top.number, holder.describe(top.age) if holder else "an unknown")
            return True
        raise self._busy(holder.describe(top.age) if holder else f"wrote {top.age:.0f} s ago", holder)

    def _confirmed(self, number: int) -> int:
        top = highest(self._store.leases())
        if top is not None and top.number > number:
            self._store.remove(number)
            raise self._busy("it was a moment faster")
        return number

    def _busy(self, who: str, holder: Holder | None = None) -> Busy:
        seconds = holder.ttl if holder else self._ttl
        return Busy(
            f"Another publisher is writing to {self._name}: {who}.",
            usually="Two jobs publish at the same time, or one was killed a moment ago on another machine.",
            todo=f"Wait for the other one, then run the same command again: what is there is not published twice. "
            f"A publisher that gives no sign for {seconds:.0f} s is taken to be gone.",
        )

    def _beat(self, ended: threading.Event) -> None:
        number = self._number
        while number is not None and not ended.wait(self._ttl / 4):
            try:
                if not self._store.renew(number, self._data):
                    self._lost = "another publisher wrote over it"
                    return
            except LadingError as error:  # the next beat may succeed, and check() asks before it counts
                LOG.info("the lease could not be renewed: %s", error.what)

    def _release(self, number: int) -> None:
        if self._lost:
            return
        try:
            for lease in sorted(self._store.leases(), key=lambda lease: -lease.number):
                if lease.number <= number:
                    self._store.remove(lease.number)
        except LadingError as error:  # what was to be done is done, and a lease ends by itself
            LOG.info("the lease could not be given back: %s", error.what)


def _holder(data: bytes) -> Holder | None:
    try:
        return read_record(Holder, data, origin="a lease")
    except FormatInvalid:  # of another version of Lading: its age alone counts
        return None


def names(keys: Mapping[str, float], folder: str) -> tuple[Found, ...]:
    """The leases among the objects of a folder; others are left alone.

    Args:
        keys: Ages by key.
        folder: Where leases lie, with a slash at its end.
    """
    found = []
    for key, age in keys.items():
        stem = key.removeprefix(folder).removesuffix(".json")
        if key == f"{folder}{stem}.json" and stem.isdecimal():
            found.append(Found(number=int(stem), age=age))
    return tuple(found)
