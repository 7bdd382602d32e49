"""What a person writes as a source: addresses and folders, in order of preference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lading.errors import SourceUnreachable
from lading.fetch.folder import FolderSource
from lading.fetch.github import GitHubSource
from lading.fetch.http import HttpSource
from lading.fetch.mirrors import MirrorSource
from lading.fetch.source import Source
from lading.fetch.throttle import Throttle
from lading.fetch.transport import shown_url
from lading.manifest.github_layout import parse_address


def open_source(text: str | Sequence[str], *, limit: float | None = None) -> MirrorSource:
    """Open a source.

    Args:
        text: ``https://…``, ``http://…``, ``github:owner/name``, or a folder's path; several are mirrors of each other,
            the preferred one first.
        limit: Bytes per second over the network, for all of them together.

    Returns:
        The source; the caller closes it.

    Raises:
        SourceUnreachable: It is an address of another kind.
    """
    texts = [text] if isinstance(text, str) else list(text)
    throttle = None if limit is None else Throttle(limit)
    return MirrorSource([open_place(one, throttle) for one in dict.fromkeys(texts)])


def open_place(text: str, throttle: Throttle | None = None) -> Source:
    """Open one place by itself, whose failures are the caller's to judge.

    Args:
        text: As for :func:`open_source`.
        throttle: Holds a bandwidth limit.

    Raises:
        SourceUnreachable: It is an address of another kind.
    """
    if (repository := parse_address(text)) is not None:
        return GitHubSource(repository, throttle=throttle)
    scheme = text.lower().partition("://")[0] if "://" in text else ""
    if scheme in {"http", "https"}:
        return HttpSource(text, throttle=throttle)
    if scheme == "file":
        return FolderSource(Path(url2pathname(urlsplit(text).path)))
    if not scheme:
        return FolderSource(Path(text).expanduser())
    raise SourceUnreachable(
        f"{shown_url(text)} is not an address that can be fetched.",
        todo="Give a folder, github:owner/name, or an address that begins with https:// or http://.",
    )
