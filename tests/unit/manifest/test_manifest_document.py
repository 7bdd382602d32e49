"""YAML is read with positions, and what it would quietly turn into something else is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.manifest.document import MAX_BYTES, parse_document, read_document

# text, line, column, key, words of the message
PITFALLS = {
    "key-twice": ("a: 1\nb: 2\na: 3\n", 3, 1, "a", "written twice"),
    "key-twice-nested": ("x:\n  a: 1\n  a: 2\n", 3, 3, "x.a", "written twice"),
    "yes-is-a-truth-value": ("a: yes\n", 1, 4, "a", "a truth value"),
    "off-is-a-truth-value": ("a: [1, off]\n", 1, 8, "a.1", "a truth value"),
    "octal": ("a: 010\n", 1, 4, "a", "a number in another base"),
    "hexadecimal": ("a: 0x1F\n", 1, 4, "a", "a number in another base"),
    "sexagesimal": ("a: 12:30\n", 1, 4, "a", "a number in another base"),
    "sexagesimal-float": ("a: 12:30.5\n", 1, 4, "a", "a number"),
    "underscores": ("a: 1_000\n", 1, 4, "a", "a number in another base"),
    "date": ("a: 2026-01-02\n", 1, 4, "a", "a date"),
    "huge-number": ("a: " + "9" * 5000 + "\n", 1, 4, "a", "too long to be meant"),
    "key-is-a-number": ("126: a\n", 1, 1, "126", "a key must be text"),
    "key-is-a-truth-value": ("on: a\n", 1, 1, "on", "a key must be text"),
    "key-is-a-list": ("? [a]\n: b\n", 1, 3, "a list or mapping", "a key must be text"),
    "merge-key": ("a: &x {b: 1}\nc:\n  <<: *x\n", 3, 3, "c.<<", "merge keys are not read"),
    "python-tag": ("a: !!python/object/apply:os.system [x]\nb: !mine 1\n", 2, 4, "b", "tags are not read"),
    "surrogate": ('a: "\\ud800"\n', 1, 4, "a", "not Unicode"),
}


@pytest.mark.parametrize("case", PITFALLS)
def test_pitfall_is_told_at_its_place(case: str) -> None:
    text, line, column, key, words = PITFALLS[case]
    _, problems = parse_document(text, "m.yaml")
    found = [(p.file, p.line, p.column, p.key) for p in problems if words in p.what]
    assert found == [("m.yaml", line, column, key)]


BROKEN = {
    "colon-in-text": ("a: b: c\n", 1, 5, "not valid YAML"),
    "tab": ("a:\n\tb: 1\n", 2, 1, "not valid YAML"),
    "unclosed-list": ("a: [1\nb: 2\n", 2, 2, "not valid YAML"),
    "unknown-alias": ("a: *b\n", 1, 4, "not valid YAML"),
    "two-documents": ("a: 1\n---\nb: 1\n", 2, 1, "not valid YAML"),
    "control-character": ("a: 1\nb: \x07\n", 2, 4, "not allowed in YAML"),
    "empty": ("", 1, 1, "the file is empty"),
    "only-a-comment": ("# nothing\n", 1, 1, "the file is empty"),
    "too-deep": ("[" * 40 + "]" * 40, 1, 1, "nests or repeats too much"),
    "too-deep-for-recursion": ("[" * 100_000, 1, 1, "nests or repeats too much"),
    "endless-alias": ("a: &x [*x]\n", 1, 1, "nests or repeats too much"),
    "too-long": ("a: 1\n" + "#" * MAX_BYTES, 1, 1, "too long for a manifest"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_unreadable_text_gives_one_problem_and_no_document(case: str) -> None:
    text, line, column, words = BROKEN[case]
    document, problems = parse_document(text, "m.yaml")
    assert document is None
    assert [(p.line, p.column) for p in problems] == [(line, column)]
    assert words in problems[0].what


def test_aliases_that_would_grow_to_a_billion_values_are_refused_at_once() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    document, problems = parse_document("\n".join(lines), "m.yaml")
    assert document is None
    assert "nests or repeats too much" in problems[0].what


def test_all_pitfalls_of_a_file_are_told_at_once() -> None:
    _, problems = parse_document("a: yes\nb: 010\na: 2\n", "m.yaml")
    assert [(p.line, p.key) for p in problems] == [(1, "a"), (2, "b"), (3, "a")]


def test_a_harmless_alias_is_followed() -> None:
    document, problems = parse_document("a: &x [1, 2]\nb: *x\n", "m.yaml")
    assert not problems
    assert document is not None
    assert document.data == {"a": [1, 2], "b": [1, 2]}


def test_values_keep_their_type_place_and_spelling() -> None:
    document, problems = parse_document("a: 1\nb:\n  - '010'\n  - true\n  - 2.10\n  - null\n", "m.yaml")
    assert not problems
    assert document is not None
    assert document.data == {"a": 1, "b": ["010", True, 2.1, None]}
    assert document.place(("b", 2)) == (5, 5)
    assert document.place(("b", 2, "inside")) == (5, 5)
    assert document.place(("missing",)) == (1, 1)
    assert document.raw["b", 2] == "2.10"


def test_a_file_that_is_not_utf8_is_told_at_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    document, problems = read_document(path, "m.yaml")
    assert document is None
    assert [(p.line, p.column, p.found) for p in problems] == [(2, 4, "byte 0xff")]


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    document, problems = read_document(path, "m.yaml")
    assert not problems
    assert document is not None
    assert document.data == {"a": 1}


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "m.yaml"
    with path.open("wb") as stream:
        stream.truncate(2**40)  # sparse
    document, problems = read_document(path, "m.yaml")
    assert document is None
    assert "too long" in problems[0].what


@pytest.mark.parametrize("make", ["missing", "folder"])
def test_an_unreadable_file_is_a_problem_like_any_other(tmp_path: Path, make: str) -> None:
    path = tmp_path / "m.yaml"
    if make == "folder":
        path.mkdir()
    document, problems = read_document(path, "m.yaml")
    assert document is None
    assert [p.file for p in problems] == ["m.yaml"]
