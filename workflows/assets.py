"""Is a folder of assets whole? Fails the release when not.

It stands alone on the standard library, and so is a second opinion on what Lading packs. It compares names, sizes and
digests; it does not look into archives and does not upload anything.

    python workflows/assets.py complete FOLDER
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ASSET_LIMIT = 2 * 2**30  # the host refuses a file of 2 GiB and more
CHECKSUM = ".sha256"
USAGE = 2
FAILED = 70


@dataclass(frozen=True, kw_only=True)
class Fact:
    """What is known of one file: its size in bytes and its SHA-256."""

    size: int
    sha256: str


def facts(folder: Path) -> dict[str, Fact]:
    """Size and digest of every file of a folder, by name."""
    found = {}
    for path in sorted(folder.iterdir()):
        with path.open("rb") as stream:
            found[path.name] = Fact(size=path.stat().st_size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())
    return found


def needed(name: str, release: Mapping[str, Any]) -> dict[str, Fact | None]:
    """The files that a release manifest names, itself included; a file that it gives no digest for has none here."""
    files: dict[str, Fact | None] = {name: None}
    for component in release["components"]:
        for asset in (component["index"], *component["volumes"]):
            files[asset["name"]] = Fact(size=asset["size"], sha256=asset["sha256"])
        files[component["index"]["name"].removesuffix(".index.zst") + ".json"] = None
    for patch in release.get("patches", ()):
        asset = patch["asset"]
        files[asset["name"]] = Fact(size=asset["size"], sha256=asset["sha256"])
    return files


def _differs(name: str, wanted: Fact | None, here: Mapping[str, Fact]) -> str | None:
    if name not in here:
        return f"{name} is missing"
    if here[name].size >= ASSET_LIMIT:
        return f"{name} has {here[name].size:,} bytes; the host takes less than {ASSET_LIMIT:,}"
    if wanted is not None and here[name] != wanted:
        return f"{name} has {here[name].size} bytes and SHA-256 {here[name].sha256}; the manifest says {wanted}"
    return None


def incomplete(here: Mapping[str, Fact], releases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What a folder lacks to be a release.

    Args:
        here: The folder's files.
        releases: Its release manifests by file name.
    """
    if not releases:
        return ["there is no release manifest (*.release.json)"]
    problems = []
    for manifest, release in releases.items():
        parts = [component["component"] for component in release["components"]]
        wanted = ["core"] if release["flavor"] == "cpu" else ["core", "libs"]
        if parts != wanted:
            problems.append(f"{manifest} has the components {parts}; a {release['flavor']} release has {wanted}")
        for name, fact in needed(manifest, release).items():
            problems.append(_differs(name, fact, here) or "")
            problems.append("" if name + CHECKSUM in here else f"{name}{CHECKSUM} is missing")
    return sorted({problem for problem in problems if problem})


def main(arguments: list[str]) -> int:
    """Run the check; 0 when all is well, 70 when not."""
    match arguments:
        case ["complete", folder]:
            manifests = {path.name: json.loads(path.read_text("utf-8")) for path in Path(folder).glob("*.release.json")}
            here = facts(Path(folder))
            problems = incomplete(here, manifests)
        case _:
            print(__doc__, file=sys.stderr)
            return USAGE
    for problem in problems:
        print(f"::error::{problem}")
    print(f"{len(here)} files, {sum(fact.size for fact in here.values()):,} bytes, {len(problems)} problems")
    return FAILED if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
