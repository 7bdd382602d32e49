from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading_server.engine import geometry
from lading_server.engine.base import RELATIVE_TOLERANCE, Matches, Metric, Rows, toolkit_name
from lading_server.engine.driver import DriverFacts, explain, load_problem, probe_driver
from lading_server.engine.numpy_engine import NumpyEngine
from lading_server.engine.select import NO_TORCH, select_engine
from lading_server.selftest.engines import reference

ENGINE = NumpyEngine("test")
METRICS = get_args(Metric)


def expected(queries: Rows, corpus: Rows, k: int, metric: Metric) -> tuple[list[list[int]], Rows]:
    scores = reference(queries, corpus, metric)
    order = np.argsort(scores if metric == "euclidean" else -scores, axis=1, kind="stable")[:, :k]
    return order.tolist(), np.take_along_axis(scores, order, axis=1)


def agree(found: Matches, scores: Rows) -> bool:
    # The absolute part is for products that cancel: the vectors of these tests have lengths of about 1 to 10.
    return bool(np.allclose(found.scores, scores, rtol=RELATIVE_TOLERANCE, atol=1e-12))


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 7),
    corpus=st.integers(1, 40),
    width=st.integers(1, 12),
    metric=st.sampled_from(METRICS),
    share=st.floats(0.01, 1.0),
    block=st.sampled_from([1, 64, 4_000_000]),
)
def test_neighbours_are_those_of_the_definition(  # noqa: PLR0917 (hypothesis passes them by keyword)
    seed: int, queries: int, corpus: int, width: int, metric: Metric, share: float, block: int
) -> None:
    random = np.random.default_rng(seed)
    asked, rows = random.standard_normal((queries, width)), random.standard_normal((corpus, width))
    k = max(1, int(corpus * share))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(geometry, "BLOCK_ELEMENTS", block)
        found = ENGINE.nearest(asked, rows, k=k, metric=metric)
    indices, scores = expected(asked, rows, k, metric)
    assert agree(found, scores)
    if width > 1 or metric != "cosine":  # in one dimension every cosine is 1 or -1, give or take a rounding
        assert found.indices == indices


@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_come_in_the_order_of_their_number(metric: Metric) -> None:
    corpus = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 3)
    found = ENGINE.nearest(np.array([[1.0, 0.0]]), corpus, k=8, metric=metric)
    assert found.indices == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_small_distances_far_from_the_origin_keep_their_digits() -> None:
    corpus = np.array([[1e6, 1e6], [1e6 + 1e-3, 1e6], [1e6, 1e6 + 2e-3], [1e6 + 1.0, 1e6]])
    found = ENGINE.nearest(corpus[:1], corpus, k=4, metric="euclidean")
    assert found.indices == [[0, 1, 2, 3]]
    exact = np.linalg.norm(corpus - corpus[0], axis=1)
    assert found.scores[0] == pytest.approx(exact.tolist(), rel=RELATIVE_TOLERANCE)
    assert found.scores[0][0] == 0.0


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1.0, 1e100])
def test_cosine_knows_no_size(size: float) -> None:
    queries, corpus = np.array([[3.0, 4.0]]) * size, np.array([[4.0, 3.0], [3.0, 4.0], [-3.0, -4.0]]) / size
    found = ENGINE.nearest(queries, corpus, k=3, metric="cosine")
    assert found.indices == [[1, 0, 2]]
    assert found.scores[0] == pytest.approx([1.0, 0.96, -1.0], rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_the_largest_numbers_allowed_stay_finite(metric: Metric) -> None:
    rows = np.full((2, 8192), 1e100)
    rows[1] *= -1
    found = ENGINE.nearest(rows, rows, k=2, metric=metric)
    assert np.isfinite(found.scores).all()
    assert found.indices == [[0, 1], [1, 0]]


def test_a_block_never_has_more_numbers_than_allowed_but_always_one_query() -> None:
    assert geometry.block_size(rows=1000, width=8, k=10) == 4000
    assert geometry.block_size(rows=1000, width=8192, k=1000) == 1
    assert geometry.block_size(rows=65_536, width=15, k=1) == 61


def test_without_torch_the_engine_is_numpy_and_says_so() -> None:
    assert "torch" not in sys.modules
    facts = select_engine().facts
    assert (facts.engine, facts.device, facts.toolkit) == ("numpy", "cpu", None)
    assert facts.reason == facts.gpu_problem == NO_TORCH
    assert select_engine().free_memory() == ()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise OSError('libcublas.so.12: cannot open shared object file')", "libcublas.so.12: cannot open"),
        ("raise ImportError('undefined symbol: ncclCommSplit')", "undefined symbol: ncclCommSplit"),
        ("import a_module_that_torch_needs", "No module named 'a_module_that_torch_needs'"),
    ],
)
def test_a_torch_that_cannot_be_loaded_is_a_reason_and_no_crash(
    body: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torch.py").write_text(body, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    facts = select_engine().facts
    assert facts.engine == "numpy"
    assert facts.reason.startswith("torch cannot be loaded: ")
    assert reason in facts.reason
    assert "torch" not in sys.modules


@pytest.mark.parametrize(
    ("facts", "visible", "text"),
    [
        (
            DriverFacts(load_error="libcuda.so.1: cannot open shared object file"),
            None,
            "no NVIDIA driver: libcuda.so.1: cannot open shared object file",
        ),
        (
            DriverFacts(cuda=(11, 8), init_code=0, devices=1),
            None,
            "the NVIDIA driver is too old: it supports CUDA 11.8, torch is built for CUDA 12.6",
        ),
        (
            DriverFacts(cuda=(12, 8), init_code=100, init_name="CUDA_ERROR_NO_DEVICE"),
            None,
            "the NVIDIA driver shows no GPU to this process",
        ),
        (
            DriverFacts(cuda=(12, 8), init_code=0, devices=0),
            "",
            "the NVIDIA driver shows no GPU to this process (CUDA_VISIBLE_DEVICES is '')",
        ),
        (
            DriverFacts(cuda=(12, 2), init_code=802, init_name="CUDA_ERROR_SYSTEM_NOT_READY"),
            None,
            "the NVIDIA driver cannot be initialised: CUDA_ERROR_SYSTEM_NOT_READY",
        ),
        (
            DriverFacts(cuda=(12, 2), init_code=0, devices=2),
            "0",
            "the NVIDIA driver shows 2 GPU(s), but torch cannot use any (CUDA_VISIBLE_DEVICES is '0')",
        ),
    ],
    ids=["no driver", "too old", "no device", "hidden", "not ready", "torch says no"],
)
def test_the_reason_for_no_gpu_names_what_to_look_at(facts: DriverFacts, visible: str | None, text: str) -> None:
    assert explain(facts, torch_cuda="12.6", visible=visible) == text


def test_a_missing_driver_is_a_fact_and_no_error() -> None:
    facts = probe_driver("libno-such-driver.so.1")
    assert facts.load_error is not None
    assert "libno-such-driver.so.1" in facts.load_error
    assert facts.init_code is None


def test_what_the_loader_said_is_told_and_not_what_a_frozen_program_makes_of_it() -> None:
    said = OSError("libcuda.so.1: cannot open shared object file: No such file or directory")
    guess = OSError("Most likely this dynlib/dll was not found when the application was frozen.")
    guess.__cause__ = said
    assert load_problem(guess) == load_problem(said) == str(said)
    guess.__cause__ = RuntimeError("something else")
    assert load_problem(guess) == str(guess)


@pytest.mark.parametrize(
    ("version", "name"), [("12.6", "cu126"), ("11.8", "cu118"), ("13.0", "cu130"), ("12.6.3", "cu126")]
)
def test_a_toolkit_is_named_by_major_and_minor(version: str, name: str) -> None:
    assert toolkit_name(version) == name
