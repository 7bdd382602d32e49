"""Ends a prune of a folder at its n-th change of the disk, for every n, and looks at what is there then and later.

A program of its own: it forks, which a test process with threads must not do. Usage::

    python -m tests.integration.prune_kill_points WORK

After each kill, every asset that the visible metadata needs is there with its size, and now and then a client installs;
after the next run, exactly what is kept is there. Prints one JSON line with figures.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.integration.channel_sites import LIBS, Publisher, folder_site
from tests.integration.kill_points import Countdown

from lading.publish.catalog import read_releases, release_paths
from lading.publish.folder import LOCK, FolderDestination
from lading.publish.prune import Wanted, prune
from lading.publish.retention import objects_of
from lading.sign.repository import folder_reader, load_state

INSTALLS = 8  # one kill of so many is followed by a client's install
KEPT = ["0.2.0", "0.3.0"]


@dataclass
class Figures:
    """What was seen."""

    points: int = 0
    listed_before: int = 0
    listed_after: int = 0
    installs: int = 0
    problems: list[str] = field(default_factory=list)


def pruned(store: Path, publisher: Publisher) -> None:
    prune([FolderDestination(store)], Wanted(keep=2, grace=0), publisher.signing)


def killed_at(number: int, store: Path, publisher: Publisher) -> bool:
    """Prune in a child that dies at a point; false when it ended before it came there."""
    child = os.fork()
    if child == 0:
        try:
            Countdown(str(store), number).arm()
            pruned(store, publisher)
        except BaseException as error:  # noqa: BLE001 (a child reports by its exit status alone)
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"prune failed at point {number}")
    return False


def versions_there(store: Path, figures: Figures) -> list[str]:
    """The versions that the visible metadata lists; each must have everything."""
    read = folder_reader(store)
    state = load_state(read, None)
    found = []
    for path, release in read_releases(state, read, release_paths(state)):
        found.append(release.version)
        for asset, size in objects_of(release).items():
            if not (store / asset).is_file() or (store / asset).stat().st_size != size:
                figures.problems.append(f"point {figures.points}: {path} lacks {asset}")
    return sorted(set(found))


def contents(store: Path) -> set[str]:
    return {path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file() and path.name != LOCK}


def main(work: Path) -> None:
    template = work / "template"
    publisher = Publisher(site=folder_site(template), folder=work / "publisher")
    publisher.release("0.1.0", libs=LIBS)
    publisher.release("0.2.0", libs=LIBS, label="cu126-v2")
    publisher.release("0.3.0", libs=LIBS, label="cu126-v2")
    clean = work / "clean"
    shutil.copytree(template, clean)
    pruned(clean, publisher)
    wanted = {path for path in contents(clean) if path.startswith("assets/")}
    figures = Figures()
    while True:
        store = work / "store"
        shutil.copytree(template, store, copy_function=os.link)  # what is deleted or replaced here stays there
        if not killed_at(figures.points, store, publisher):
            break
        figures.points += 1
        listed = versions_there(store, figures)
        figures.listed_before += listed == ["0.1.0", *KEPT]
        figures.listed_after += listed == KEPT
        if listed not in (["0.1.0", *KEPT], KEPT):
            figures.problems.append(f"point {figures.points}: {listed} are listed")
        if figures.points % INSTALLS == 0:
            client = Publisher(site=folder_site(store), folder=work / "publisher")
            figures.installs += client.install(work / "data").version == "0.3.0"
            shutil.rmtree(work / "data")
        pruned(store, publisher)
        if {path for path in contents(store) if path.startswith("assets/")} != wanted:
            figures.problems.append(f"point {figures.points}: other assets than wanted after the next run")
        if versions_there(store, figures) != KEPT:
            figures.problems.append(f"point {figures.points}: other releases than wanted after the next run")
        shutil.rmtree(store)
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
