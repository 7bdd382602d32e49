"""What the engines share about metrics: preparing rows, and how many queries are handled at once."""

from __future__ import annotations

import numpy as np

from lading_server.engine.base import Rows

BLOCK_ELEMENTS = 4_000_000  # doubles in the largest temporary, 32 MB: memory does not grow with the request


def unit_rows(rows: Rows) -> Rows:
    """Scale every row to length one; rows of extreme size neither overflow nor vanish, because they are scaled first.

    Args:
        rows: Rows none of which is zero.
    """
    scaled = rows / np.abs(rows).max(axis=1, keepdims=True)
    lengths: Rows = np.linalg.norm(scaled, axis=1, keepdims=True)
    units: Rows = scaled / lengths
    return units


def centred(queries: Rows, corpus: Rows) -> tuple[Rows, Rows]:
    """Move both to the corpus's centre, which no distance notices and which squares of large offsets need."""
    centre = corpus.mean(axis=0)
    return queries - centre, corpus - centre


def block_size(rows: int, width: int, k: int) -> int:
    """How many queries fit into one block.

    Args:
        rows: Corpus rows.
        width: Numbers in a row.
        k: Neighbours that are looked for.
    """
    return max(1, BLOCK_ELEMENTS // max(rows, k * width))
