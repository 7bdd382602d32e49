"""Every answer that the examination of a machine can give is explained in the documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from lading.doctor.examine import ONLY_CPU
from lading.errors import HostUnfit
from lading.host.choice import ReasonCode
from lading.host.hints import HintCode
from lading.host.record import NoGpu


@pytest.fixture(scope="module")
def page(root: Path) -> str:
    return (root / "docs/how-to/gpu-not-detected.md").read_text("utf-8")


def rows(page: str, heading: str) -> Iterator[str]:
    """The codes in the first column of the table under a heading."""
    section = page.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        if line.startswith("| `"):
            yield from re.findall(r"`([a-z_]+)`", line.split("|")[1])


def test_every_reason_without_a_gpu_is_explained(page: str) -> None:
    assert sorted(rows(page, "Why there is no GPU")) == sorted(get_args(NoGpu))


def test_every_hint_is_explained(page: str) -> None:
    assert sorted(rows(page, "What explains it")) == sorted(get_args(HintCode))


def test_every_reason_about_a_build_is_explained(page: str) -> None:
    chosen = {"best_for_all", "best_for_some", "forced"}
    assert sorted(rows(page, "Why a build does not fit")) == sorted(
        {*get_args(ReasonCode)} - {*get_args(NoGpu)} - chosen
    )
    assert all(f"`{code}`" in page for code in chosen)


def test_the_exit_codes_are_those_of_the_program(page: str) -> None:
    codes = re.findall(r"^\| (\d+) \|", page, re.MULTILINE)
    assert codes == ["0", str(ONLY_CPU), str(HostUnfit.exit_code)]
