"""Killed at every change of the disk: the machine runs a whole version, and the next run ends where it should."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and forks")

TOGETHER = (("first install", "roll back", "garbage collection", "repair"), ("update", "update by patch", "uninstall"))
SCENARIOS = [name for names in TOGETHER for name in names]
Figures = dict[str, Any]


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory, root: Path) -> dict[str, Figures]:
    """What each scenario gave; two programs at once, because a kill leaves a processor idle."""
    script = Path(__file__).with_name("kill_points.py")
    environment = {**os.environ, "PYTHONPATH": str(root)}
    running = [
        subprocess.Popen(
            [sys.executable, script, tmp_path_factory.mktemp("killed"), *names],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for names in TOGETHER
    ]
    found: dict[str, Figures] = {}
    for process in running:
        stdout, stderr = process.communicate()
        assert process.returncode == 0, stderr
        found |= json.loads(stdout)
    for name, seen in found.items():
        print(name, {what: number for what, number in seen.items() if what != "problems"})
    return found


@pytest.mark.proves("S1-14", "S0-15", "S0-16", "X-25")
@pytest.mark.parametrize("name", SCENARIOS)
def test_killed_at_any_point_the_machine_runs_a_whole_version_and_the_next_run_completes(
    figures: dict[str, Figures], name: str
) -> None:
    assert figures[name]["problems"] == []
    assert figures[name]["points"] == figures[name]["runs"] > 10


@pytest.mark.parametrize("name", ["first install", "update", "repair"])
def test_no_verified_byte_is_fetched_twice(figures: dict[str, Figures], name: str) -> None:
    assert figures[name]["frames_kept"] > 100
    assert figures[name]["frames_fetched_twice"] == 0


def test_no_verified_patch_is_fetched_twice(figures: dict[str, Figures]) -> None:
    assert figures["update by patch"]["patches_kept"] > 10
    assert figures["update by patch"]["patches_fetched_twice"] == 0


@pytest.mark.parametrize("name", ["first install", "update", "update by patch", "roll back", "uninstall"])
def test_both_the_old_and_the_new_state_are_met(figures: dict[str, Figures], name: str) -> None:
    assert figures[name]["before"] > 0
    assert figures[name]["after"] > 0
    assert figures[name]["before"] + figures[name]["after"] == figures[name]["points"]


def test_the_points_are_at_least_a_thousand(figures: dict[str, Figures]) -> None:
    points = {name: seen["points"] for name, seen in figures.items()}
    print(sum(points.values()), points)
    assert sum(points.values()) >= 1000
