"""Checks the server's own engine, as the server would choose it here, against the definition of what it computes."""

from __future__ import annotations

from typing import get_args

import numpy as np

from lading_server.engine.base import RELATIVE_TOLERANCE, Engine, Metric, Rows
from lading_server.selftest.numerics import relative_error, within
from lading_server.selftest.report import CheckFailedError, Evidence


def reference(queries: Rows, corpus: Rows, metric: Metric) -> Rows:
    """The score of every pair, by definition and by numpy's loops alone."""
    products: Rows = np.einsum("qd,cd->qc", queries, corpus, optimize=False)
    if metric == "dot":
        return products
    if metric == "cosine":
        lengths: Rows = np.sqrt((queries**2).sum(1))[:, None] * np.sqrt((corpus**2).sum(1))
        return products / lengths
    distances: Rows = np.sqrt(((queries[:, None, :] - corpus) ** 2).sum(2))
    return distances


def check_engine(engine: Engine, random: np.random.Generator) -> Evidence:
    """Find neighbours by every metric.

    Raises:
        CheckFailedError: Other neighbours, or scores beyond the tolerance.
    """
    queries, corpus = random.standard_normal((20, 48)), random.standard_normal((500, 48))
    errors = {}
    for metric in get_args(Metric):
        scores = reference(queries, corpus, metric)
        order = np.argsort(scores if metric == "euclidean" else -scores, axis=1, kind="stable")[:, :7]
        found = engine.nearest(queries, corpus, k=7, metric=metric)
        if found.indices != order.tolist():
            raise CheckFailedError(f"{metric}: other neighbours than by definition", {"metric": metric})
        errors[metric] = relative_error(found.scores, np.take_along_axis(scores, order, axis=1))
    return within(errors, RELATIVE_TOLERANCE, engine=engine.facts.engine, device=engine.facts.device)
