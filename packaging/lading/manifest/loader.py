"""A manifest file as a record, or everything that is wrong with it.

The schema decides (the same JSON Schema that editors use); this module puts its verdicts into words, with the place in
the file, what is allowed and what was probably meant. Does not look at other files: :mod:`lading.manifest.check` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Generic, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from lading.manifest.base import Name, R, Record
from lading.manifest.document import Document, Loc, Value, read_document
from lading.manifest.problem import Problem, near_miss, one_of, refuse

Schema = Mapping[str, object]

UNKNOWN = "unknown key"
MISSING = "this key is missing"

_QUOTED = re.compile(r"'([^']*)'")
_NOUNS = {
    "string_type": "text", "int_type": "a whole number", "bool_type": "true or false", "list_type": "a list",
    "tuple_type": "a list", "dict_type": "a mapping", "model_type": "a mapping", "model_attributes_type": "a mapping",
    "float_type": "a number",
}  # fmt: skip

_NAME = TypeAdapter(Name).json_schema()
_KEY_FORMS = {_NAME["pattern"]: _NAME["description"]}  # a mapping's schema has only the pattern of its keys


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[R]):
    """A valid manifest.

    Attributes:
        record: What it says.
        document: Where it says it.
    """

    record: R
    document: Document


@cache
def schema_of(kind: type[Record]) -> Schema:
    """The record's JSON Schema, as read by people and editors (aliases, input side)."""
    return kind.model_json_schema(by_alias=True, mode="validation")


def _resolve(schema: Schema, root: Schema) -> Schema:
    while isinstance(ref := schema.get("$ref"), str):
        definitions = cast("Mapping[str, Schema]", root["$defs"])
        schema = definitions[ref.rpartition("/")[2]]
    return schema


def _variant(schema: Schema, root: Schema, data: object) -> Schema:
    """The alternative of a tagged union that the data chose, or the schema itself."""
    discriminator = schema.get("discriminator")
    if not isinstance(discriminator, Mapping):
        return schema
    tag = data.get(str(discriminator["propertyName"])) if isinstance(data, Mapping) else None
    ref = discriminator["mapping"].get(tag)
    return _resolve({"$ref": ref}, root) if ref else schema


def schema_at(root: Schema, data: Value, loc: Loc) -> Schema:
    """The part of a schema that rules one place of a document; empty where nothing rules it."""
    schema = _variant(_resolve(root, root), root, data)
    for part in loc:
        properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
        patterns = cast("Mapping[str, Schema]", schema.get("patternProperties", {}))
        any_name = next(iter(patterns.values()), schema.get("additionalProperties"))
        inner = properties.get(str(part)) or schema.get("items") or any_name
        if not isinstance(inner, Mapping):
            return {}
        data = _child(data, part)
        schema = _variant(_resolve(inner, root), root, data)
    return schema


def _child(data: Value, part: str | int) -> Value:
    match data:
        case dict() if isinstance(part, str):
            return data.get(part)
        case list() if isinstance(part, int) and part < len(data):
            return data[part]
        case _:
            return None


def _own_loc(data: Value, loc: tuple[int | str, ...]) -> tuple[Loc, bool]:
    """Translate pydantic's location to the document's: without union tags, and whether a key is meant."""
    path: list[str | int] = []
    for number, part in enumerate(loc):
        if part == "[key]":
            return tuple(path), True
        inside = (isinstance(data, dict) and part in data) or (isinstance(data, list) and isinstance(part, int))
        if inside or (number == len(loc) - 1 and isinstance(data, dict)):
            path.append(part)
            data = _child(data, part)
    return tuple(path), False


@dataclass(frozen=True, kw_only=True)
class _Verdict:
    """One of pydantic's errors with what is needed to put it into words."""

    document: Document
    root: Schema
    loc: Loc
    error: ErrorDetails
    is_key: bool

    @property
    def context(self) -> Mapping[str, object]:
        return self.error.get("ctx", {})

    @property
    def found(self) -> str:
        value = self.error["input"]
        written = self.document.raw.get(self.loc)
        if isinstance(value, str):
            return repr(value)
        if isinstance(value, list | tuple):
            return "a list" if value else "an empty list"
        if isinstance(value, dict):
            return "a mapping" if value else "an empty mapping"
        return "nothing" if value is None else written or str(value)

    @property
    def schema(self) -> Schema:
        return schema_at(self.root, self.document.data, self.loc)

    @property
    def last(self) -> str:
        return str(self.loc[-1]) if self.loc else ""

    def problem(self, what: str, *, key: bool = False, **details: str | None) -> Problem:
        return self.document.problem(self.loc, what, key=key, **details)


def _unknown_key(verdict: _Verdict) -> Problem:
    around = schema_at(verdict.root, verdict.document.data, verdict.loc[:-1])
    keys = list(cast("Mapping[str, object]", around.get("properties", {})))
    written = _child_keys(verdict.document.data, verdict.loc[:-1])
    unused = [name for name in keys if name not in written]
    return verdict.problem(
        UNKNOWN,
        key=True,
        found=repr(verdict.last),
        allowed=one_of(unused) if unused else "no further key",
        hint=near_miss(verdict.last, unused) or near_miss(verdict.last, keys),
    )


def _child_keys(data: Value, loc: Loc) -> set[str]:
    for part in loc:
        data = _child(data, part)
    return set(data) if isinstance(data, dict) else set()


def _missing(verdict: _Verdict) -> Problem:
    described = verdict.schema.get("description")
    return verdict.problem(MISSING, allowed=str(described) if described else None)


def _choice(verdict: _Verdict) -> Problem:
    expected = verdict.context.get("expected") or verdict.context.get("expected_tags")
    choices = _QUOTED.findall(str(expected))
    found = verdict.context.get("tag") or verdict.error["input"]
    loc = verdict.loc
    if "tag" in verdict.context:
        loc = (*loc, str(verdict.context["discriminator"]).strip("'"))
    return verdict.document.problem(
        loc,
        "unknown name" if verdict.is_key else "unknown value",
        key=verdict.is_key,
        found=repr(found),
        allowed=one_of(choices),
        hint=near_miss(str(found), choices),
    )


def _tag_missing(verdict: _Verdict) -> Problem:
    name = str(verdict.context["discriminator"]).strip("'")
    mapping = cast("Mapping[str, Mapping[str, object]]", verdict.schema.get("discriminator", {})).get("mapping", {})
    return verdict.document.problem((*verdict.loc, name), MISSING, allowed=one_of(mapping))


def _wrong_type(verdict: _Verdict) -> Problem:
    wanted = _NOUNS.get(verdict.error["type"], "another kind of value")
    hint = None
    written = verdict.document.raw.get(verdict.loc)
    if wanted == "text" and isinstance(verdict.error["input"], int | float) and written is not None:
        hint = f"Write it in quotes: '{written}'."
    elif wanted == "a list" and isinstance(verdict.error["input"], str):
        hint = f"Write it as a list: [{verdict.error['input']}]."
    elif wanted == "a whole number" and isinstance(verdict.error["input"], str):
        hint = "Write it without quotes."
    return verdict.problem("wrong type", found=verdict.found, allowed=wanted, hint=hint)


def _pattern(verdict: _Verdict) -> Problem:
    pattern = str(verdict.context.get("pattern"))
    described = _KEY_FORMS.get(pattern) if verdict.is_key else verdict.schema.get("description")
    return verdict.problem(
        "wrong form of a name" if verdict.is_key else "wrong form",
        key=verdict.is_key,
        found=verdict.found,
        allowed=str(described) if described else f"text that matches {pattern}",
    )


def _own_words(verdict: _Verdict) -> Problem:
    """A rule of the record's own; it may name the key that it is about."""
    key = verdict.context.get("key")
    loc = (*verdict.loc, str(key)) if key is not None else verdict.loc
    message = str(verdict.error["msg"]).removeprefix("Value error, ")
    return verdict.document.problem(loc, message, key=verdict.is_key)


def _limit(verdict: _Verdict) -> Problem:
    if verdict.error["type"] == "too_short":
        return verdict.problem("too few", found=verdict.found, allowed=f"at least {verdict.context['min_length']}")
    message = str(verdict.error["msg"])
    return verdict.problem("out of range", found=verdict.found, allowed=message[:1].lower() + message[1:])


_WORDS: Mapping[str, Callable[[_Verdict], Problem]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "literal_error": _choice,
    "union_tag_invalid": _choice,
    "union_tag_not_found": _tag_missing,
    "string_pattern_mismatch": _pattern,
    "value_error": _own_words,
    "disagrees": _own_words,
    **dict.fromkeys(_NOUNS, _wrong_type),
}


def validate_document(kind: type[R], document: Document) -> R | tuple[Problem, ...]:
    """Make the record, or say everything that the schema has against the document."""
    try:
        return kind.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False)
    problems: list[Problem] = []
    for detail in _without_echoes(details):
        loc, is_key = _own_loc(document.data, detail["loc"])
        verdict = _Verdict(document=document, root=schema_of(kind), loc=loc, error=detail, is_key=is_key)
        problems.append(_WORDS.get(detail["type"], _limit)(verdict))
    renamed = {(problem.key.rpartition(".")[0], problem.hint) for problem in problems if problem.what == UNKNOWN}
    return tuple(problem for problem in problems if not _is_misspelt(problem, renamed))


def _without_echoes(details: Sequence[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out "too short" for a list that only seems so because some of its items are wrong."""
    for detail in details:
        loc = detail["loc"]
        inside = any(other["loc"][: len(loc)] == loc and len(other["loc"]) > len(loc) for other in details)
        if not (detail["type"] == "too_short" and inside):
            yield detail


def _is_misspelt(problem: Problem, renamed: Container[tuple[str, str | None]]) -> bool:
    """Whether a missing key is there, misspelt: one problem, and one correction."""
    around, _, name = problem.key.rpartition(".")
    return problem.what == MISSING and (around, near_miss(name, [name])) in renamed


def try_record(kind: type[R], path: Path, file: str) -> Loaded[R] | tuple[Problem, ...]:
    """Read a manifest file.

    Args:
        kind: The record that it must hold.
        path: The file.
        file: Its name in messages.

    Returns:
        The record with its document, or all problems of the file.
    """
    document, problems = read_document(path, file)
    if document is None:
        return problems
    outcome = validate_document(kind, document)
    if isinstance(outcome, Record) and not problems:
        return Loaded(record=outcome, document=document)
    found = () if isinstance(outcome, Record) else outcome
    told = {(problem.line, problem.column) for problem in problems}
    return (*problems, *(problem for problem in found if (problem.line, problem.column) not in told))


def load_record(kind: type[R], path: Path, file: str) -> Loaded[R]:
    """Read a manifest file that must be right.

    Raises:
        ManifestInvalid: It is not; all its problems are told at once.
    """
    outcome = try_record(kind, path, file)
    if isinstance(outcome, tuple):
        raise refuse(outcome)
    return outcome
