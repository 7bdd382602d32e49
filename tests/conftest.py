"""What all suites share: the scripts outside the packages (bench, workflows, tests) can be imported from the root."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

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
