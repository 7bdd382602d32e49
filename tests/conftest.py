"""What all suites share: the scripts outside the packages (bench, workflows, tests) can be imported from the root."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typing_extensions import override

ROOT = Path(__file__).resolve().parent.parent
# The root's own build/ and packaging/ have no __init__.py, so the installed packages of those names still win.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


def pytest_configure() -> None:
    """Let Ctrl-C interrupt what the tests start, although a job in the background may be started with it ignored.

    A shell without job control starts background jobs so, every child inherits it, and Python then leaves it ignored.
    """
    signal.signal(signal.SIGINT, signal.default_int_handler)


class _Lines(logging.Handler):
    """Keeps what is logged; of its own, because a command line that ran before may have taken the logger's output."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    @override
    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What fetching logs."""
    handler, logger = _Lines(), logging.getLogger("lading.fetch")
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield handler.said
    logger.removeHandler(handler)
    logger.setLevel(before)
