"""The JSON Schemas and the reference page are what the records say now, and say the same as the loader."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import jsonschema
import pytest
import yaml

from lading.cli.main import main
from lading.manifest.app import App
from lading.manifest.base import Record, canonical_json
from lading.manifest.destination import Destinations
from lading.manifest.generated import generated_files, stale_files, write_generated
from lading.manifest.index import Frame, Index, IndexEntry
from lading.manifest.loader import try_record
from lading.manifest.schema import SCHEMAS, all_records, attribute_texts, schema_document
from lading.manifest.toolkit import Toolkit

MANIFESTS: dict[str, type[Record]] = {
    "manifests/app.yaml": App,
    "manifests/destinations.yaml": Destinations,
    **{f"manifests/toolkits/{name}.yaml": Toolkit for name in ("cu118", "cu126", "cu128", "cu130")},
}


def _validator(schema: object) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(cast("Mapping[str, object]", schema))


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(str(caught.value.code))


def test_the_repositorys_generated_files_are_fresh(root: Path) -> None:
    assert stale_files(root) == [], "run 'lading schema --write'"


def test_stale_files_are_found_written_and_then_fresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(write_generated(tmp_path)) == len(SCHEMAS) + 2  # and two reference pages
    assert write_generated(tmp_path) == []
    stale = tmp_path / "manifests/schema/app.schema.json"
    stale.write_text("{}", encoding="utf-8")
    assert _run("schema", "--project", str(tmp_path)) == 70
    assert "stale: manifests/schema/app.schema.json" in capsys.readouterr().out
    assert stale.read_text(encoding="utf-8") == "{}"
    assert _run("schema", "--write", "--project", str(tmp_path)) == 0
    assert _run("schema", "--project", str(tmp_path)) == 0


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_is_valid_has_no_address_of_its_own_and_refuses_unknown_keys(name: str) -> None:
    schema = schema_document(SCHEMAS[name])
    jsonschema.Draft202012Validator.check_schema(cast("Mapping[str, object]", schema))
    assert "$id" not in schema
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("file", MANIFESTS)
def test_the_products_manifests_are_valid_by_the_published_schema(root: Path, file: str) -> None:
    text = (root / file).read_text(encoding="utf-8")
    match = re.match(r"# yaml-language-server: \$schema=(\S+)\n", text)
    assert match, "the first line names the schema, for editors"
    schema_file = (root / file).parent / match[1]
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    assert schema == schema_document(MANIFESTS[file])
    _validator(schema).validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("manifests/toolkits/cu126.yaml", "label:", "lable:"),
        ("manifests/toolkits/cu126.yaml", '"12.6"', "12.6"),
        ("manifests/toolkits/cu126.yaml", "linux-x86_64:", "linux-x86:"),
        ("manifests/app.yaml", "core: 10 MB", "core: 10 megabytes"),
        ("manifests/app.yaml", "name: small", "name: Small"),
        ("manifests/app.yaml", "packages: [small]", "packages: []"),
        ("manifests/destinations.yaml", "kind: github", "kind: gihtub"),
        ("manifests/destinations.yaml", "  github:\n", "  GitHub:\n"),
    ],
)
def test_schema_and_loader_refuse_the_same(
    small_project: dict[str, str], tmp_path: Path, file: str, old: str, new: str
) -> None:
    kind, right = MANIFESTS[file], small_project[file]
    wrong = right.replace(old, new)
    assert wrong != right
    validator = _validator(schema_document(kind))
    for text, accepted in ((right, True), (wrong, False)):
        path = tmp_path / "m.yaml"
        path.write_text(text, encoding="utf-8")
        assert validator.is_valid(yaml.safe_load(text)) is accepted
        assert isinstance(try_record(kind, path, file), tuple) is not accepted


def test_a_written_record_is_valid_by_its_schema() -> None:
    entry = IndexEntry(path="a", mode=0o755, size=1, sha256="0" * 64, frame=0, offset=512)
    index = Index(files=(entry,), frames=(Frame(sha256="0" * 64, raw=1, size=1),))
    _validator(schema_document(Index)).validate(json.loads(canonical_json(index)))


@pytest.mark.parametrize("kind", [App, Toolkit, Destinations])
def test_every_key_of_the_manifests_is_explained(kind: type[Record]) -> None:
    schema = schema_document(kind)
    definitions = cast("Mapping[str, Mapping[str, Mapping[str, object]]]", schema.get("$defs", {}))
    properties = cast("Mapping[str, object]", schema["properties"])
    assert set(properties) <= set(attribute_texts(kind))
    records = {record.__name__: record for record in all_records()}
    for name, definition in definitions.items():
        assert set(definition.get("properties", {})) <= set(attribute_texts(records[name])), name


def test_the_reference_has_a_row_for_every_key() -> None:
    page = generated_files()["docs/reference/manifests.md"]
    for kind in (App, Toolkit, Destinations):
        for key in cast("Mapping[str, object]", schema_document(kind)["properties"]):
            assert f"| `{key}` |" in page


def test_the_command_prints_one_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("schema", "toolkit") == 0
    assert json.loads(capsys.readouterr().out) == schema_document(Toolkit)


def test_the_command_hints_at_a_misspelt_record(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("schema", "toolkits") == 10
    assert "Did you mean 'toolkit'?" in capsys.readouterr().err
