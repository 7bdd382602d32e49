"""What the PyInstaller spec is told, and what it tells back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lading.manifest.pattern import path_pattern
from lading.manifest.project import Project
from lading.manifest.toolkit import Exclusion

# Files of a *.dist-info folder that differ between two installations of the same wheel: hashes of scripts with the
# environment's path in them, the installer's name, the time of installation (measured: facts on reproducible builds).
IRREPRODUCIBLE = tuple(
    Exclusion(pattern=f"**/*.dist-info/{name}", reason="It differs between two installations of the same wheel.")
    for name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json")
)


@dataclass(frozen=True, kw_only=True)
class Collected:
    """One file that PyInstaller put into the tree.

    Attributes:
        path: Relative to the payload folder; the executable's is its name.
        source: Where it came from; for a link, its target.
        typecode: PyInstaller's kind: ``DATA``, ``BINARY``, ``EXTENSION``, ``SYMLINK``, ``EXECUTABLE`` …
    """

    path: str
    source: str
    typecode: str


@dataclass(frozen=True, kw_only=True)
class Contents:
    """PyInstaller's table of contents.

    Attributes:
        collected: What is in the tree.
        pure: Modules inside the executable with their sources (none when modules are loose).
        dropped: What exclusions kept out, each with its reason.
    """

    collected: tuple[Collected, ...]
    pure: tuple[Collected, ...]
    dropped: tuple[tuple[Collected, str], ...]


def _item(path: str, source: str | None, typecode: str) -> Collected:
    return Collected(path=path.replace("\\", "/"), source=source or "", typecode=typecode)


def read_contents(path: Path) -> Contents:
    """Read what the spec wrote."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Contents(
        collected=tuple(_item(*entry[:3]) for entry in found["collected"]),
        pure=tuple(_item(*entry[:3]) for entry in found["pure"]),
        dropped=tuple((_item(e["path"], e["source"], e["typecode"]), e["reason"]) for e in found["dropped"]),
    )


def spec_settings(
    project: Project, *, name: str, excludes: Iterable[str], exclusions: Iterable[Exclusion], contents: Path
) -> dict[str, object]:
    """The settings for ``build/server.spec``.

    Args:
        project: The project.
        name: The executable's name.
        excludes: Modules that must not get in.
        exclusions: Files that are not shipped.
        contents: Where the spec writes its table of contents.

    Returns:
        A mapping for JSON.
    """
    app = project.app
    return {
        "name": name,
        "entry": str(project.path(app.entry)),
        "import_roots": [str(project.path(root)) for root in app.import_roots],
        "datas": [[str(project.path(data.source)), data.target] for data in app.data],
        "hidden_imports": [*app.hidden_imports, *app.required_modules],
        "hooks": [str(project.path(folder)) for folder in (app.hooks, *app.library_hooks)],
        "excludes": sorted({*excludes, *(entry.module.removesuffix(".*") for entry in app.excluded_modules)}),
        "modules": app.modules,
        "exclusions": [
            {"regex": path_pattern(rule.pattern).pattern, "reason": rule.reason}
            for rule in (*exclusions, *IRREPRODUCIBLE)
        ],
        "contents": str(contents),
    }
