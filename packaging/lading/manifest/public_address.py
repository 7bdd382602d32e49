"""Where clients read what a destination of the manifests holds. Pure; publishing credentials do not come into it."""

from __future__ import annotations

import os
from pathlib import Path

from lading.errors import ConfigError
from lading.manifest.destination import Destination, FolderDestination, GitHubDestination
from lading.manifest.github_layout import PREFIX, repository_at
from lading.manifest.project import load_project


def public_address(destination: Destination, name: str, project: Path) -> str:
    """What a client writes as its source to read from a destination.

    Args:
        destination: From the manifests.
        name: What they call it.
        project: The project's folder, in which relative paths begin.

    Returns:
        A folder's path, ``github:owner/name``, or an address.

    Raises:
        ConfigError: The manifests do not say where clients read it.
    """
    match destination:
        case FolderDestination(path=path):
            return str(project / path)
        case GitHubDestination(api=api, repository=repository):
            return repository_at(api, repository).address
        case _:
            if destination.public is None:
                raise ConfigError(
                    f"The destination {name} does not say under which address clients read the bucket "
                    f"{destination.bucket}.",
                    usually="It has no `public` in manifests/destinations.yaml.",
                    todo="Write `public: https://…`, the address under which metadata/timestamp.json is found.",
                )
            return destination.public


def is_address(text: str) -> bool:
    """Whether a text is an address or a folder's path, and not the name of a destination."""
    return text in {".", ".."} or text.startswith(PREFIX) or "/" in text or os.sep in text


def find_address(text: str, project: Path) -> str:
    """Where clients read what somebody named.

    Args:
        text: A destination's name in the project's manifests, an address, or a folder's path (with a separator).
        project: The project's folder.

    Raises:
        ManifestInvalid: The project has no destination of that name.
        ConfigError: The manifests do not say where clients read it.
    """
    if is_address(text):
        return text
    return public_address(load_project(project).destination(text), text, project)
