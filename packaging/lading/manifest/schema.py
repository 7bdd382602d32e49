"""The JSON Schemas of all records: for editors and for other programs.

Everything is derived from the records and their docstrings, so that there is one place that says what a key means.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from typing import cast

from pydantic import JsonValue

from lading.manifest.app import App
from lading.manifest.base import Record
from lading.manifest.buildinfo import BuildInfo
from lading.manifest.channel import Channel, Retired
from lading.manifest.destination import Destinations
from lading.manifest.index import Index
from lading.manifest.patchfile import PatchHeader
from lading.manifest.release import ComponentRecord, Release
from lading.manifest.toolkit import Toolkit

SCHEMAS: Mapping[str, type[Record]] = {
    "app": App,
    "toolkit": Toolkit,
    "destinations": Destinations,
    "release": Release,
    "component": ComponentRecord,
    "index": Index,
    "channel": Channel,
    "retired": Retired,
    "buildinfo": BuildInfo,
    "patch": PatchHeader,
}

_ATTRIBUTE = re.compile(r"^(?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<text>.+)$")

_ROOM = __name__.rpartition(".")[0] + "."
_ROLE = re.compile(r":(?:mod|class|func|meth):`([^`]+)`")


def attribute_texts(kind: type[Record]) -> dict[str, str]:
    """What the docstrings of a record and its bases say about each attribute, on one line each."""
    texts: dict[str, str] = {}
    for base in reversed([base for base in kind.__mro__ if issubclass(base, Record)]):
        texts |= _own_texts(base)
    return {name: _ROLE.sub(r"`\1`", text).replace("``", "`") for name, text in texts.items()}


def _own_texts(kind: type[Record]) -> dict[str, str]:
    _, _, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    texts: dict[str, str] = {}
    names: list[str] = []
    for line in inspect.cleandoc(section).splitlines():
        if match := _ATTRIBUTE.match(line):
            names = match["names"].split(", ")
            texts.update(dict.fromkeys(names, match["text"].strip()))
        elif line.strip() and names:
            texts.update((name, f"{texts[name]} {line.strip()}") for name in names)
    return texts


def all_records(kind: type[Record] = Record) -> Iterator[type[Record]]:
    """Every record of this room; other rooms may have records of the same names."""
    for record in kind.__subclasses__():
        if record.__module__.startswith(_ROOM):
            yield record
        yield from all_records(record)


def schema_document(kind: type[Record]) -> dict[str, JsonValue]:
    """A record's JSON Schema, with the docstrings' words at each property.

    Args:
        kind: The record.

    Returns:
        A schema of draft 2020-12 without an ``$id``: it is found by its place.
    """
    schema = cast("dict[str, JsonValue]", kind.model_json_schema(by_alias=True, mode="validation"))
    by_name = {record.__name__: record for record in all_records()}
    _describe(schema, kind)
    definitions = cast("dict[str, dict[str, JsonValue]]", schema.get("$defs", {}))
    for name, definition in definitions.items():
        if name in by_name:
            _describe(definition, by_name[name])
    _close_mappings(schema)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _close_mappings(value: JsonValue) -> None:
    """Refuse keys that match no pattern, as the records do."""
    if isinstance(value, dict):
        if "patternProperties" in value:
            value.setdefault("additionalProperties", False)
        for inner in value.values():
            _close_mappings(inner)
    elif isinstance(value, list):
        for inner in value:
            _close_mappings(inner)


def _describe(schema: dict[str, JsonValue], kind: type[Record]) -> None:
    schema["description"] = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0]
    texts = attribute_texts(kind)
    for name, raw in cast("dict[str, dict[str, JsonValue]]", schema.get("properties", {})).items():
        if raw.get("type") == "string" and isinstance(raw.get("default"), int):
            raw["default"] = f"{raw['default']:04o}"  # a mode is written as octal text
        if text := texts.get(name):
            form = raw.get("description")
            raw["description"] = f"{text} Form: {form}." if form else text


def schema_text(kind: type[Record]) -> str:
    """A record's JSON Schema as the file's text."""
    return json.dumps(schema_document(kind), indent=2, ensure_ascii=False) + "\n"
