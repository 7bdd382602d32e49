"""The client against the conformance suite of The Update Framework, where there is a checkout of it.

Set LADING_TUF_CONFORMANCE to a checkout of theupdateframework/tuf-conformance; it is on no package index. ``faketime``
must be installed: the suite turns the client's clock.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = os.environ.get("LADING_TUF_CONFORMANCE", "")
CLIENT = Path(__file__).with_name("tuf_conformance_client.py")
LEAST = 100  # cases that the suite has had; fewer means that it was not really run


@pytest.mark.skipif(not CHECKOUT, reason="LADING_TUF_CONFORMANCE names no checkout of the suite")
@pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed")
def test_the_client_passes_every_case_of_the_conformance_suite() -> None:
    suite = Path(CHECKOUT)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, f"--rootdir={suite}",
            suite / "tuf_conformance", "--entrypoint", f"{sys.executable} {CLIENT}",
        ],
        cwd=suite,
        env={**os.environ, "PYTHONPATH": str(suite)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) >= LEAST
