"""The reference page of the manifests' keys, made from the records and their docstrings."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from typing import cast

from pydantic import JsonValue

from lading.manifest.app import AllowedMissing, App, Budgets, Data, Executables, Reasoned
from lading.manifest.base import Record
from lading.manifest.destination import Destinations, FolderDestination, GitHubDestination, S3Destination
from lading.manifest.loader import schema_of
from lading.manifest.schema import attribute_texts
from lading.manifest.toolkit import Drivers, Exclusion, LibsRule, Toolkit, TorchOffer

_CHAPTERS: tuple[tuple[str, str, tuple[type[Record], ...]], ...] = (
    ("manifests/app.yaml", "What is frozen.", (App, Executables, Budgets, Data, Reasoned, AllowedMissing)),
    (
        "manifests/toolkits/<name>.yaml",
        "One CUDA toolkit: what of it is shipped and which host it needs. Its `budgets` are those of libs.",
        (Toolkit, Drivers, TorchOffer, LibsRule, Exclusion),
    ),
    (
        "manifests/destinations.yaml",
        "Where releases are published. Without this file there is one destination, the folder `out/store`.",
        (Destinations, FolderDestination, GitHubDestination, S3Destination),
    ),
)

_PREFACE = """\
# The manifests

Every key of every manifest. This page is made by `lading schema --write`; a test fails when it is stale.

`lading check` says what is wrong with a manifest, with file, line and column. Unknown keys are refused. Sizes are
bytes or texts such as `85 MB` (MB is 10⁶, MiB is 2²⁰ bytes). Paths are relative to the project, with forward slashes,
and may not leave it. Version numbers stand in quotes: YAML reads an unquoted 2.10 as 2.1.

In the column "needed", a value is the default of a key that may be left out.
"""

_PLAIN = {"string": "text", "integer": "whole number", "boolean": "true or false", "object": "mapping"}

Schema = Mapping[str, JsonValue]


def reference_text() -> str:
    """The page, as Markdown."""
    parts = [_PREFACE]
    for file, what, kinds in _CHAPTERS:
        parts.append(f"## `{file}`\n\n{what}\n")
        parts += [_section(kind, is_first=number == 0) for number, kind in enumerate(kinds)]
    return "\n".join(parts)


def _section(kind: type[Record], *, is_first: bool) -> str:
    summary = inspect.cleandoc(kind.__doc__ or "").partition("\n")[0].replace("``", "`")
    head = [] if is_first else [f"### {kind.__name__}", "", summary, ""]
    schema = cast("Schema", schema_of(kind))
    texts = attribute_texts(kind)
    needed = cast("list[str]", schema.get("required", []))
    properties = cast("Mapping[str, Schema]", schema["properties"])
    rows = [
        f"| `{name}` | {_needed(raw, name in needed)} | {_cell(_form(raw))} | {_cell(texts.get(name, ''))} |"
        for name, raw in properties.items()
    ]
    return "\n".join([*head, "| key | needed | value | meaning |", "|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _needed(schema: Schema, is_needed: bool) -> str:  # noqa: FBT001 (private, called once)
    default = schema.get("default")
    if is_needed or isinstance(default, dict) or default in (None, [], ""):
        return "yes" if is_needed else "no"
    return f"`{json.dumps(default)}`"


def _form(schema: Schema) -> str:
    """A value's form in a few words."""
    match schema:
        case {"anyOf": list(options)} | {"oneOf": list(options)} if "description" not in schema:
            some = [_form(option) for option in options if isinstance(option, dict) and option.get("type") != "null"]
            return " or ".join(dict.fromkeys(some))
        case {"type": "array", "items": dict(items)}:
            return f"list of: {_form(items)}"
        case {"type": "object", "patternProperties": dict(patterns)}:
            values = next(iter(patterns.values()))
            return f"mapping of names to: {_form(values) if isinstance(values, dict) else 'any'}"
        case {"type": "object", "additionalProperties": dict(values)}:
            keys = schema.get("propertyNames")
            return f"mapping of {_form(keys) if isinstance(keys, dict) else 'names'} to: {_form(values)}"
        case _:
            return _single_form(schema)


def _single_form(schema: Schema) -> str:
    match schema:
        case {"description": str(form)}:
            return form
        case {"const": value}:
            return f"`{value}`"
        case {"enum": list(values)}:
            return ", ".join(f"`{value}`" for value in values)
        case {"$ref": str(ref)}:
            name = ref.rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"minimum": least, "maximum": most}:
            return f"{least} to {most}"
        case _:
            return _PLAIN.get(str(schema.get("type")), "any")
