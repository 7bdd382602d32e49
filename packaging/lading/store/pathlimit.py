r"""Paths that are too long for Windows, found before anything is fetched.

Unless long paths are switched on, Windows takes paths of at most 259 characters, 247 for a folder. A client could go
around that with the prefix ``\\?\``; the installed program, which loads its own libraries, could not.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from lading.errors import PathTooLong
from lading.manifest.tree import TreeEntry

FILE_LIMIT = 259  # characters
FOLDER_LIMIT = 247


def long_paths_enabled() -> bool:
    """Whether this system takes paths of any length."""
    if sys.platform == "win32":  # pragma: no cover (Windows)
        import winreg  # noqa: PLC0415 (Windows only)

        try:
            with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
                return bool(winreg.QueryValueEx(key, "LongPathsEnabled")[0])
        except OSError:
            return False
    return True


def longest_paths(trees: Sequence[Path], entries: Iterable[TreeEntry]) -> tuple[str, str]:
    """The longest file's path and the longest folder's path that an installation would have.

    Args:
        trees: Where the tree will lie, while it is put together and afterwards.
        entries: What it holds; at least one.
    """
    root = max((str(tree.absolute()) for tree in trees), key=len)
    files = [f"{root}{os.sep}{entry.path.replace('/', os.sep)}" for entry in entries]
    return max(files, key=len), max((path.rpartition(os.sep)[0] for path in files), key=len)


def check_path_lengths(
    trees: Sequence[Path],
    entries: Sequence[TreeEntry],
    *,
    system: str = os.name,
    enabled: Callable[[], bool] = long_paths_enabled,
) -> None:
    """Refuse a data directory that is too deep for what is to be installed.

    Args:
        trees: Where the tree will lie, while it is put together and afterwards.
        entries: What it holds.
        system: As ``os.name`` says it.
        enabled: Says whether long paths are switched on.

    Raises:
        PathTooLong: With the longest path, its length and the limit.
    """
    if system != "nt" or not entries:
        return
    file, folder = longest_paths(trees, entries)
    over = max(len(file) - FILE_LIMIT, len(folder) - FOLDER_LIMIT)
    if over <= 0 or enabled():
        return
    raise PathTooLong(
        f"{file} would have {len(file)} characters; Windows takes {FILE_LIMIT} ({FOLDER_LIMIT} for a folder).",
        usually="The data directory lies deep, and long paths are not switched on.",
        todo=f"Choose a data directory that is {over} characters shorter with --data, or let an administrator switch "
        "on long paths (LongPathsEnabled). Nothing was changed.",
    )
