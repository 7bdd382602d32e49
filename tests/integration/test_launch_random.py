"""Whatever people do to a launcher, in whatever order: in the end a healthy server runs, and nothing else."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress

import psutil
import pytest
from tests.integration.launch_place import SETTLED, Place, health, processes_below

from lading.errors import Busy, LadingError, NotInstalled
from lading.launch.launcher import Launcher
from lading.launch.machine import is_settled
from lading.store.removal import uninstall

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the stand-in server is started by its first line")
STEPS = 14


def kill_server(launcher: Launcher) -> None:
    with suppress(psutil.Error):  # it ends by itself meanwhile
        if (pid := launcher.status().pid) is not None:
            psutil.Process(pid).kill()


def kill_keeper(launcher: Launcher) -> None:
    with suppress(psutil.Error):
        if (pid := launcher.status().pid) is None or (mother := psutil.Process(pid).parent()) is None:
            return
        if "keeper.py" in " ".join(mother.cmdline()):
            mother.kill()


def delete(place: Place) -> None:
    try:
        uninstall(place.data, "cuda")
    except (Busy, NotInstalled):
        return  # it runs, or there is none: the page says so


def acts(place: Place, launcher: Launcher, dice: random.Random) -> list[Callable[[], object]]:
    return [
        lambda: launcher.start(wait=False),
        lambda: launcher.stop(wait=False),
        lambda: launcher.restart(wait=False),
        lambda: launcher.restart(wait=False, retry=True),
        launcher.restart,
        lambda: launcher.choose(dice.choice(["auto", "cpu", "cuda"])),
        lambda: kill_server(launcher),
        lambda: kill_keeper(launcher),
        lambda: delete(place),
        lambda: place.install("cuda", dice.choice(["0.1.0", "0.2.0"])),
        lambda: place.behave(cuda=dice.choice(["ok", "crash", "dies-later", "version-garbage", "unwell"])),
    ]


@pytest.mark.proves("X-38")
@pytest.mark.parametrize("seed", range(4))
def test_any_sequence_of_acts_ends_with_one_healthy_server(place: Place, seed: int) -> None:
    dice = random.Random(seed)
    done: list[int] = []
    with place.launcher() as launcher:
        for _ in range(STEPS):
            number = dice.randrange(11)
            done.append(number)
            with suppress(LadingError):  # a restart that fails says why
                acts(place, launcher, dice)[number]()
        place.behave(cuda="ok")
        assert launcher.wait(is_settled, SETTLED), f"after {done} it never comes to rest"
        found = launcher.restart()
        assert found.phase == "ready", (done, found)
        assert health(found)["status"] == "ok"
        servers = [process for process in processes_below(place.data) if process.pid == found.pid]
        others = [
            process for process in processes_below(place.data)
            if process.pid != found.pid and "keeper.py" not in " ".join(process.cmdline())
        ]  # fmt: skip
        assert (len(servers), others) == (1, []), done
