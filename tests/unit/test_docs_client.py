"""The pages about the client say what the client is."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import lading.client
from lading import errors
from lading.client import AsyncClient, Client
from lading.progress import ProgressEvent
from lading.store.collect import KEEP

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "client-api.md").read_text("utf-8")


def rows(first_heading: str) -> list[list[str]]:
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def public(kind: type) -> dict[str, inspect.Signature]:
    found = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(method) for name, method in found if not name.startswith("_")}


def written(signature: inspect.Signature) -> str:
    """Arguments as the page writes them: names with their defaults."""
    given = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    return ", ".join(f"{one.name}={one.default}" for one in given)


def test_the_table_of_methods_is_the_client() -> None:
    told = {}
    for cells in rows("method"):
        match = re.fullmatch(r"`(\w+)\((.*)\)`", cells[0])
        assert match is not None
        told[match[1]] = (match[2], cells[1].strip("`"))

    assert told == {
        name: (written(signature), str(signature.return_annotation)) for name, signature in public(Client).items()
    }


def test_the_asynchronous_client_has_the_same_methods_and_no_cancel() -> None:
    ours, theirs = public(Client), public(AsyncClient)

    assert {name for name in theirs if not name.endswith("_events")} == set(ours)
    assert {name for name in theirs if name.endswith("_events")} == {"install_events", "update_events", "repair_events"}
    for name, signature in ours.items():
        names = [parameter for parameter in signature.parameters if parameter != "cancel"]
        assert list(theirs[name].parameters) == names, name
        assert str(theirs[name].return_annotation) == str(signature.return_annotation)


def test_the_constructor_is_told_with_its_defaults() -> None:
    assert f'`Client(data, source=…, root=…, app=…, channel="stable", keep={KEEP})`' in PAGE
    for kind in (Client, AsyncClient):
        parameters = inspect.signature(kind).parameters
        assert list(parameters) == ["data", "source", "root", "app", "channel", "keep"]
        assert (parameters["channel"].default, parameters["keep"].default) == ("stable", KEEP)


def test_the_table_of_event_fields_is_the_record() -> None:
    assert [cells[0].strip("`") for cells in rows("field")] == list(ProgressEvent.model_fields)


def test_every_error_of_the_page_exists() -> None:
    named = {name for cells in rows("branch") for name in re.findall(r"`(\w+)`", cells[0])}

    assert {"Unavailable", "Untrusted", "HostCannot", "ConfigError", "Interrupted"} <= named
    assert all(issubclass(getattr(errors, name), errors.LadingError) for name in named)


def test_the_sizes_add_up() -> None:
    sizes = {cells[0]: float(cells[1]) for cells in rows("frozen") if len(cells) == 2}
    parts = [size for name, size in sizes.items() if name.startswith("… of it")]
    whole = sizes["difference; at most 25"]

    assert sum(parts) == pytest.approx(whole, abs=0.2)
    assert whole == pytest.approx(
        sizes["the same with `import lading.client`"] - sizes["a program that prints a line"], abs=0.05
    )
    assert whole <= 25


def test_what_the_examples_import_is_there() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    imported = {
        alias.name
        for block in blocks
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and node.module == "lading.client"
        for alias in node.names
    }

    assert imported <= set(lading.client.__all__)
    assert {"Client", "AsyncClient", "Finished"} <= imported
