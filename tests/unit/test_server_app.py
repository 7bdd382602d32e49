from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from lading_server import __version__, similarity
from lading_server.app import create_app
from lading_server.engine.base import DeviceMemoryError, Engine, EngineFacts, Gpu, Matches, Metric, Rows
from lading_server.engine.numpy_engine import NumpyEngine
from lading_server.health import assess
from lading_server.lane import WAITING_LIMIT
from lading_server.problems import ERRORS_SHOWN, MEDIA_TYPE, pointer
from lading_server.variant import Variant

REFERENCE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "server-api.md"
GOOD: dict[str, Any] = {"queries": [[1, 0], [1, 1]], "corpus": [[1, 0], [0, 1], [1, 1]], "k": 2, "metric": "dot"}
GPU = Gpu(index=0, name="NVIDIA H200", compute_capability="9.0", memory_total_bytes=150_000_000_000)


GPU_FACTS = EngineFacts(
    engine="torch",
    device="cuda",
    reason="torch on NVIDIA H200",
    gpu_problem=None,
    gpus=(GPU,),
    torch_version="2.7.1+cu126",
    torch_cuda="12.6",
)


@dataclass
class SimulatedEngine:
    """An engine with a GPU that does what a test tells it to."""

    facts: EngineFacts = GPU_FACTS
    failure: Exception | None = None
    silent: bool = False
    gate: threading.Event | None = None
    entered: threading.Event = field(default_factory=threading.Event)
    threads: set[str] = field(default_factory=set)

    def nearest(self, queries: Rows, corpus: Rows, *, k: int, metric: Metric) -> Matches:
        self.threads.add(threading.current_thread().name)
        self.entered.set()
        if self.gate is not None:
            assert self.gate.wait(30)
        if self.failure is not None:
            raise self.failure
        return NumpyEngine("simulated").nearest(queries, corpus, k=k, metric=metric)

    def free_memory(self) -> tuple[int, ...]:
        if self.silent:
            raise RuntimeError("CUDA error: unspecified launch failure")
        return (149_000_000_000,)


def cpu_engine() -> Engine:
    return NumpyEngine("this build has no torch")


@asynccontextmanager
async def client(make: Callable[[], Engine] = cpu_engine, variant: Variant = "cpu") -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(variant, make)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as made,
    ):
        yield made


def ask(
    work: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]],
    make: Callable[[], Engine] = cpu_engine,
    variant: Variant = "cpu",
) -> httpx.Response:
    async def run() -> httpx.Response:
        async with client(make, variant) as to:
            return await work(to)

    return asyncio.run(run())


def post(body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"content-type": "application/json", **headers}
    return ask(lambda to: to.post("/v1/similarity", content=content, headers=sent))


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == MEDIA_TYPE
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["instance"] == answer.request.url.path
    assert body["title"]
    assert body["detail"]
    assert "Traceback" not in answer.text
    return body


@pytest.mark.proves("S0-09")
def test_health_of_a_cpu_build_without_a_gpu_is_ok(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LADING_INSTANCE", "launcher-7")
    answer = ask(lambda to: to.get("/health"))
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert body.items() >= {
        "status": "ok", "reason": None, "name": "lading-server", "version": __version__, "backend_variant": "cpu",
        "gpu_available": False, "gpu_type": None, "gpus": [], "engine": "numpy", "device": "cpu", "toolkit": None,
        "torch_version": None, "instance_id": "launcher-7",
    }.items()  # fmt: skip
    assert body["uptime_seconds"] >= 0


@pytest.mark.proves("S0-09")
def test_health_of_a_cuda_build_on_a_gpu_names_it() -> None:
    body = ask(lambda to: to.get("/health"), SimulatedEngine, "cuda").json()
    assert body.items() >= {
        "status": "ok", "backend_variant": "cuda", "gpu_available": True, "gpu_type": "cuda", "gpu_count": 1,
        "gpu_name": "NVIDIA H200", "torch_version": "2.7.1+cu126", "torch_cuda": "12.6", "toolkit": "cu126",
    }.items()  # fmt: skip
    assert body["gpus"] == [
        {
            "index": 0, "name": "NVIDIA H200", "compute_capability": "9.0", "memory_total_bytes": 150_000_000_000,
            "memory_free_bytes": 149_000_000_000,
        }
    ]  # fmt: skip


def test_a_server_without_a_launcher_has_a_new_name_with_every_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LADING_INSTANCE", raising=False)
    names = {ask(lambda to: to.get("/health")).json()["instance_id"] for _ in range(2)}
    assert len(names) == 2


@pytest.mark.parametrize(
    ("variant", "problem_text", "failure", "status", "reason"),
    [
        ("cpu", "no driver", None, "ok", None),
        ("cpu", None, None, "ok", None),
        ("cuda", None, None, "ok", None),
        ("cuda", "no driver", None, "degraded", "this is the CUDA build, but no GPU is used: no driver"),
        ("cpu", "no driver", "boom", "degraded", "the engine failed: boom"),
        ("cuda", None, "boom", "degraded", "the engine failed: boom"),
    ],
)
def test_only_a_cuda_build_misses_a_gpu(
    variant: Variant, problem_text: str | None, failure: str | None, status: str, reason: str | None
) -> None:
    facts = EngineFacts(engine="torch", device="cpu", reason="r", gpu_problem=problem_text)
    assert assess(variant, facts, failure) == (status, reason)


def test_a_gpu_that_falls_silent_is_not_available_any_more() -> None:
    body = ask(lambda to: to.get("/health"), lambda: SimulatedEngine(silent=True), "cuda").json()
    assert (body["status"], body["gpu_available"], body["gpu_name"]) == ("degraded", False, None)
    assert "unspecified launch failure" in body["reason"]


def test_neighbours_are_computed_in_the_engines_thread() -> None:
    engine = SimulatedEngine()
    answer = ask(lambda to: to.post("/v1/similarity", json=GOOD), lambda: engine, "cuda")
    body = answer.json()
    assert answer.status_code == 200
    assert body["indices"] == [[0, 2], [2, 0]]
    assert body["scores"] == [[1.0, 1.0], [2.0, 1.0]]
    assert (body["engine"], body["device"]) == ("torch", "cuda")
    assert body["latency_ms"] > 0
    assert engine.threads == {"engine_0"}


@pytest.mark.parametrize(
    ("change", "pointer_", "part"),
    [
        ({"queries": [[1, 0], [1, "a"]]}, "/queries/1/1", "valid number"),
        ({"queries": [[True, 0]]}, "/queries/0/0", "valid number"),
        ({"queries": [[None, 0]]}, "/queries/0/0", "valid number"),
        ({"queries": [[0, -2e15]]}, "/queries/0/1", "greater than or equal to -1000000000000000"),
        ({"queries": []}, "/queries", "at least 1 item"),
        ({"queries": [[]]}, "/queries/0", "at least 1 item"),
        ({"queries": "[[1]]"}, "/queries", "valid array"),
        ({"queries": [[1, 0]] * 1025}, "/queries", "at most 1024 items"),
        ({"queries": [[0.5] * 8193]}, "/queries/0", "at most 8192 items"),
        ({"corpus": [[1, 0], [0, 1, 2]]}, "", "corpus/1 has 3"),
        ({"queries": [[1, 0], [1]]}, "", "queries/1 has 1"),
        ({"k": 0}, "/k", "greater than or equal to 1"),
        ({"k": 1001}, "/k", "less than or equal to 1000"),
        ({"k": 4}, "", "k is more than the corpus has vectors: found 4, at most 3"),
        ({"k": 1.5}, "/k", "valid integer"),
        ({"k": "2"}, "/k", "valid integer"),
        ({"metric": "manhattan"}, "/metric", "'cosine', 'dot' or 'euclidean'"),
        ({"metrics": "dot"}, "/metrics", "Extra inputs are not permitted"),
        ({"metric": "cosine", "corpus": [[1, 0], [0, 0]]}, "/corpus/1", "a vector of zeros has no direction"),
        ({"queries": [[0.5] * 1000] * 2, "corpus": [[0.5] * 1000] * 999}, "", "found 1001000, at most 1000000"),
        ({"queries": [[1]] * 1000, "corpus": [[1]] * 300, "k": 300}, "", "found 300000, at most 200000"),
    ],
)
def test_a_wrong_value_is_pointed_at_and_not_repeated(change: dict[str, Any], pointer_: str, part: str) -> None:
    body = problem(post({**GOOD, **change}), 422, "invalid-request")
    assert body["errors"][0]["pointer"] == pointer_
    assert part in body["errors"][0]["detail"]
    assert part in body["detail"]
    assert "input" not in body["errors"][0]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"null", b"[]", b'"x"', b'{"queries":[[NaN]],"corpus":[[1]]}', b'{"queries":[[1e999]],"corpus":[[1]]}',
     b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "cut", "null", "list", "text", "NaN", "infinite", "not UTF-8", "deep"],
)  # fmt: skip
def test_what_is_no_request_is_a_problem_too(body: bytes) -> None:
    problem(post(body), 422, "invalid-request")


def test_a_matrix_of_wrong_values_is_not_answered_with_as_many_errors() -> None:
    answer = post({**GOOD, "queries": [["x"] * 1000] * 500, **{f"extra{n}": n for n in range(100)}})
    body = problem(answer, 422, "invalid-request")
    assert len(body["errors"]) == ERRORS_SHOWN
    assert len(answer.content) < 4096


@pytest.mark.parametrize("kind", ["text/plain", "", "application/x-www-form-urlencoded", "application/jsonp"])
def test_other_content_types_are_refused(kind: str) -> None:
    problem(post(GOOD, **{"content-type": kind}), 415, "not-json")


def test_a_charset_behind_the_content_type_is_no_trouble() -> None:
    assert post(GOOD, **{"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_a_body_that_is_declared_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "MAX_BODY_BYTES", 100)
    answer = post({**GOOD, "corpus": [[1, 0]] * 50})
    problem(answer, 413, "body-too-large")
    assert answer.headers["connection"] == "close"


def test_a_body_that_grows_too_large_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "MAX_BODY_BYTES", 100)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while True:
            sent += 1
            yield b"[" * 30

    headers = {"content-type": "application/json"}
    answer = ask(lambda to: to.post("/v1/similarity", content=endless(), headers=headers))
    problem(answer, 413, "body-too-large")
    assert sent == 4


def test_unknown_paths_and_methods_are_problems() -> None:
    problem(ask(lambda to: to.get("/nowhere")), 404, "not-found")
    answer = ask(lambda to: to.put("/health"))
    problem(answer, 405, "method-not-allowed")
    assert answer.headers["allow"] == "GET"


def test_a_failing_engine_is_a_problem_without_its_secrets_and_degrades_health_until_it_works() -> None:
    engine = SimulatedEngine(failure=RuntimeError("CUDA error: an illegal memory access at 0x7f00"))

    async def run() -> None:
        async with client(lambda: engine, "cuda") as to:
            answer = await to.post("/v1/similarity", json=GOOD)
            assert "0x7f00" not in problem(answer, 500, "internal-error")["detail"]
            health = (await to.get("/health")).json()
            assert health["status"] == "degraded"
            assert "illegal memory access" in health["reason"]
            engine.failure = None
            assert (await to.post("/v1/similarity", json=GOOD)).status_code == 200
            assert (await to.get("/health")).json()["status"] == "ok"

    asyncio.run(run())


def test_no_room_on_the_device_is_temporary_and_no_illness() -> None:
    engine = SimulatedEngine(failure=DeviceMemoryError("tried to allocate 2 GiB"))

    async def run() -> None:
        async with client(lambda: engine, "cuda") as to:
            answer = await to.post("/v1/similarity", json=GOOD)
            problem(answer, 503, "out-of-memory")
            assert answer.headers["retry-after"] == "1"
            assert (await to.get("/health")).json()["status"] == "ok"

    asyncio.run(run())


def test_who_would_wait_too_long_is_told_at_once_and_the_others_are_served() -> None:
    engine = SimulatedEngine(gate=threading.Event())
    assert engine.gate is not None

    async def run(gate: threading.Event) -> list[httpx.Response]:
        async with client(lambda: engine, "cuda") as to:
            waiting = [asyncio.create_task(to.post("/v1/similarity", json=GOOD)) for _ in range(WAITING_LIMIT)]
            assert await asyncio.to_thread(engine.entered.wait, 30)
            await asyncio.sleep(0.3)  # the others come to wait behind it
            refused = await to.post("/v1/similarity", json=GOOD)
            problem(refused, 503, "engine-busy")
            assert refused.headers["retry-after"] == "1"
            assert (await to.get("/health")).json()["status"] == "ok"
            gate.set()
            answers = await asyncio.gather(*waiting)
            answers.append(await to.post("/v1/similarity", json=GOOD))
            return answers

    assert [answer.status_code for answer in asyncio.run(run(engine.gate))] == [200] * (WAITING_LIMIT + 1)


def test_a_caller_that_gives_up_makes_no_room_while_its_work_still_runs() -> None:
    engine = SimulatedEngine(gate=threading.Event())
    assert engine.gate is not None

    async def run(gate: threading.Event) -> None:
        async with client(lambda: engine, "cuda") as to:
            waiting = [asyncio.create_task(to.post("/v1/similarity", json=GOOD)) for _ in range(WAITING_LIMIT)]
            assert await asyncio.to_thread(engine.entered.wait, 30)
            await asyncio.sleep(0.3)  # the others come to wait behind it
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            problem(await to.post("/v1/similarity", json=GOOD), 503, "engine-busy")
            gate.set()

    asyncio.run(run(engine.gate))


def test_pointers_escape_what_the_standard_says() -> None:
    assert pointer(("a/b", 0, "m~n")) == "/a~1b/0/m~0n"
    assert pointer(()) == ""


def test_the_openapi_document_is_complete() -> None:
    document = create_app("cpu", cpu_engine).openapi()
    operations = [(path, operation) for path, methods in document["paths"].items() for operation in methods.values()]
    assert {path for path, _ in operations} > {"/health", "/v1/similarity", "/backend/cuda-status"}
    tags = {tag["name"] for tag in document["tags"]}
    for path, operation in operations:
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= tags
        good = next(response for status, response in operation["responses"].items() if int(status) < 400)
        assert "text/event-stream" in good["content"] or good["content"]["application/json"]["schema"]["$ref"]
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert response["content"] == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    asked = document["paths"]["/v1/similarity"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert set(asked["properties"]) == set(similarity.SimilarityRequest.model_fields)
    assert "$ref" not in json.dumps(asked)
    assert set(document["paths"]["/v1/similarity"]["post"]["responses"]) == {
        "200", "400", "413", "415", "422", "500", "503",
    }  # fmt: skip


def table(text: str, heading: str) -> list[list[str]]:
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.proves("S0-25")
def test_the_reference_page_lists_exactly_the_routes() -> None:
    paths = create_app("cpu", cpu_engine).openapi()["paths"]
    served = [
        [f"`{method.upper()} {path}`", operation["summary"]]
        for path, methods in paths.items()
        for method, operation in methods.items()
    ]
    rows = table(REFERENCE.read_text(encoding="utf-8"), "Endpoints")
    assert rows == [*served, ["`GET /openapi.json`", "This API as an OpenAPI document"]]


def test_the_reference_page_lists_the_fields_of_health_in_their_order() -> None:
    document = create_app("cpu", cpu_engine).openapi()
    rows = table(REFERENCE.read_text(encoding="utf-8"), "Health")
    assert [row[0].strip("`") for row in rows] == list(document["components"]["schemas"]["Health"]["properties"])


@pytest.mark.parametrize(("heading", "record"), [("Progress", "Progress"), ("Status", "CudaStatus")])
def test_the_reference_page_lists_the_fields_of_the_backends_records(heading: str, record: str) -> None:
    made = create_app("cpu", cpu_engine).openapi()["components"]["schemas"][record]["properties"]
    section = REFERENCE.read_text(encoding="utf-8").partition(f"\n### {heading}\n")[2].partition("\n#")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "| `" in line]
    assert [(row[0].strip("`"), row[2]) for row in rows] == [(name, made[name]["description"]) for name in made]


def test_the_reference_page_lists_every_variable_that_is_read() -> None:
    source = (Path(similarity.__file__).parent / "updates" / "settings.py").read_text(encoding="utf-8")
    rows = table(REFERENCE.read_text(encoding="utf-8"), "Configuration")
    assert {row[0].strip("`") for row in rows} == {*re.findall(r"LADING_[A-Z_]+", source), "LADING_INSTANCE"}


def test_the_reference_page_has_the_limits_of_the_program() -> None:
    rows = table(REFERENCE.read_text(encoding="utf-8"), "Similarity")
    listed = {name.strip("`"): int(re.sub(r"\D", "", value)) for name, value, _ in rows if name.startswith("`MAX_")}
    limits = {name: getattr(similarity, name) for name in vars(similarity) if name.startswith("MAX_")}
    assert listed == limits


def test_the_reference_page_lists_every_problem_code() -> None:
    sources = "".join(
        (Path(similarity.__file__).parent / name).read_text(encoding="utf-8")
        for name in ("similarity.py", "problems.py", "updates/refusals.py", "updates/guard.py")
    )
    written = set(re.findall(r'code="([a-z-]+)"|HTTPStatus\.\w+,\s+"([a-z-]+)"', sources))
    codes = {code for found in written for code in found if code} | {"not-found", "method-not-allowed", "bad-request"}
    rows = table(REFERENCE.read_text(encoding="utf-8"), "Problems")
    assert {row[0].strip("`") for row in rows} == codes
