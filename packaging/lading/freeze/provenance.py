"""Which commit a build is made from, and its time: the only time that gets into a build."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from lading.errors import ConfigError
from lading.process import run

_TIMEOUT = 60.0  # seconds; git status on a cold disk
DEFAULT_EPOCH = 315532800  # 1980-01-01, the earliest time that a zip file can hold; used outside a repository


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What is built.

    Attributes:
        name: The commit, ``+dirty`` when tracked files differ from it, ``unknown`` outside a repository.
        epoch: Its time in seconds, or ``SOURCE_DATE_EPOCH`` when that is set.
    """

    name: str
    epoch: int


def _git(root: Path, *words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    finished = run([git, "-C", root, *words], timeout=_TIMEOUT)
    return finished.stdout.strip() if finished.returncode == 0 else None


def find_commit(root: Path) -> Commit:
    """Ask git about the project.

    Raises:
        ConfigError: ``SOURCE_DATE_EPOCH`` is set to something else than a time.
    """
    name = _git(root, "rev-parse", "HEAD")
    epoch = _given_epoch()
    if epoch is None:
        epoch = int(_git(root, "log", "-1", "--format=%ct") or DEFAULT_EPOCH)
    if name is None:
        return Commit(name="unknown", epoch=epoch)
    dirty = "+dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    return Commit(name=name + dirty, epoch=epoch)


def _given_epoch() -> int | None:
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not (given.isascii() and given.isdigit()):
        raise ConfigError(
            f"SOURCE_DATE_EPOCH is {given!r}; a whole number of seconds since 1970 is allowed.",
            usually="It was set by a script that wrote a date.",
            todo="Set it to the output of 'git log -1 --format=%ct', or leave it unset.",
        )
    return int(given) if given else None
