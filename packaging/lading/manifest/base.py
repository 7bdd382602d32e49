"""What every record shares: frozen, typed, unknown fields refused, one canonical encoding.

A record that is hashed or signed is always written by :func:`canonical_json`, so that equal records are equal bytes
on every machine.
"""

from __future__ import annotations

import json
import re
from pathlib import PurePosixPath
from typing import Annotated, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from lading.errors import FormatInvalid, FormatTooNew

Platform = Literal["linux-x86_64", "windows-x86_64", "linux-aarch64"]
Variant = Literal["cpu", "cuda"]
Component = Literal["core", "libs"]
OperatingSystem = Literal["linux", "windows"]

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256, 64 lower-case hexadecimal digits")]
Version = Annotated[
    str,
    Field(
        pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(?:[.-]?(?:a|b|rc|dev|post)\.?[0-9]+)?$",
        description="a release number such as 0.1.0",
    ),
]
Label = Annotated[
    str, Field(pattern=r"^[a-z0-9]+(?:-[a-z0-9]+)*-v[1-9][0-9]*$", description="a label such as cu126-v1")
]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*$",
        max_length=64,
        description="lower-case letters and digits, with - or _ between them, such as lading-server",
    ),
]

_SCHEMA = re.compile(r"(lading/[a-z-]+/)([1-9][0-9]{0,8})")
_NOT_PLAIN = frozenset({"", ".", ".."})  # names that a plain path does not have
_SIZE = re.compile(r"^\s*([0-9]+(?:\.[0-9]+)?)\s*(B|kB|MB|GB|KiB|MiB|GiB)\s*$")
_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def parse_size(value: object) -> object:
    """Turn ``"85 MB"`` into 85,000,000 bytes; leave anything that is not text to pydantic."""
    if not isinstance(value, str):
        return value
    match = _SIZE.match(value)
    if match is None:
        message = f"a size is a number with one of the units {', '.join(_UNITS)}, such as '85 MB'; found {value!r}"
        raise ValueError(message)
    return int(float(match[1]) * _UNITS[match[2]])


_SIZE_SCHEMA: dict[str, JsonValue] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": _SIZE.pattern}],
    "description": "bytes, or a text such as '85 MB'",
}

Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0), WithJsonSchema(_SIZE_SCHEMA)]


def _inside(value: str) -> str:
    # An index has thousands of paths, and nearly all are plain: those need no path object.
    if _NOT_PLAIN.isdisjoint(value.split("/")) and "\\" not in value and value[1:2] != ":":
        return value
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\\" in value or re.match(r"^[A-Za-z]:", value):
        message = f"a path must be relative, with forward slashes, and must not leave its folder; found {value!r}"
        raise ValueError(message)
    if not path.parts or str(path) != value:
        message = f"a path must be written plainly, as {str(path)!r}; found {value!r}"
        raise ValueError(message)
    return value


RelPath = Annotated[str, AfterValidator(_inside), Field(description="a relative path with forward slashes")]

Mode = Annotated[
    int,
    BeforeValidator(lambda value: int(value, 8) if isinstance(value, str) else value),
    PlainSerializer(lambda value: f"{value:04o}", return_type=str),
    Field(description="0644 or 0755, as an octal text", json_schema_extra={"type": "string", "enum": ["0644", "0755"]}),
]


def disagrees(key: str, message: str) -> PydanticCustomError:
    """Make the error of a rule over several fields, told at the field that should change.

    Args:
        key: The field's name in the file.
        message: What disagrees, with the values.

    Returns:
        The error, to be raised in a validator.
    """
    return PydanticCustomError("disagrees", "{message}", {"message": message, "key": key})


class Record(BaseModel):
    """A frozen record; unknown fields are refused, because a reader that ignores them may misread the rest."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")


R = TypeVar("R", bound=Record)


def canonical_json(record: Record) -> bytes:
    """Encode a record as UTF-8 JSON: sorted keys, no spaces, absent optional fields left out, one final newline."""
    data = record.model_dump(mode="json", exclude_none=True, by_alias=True)
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def read_record(kind: type[R], data: bytes, *, origin: str) -> R:
    """Parse a record that came from outside.

    Args:
        kind: The record's class.
        data: UTF-8 JSON.
        origin: Where the bytes came from, for the message.

    Returns:
        The record.

    Raises:
        FormatTooNew: It is such a record of a later version than we know.
        FormatInvalid: The bytes are not JSON, or not such a record.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        if newer := _newer_schema(kind, data):
            raise FormatTooNew(
                f"{origin} is not a valid {kind.__name__} record for this Lading: its schema is {newer[0]}, "
                f"the newest known here is {newer[1]}.",
                usually="It was written by a newer Lading.",
                todo="Update Lading, or the program that embeds it.",
            ) from error
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise FormatInvalid(
            f"{origin} is not a valid {kind.__name__} record: {where}: {first['msg']}",
            usually="It was cut off or altered on the way, or was written by a newer Lading.",
            todo="Fetch it again; if that does not help, update Lading.",
        ) from error


def _newer_schema(kind: type[Record], data: bytes) -> tuple[str, str] | None:
    """The schema that data claims and the one that we know, when both are of one kind and theirs is the later."""
    known = str(kind.model_fields["schema_"].default) if "schema_" in kind.model_fields else ""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    claimed = found.get("schema") if isinstance(found, dict) else None
    theirs, ours = (_SCHEMA.fullmatch(text if isinstance(text, str) else "") for text in (claimed, known))
    if theirs is None or ours is None or theirs[1] != ours[1] or int(theirs[2]) <= int(ours[2]):
        return None
    return theirs[0], ours[0]
