"""Which installed versions a program runs from just now: on POSIX nothing else stops their removal under it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Running:
    """A program that runs from a folder.

    Attributes:
        folder: The folder.
        pid: Its process.
        name: What it is called.
    """

    folder: Path
    pid: int
    name: str


def running_from(folders: Iterable[Path]) -> tuple[Running, ...]:
    """Look at every process whose program or first arguments lie in one of some folders.

    Args:
        folders: Absolute or not; links in them are followed.

    Returns:
        One entry a process. Processes of other users, of which the system says nothing, are not in it.
    """
    resolved = {folder.resolve(): folder for folder in folders}
    if not resolved:
        return ()
    import psutil  # noqa: PLC0415 (20 ms that an update which deletes nothing does not need)

    found: list[Running] = []
    for process in psutil.process_iter(["pid", "name", "exe", "cmdline"]):
        info = process.info
        paths = [info["exe"], *(info["cmdline"] or ())[:2]]  # the second is the script of an interpreter
        if (folder := _first_inside(paths, resolved)) is not None:
            found.append(Running(folder=folder, pid=info["pid"], name=info["name"] or ""))
    return tuple(found)


def _first_inside(paths: Sequence[str | None], resolved: dict[Path, Path]) -> Path | None:
    for text in paths:
        if not text or not Path(text).is_absolute():
            continue
        path = Path(text)
        for candidate in (path, path.resolve()):
            for parent in candidate.parents:
                if parent in resolved:
                    return resolved[parent]
    return None
