"""The engine of a build without torch: numpy on the processor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lading_server.engine.base import EngineFacts, Matches, Metric, Rows
from lading_server.engine.geometry import block_size, centred, unit_rows

_Indices = NDArray[np.intp]


class NumpyEngine:
    """Computes with numpy.

    Args:
        reason: Why it is this engine.
    """

    def __init__(self, reason: str) -> None:
        self._facts = EngineFacts(engine="numpy", device="cpu", reason=reason, gpu_problem=reason)

    @property
    def facts(self) -> EngineFacts:
        """What it runs on."""
        return self._facts

    def free_memory(self) -> tuple[int, ...]:
        """No GPU, no memory of one."""
        return ()

    def nearest(self, queries: Rows, corpus: Rows, *, k: int, metric: Metric) -> Matches:
        """Find the ``k`` nearest corpus rows of each query; see the protocol."""
        if metric == "cosine":
            queries, corpus = unit_rows(queries), unit_rows(corpus)
        select = _nearest if metric == "euclidean" else _most_similar
        step = block_size(len(corpus), corpus.shape[1], k)
        blocks = [select(queries[at : at + step], corpus, k) for at in range(0, len(queries), step)]
        return Matches(
            indices=[row for indices, _ in blocks for row in indices.tolist()],
            scores=[row for _, scores in blocks for row in scores.tolist()],
        )


def _ranked(indices: _Indices, keys: Rows) -> tuple[_Indices, Rows]:
    order = np.lexsort((indices, keys), axis=1)
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(keys, order, axis=1)


def _most_similar(queries: Rows, corpus: Rows, k: int) -> tuple[_Indices, Rows]:
    distances: Rows = -(queries @ corpus.T)
    chosen = np.argpartition(distances, k - 1, axis=1)[:, :k]
    indices, keys = _ranked(chosen, np.take_along_axis(distances, chosen, axis=1))
    return indices, -keys


def _nearest(queries: Rows, corpus: Rows, k: int) -> tuple[_Indices, Rows]:
    # Chosen by |c|² - 2qc, one matrix product; the distances of the chosen are then computed from the differences,
    # because the difference of large squares says nothing about a small distance.
    moved_queries, moved_corpus = centred(queries, corpus)
    keys: Rows = np.einsum("ij,ij->i", moved_corpus, moved_corpus) - 2.0 * (moved_queries @ moved_corpus.T)
    chosen = np.argpartition(keys, k - 1, axis=1)[:, :k]
    distances: Rows = np.linalg.norm(queries[:, None, :] - corpus[chosen], axis=2)
    return _ranked(chosen, distances)
