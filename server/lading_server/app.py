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
from fastapi.middleware.cors import CORSMiddleware
from typing_extensions import override

from lading_server import NAME, __version__, health, problems, similarity
from lading_server.engine.base import Engine
from lading_server.engine.select import select_engine
from lading_server.lane import Lane
from lading_server.options import DEFAULT_HOST
from lading_server.state import State
from lading_server.updates import routes
from lading_server.updates.guard import Guard, Rules
from lading_server.updates.place import Place
from lading_server.updates.service import Updates
from lading_server.updates.settings import Settings
from lading_server.variant import Variant

_log = logging.getLogger(__name__)

TAGS = [
    {"name": "health", "description": "Who the server is and what it computes on."},
    {"name": "similarity", "description": "Exact nearest neighbours, on the GPU when there is one."},
    {"name": "backend", "description": "Download, follow, update, delete and choose the CUDA backend."},
]


class Application(FastAPI):
    """FastAPI with an OpenAPI document that describes errors as what they are."""

    @override
    def openapi(self) -> dict[str, Any]:
        """The OpenAPI document, made once."""
        if self.openapi_schema is None:
            self.openapi_schema = problems.describe(super().openapi())
        return self.openapi_schema


def create_app(
    variant: Variant,
    make_engine: Callable[[], Engine] = select_engine,
    *,
    settings: Settings | None = None,
    listens: str = DEFAULT_HOST,
    updates: Updates | None = None,
) -> FastAPI:
    """Make the application.

    Args:
        variant: Of this binary.
        make_engine: Makes the engine; may take seconds and is called off the event loop.
        settings: The server's surroundings; without any it is not managed.
        listens: The address that it listens on.
        updates: The backends; those of the settings without it.
    """
    known = settings or Settings()
    backends = updates or Updates(Place(known), variant, auto_update=known.auto_update)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        lane = Lane()
        try:
            engine = await lane.run(make_engine)
            _log.info("engine: %s", engine.facts.reason)
            app.state.server = State(
                variant=variant, engine=engine, lane=lane, fallback_reason=_told(known.fallback_reason, backends)
            )
            backends.start()
            yield
        finally:
            await backends.close()
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
    routes.install(app, backends, known.control)
    if known.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=known.origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(  # the last one is the outermost: what it refuses, nothing else sees
        Guard, rules=Rules(listens=listens, hosts=known.hosts, origins=known.origins, token=known.token)
    )
    return app


def _told(reason: str | None, backends: Updates) -> str | None:
    return None if reason is None else backends.place.discreet(reason)
