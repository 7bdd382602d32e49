"""Every failure has an exit code of its own, which is documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from lading import errors
from lading.cli.main import main, report
from lading.errors import LadingError, LockMissing, listed

FAMILIES = {"ConfigError", "Unavailable", "Untrusted", "HostCannot", "BuildBroken", "DestinationRefuses"}
_DRAWN = re.compile(r"^\s+[│├└─\s]*([A-Z]\w+)\s+(\d+x?)\b", re.MULTILINE)


def every_kind() -> Iterator[type[LadingError]]:
    def below(kind: type[LadingError]) -> Iterator[type[LadingError]]:
        for child in kind.__subclasses__():
            yield child
            yield from below(child)

    yield from (kind for kind in below(LadingError) if kind.__module__ == "lading.errors")


def drawn() -> dict[str, str]:
    assert errors.__doc__ is not None
    return dict(_DRAWN.findall(errors.__doc__))


def test_every_class_is_in_the_drawn_tree_with_its_code() -> None:
    found = drawn()
    assert set(found) == {kind.__name__ for kind in every_kind()}
    for kind in every_kind():
        if kind.__name__ in FAMILIES:
            assert found[kind.__name__] == f"{kind.exit_code // 10}x" or kind.exit_code == 69
        else:
            assert found[kind.__name__] == str(kind.exit_code)


def test_the_tree_is_drawn_as_the_classes_are() -> None:
    assert errors.__doc__ is not None
    above: dict[int, str] = {4: "LadingError"}  # the last class drawn at each column
    parents: dict[str, str] = {}
    for line in errors.__doc__.splitlines():
        match = _DRAWN.match(line)
        if match is None:
            continue
        column = line.index(match[1])
        parents[match[1]] = above[column - 4]
        above[column] = match[1]
    assert parents == {kind.__name__: kind.__bases__[0].__name__ for kind in every_kind()}


def test_no_two_classes_share_a_code_and_none_has_that_of_a_bug_or_of_wrong_usage() -> None:
    codes = [kind.exit_code for kind in every_kind()]
    assert len(codes) == len(set(codes))
    assert not {0, 1, 2} & set(codes)
    assert all(0 < code < 256 for code in codes)


def test_every_class_says_what_it_is() -> None:
    assert all((kind.__doc__ or "").strip() for kind in every_kind())


def test_a_long_list_is_cut_and_counted() -> None:
    assert listed([]) == ""
    assert listed(["a", "b"]) == "\n  a\n  b"
    cut = listed([str(number) for number in range(20)]).splitlines()
    assert cut[1:3] == ["  0", "  1"]
    assert cut[-1] == "  … and 5 more"


def test_an_error_is_told_to_a_person_in_three_parts(capsys: pytest.CaptureFixture[str]) -> None:
    long = "/very" * 60 + "/path"
    report(LockMissing(f"No lock [bold]{long}.", usually="It was not made.", todo="Make it."), as_json=False)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "error (LockMissing, exit code 11)",
        f"No lock [bold]{long}.",
        "It was not made.",
        "Make it.",
    ]


def test_an_error_is_told_to_a_program_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    report(LockMissing("No lock.", todo="Make it."), as_json=True)
    said = capsys.readouterr()
    assert said.err == ""
    assert json.loads(said.out) == {
        "error": "LockMissing", "exit_code": 11, "what": "No lock.", "usually": "", "todo": "Make it.",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--version"], 0),
        (["freeze", "--help"], 0),
        (["no-such-command"], 2),
        (["freeze", "--no-such-option"], 2),
        (["freeze", "--project", "/no/such/project"], 10),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value),
)
def test_the_program_ends_with_the_code_of_what_happened(words: list[str], code: int) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == code


def test_a_traceback_is_shown_on_request_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for wanted in ("", "1"):
        monkeypatch.setenv("LADING_DEBUG", wanted)
        with pytest.raises(SystemExit):
            main(["freeze", "--project", "/no/such/project"])
        assert ("Traceback" in capsys.readouterr().err) is bool(wanted)


def test_an_interrupt_is_told_and_has_its_own_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lading.cli.main._register_commands", interrupt)
    with pytest.raises(SystemExit) as ended:
        main(["freeze"])
    assert ended.value.code == 130
    assert "Interrupted" in capsys.readouterr().err
