"""Fixtures of the system suite: the products under ``out/``."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.system.product import OUT, Product, product_of


@pytest.fixture(scope="session")
def cuda() -> Product:
    """The CUDA product."""
    return product_of("cu126", "build_cuda")


@pytest.fixture(scope="session")
def cpu() -> Product:
    """The CPU product."""
    return product_of("cpu", "build_cpu")


@pytest.fixture(scope="session")
def summary(cuda: Product) -> dict[str, Any]:
    """What the last walk over the road said; skips when that was not the CUDA product's."""
    found: dict[str, Any] = json.loads((OUT / "summary.json").read_bytes())
    if found["flavor"] != cuda.release.flavor:
        pytest.skip("out/summary.json is of another build: run 'nox -s build_cuda'")
    return found
