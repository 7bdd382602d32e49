"""``POST /v1/similarity``: the exact nearest neighbours of some vectors among others, computed by the engine.

The body is read with a bound, and parsed, computed and encoded in the engine's thread: a large request never stops the
event loop, and ``/health`` answers meanwhile. Nothing is stored between requests.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Annotated, Literal, Self

import numpy as np
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.requests import ClientDisconnect

from lading_server import problems
from lading_server.engine.base import DeviceMemoryError, Engine, Metric, Rows
from lading_server.lane import LaneFullError
from lading_server.problems import ProblemError
from lading_server.state import State, state_of

MAX_BODY_BYTES = 32 * 2**20  # a million numbers as JSON are about 22 MB; more belongs into a file, not a request
MAX_NUMBERS = 1_000_000  # in queries and corpus together: bounds parsing to well under a second
MAX_DIMENSION = 8_192  # twice the widest embeddings in common use
MAX_QUERIES = 1_024  # with the corpus limit, bounds one request to 67 million comparisons
MAX_CORPUS = 65_536
MAX_K = 1_000
MAX_RESULTS = 200_000  # queries times k: bounds the answer to about 6 MB
MAX_MAGNITUDE = 1e15  # far beyond any embedding, and no sum of squares comes near an overflow
RETRY_AFTER_SECONDS = 1

Number = Annotated[float, Field(ge=-MAX_MAGNITUDE, le=MAX_MAGNITUDE)]
# fail_fast: one wrong value is enough to refuse; a million errors would cost more than the request.
Vector = Annotated[list[Number], Field(min_length=1, max_length=MAX_DIMENSION, fail_fast=True)]

router = APIRouter(prefix="/v1", tags=["similarity"])


class SimilarityRequest(BaseModel):
    """What to look for, and among what."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    queries: list[Vector] = Field(
        min_length=1, max_length=MAX_QUERIES, fail_fast=True, description="the vectors to find neighbours of"
    )
    corpus: list[Vector] = Field(
        min_length=1, max_length=MAX_CORPUS, fail_fast=True, description="the vectors to find them among"
    )
    k: int = Field(default=10, ge=1, le=MAX_K, description="neighbours of each query, at most the corpus's length")
    metric: Metric = Field(default="cosine", description="cosine, dot: larger is nearer; euclidean: smaller is nearer")

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        width = len(self.queries[0])
        for name, rows in (("queries", self.queries), ("corpus", self.corpus)):
            other = next((index for index, row in enumerate(rows) if len(row) != width), None)
            if other is not None:
                message = (
                    f"all vectors have the {width} numbers of queries/0, but {name}/{other} has {len(rows[other])}"
                )
                raise ValueError(message)
        numbers = width * (len(self.queries) + len(self.corpus))
        for what, found, most in (
            ("queries and corpus together have numbers", numbers, MAX_NUMBERS),
            ("queries times k gives results", len(self.queries) * self.k, MAX_RESULTS),
            ("k is more than the corpus has vectors", self.k, len(self.corpus)),
        ):
            if found > most:
                message = f"{what}: found {found}, at most {most}"
                raise ValueError(message)
        return self


class SimilarityResponse(BaseModel):
    """The neighbours of each query, best first."""

    model_config = ConfigDict(frozen=True)

    indices: list[list[int]] = Field(description="row numbers of the corpus, one list for each query; ties by number")
    scores: list[list[float]] = Field(description="their scores, in the same order")
    engine: Literal["numpy", "torch"] = Field(description="the library that computed")
    device: Literal["cpu", "cuda"] = Field(description="where it computed")
    latency_ms: float = Field(description="milliseconds of computing, without parsing and transfer")


async def _body(request: Request) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # Also keeps a web page of another origin from calling in without asking: other types need no preflight.
        detail = f"the body must be application/json, found {kind or 'no content-type'}"
        raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, code="not-json", detail=detail)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_BODY_BYTES:
        raise _too_large()
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_BODY_BYTES:
                raise _too_large()
            parts.append(part)
    except ClientDisconnect as error:
        detail = "the client went away before its request was complete"
        raise ProblemError(HTTPStatus.BAD_REQUEST, code="incomplete-request", detail=detail) from error
    return b"".join(parts)


def _too_large() -> ProblemError:
    detail = f"the body may have at most {MAX_BODY_BYTES} bytes"
    # The rest of the body is not read, so the connection cannot be used again.
    headers = {"connection": "close"}
    return ProblemError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, code="body-too-large", detail=detail, headers=headers)


def _parse(body: bytes) -> SimilarityRequest:
    try:
        return SimilarityRequest.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise problems.invalid(problems.field_errors(found)) from error


def _matrix(rows: list[list[float]], name: str, metric: Metric) -> Rows:
    matrix: Rows = np.array(rows, dtype=np.float64)
    if metric == "cosine" and not matrix.any(axis=1).all():
        zero = int(np.argmin(matrix.any(axis=1)))
        detail = "a vector of zeros has no direction, so it has no cosine"
        raise problems.invalid([problems.FieldError(pointer=f"/{name}/{zero}", detail=detail)])
    return matrix


def compute(engine: Engine, body: bytes) -> bytes:
    """Answer a request; blocks while it computes.

    Args:
        engine: What computes.
        body: The request as JSON.

    Returns:
        The response as JSON.

    Raises:
        ProblemError: The request is wrong.
        DeviceMemoryError: The device has no room for it now.
    """
    asked = _parse(body)
    queries = _matrix(asked.queries, "queries", asked.metric)
    corpus = _matrix(asked.corpus, "corpus", asked.metric)
    began = time.perf_counter()
    matches = engine.nearest(queries, corpus, k=asked.k, metric=asked.metric)
    spent = time.perf_counter() - began
    answer = SimilarityResponse(
        indices=matches.indices,
        scores=matches.scores,
        engine=engine.facts.engine,
        device=engine.facts.device,
        latency_ms=round(spent * 1000, 3),
    )
    return answer.model_dump_json().encode()


async def _run(state: State, work: Callable[[], bytes]) -> bytes:
    retry = {"retry-after": str(RETRY_AFTER_SECONDS)}
    unavailable = HTTPStatus.SERVICE_UNAVAILABLE
    try:
        answer = await state.lane.run(work)
    except LaneFullError as error:
        detail = "too many requests are waiting for the engine"
        raise ProblemError(unavailable, code="engine-busy", detail=detail, headers=retry) from error
    except DeviceMemoryError as error:
        detail = "the device has no memory for this request now"
        raise ProblemError(unavailable, code="out-of-memory", detail=detail, headers=retry) from error
    except ProblemError:
        raise  # the request's fault, not the engine's
    except Exception as error:
        state.engine_failure = f"{type(error).__name__}: {error}"
        raise
    state.engine_failure = None
    return answer


@router.post(
    "/similarity",
    summary="Exact nearest neighbours",
    response_model=SimilarityResponse,
    responses=problems.responses(
        {
            400: "the request ended before it was complete",
            413: f"the body has more than {MAX_BODY_BYTES} bytes",
            415: "the body is not application/json",
            422: "the body is not JSON, breaks its schema, or its parts do not belong together",
            500: "the engine failed; the log has the reason, and health is degraded until it works again",
            503: "too many requests are waiting, or the device has no memory now; come back after Retry-After",
        }
    ),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": SimilarityRequest.model_json_schema()}},
        }
    },
)
async def similarity(request: Request) -> Response:
    """Compares every query with every corpus vector, in double precision, on the GPU when there is one."""
    state = state_of(request)
    body = await _body(request)
    answer = await _run(state, lambda: compute(state.engine, body))
    return Response(answer, media_type="application/json")
