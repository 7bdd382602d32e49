"""The files that are derived from the code: the JSON Schemas and two reference pages."""

from __future__ import annotations

from pathlib import Path

from lading.atomic import write_atomic
from lading.manifest.exitcodes import EXIT_CODES_FILE, exit_codes_text
from lading.manifest.reference import reference_text
from lading.manifest.schema import SCHEMAS, schema_text

SCHEMA_FOLDER = "manifests/schema"
REFERENCE_FILE = "docs/reference/manifests.md"


def generated_files() -> dict[str, str]:
    """Every derived file: its path in the project, and its text."""
    schemas = {f"{SCHEMA_FOLDER}/{name}.schema.json": schema_text(kind) for name, kind in SCHEMAS.items()}
    return schemas | {REFERENCE_FILE: reference_text(), EXIT_CODES_FILE: exit_codes_text()}


def stale_files(root: Path) -> list[str]:
    """Derived files that are missing, or that differ from what the records say now."""
    return [file for file, text in generated_files().items() if _read(root / file) != text.encode()]


def _read(path: Path) -> bytes | None:
    return path.read_bytes().replace(b"\r\n", b"\n") if path.is_file() else None


def write_generated(root: Path) -> list[str]:
    """Write what is stale.

    Args:
        root: The project's folder.

    Returns:
        The files that changed.

    Raises:
        DiskFull, AccessDenied: The system refuses; older files stay.
    """
    stale, texts = stale_files(root), generated_files()
    for file in stale:
        write_atomic(root / file, texts[file].encode(), durable=False)
    return stale
