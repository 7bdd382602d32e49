"""Every command that the workflows run exists, with the options that they give it: so that no workflow rots unseen."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
import yaml
from workflows import render

from lading.cli.main import _register_commands, app
from lading.pack.profiles import Profile

SCRIPTS = sorted(path for path in render.SOURCES.glob("*.yaml") if path.name != render.PINS)
CHOICES = {"profile": get_args(Profile)}
ENDS = frozenset({"|", "||", "&&", ";", ";;", "do", "then", "{", "}", "!", "elif", "if", ">", ">>", "2>&1", "<<<"})


def words_of(line: str) -> list[str]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return list(lexer)


def commands_in(script: str) -> Iterator[list[str]]:
    """The simple commands of a script; what is written over several lines is one."""
    for line in re.sub(r"\\\n\s*", " ", script).splitlines():
        command: list[str] = []
        for word in [*words_of(line), ";"]:
            if word in ENDS:
                if command:
                    yield command
                command = []
            else:
                command.append(word)


def invocations(program: str) -> list[tuple[str, list[str]]]:
    found = []
    for path in SCRIPTS:
        for where, step in render.steps(yaml.safe_load(path.read_text("utf-8"))):
            for command in commands_in(step.get("run", "")):
                found += [(f"{path.name}: {where}", command[1:])] if Path(command[0]).name == program else []
    return found


def without_arrays(words: list[str]) -> list[str]:
    """Arrays are filled in the script; the destinations become one word each, options are left out."""
    known = {"${to[@]}": ["--to", "x"], "${flavor[@]}": ["--toolkit", "cu126"], "${destinations[@]}": ["github"]}
    return [one for word in words for one in known.get(word, [word])]


@pytest.fixture(scope="module")
def program() -> Any:
    """The program as typer's own copy of click sees it, which has no public types."""
    _register_commands([])
    return typer.main.get_command(app)


def parsed(group: Any, words: list[str]) -> tuple[Any, dict[str, object], list[str]]:
    """Find the command and parse its options by its own parser, without running or converting anything."""
    command, rest = group, list(words)
    context = typer.Context(command, info_name="lading")
    while hasattr(command, "commands"):
        name = rest.pop(0)
        command = command.get_command(context, name)
        assert command is not None, f"there is no command {name!r}"
        context = typer.Context(command, parent=context, info_name=name)
    options, left, _ = command.make_parser(context).parse_args(rest)
    return command, options, left


LADING = invocations("lading")


@pytest.mark.parametrize(("where", "words"), LADING, ids=[f"{where} {' '.join(words[:2])}" for where, words in LADING])
def test_every_lading_command_of_the_workflows_exists_with_its_options(
    program: Any, where: str, words: list[str]
) -> None:
    command, options, left = parsed(program, without_arrays(words))

    assert left == [], where
    for parameter in command.params:
        value = options.get(str(parameter.name))
        if choices := CHOICES.get(str(parameter.name)):
            assert value in {*choices, None}, where
        if parameter.required:
            assert value is not None, f"{where}: {parameter.name} is missing"


def test_the_workflows_use_all_the_steps_of_a_release() -> None:
    used = {words[0] if words[0] != "keys" else " ".join(words[:2]) for _, words in LADING}

    assert used == {"check", "build", "publish", "install", "verify", "keys refresh", "keys status"}


@pytest.mark.parametrize("words", [["publish", "a", "--two", "b"], ["verfy"], ["keys", "refrsh"], ["verify", "--root"]])
def test_a_command_that_does_not_exist_would_be_found(program: Any, words: list[str]) -> None:
    with pytest.raises(Exception, match=r"No such option|no command|requires an argument"):
        parsed(program, words)


def sessions(root: Path) -> set[str]:
    tree = ast.parse((root / "noxfile.py").read_text("utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.decorator_list]
    return {node.name for node in functions if "nox.session" in ast.unparse(node.decorator_list[0])}


def test_every_nox_session_of_the_workflows_exists(root: Path) -> None:
    named = invocations("nox")
    used = {word for _, words in named for word in words if not word.startswith("-")}

    assert {"tests", "lint", "types", "acceptance", "workflows", "rehearse"} == used
    assert used <= sessions(root)
    assert all(words[0] == "-s" for _, words in named)


def test_every_script_and_lock_of_the_workflows_exists(root: Path) -> None:
    named = [word for python in ("python", "python3") for _, words in invocations(python) for word in words]
    files = [word for word in named if word.startswith(("workflows/", "build/requirements/"))]

    assert "build/requirements/sbom.txt" in files
    assert "workflows/matrix.py" in files
    assert [file for file in files if not (root / file).is_file()] == []


def test_packages_are_installed_from_hash_locks_only() -> None:
    installs = [
        words
        for python in ("python", "python3")
        for _, words in invocations(python)
        if words[:3] == ["-m", "pip", "install"]
    ]

    assert installs
    for words in installs:
        assert "--require-hashes" in words or words[-2:] == ["-e", "."], words
        assert "--no-deps" in words, words
