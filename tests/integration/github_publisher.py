"""Publishes a packed release to a GitHub double: a program of its own, so that it can be killed.

Usage::

    github_publisher.py WEB REPOSITORY PACKED KEYS

Prints the peak of its memory in kB, where the system tells it, when it has ended well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from lading.manifest.github_layout import GitHubRepository
from lading.publish.github import GitHubDestination
from lading.publish.publisher import publish
from lading.sign.keys import development_keys


def main(web: str, repository: str, packed: str, keys: str) -> None:
    """Publish."""
    destination = GitHubDestination(GitHubRepository(name=repository, web=web), "t0ken")
    file = next(Path(packed).glob("*.release.json"))
    publish(Path(packed), file, destination, development_keys(Path(keys)))
    status = Path("/proc/self/status")  # the peak that resource knows is that of whoever started this
    print(status.read_text().partition("VmHWM:")[2].split()[0] if status.exists() else 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
