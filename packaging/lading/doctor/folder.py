"""Try what the file system of a data directory can do, in a folder of our own that is deleted at once."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lading.doctor.record import FolderFacts
from lading.host.facts import free_disk


def examine_folder(folder: Path) -> FolderFacts:
    """Look at a data directory, which need not exist: then at the place where it would be made.

    Args:
        folder: The directory.

    Returns:
        What it can do. Nothing is left there.
    """
    facts = FolderFacts(path=str(folder), exists=folder.is_dir(), writable=False)
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return facts.model_copy(update={"problem": f"{place} is a file."})
    try:
        facts = facts.model_copy(update={"free": free_disk(place)})
        with tempfile.TemporaryDirectory(prefix=".lading-doctor-", dir=place) as scratch:
            return facts.model_copy(update={"writable": True, **_abilities(Path(scratch))})
    except OSError as error:
        problem = f"{error.strerror or error}: {error.filename or place}."
        return facts.model_copy(update={"writable": False, "problem": problem})


def _abilities(scratch: Path) -> dict[str, bool]:
    file = scratch / "name"
    file.write_bytes(b"lading")
    return {
        "hard_links": _hard_links(file),
        "symlinks": _symlinks(file),
        "case_sensitive": not (scratch / "NAME").exists(),
    }


def _hard_links(file: Path) -> bool:
    other = file.with_name("second")
    try:
        os.link(file, other)
    except OSError:
        return False
    return other.samefile(file)


def _symlinks(file: Path) -> bool:
    link = file.with_name("link")
    try:
        link.symlink_to(file.name)
    except OSError:
        return False
    return link.read_bytes() == file.read_bytes()
