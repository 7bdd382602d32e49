"""Whether a file is still the one whose first range was fetched: its ETag or date, remembered and sent as ``If-Range``.

Whether bytes are right is decided by their digests. This only notices a file that is replaced between two ranges
early, and says so, instead of "digest mismatch". Several servers behind one name may give different ETags for the same
bytes: after one change the file's validator is not believed any more, and the digests decide alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock

CHANGING = ""  # what is remembered of a file whose validator is not to be relied on


def validator_of(headers: Mapping[str, str]) -> str | None:
    """What may stand in ``If-Range`` (RFC 9110, 13.1.5): a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "").strip()
    if etag.startswith('"'):
        return etag
    return headers.get("Last-Modified", "").strip() or None


class Validators:
    """What is known of the files of one place; may be used by several threads at once."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lock = Lock()

    def condition(self, path: str) -> dict[str, str]:
        """The header to send with the next range of a file."""
        known = self._known.get(path)
        return {"If-Range": known} if known else {}

    def change(self, path: str, headers: Mapping[str, str]) -> str | None:
        """Look at the answer to a range, and remember it when it is the first.

        Returns:
            What changed since the first range, or none.
        """
        found = validator_of(headers)
        with self._lock:
            known = self._known.setdefault(path, found) if found else self._known.get(path)
            if not known or not found or known == found:
                return None
            self._known[path] = CHANGING
            return f"{known} became {found}"

    def forget(self, path: str) -> None:
        """Rely on a file's validator no longer."""
        with self._lock:
            self._known[path] = CHANGING
