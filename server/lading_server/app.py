"""The application: its routes, its start-up and its end.

The engine is made at start-up, in its own thread, before the first request is accepted: a server that answers
``/health`` can compute.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from typing_extensions import override

from lading_server import NAME, __version__, health, problems, similarity
from lading_server.engine.base import Engine
from lading_server.engine.select import select_engine
from lading_server.lane import Lane
from lading_server.state import State
from lading_server.variant import Variant

_log = logging.getLogger(__name__)

TAGS = [
    {"name": "health", "description": "Who the server is and what it computes on."},
    {"name": "similarity", "description": "Exact nearest neighbours, on the GPU when there is one."},
]


class Application(FastAPI):
    """FastAPI with an OpenAPI document that describes errors as what they are."""

    @override
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = problems.describe(super().openapi())
        return self.openapi_schema


def create_app(variant: Variant, make_engine: Callable[[], Engine] = select_engine) -> FastAPI:
    """Make the application.

    Args:
        variant: Of this binary.
        make_engine: Makes the engine; may take seconds and is called off the event loop.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lane = Lane()
        try:
            engine = await lane.run(make_engine)
            _log.info("engine: %s", engine.facts.reason)
            app.state.server = State(variant=variant, engine=engine, lane=lane)
            yield
        finally:
            lane.close()

    app = Application(
        title=NAME,
        version=__version__,
        summary="Exact nearest neighbours on the GPU, with a server that says what it runs on.",
        openapi_tags=TAGS,
        lifespan=lifespan,
        # Both pages load their scripts from somebody else's servers; the document itself is at /openapi.json.
        docs_url=None,
        redoc_url=None,
    )
    problems.install(app)
    app.include_router(health.router)
    app.include_router(similarity.router)
    return app
