"""Locks and requirements files as values."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.manifest.lockfile import parse_lock, read_requirements

GOOD = "--hash=sha256:" + "ab" * 32
LOCK = f"""\
# made by nox -s lock
annotated-doc==0.0.7 \\
    {GOOD} \\
    --hash=sha256:{"cd" * 32}
    # via fastapi
Numpy==2.4.6 ; python_full_version < '3.12' \\
    {GOOD}
numpy==2.5.5 ; python_full_version >= '3.12' \\
    {GOOD}
uvicorn[standard]==0.54.0 {GOOD}
"""


def test_a_lock_gives_its_pins_with_lines_markers_and_hashes() -> None:
    lock = parse_lock(LOCK, "l.txt")
    assert not lock.problems
    assert [(w.name, str(w.pin), w.line, len(w.hashes)) for w in lock.wanted] == [
        ("annotated-doc", "0.0.7", 2, 2),
        ("numpy", "2.4.6", 6, 1),
        ("numpy", "2.5.5", 8, 1),
        ("uvicorn", "0.54.0", 10, 1),
    ]
    assert len(lock.of("NumPy")) == 2
    assert str(lock.of("numpy")[0].requirement.marker) == 'python_full_version < "3.12"'


def test_a_lock_with_windows_line_ends_is_the_same() -> None:
    crlf = parse_lock(LOCK.replace("\n", "\r\n"), "l.txt")
    assert [(w.name, w.line, w.hashes) for w in crlf.wanted] == [
        (w.name, w.line, w.hashes) for w in parse_lock(LOCK, "l.txt").wanted
    ]
    assert not crlf.problems


BAD = {
    "no-hash": ("a==1\n", 1, "a requirement without a hash"),
    "hash-of-another-kind": (f"a==1 --hash=md5:{'a' * 32}\n", 1, "not a digest that pip accepts"),
    "cut-hash": ("a==1 --hash=sha256:abc\n", 1, "not a digest that pip accepts"),
    "range": (f"# x\na>=1 {GOOD}\n", 2, "not pinned to one version"),
    "wildcard": (f"a==1.* {GOOD}\n", 1, "not pinned to one version"),
    "two-conditions": (f"a==1,<2 {GOOD}\n", 1, "not pinned to one version"),
    "no-version": (f"a {GOOD}\n", 1, "not pinned to one version"),
    "index-option": (f"--index-url https://user:secret@index.example\na==1 {GOOD}\n", 1, "an address in a lock"),
    "address-in-a-comment": (f"a==1 {GOOD}\n#   https://index.example/simple\n", 2, "an address in a lock"),
    "direct-address": (f"a @ https://index.example/a.whl {GOOD}\n", 1, "an address in a lock"),
    "local-file": (f"a @ file:///home/me/a.whl {GOOD}\n", 1, "an address in a lock"),
    "find-links": (f"--find-links wheels\na==1 {GOOD}\n", 1, "an option in a lock"),
    "include": (f"-r other.txt\na==1 {GOOD}\n", 1, "an option in a lock"),
    "editable": (f"-e .\na==1 {GOOD}\n", 1, "an option in a lock"),
    "a-path": (f"./a.whl {GOOD}\n", 1, "this is not a requirement"),
    "merge-conflict": (f"a==1 {GOOD}\n<<<<<<< ours\n", 2, "this is not a requirement"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_keeps_a_file_from_being_a_hash_lock_is_told_with_its_line(case: str) -> None:
    text, line, what = BAD[case]
    assert [(p.file, p.line, p.what) for p in parse_lock(text, "l.txt").problems] == [("l.txt", line, what)]


def test_a_secret_in_an_address_is_not_repeated_in_the_message() -> None:
    problems = parse_lock(BAD["index-option"][0], "l.txt").problems
    assert all("secret" not in p.text() for p in problems)


def test_a_lock_that_was_cut_off_in_the_middle_of_a_line_is_told() -> None:
    assert [p.what for p in parse_lock("a==1 \\\n", "l.txt").problems] == ["a requirement without a hash"]


def test_direct_requirements_follow_includes(tmp_path: Path) -> None:
    (tmp_path / "build").mkdir()
    (tmp_path / "build/a.in").write_text("# first\n-r b.in\n-c limits.txt\ntorch==2.7.1\n", encoding="utf-8")
    (tmp_path / "build/b.in").write_text("fastapi>=0.1 # web\n", encoding="utf-8")
    wanted = read_requirements(tmp_path, "build/a.in")
    assert not wanted.problems
    assert [(w.name, w.file, w.line) for w in wanted.wanted] == [
        ("fastapi", "build/b.in", 1),
        ("torch", "build/a.in", 4),
    ]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("-r a.in\n", "the files include each other"),
        ("-r missing.in\n", "the included file does not exist"),
        ("-r ../outside.in\n", "the included file lies outside of the project"),
        ("not a requirement\n", "this is not a requirement"),
    ],
)
def test_wrong_includes_are_told_with_their_line(tmp_path: Path, text: str, what: str) -> None:
    root = tmp_path / "project"
    root.mkdir()
    (tmp_path / "outside.in").write_text("a\n", encoding="utf-8")
    (root / "a.in").write_text(text, encoding="utf-8")
    assert [(p.file, p.line, p.what) for p in read_requirements(root, "a.in").problems] == [("a.in", 1, what)]
