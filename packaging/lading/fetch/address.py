"""What a person writes as a source: an address or a folder."""

from __future__ import annotations

from pathlib import Path

from lading.fetch.folder import FolderSource
from lading.fetch.http import HttpSource
from lading.fetch.source import Source


def open_source(text: str) -> Source:
    """Open a source.

    Args:
        text: ``https://…``, ``http://…``, or a folder's path.

    Returns:
        The source; the caller closes it.

    Raises:
        SourceUnreachable: There is no such folder.
    """
    if text.lower().startswith(("http://", "https://")):
        return HttpSource(text)
    return FolderSource(Path(text).expanduser())
