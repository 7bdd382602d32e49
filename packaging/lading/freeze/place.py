"""Where finished builds are found: always a whole one there, the older or the newer.

Invariants:
    * A build's folder appears under its name in one step, complete.
    * Killed between taking the older build away and putting the newer one there, the next run puts the older one back.
"""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from lading.linkage.scan import walk
from lading.manifest.tree import TreeEntry


def put_in_place(staged: Path, home: Path, aside: Path) -> None:
    """Replace a build by another.

    Args:
        staged: The new build's folder, on the same file system; complete.
        home: Where builds are found.
        aside: Where the older build lies for the moment; removed in the end.

    Raises:
        OSError: It cannot be done; the older build is where it was.
    """
    shutil.rmtree(aside, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    if home.exists():
        home.replace(aside)
    try:
        staged.replace(home)
    except BaseException:
        recover(home, aside)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def recover(home: Path, aside: Path) -> None:
    """Put the older build back where a replacement did not come to its end."""
    if aside.exists() and not home.exists():
        aside.replace(home)


def is_intact(tree: Path, files: Iterable[TreeEntry]) -> bool:
    """Whether a tree has the entries that its record names, by kind, mode and size, and no others.

    Contents are not read: that takes as long for a CUDA tree as half a freeze, and ``lading verify`` does it.
    """
    try:
        return {path: _looks(Path(entry.path)) for path, entry in walk(tree)} == {
            entry.path: entry.target if entry.type == "link" else (entry.mode, entry.size) for entry in files
        }
    except OSError:
        return False


def _looks(path: Path) -> str | tuple[int, int]:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return path.readlink().as_posix()
    return 0o755 if status.st_mode & stat.S_IXUSR else 0o644, status.st_size
