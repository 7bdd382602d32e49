"""What PyInstaller is told when a program that embeds the client is frozen: which optional things stay out.

PyInstaller finds this package by its entry point and reads the ``hook-*.py`` files beside this one; nobody has to name
them. They leave out what a library imports only if it happens to be installed, and what the client never uses. What
the program itself imports comes in all the same.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Protocol

STRIP = ("objcopy", "--strip-unneeded")  # PyInstaller itself cannot work on Linux without it
COPIES = "without-symbols"  # the folder of the copies; `lading freeze` knows it, and whose files they are


class Search(Protocol):
    """What PyInstaller says before it looks for a module."""

    module_name: str
    search_dirs: list[str]


def hook_folders() -> list[str]:
    """Where the hooks lie; the entry point ``hook-dirs`` of the group ``pyinstaller40``."""
    return [str(Path(__file__).parent)]


def without_symbols(search: Search, *, work: Path | None = None) -> None:
    """Let PyInstaller take a copy of an extension module without the symbols that only a debugger reads.

    Nothing is done on other systems, whose wheels carry none.

    Args:
        search: The module, and the folders in which it would be looked for; they are replaced by the copy's.
        work: Where the copy goes; PyInstaller's work folder without it.

    Raises:
        subprocess.CalledProcessError: The tool cannot read the module.
    """
    if sys.platform != "linux":
        return
    names = [f"{search.module_name.rpartition('.')[2]}{suffix}" for suffix in EXTENSION_SUFFIXES]
    found = next(
        (path for folder in search.search_dirs for name in names if (path := Path(folder) / name).is_file()), None
    )
    if found is None:
        return
    target = (work or _work_folder()) / COPIES / search.module_name / found.name
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([*STRIP, found, target], check=True)
    search.search_dirs = [str(target.parent)]


def _work_folder() -> Path:
    from PyInstaller.config import CONF  # noqa: PLC0415 (there only while PyInstaller runs)

    return Path(CONF["workpath"])
