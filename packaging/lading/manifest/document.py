"""A YAML file as plain values, with the line and column of each: the first half of reading a manifest.

Refuses what YAML would quietly turn into something else: a key written twice (the last would win), ``yes`` (a truth
value), ``010`` (eight), ``12:30`` (750), ``2026-01-02`` (a date). Knows nothing of any record's fields.

Invariants:
    * A file that is too long, too deep, or grows too much through its aliases is refused before it costs memory.
    * Every value and every key of the result has a position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from lading.manifest.problem import Problem

MAX_BYTES = 256 * 2**10  # a manifest of this project has 5 KB
MAX_DEPTH = 32
MAX_VALUES = 20_000  # counted after aliases are followed: nine lines of nested aliases can stand for a billion values
MAX_DIGITS = 18

Value: TypeAlias = "str | int | float | bool | list[Value] | dict[str, Value] | None"
Loc: TypeAlias = "tuple[str | int, ...]"

_TAG = "tag:yaml.org,2002:"
_PLAIN_INTEGER = re.compile(r"^[-+]?(?:0|[1-9][0-9]*)$")
_TRUTHS = {"true": True, "false": False}
_READ_AS = {"bool": "a truth value", "int": "a number in another base", "timestamp": "a date", "merge": "a merge key"}


@dataclass(frozen=True, kw_only=True)
class Document:
    """A YAML file that could be read.

    Attributes:
        file: Its name in messages.
        data: Its content.
        values: Line and column of each value, by path.
        keys: Line and column of each mapping's keys, by path.
        raw: Scalars as they are written in the file, by path.
    """

    file: str
    data: Value
    values: Mapping[Loc, tuple[int, int]]
    keys: Mapping[Loc, tuple[int, int]]
    raw: Mapping[Loc, str]

    def place(self, loc: Loc, *, key: bool = False) -> tuple[int, int]:
        """The place of a value (or of its key), or of the nearest thing around it that exists."""
        tables = (self.keys, self.values) if key else (self.values, self.keys)
        for end in range(len(loc), 0, -1):
            for table in tables:
                if loc[:end] in table:
                    return table[loc[:end]]
            tables = (self.keys, self.values)
        return self.values.get((), (1, 1))

    def problem(self, loc: Loc, what: str, *, key: bool = False, **details: str | None) -> Problem:
        """Tell a problem at a place of this file."""
        line, column = self.place(loc, key=key)
        dotted = ".".join(str(part) for part in loc)
        return Problem.model_validate(
            {"file": self.file, "line": line, "column": column, "key": dotted, "what": what, **details}
        )


@dataclass(kw_only=True)
class _Reading:
    """The walk over one file's nodes."""

    file: str
    problems: list[Problem] = field(default_factory=list)
    values: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    keys: dict[Loc, tuple[int, int]] = field(default_factory=dict)
    raw: dict[Loc, str] = field(default_factory=dict)
    count: int = 0

    def say(self, node: yaml.Node, loc: Loc, what: str, **details: str | None) -> None:
        self.problems.append(
            Problem.model_validate(
                {"file": self.file, "line": _line(node), "column": _column(node), "key": _dotted(loc), "what": what}
                | details
            )
        )

    def read(self, node: yaml.Node, loc: Loc) -> Value:
        self.count += 1
        if self.count > MAX_VALUES or len(loc) > MAX_DEPTH:
            raise _TooMuch
        self.values[loc] = (_line(node), _column(node))
        if isinstance(node, yaml.MappingNode):
            return self.read_mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*loc, number)) for number, item in enumerate(node.value)]
        self.raw[loc] = str(node.value)
        return self.read_scalar(node, loc)

    def read_mapping(self, node: yaml.MappingNode, loc: Loc) -> dict[str, Value]:
        result: dict[str, Value] = {}
        for key_node, value_node in node.value:
            key = self.read_key(key_node, loc)
            if key is None:
                continue
            if key in result:
                line, _ = self.keys[(*loc, key)]
                self.say(
                    key_node,
                    (*loc, key),
                    "this key is written twice",
                    found=f"{key!r} here and in line {line}",
                    allowed="each key once",
                    hint="YAML would silently keep the last; remove one of the two.",
                )
                continue
            self.keys[(*loc, key)] = (_line(key_node), _column(key_node))
            result[key] = self.read(value_node, (*loc, key))
        return result

    def read_key(self, node: yaml.Node, loc: Loc) -> str | None:
        if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + "str":
            return str(node.value)
        shown = str(node.value) if isinstance(node, yaml.ScalarNode) else "a list or mapping"
        merge = node.tag == _TAG + "merge"
        self.say(
            node,
            (*loc, shown),
            "merge keys are not read here" if merge else "a key must be text",
            found=shown,
            allowed="text",
            hint="Write the merged keys out." if merge else f"Write it in quotes: '{shown}'.",
        )
        return None

    def read_scalar(self, node: yaml.Node, loc: Loc) -> Value:
        text = str(node.value)
        kind = node.tag.removeprefix(_TAG)
        plain = getattr(node, "style", None) is None
        if kind == "str":
            return self.read_text(node, text, loc)
        if kind == "null":
            return None
        if kind == "bool" and text in _TRUTHS:
            return _TRUTHS[text]
        if kind == "int" and _PLAIN_INTEGER.match(text) and len(text) <= MAX_DIGITS:
            return int(text)
        if kind == "float" and plain and ":" not in text:
            return float(text.replace(".inf", "inf").replace(".nan", "nan").replace("_", ""))
        self.say_misread(node, kind, text, loc)
        return text

    def read_text(self, node: yaml.Node, text: str, loc: Loc) -> str:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            self.say(node, loc, "this text is not Unicode", found=repr(text), allowed="text without surrogates")
        return text

    def say_misread(self, node: yaml.Node, kind: str, text: str, loc: Loc) -> None:
        if node.tag.startswith(_TAG) and kind in {*_READ_AS, "float"}:
            read_as = "a number too long to be meant" if len(text) > MAX_DIGITS else _READ_AS.get(kind, "a number")
            self.say(
                node,
                loc,
                f"YAML reads this as {read_as}",
                found=text,
                allowed="true or false, or a text in quotes"
                if kind == "bool"
                else "a text in quotes, or a plain number",
                hint=f"Write it in quotes if it is a text: '{text}'.",
            )
        else:
            self.say(node, loc, "tags are not read here", found=node.tag, allowed="plain YAML without tags")


class _TooMuch(Exception):
    """The file grows beyond the limits."""


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _column(node: yaml.Node) -> int:
    return int(node.start_mark.column) + 1


def _dotted(loc: Loc) -> str:
    return ".".join(str(part) for part in loc)


def parse_document(text: str, file: str) -> tuple[Document | None, tuple[Problem, ...]]:
    """Read YAML text.

    Args:
        text: The file's content.
        file: Its name in messages.

    Returns:
        The document, or none when nothing sensible can be said about its values; and what is wrong with it.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        found, allowed = f"{len(text):,} characters", f"at most {MAX_BYTES:,} bytes"
        return None, (Problem(file=file, what="the file is too long for a manifest", found=found, allowed=allowed),)
    reading = _Reading(file=file)
    try:
        _measure_depth(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is None:
            return None, (Problem(file=file, what="the file is empty", allowed="a mapping of keys and values"),)
        data = reading.read(node, ())
    except _TooMuch:
        limits = f"at most {MAX_DEPTH} levels and {MAX_VALUES:,} values, aliases followed"
        hint = "Write the values out instead of using anchors and aliases."
        return None, (Problem(file=file, what="the file nests or repeats too much", allowed=limits, hint=hint),)
    except yaml.YAMLError as error:
        return None, (_syntax_problem(error, text, file),)
    document = Document(file=file, data=data, values=reading.values, keys=reading.keys, raw=reading.raw)
    return document, tuple(reading.problems)


def _measure_depth(text: str) -> None:
    """Refuse deep nesting before PyYAML's composer follows it by recursion."""
    depth = 0
    for event in _events(text):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            raise _TooMuch


def _events(text: str) -> Iterator[yaml.Event]:
    yield from yaml.parse(text, Loader=yaml.SafeLoader)


def _syntax_problem(error: yaml.YAMLError, text: str, file: str) -> Problem:
    line, column, hint = 1, 1, None
    if isinstance(error, yaml.reader.ReaderError):
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1
        return Problem(
            file=file,
            line=line,
            column=column,
            what="this character is not allowed in YAML",
            found=f"U+{error.character:04X}",
        )
    found = str(error)
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        if mark is not None:
            line, column = mark.line + 1, mark.column + 1
        found = " ".join(part for part in (error.context, error.problem) if part)
        current = text.splitlines()[line - 1] if line <= len(text.splitlines()) else ""
        if "\t" in current[:column]:
            hint = "YAML indents with spaces; there is a tab in this line."
        elif "mapping values are not allowed" in found:
            hint = "A text with ': ' in it must be in quotes; otherwise check the indentation of this line."
    return Problem(file=file, line=line, column=column, what="this is not valid YAML", found=found, hint=hint)


def read_document(path: Path, file: str) -> tuple[Document | None, tuple[Problem, ...]]:
    """Read a YAML file; see :func:`parse_document`. An unreadable file is a problem like any other."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return None, (Problem(file=file, what="the file does not exist"),)
    except OSError as error:
        return None, (Problem(file=file, what="the file cannot be read", found=error.strerror or str(error)),)
    if len(data) > MAX_BYTES:
        found = f"more than {MAX_BYTES:,} bytes"
        return None, (Problem(file=file, what="the file is too long for a manifest", found=found),)
    try:
        return parse_document(data.decode("utf-8-sig"), file)
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - (before.rfind(b"\n") + 1) + 1
        found = f"byte 0x{data[error.start]:02x}"
        return None, (
            Problem(
                file=file, line=line, column=column, what="the file is not UTF-8", found=found, allowed="UTF-8 text"
            ),
        )
