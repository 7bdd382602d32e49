"""The OpenAPI document against the server that it describes: requests made from it, and answers held against it.

The stream of progress is left out, because it does not end by itself; ``test_updates_endpoints`` follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.backend_world import cuda_shop
from tests.integration.default_server import running
from tests.packed_release import APP

EXAMPLES = 25  # of each operation
# That k is at most the number of rows, and that all rows are of one width, no JSON Schema can say.
INEXPRESSIBLE: list[Any] = [positive_data_acceptance]


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BaseSchema]:
    folder = tmp_path_factory.mktemp("schema")
    shop = cuda_shop(folder / "shop")
    (folder / "root.json").write_bytes(shop.root)
    environment = {
        "LADING_DATA": str(folder / "data"),
        "LADING_SOURCE": str(shop.store),
        "LADING_ROOT": str(folder / "root.json"),
        "LADING_APP": APP,
    }
    with running(environment=environment) as server:
        yield schemathesis.openapi.from_url(f"{server.url}/openapi.json").exclude(path="/backend/cuda-progress")


def hold_against_the_document(operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> int:
    """Send requests that the document allows, or that it does not, and judge every answer; gives their number."""
    calls = 0

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    def holds(case: schemathesis.Case[Any]) -> None:
        nonlocal calls
        calls += 1
        case.call_and_validate(excluded_checks=INEXPRESSIBLE if case.path == "/v1/similarity" else None)

    with suppress(Unsatisfiable):  # where nothing is sent, nothing can be wrong
        holds()
    return calls


def test_every_answer_is_as_the_document_says(api: BaseSchema) -> None:
    operations = [found.ok() for found in api.get_all_operations() if isinstance(found, Ok)]
    calls = {one.label: sum(hold_against_the_document(one, mode) for mode in GenerationMode) for one in operations}
    print(f"{sum(calls.values())} requests to {len(calls)} operations")
    assert calls["POST /backend/download-cuda"] >= EXAMPLES
    assert min(calls.values()) > 0
    assert "GET /backend/cuda-progress" not in calls
    assert len(calls) > 8


def test_the_document_has_an_example_of_every_body_of_the_endpoints(api: BaseSchema) -> None:
    made = api.raw_schema["components"]["schemas"]
    for name in ("Progress", "Failure", "Build", "Host", "Wanted", "Chosen", "Begun", "Done", "Launcher", "Check"):
        assert made[name]["examples"], name


def test_the_document_names_no_place_of_this_machine(api: BaseSchema) -> None:
    assert str(Path.home()) not in str(api.raw_schema)
