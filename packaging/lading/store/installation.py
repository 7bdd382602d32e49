"""``trust/installation.json``: a random id, by which this installation is drawn when a release goes to some first.

It is made when a channel first has such a release, from nothing but random bits. It is never sent to anybody: the draw
is made here, and a publisher learns neither the id nor the outcome. Deleting the file costs nothing but another draw.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Literal

from pydantic import Field

from lading.atomic import write_atomic
from lading.errors import AccessDenied, FormatInvalid
from lading.manifest.base import Record, canonical_json, read_record
from lading.store.home import trust_folder

_BYTES = 16


class Installation(Record):
    """Which installation this is; known to itself alone.

    Attributes:
        id: Random, 32 hexadecimal digits.
    """

    schema_: Literal["lading/installation/1"] = Field(default="lading/installation/1", alias="schema")
    id: str = Field(pattern=r"^[0-9a-f]{32}$")


def installation_file(data: Path) -> Path:
    """Where the id is kept: beside the metadata seen, under the same lock, and gone with it."""
    return trust_folder(data) / "installation.json"


def known_installation(data: Path) -> str | None:
    """The id, or none when there is none yet or the file is damaged."""
    path = installation_file(data)
    try:
        return read_record(Installation, path.read_bytes(), origin=str(path)).id
    except (FileNotFoundError, FormatInvalid):
        return None


def installation(data: Path) -> str | None:
    """The id, made on first use; hold the lock of its folder.

    Returns:
        The id; none where none can be kept, because such an id would be another one the next time.
    """
    found = known_installation(data)
    if found is not None:
        return found
    made = Installation(id=secrets.token_hex(_BYTES))
    try:
        write_atomic(installation_file(data), canonical_json(made))
    except AccessDenied:
        return None
    return made.id
