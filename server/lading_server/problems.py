"""Every error as an RFC 9457 problem (``application/problem+json``), those of the framework included.

The type is always ``about:blank``: a problem says no more than its HTTP status does to a person, and ``code`` is what
programs compare. Details never carry a traceback or a value that was sent.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

MEDIA_TYPE = "application/problem+json"
ERRORS_SHOWN = 20  # of one request; a wrong matrix would otherwise be answered with a list as long as itself
FIRST_ERROR_STATUS = 400

_log = logging.getLogger(__name__)


class FieldError(BaseModel):
    """One thing that is wrong with a request."""

    model_config = ConfigDict(frozen=True)

    pointer: str = Field(description="JSON pointer to the value, in the body that was sent", examples=["/queries/0/3"])
    detail: str = Field(description="what is wrong with it")


class Problem(BaseModel):
    """An error, as RFC 9457 describes it."""

    model_config = ConfigDict(frozen=True)

    type: Literal["about:blank"] = "about:blank"
    title: str = Field(description="the phrase of the HTTP status")
    status: int = Field(description="the HTTP status", ge=400, le=599)
    detail: str = Field(description="what happened, for a person")
    instance: str = Field(description="the path that was asked for")
    code: str = Field(description="what happened, for a program; never changes", examples=["invalid-request"])
    errors: list[FieldError] = Field(
        default_factory=list, description=f"the first {ERRORS_SHOWN} things that are wrong"
    )


class ProblemError(Exception):
    """Raised by a route to answer with a problem.

    Args:
        status: The HTTP status.
        code: For programs.
        detail: For people.
        errors: What is wrong with the request, value by value.
        headers: Sent with it.
    """

    def __init__(
        self,
        status: HTTPStatus,
        *,
        code: str,
        detail: str,
        errors: list[FieldError] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = errors or []
        self.headers = headers


def pointer(location: tuple[int | str, ...]) -> str:
    """A JSON pointer (RFC 6901) from pydantic's location."""
    return "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in location)


def field_errors(found: list[Any]) -> list[FieldError]:
    """The first of pydantic's errors, without the values that were sent."""
    return [FieldError(pointer=pointer(error["loc"]), detail=error["msg"]) for error in found[:ERRORS_SHOWN]]


def answer(path: str, error: ProblemError) -> JSONResponse:
    """The response that tells a problem.

    Args:
        path: What was asked for.
        error: What is wrong.
    """
    problem = Problem(
        title=error.status.phrase,
        status=error.status.value,
        detail=error.detail,
        instance=path,
        code=error.code,
        errors=error.errors,
    )
    return JSONResponse(
        problem.model_dump(), status_code=problem.status, media_type=MEDIA_TYPE, headers=dict(error.headers or {})
    )


async def _on_problem(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ProblemError)
    return answer(request.url.path, error)


async def _on_http(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    code = status.phrase.lower().replace(" ", "-")
    detail = f"{request.method} {request.url.path}: {error.detail}"
    return answer(request.url.path, ProblemError(status, code=code, detail=detail, headers=error.headers))


async def _on_invalid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    found = [{**one, "loc": one["loc"][1:] if one["loc"][:1] == ("body",) else one["loc"]} for one in error.errors()]
    errors = field_errors(found)
    return answer(request.url.path, invalid(errors))


async def _on_bug(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises it again after the answer, so that the server logs the traceback.
    _log.error("%s %s failed: %s", request.method, request.url.path, type(error).__name__)
    detail = "the server failed to answer this request; its log has the reason"
    return answer(
        request.url.path, ProblemError(HTTPStatus.INTERNAL_SERVER_ERROR, code="internal-error", detail=detail)
    )


def invalid(errors: list[FieldError]) -> ProblemError:
    """The problem of a request that breaks its schema."""
    first = f"{errors[0].pointer or 'the body'}: {errors[0].detail}" if errors else "it breaks its schema"
    more = f", and {len(errors) - 1} more" if len(errors) > 1 else ""
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, code="invalid-request", detail=f"{first}{more}", errors=errors)


def install(app: FastAPI) -> None:
    """Make an application answer every error with a problem."""
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_bug)


def responses(descriptions: Mapping[int, str]) -> dict[int | str, dict[str, Any]]:
    """The error part of a route's OpenAPI description.

    Args:
        descriptions: What each status means here.
    """
    return {status: {"model": Problem, "description": text} for status, text in descriptions.items()}


def describe(schema: dict[str, Any]) -> dict[str, Any]:
    """Correct an OpenAPI document: FastAPI describes every error in the media type of the good answer."""
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    for operation in operations:
        for status, response in operation.get("responses", {}).items():
            content = response.get("content", {})
            if int(status) >= FIRST_ERROR_STATUS and content:
                response["content"] = {MEDIA_TYPE: next(iter(content.values()))}
    return schema
