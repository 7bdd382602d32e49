"""Where a repository's files lie on GitHub. Pure: shared by the publisher and by clients.

A repository has paths, GitHub has releases with flat asset names, and branches. The mapping
(docs/reference/repository.md, "On GitHub"):

    * Each archive has a GitHub release of its own, whose tag is the archive's name without its ending. Everything that
      belongs to it (volumes, index, record, patches, checksums) begins with that name: the tag follows from the path.
    * A patch of libs has a release of its own too: it may be made long after the libs were published.
    * Metadata and targets lie on the branch :data:`BRANCH`, under the paths that they have everywhere.

Why so: a GitHub release that is published need never change again, also where GitHub holds it immutable, and also when
another platform's build follows a week later. Only a branch can be moved in one step and only from the state that one
has seen; an asset of that name would have to be deleted first, and clients would meet a repository without timestamp.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import get_args
from urllib.parse import urlsplit

from lading.errors import SourceUnreachable
from lading.manifest.base import Platform

BRANCH = "lading-metadata"
LOCK_BRANCH = "lading-publishing"
PREFIX = "github:"
WEB = "https://github.com"
API = "https://api.github.com"
RAW = "https://raw.githubusercontent.com"

ASSET_LIMIT = 2 * 2**30  # bytes an asset; "size must be less than or equal to 2147483648"
ASSETS_LIMIT = 1000  # assets a release
BODY_LIMIT = 125_000  # characters of a release's text

_REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9-]*/[\w.-]+$")
_PLATFORMS = "|".join(map(re.escape, get_args(Platform)))
_VERSION, _LABEL = r"\d+\.\d+\.\d+[a-z0-9.-]*", r"[a-z0-9-]+-v\d+"
_OUR_TAG = re.compile(
    rf"[a-z][a-z0-9_-]*-(?:core-{_VERSION}-[a-z][a-z0-9_-]*-(?:{_PLATFORMS})"
    rf"|libs-{_LABEL}-(?:{_PLATFORMS})(?:-from-{_LABEL})?)"
)
_KEPT_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$")  # GitHub renames what has anything else


@dataclass(frozen=True, kw_only=True)
class AssetPlace:
    """Where an asset lies.

    Attributes:
        tag: The tag of its release.
        name: Its name there.
    """

    tag: str
    name: str


def asset_place(path: str) -> AssetPlace | None:
    """Where an asset of the repository lies; none for metadata, targets, and what is no asset of any release."""
    parts = path.split("/")
    if len(parts) != len(("assets", "component", "version", "name")) or parts[0] != "assets":
        return None
    _, component, version, name = parts
    middle = f"-{re.escape(component)}-{re.escape(version)}-"
    match = re.match(rf"(.+?{middle}(?:[a-z0-9_-]+?-)?(?:{_PLATFORMS}))[.-]", name)
    if match is None:
        return None
    asset = name.removesuffix(".sha256")
    own = component == "libs" and asset.endswith(".patch")
    return AssetPlace(tag=asset.removesuffix(".patch") if own else match[1], name=name)


def is_our_tag(tag: str) -> bool:
    """Whether a tag is one that :func:`asset_place` gives."""
    return _OUR_TAG.fullmatch(tag) is not None


def keeps_its_name(name: str) -> bool:
    """Whether GitHub stores an asset under exactly this name: letters, digits, ``-``, ``_`` and inner dots."""
    return _KEPT_NAME.match(name) is not None


@dataclass(frozen=True, kw_only=True)
class GitHubRepository:
    """A repository on github.com or on an Enterprise server.

    Attributes:
        name: ``owner/name``.
        web: The host's address, without a slash at the end.
    """

    name: str
    web: str = WEB

    @property
    def address(self) -> str:
        """What clients write as their source."""
        return f"{PREFIX}{self.name}" if self.web == WEB else f"{PREFIX}{self.web}/{self.name}"

    @property
    def page(self) -> str:
        """Its page, for people."""
        return f"{self.web}/{self.name}"

    @property
    def api(self) -> str:
        """The API's base address."""
        return API if self.web == WEB else f"{self.web}/api/v3"

    @property
    def assets(self) -> str:
        """Where clients fetch assets: ``…/TAG/NAME``."""
        return f"{self.web}/{self.name}/releases/download"

    @property
    def metadata(self) -> str:
        """Where clients fetch metadata and targets: ``…/PATH``."""
        return f"{RAW}/{self.name}/{BRANCH}" if self.web == WEB else f"{self.web}/{self.name}/raw/{BRANCH}"


def repository_at(api: str | None, name: str) -> GitHubRepository:
    """The repository that a manifest names by its API: an Enterprise server has it under ``/api/v3``."""
    if api is None or api.rstrip("/") == API:
        return GitHubRepository(name=name)
    return GitHubRepository(name=name, web=api.rstrip("/").removesuffix("/api/v3").removesuffix("/api"))


def parse_address(text: str) -> GitHubRepository | None:
    """Read a source that lies on GitHub.

    Args:
        text: ``github:owner/name``, ``https://github.com/owner/name``, or for an Enterprise server
            ``github:https://host/owner/name``.

    Returns:
        The repository; none when the text is a source of another kind.

    Raises:
        SourceUnreachable: It begins with ``github:`` and goes on wrongly.
    """
    if text.startswith(PREFIX):
        found = _parse(text.removeprefix(PREFIX))
        if found is None:
            raise SourceUnreachable(
                f"{text} is not a repository on GitHub.",
                usually="Owner or name are missing.",
                todo=f"Write {PREFIX}owner/name, or {PREFIX}https://host/owner/name for an Enterprise server.",
            )
        return found
    return _parse(text) if text.lower().startswith(f"{WEB}/") else None


def _parse(text: str) -> GitHubRepository | None:
    if "://" not in text:
        return GitHubRepository(name=text) if _REPOSITORY.match(text) else None
    parts = urlsplit(text)
    name = parts.path.strip("/").removesuffix("/releases").removesuffix(".git")
    if parts.scheme.lower() not in {"http", "https"} or not parts.netloc or not _REPOSITORY.match(name):
        return None
    return GitHubRepository(name=name, web=f"{parts.scheme.lower()}://{parts.netloc.lower()}")
