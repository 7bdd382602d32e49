"""Whether a path that a manifest names exists, is what it should be, and stays in the project with links followed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lading.manifest.document import Document, Loc
from lading.manifest.problem import Problem, near_miss


def path_problems(root: Path, document: Document, loc: Loc, relative: str, *, wanted: str) -> Iterator[Problem]:
    """Check one path.

    Args:
        root: The project's folder.
        document: The manifest that names it.
        loc: Where it names it; a path that is only a default has no place in the file.
        relative: The path.
        wanted: ``a file``, ``a folder`` or ``a file or folder``.

    Yields:
        At most one problem.
    """
    path = root / relative
    if not path.exists():
        if loc in document.values:
            hint = similar_name(path)
            yield document.problem(loc, "this does not exist", found=repr(relative), allowed=wanted, hint=hint)
        elif wanted == "a file":
            found = f"{relative!r}, which is the default"
            yield document.problem(loc, "this does not exist", found=found, allowed=wanted, hint="Name another file.")
    elif not path.resolve().is_relative_to(root.resolve()):
        found = f"{relative!r}, a link that leads outside"
        yield document.problem(loc, "this leaves the project", found=found, allowed=f"{wanted} inside the project")
    elif (path.is_dir() and wanted == "a file") or (path.is_file() and wanted == "a folder"):
        found = f"{relative!r}, a {'folder' if path.is_dir() else 'file'}"
        yield document.problem(loc, "not of this kind", found=found, allowed=wanted)


def similar_name(path: Path) -> str | None:
    """A hint at a file of nearly that name in the same folder, or none."""
    folder = path.parent
    return near_miss(path.name, sorted(entry.name for entry in folder.iterdir())) if folder.is_dir() else None
