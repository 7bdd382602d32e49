"""What the tests of packing share."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.pack.trees import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A place to pack trees at."""
    return Desk(tmp_path)
