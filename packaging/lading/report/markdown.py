"""Markdown tables that any renderer of job summaries shows. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# What a foreign text (a path, an error) could break out of its cell or code span with.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#])")


def escape(text: str) -> str:
    """A text as plain words of a table cell."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))


def code(text: str) -> str:
    """A text as a code span of a table cell."""
    flat = " ".join(text.split()).replace("|", "\\|")
    fence = "``" if "`" in flat else "`"
    return f"{fence}{' ' if '`' in flat else ''}{flat}{' ' if '`' in flat else ''}{fence}"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: Iterable[int] = ()) -> str:
    """A table; cells are taken as they are.

    Args:
        header: The first row.
        rows: The others.
        right: Numbers of the columns that are aligned to the right.
    """
    aligned = set(right)
    line = ["---:" if number in aligned else "---" for number in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (list(header), line, *(list(row) for row in rows)))
