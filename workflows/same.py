"""Are two folders of assets the same, file by file and byte by byte?

It stands alone on the standard library. It compares names and digests; which file inside an archive differs is not
told here. It is no proof that a build is reproducible: only that these two builds were the same.

    python workflows/same.py FIRST SECOND
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path

USAGE = 2
FAILED = 70


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of a folder and the folders in it, by path."""
    found = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        with path.open("rb") as stream:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def differences(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """How two folders differ, one line a file."""
    lines = [f"{name} is in the first build only" for name in sorted(first.keys() - second.keys())]
    lines += [f"{name} is in the second build only" for name in sorted(second.keys() - first.keys())]
    return lines + [
        f"{name} differs: {first[name][:16]}…, {second[name][:16]}…"
        for name in sorted(first.keys() & second.keys())
        if first[name] != second[name]
    ]


def main(arguments: list[str]) -> int:
    """Compare; 0 when they are the same, 70 when not or when there is nothing to compare."""
    match arguments:
        case [first, second]:
            ours, theirs = digests(Path(first)), digests(Path(second))
        case _:
            print(__doc__, file=sys.stderr)
            return USAGE
    problems = differences(ours, theirs) if ours else [f"{first} has no files"]
    for problem in problems:
        print(f"::error::{problem}")
    print(f"{len(ours)} and {len(theirs)} files, {len(problems)} differences")
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
