"""Ends a packing at its n-th change of the disk, for every n, and looks at what the next one makes of it.

A program of its own: it forks, which a test process with threads must not do. Usage::

    pack_kill_points.py TREE BUILDINFO TEMPLATE WORK

``TEMPLATE`` is the out folder as it was before (it need not exist). Prints one JSON line with the figures.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.unit.pack.trees import hidden, names, toolkit

from lading.digest import sha256_file
from lading.freeze.freeze import read_buildinfo
from lading.manifest.base import read_record
from lading.manifest.release import ComponentRecord
from lading.pack.pack import PackOptions, pack
from lading.pack.published import is_whole
from lading.progress import Silent
from lading.publish.packed import read_packed

EVENTS = {"os.rename", "os.link", "os.symlink", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.truncate"}
WRITING = os.O_WRONLY | os.O_RDWR


@dataclass
class Countdown:
    """Kills this process before its n-th change of the disk below a folder."""

    folder: str
    left: int

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        paths: tuple[object, ...] = ()
        if event == "open" and arguments[2] is not None and arguments[2] & WRITING:
            paths = arguments[:1]
        elif event in EVENTS:
            paths = arguments[:2]
        if any(isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self.folder) for path in paths):
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)


def in_child(act: Callable[[], None]) -> int:
    """Run in a process of its own; its wait status."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(child, 0)[1]


def look(out: Path) -> int:
    """Whatever looks whole must be whole. The number of releases that do."""
    records = [path for path in out.glob("*.json") if not path.name.endswith(".release.json")]
    for path in records:
        record = read_record(ComponentRecord, path.read_bytes(), origin=path.name)
        assert is_whole(record, out), f"{path.name} looks whole"
        for asset in (path.name, record.index.name, *(volume.name for volume in record.volumes)):
            line = f"{sha256_file(out / asset)}  {asset}\n"
            assert (out / f"{asset}.sha256").read_text("utf-8") == line, f"checksum of {asset}"
    releases = list(out.glob("*.release.json"))
    for path in releases:
        for item in read_packed(out, path).objects:
            if item.source is not None:
                assert sha256_file(item.source) == item.sha256, f"{path.name} names {item.source.name}"
    return len(releases)


def main(tree: Path, buildinfo: Path, template: Path, work: Path) -> None:
    info, chosen, out = read_buildinfo(buildinfo), toolkit(), work / "out"

    def packing(countdown: Countdown | None = None) -> Callable[[], None]:
        def act() -> None:
            if countdown is not None:
                sys.addaudithook(countdown.hook)
            pack(tree, info, chosen, out, options=PackOptions(threads=2), progress=Silent())

        return act

    def begin() -> None:
        shutil.rmtree(out, ignore_errors=True)
        if template.exists():
            shutil.copytree(template, out)

    begin()
    assert in_child(packing()) == 0
    wanted = {name: (out / name).read_bytes() for name in names(out)}
    points, kept, left = 0, 0, 0
    while True:
        begin()
        status = in_child(packing(Countdown(str(work), points)))
        if status == 0:
            break
        assert os.WIFSIGNALED(status), status
        kept += look(out) if out.exists() else 0
        left += bool(hidden(out))
        assert in_child(packing()) == 0, f"the run after point {points}"
        assert {name: (out / name).read_bytes() for name in names(out)} == wanted, f"after point {points}"
        assert hidden(out) == set(), f"after point {points}"
        points += 1
    print(json.dumps({"points": points, "release_there": kept, "leftovers": left}))


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
