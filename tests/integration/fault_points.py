"""Lets system calls of an update fail at many points, and looks at the machine then and at what the next run does.

A program of its own, to be run with libfiu's ``fiu_posix_preload.so`` preloaded: the system calls of the whole process
go through it. It forks, so that each update fails alone in a process that has loaded everything. Usage::

    fault_points.py WORK POINTS

For each kind of call it counts how many an update makes, chooses as many points among them, and lets every call from
there on fail, as a full or dying disk does; ``open`` fails once, because the interpreter opens files as well. Prints
one JSON line: a record for every point.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from tests.integration.kill_points import Stage, clone, leftovers, printed

from lading.errors import LadingError
from lading.fetch.folder import FolderSource
from lading.store.home import Home
from lading.store.installed import current_version, installed_versions
from lading.store.status import status

CALLS = {
    "posix/io/rw/write": True,
    "posix/io/sync/fsync": True,
    "posix/io/dir/rename": True,
    "posix/io/dir/unlink": True,
    "posix/io/rw/truncate": True,
    "posix/io/oc/open": False,
}
ERRORS = (errno.ENOSPC, errno.EIO)
NEVER = 2**31

_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_char_p,
    ctypes.POINTER(ctypes.c_int),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_uint),
)


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What became of one update.

    Attributes:
        call, number: Which call failed how.
        point: From which of these calls on.
        faults: How many calls failed.
        error: The error's class; none when the update ended well.
        recorded: What the status says of the last failure.
        after, finally_: What the entry prints afterwards, and after the next run.
        problems: What must not be.
    """

    call: str
    number: int
    point: int
    faults: int
    error: str | None
    recorded: str | None
    after: str
    finally_: str
    problems: tuple[str, ...]


class Faults:
    """Lets one kind of call fail from a point on."""

    def __init__(self, call: str, number: int, point: int, *, for_good: bool) -> None:
        self._library = ctypes.CDLL("libfiu.so.0")
        self._call, self._number, self._point, self._for_good = call.encode(), number, point, for_good
        self._callback = _Callback(self._decide)
        self.calls = self.faults = 0

    def _decide(self, _name: object, _number: object, info: object, _flags: object) -> int:
        self.calls += 1
        if self.calls - 1 < self._point or (self.faults and not self._for_good):
            return 0
        self.faults += 1
        info[0] = self._number  # type: ignore[index]
        return 1

    def __enter__(self) -> Self:
        assert self._library.fiu_init(0) == 0
        assert self._library.fiu_enable_external(self._call, 1, ctypes.c_void_p(self._number), 0, self._callback) == 0
        return self

    def __exit__(self, *_: object) -> None:
        assert self._library.fiu_disable(self._call) == 0


def in_child(work: Callable[[], dict[str, object]]) -> dict[str, object]:
    """Do something in a process of its own and get what it gives."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status_ = 1
        try:
            os.write(writing, json.dumps(work()).encode())
            status_ = 0
        finally:
            os._exit(status_)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        told = stream.read()
    _, ended = os.waitpid(child, 0)
    assert ended == 0, f"the child ended with {ended}"
    found: dict[str, object] = json.loads(told)
    return found


class Sweep:
    """All points of one kind of call."""

    def __init__(self, stage: Stage, template: Path, work: Path) -> None:
        self.stage, self.template, self.work = stage, template, work
        self.change = stage.updated("0.2.0", keep=2)

    def attempt(self, data: Path, call: str, number: int, point: int) -> dict[str, object]:
        """Update, with faults, in a child."""

        def work() -> dict[str, object]:
            error: str | None = None
            with Faults(call, number, point, for_good=CALLS[call]) as faults:
                try:
                    self.change(FolderSource(self.stage.store), data)
                except LadingError as caught:
                    error = caught.kind
                except OSError as caught:
                    error = f"{type(caught).__name__}: {caught}"
            return {"calls": faults.calls, "faults": faults.faults, "error": error}

        return in_child(work)

    def count(self, call: str) -> int:
        """How many calls an update makes when all goes well."""
        data = self.work / "counted"
        clone(self.template, data)
        made = self.attempt(data, call, errno.EIO, NEVER)["calls"]
        shutil.rmtree(data)
        assert isinstance(made, int)
        return made

    def at(self, call: str, number: int, point: int) -> Seen:
        data = self.work / "faulty"
        clone(self.template, data)
        told = self.attempt(data, call, number, point)
        problems: list[str] = []
        after = printed(data)
        if after not in {"one", "two"} or (told["error"] is None and after != "two"):
            problems.append(f"the program prints {after!r}")
        problems += [f"{v.name} is not whole" for v in installed_versions(Home(data, "cuda")) if not v.looks_whole()]
        failure = status(data).variants[0].last_failure
        self.change(FolderSource(self.stage.store), data)
        version = current_version(Home(data, "cuda"))
        if version is None or version.damage(thorough=True) != ():
            problems.append("the next run did not end in a whole version")
        problems += [f"{name} is left over" for name in leftovers(data)]
        finally_ = printed(data)
        shutil.rmtree(data)
        return Seen(
            call=call,
            number=number,
            point=point,
            faults=int(str(told["faults"])),
            error=None if told["error"] is None else str(told["error"]),
            recorded=failure.kind if failure else None,
            after=after,
            finally_=finally_,
            problems=tuple(problems),
        )


def spread(calls: int, points: int) -> list[int]:
    """Points among so many calls: the first, the last, and evenly between."""
    if calls <= points:
        return list(range(calls))
    return sorted({round(number * (calls - 1) / (points - 1)) for number in range(points)})


def main() -> None:
    work, points = Path(sys.argv[1]), int(sys.argv[2])
    stage = Stage(work)
    template = work / "template"
    stage.having("0.1.0")(template)
    sweep = Sweep(stage, template, work)
    seen = [
        asdict(sweep.at(call, number, point))
        for call in CALLS
        for point in spread(sweep.count(call), points)
        for number in ERRORS
    ]
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
