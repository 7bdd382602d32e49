"""A pytest plugin that writes which tests claim to prove which lines of the acceptance list.

``pytest --collect-only -p acceptance_plugin --acceptance-json FILE`` writes ``{id: [test node ids]}``. It judges
nothing, so that a mark with a typing error is in the file too; ``tests/acceptance.py`` judges.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names the file."""
    parser.addoption("--acceptance-json", type=Path, help="write id -> test node ids of the proves() marks")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Collect the marks before any other plugin deselects a test."""
    target: Path | None = config.getoption("--acceptance-json")
    if target is None:
        return
    proofs: defaultdict[str, set[str]] = defaultdict(set)
    for item in items:
        for mark in item.iter_markers("proves"):
            for line in mark.args:
                proofs[str(line)].add(item.nodeid)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(
        json.dumps({line: sorted(tests) for line, tests in sorted(proofs.items())}, indent=2) + "\n", "utf-8"
    )
