"""The endpoints under ``/backend``: requests in, calls to the service and the launcher, answers out. No decisions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from lading.errors import LadingError
from lading_server import problems
from lading_server.updates import refusals
from lading_server.updates.control import Control, ControlError, LauncherStatus
from lading_server.updates.feed import TooManyFollowers
from lading_server.updates.records import (
    Begun,
    Chosen,
    CudaStatus,
    Done,
    Launcher,
    Progress,
    Renewal,
    Restarting,
    Wanted,
)
from lading_server.updates.service import Updates
from lading_server.updates.threads import aside

RETRY_MILLISECONDS = 3000  # until a browser whose line broke asks again

router = APIRouter(prefix="/backend", tags=["backend"])


def _updates(request: Request) -> Updates:
    found = request.app.state.updates
    assert isinstance(found, Updates)
    return found


def _control(request: Request) -> Control | None:
    found = request.app.state.control
    assert found is None or isinstance(found, Control)
    return found


def _launcher(request: Request) -> Control:
    found = _control(request)
    if found is None:
        raise refusals.no_launcher()
    return found


Service = Annotated[Updates, Depends(_updates)]
OurLauncher = Annotated[Control, Depends(_launcher)]

_REFUSED = {
    401: "the token is wrong",
    403: "another page, or another machine without the token, asked",
    421: "the server does not go by the name in Host",
}
_CHANGES = {
    400: "the body cannot be read",
    409: "it cannot be done now; `code` and `detail` say why",
    422: "the body breaks its schema",
}


def install(app: FastAPI, updates: Updates, control: Control | None) -> None:
    """Add the endpoints to an application.

    Args:
        app: The application.
        updates: What they ask.
        control: The launcher, if one runs this server.
    """
    app.state.updates = updates
    app.state.control = control
    app.include_router(router)

    async def on_lading(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, LadingError)
        return problems.answer(request.url.path, refusals.of_client(error, updates.place.discreet))

    async def on_control(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, ControlError)
        return problems.answer(request.url.path, refusals.of_launcher(error, updates.place.discreet))

    async def on_system(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, OSError)
        return problems.answer(request.url.path, refusals.of_system(error))

    app.add_exception_handler(LadingError, on_lading)
    app.add_exception_handler(OSError, on_system)
    app.add_exception_handler(ControlError, on_control)


@router.get("/cuda-status", summary="The CUDA backend: installed, active, downloading, fitting this machine")
async def cuda_status(service: Service, response: Response) -> CudaStatus:
    """Asks no network, and takes no lock. Paths are relative to the data directory."""
    response.headers["cache-control"] = "no-store"
    return await service.status()


@router.post(
    "/check",
    summary="Ask the repository for updates, and for what fits this machine",
    responses=problems.responses({**_REFUSED, 409: _CHANGES[409], 502: "the repository does not answer rightly"}),
)
async def check(service: Service) -> CudaStatus:
    """Fetches small files only and installs nothing. What it said stays in the status."""
    await service.check()
    return await service.status()


@router.post(
    "/download-cuda",
    status_code=HTTPStatus.ACCEPTED,
    summary="Download the CUDA backend that fits this machine",
    responses=problems.responses({**_REFUSED, **_CHANGES}),
)
async def download_cuda(service: Service, wanted: Annotated[Wanted | None, Body()] = None) -> Begun:
    """Answers at once and goes on in the background: follow it with `GET /backend/cuda-progress`.

    It goes on where an earlier download stopped. 409 when a backend is installed, when a change runs in this server
    (`already-running`) or in another process (`busy`).
    """
    await service.download(wanted or Wanted())
    return Begun(message="the download has begun")


@router.post(
    "/update-cuda",
    status_code=HTTPStatus.ACCEPTED,
    summary="Update or repair the installed CUDA backend",
    responses=problems.responses({**_REFUSED, **_CHANGES, 404: "no CUDA backend is installed"}),
)
async def update_cuda(service: Service, renewal: Annotated[Renewal | None, Body()] = None) -> Begun:
    """Fetches only what changed. The running server is not touched: the new version is used from the next start on."""
    await service.update(renewal or Renewal())
    return Begun(message="the update has begun")


@router.post(
    "/cuda-cancel",
    status_code=HTTPStatus.ACCEPTED,
    summary="Stop the running download or update",
    responses=problems.responses({**_REFUSED, 409: "nothing runs that could be stopped"}),
)
async def cuda_cancel(service: Service) -> Begun:
    """What is verified stays, and the next download goes on from there. The progress says when it has stopped."""
    service.cancel()
    return Begun(message="it is being stopped")


async def _stream(service: Service) -> AsyncIterator[AsyncGenerator[Progress | None, None]]:
    """The progress, followed before the answer is begun, so that a refusal is a problem and no broken stream."""
    await service.recall()
    with ExitStack() as stack:
        try:
            states = stack.enter_context(service.feed.follower())
        except TooManyFollowers as error:
            raise refusals.too_many_followers() from error
        yield states


@router.get(
    "/cuda-progress",
    response_class=EventSourceResponse,
    summary="Follow the running download or update",
    responses=problems.responses({503: "too many follow already"}),
)
async def cuda_progress(
    states: Annotated[AsyncGenerator[Progress | None, None], Depends(_stream)],
) -> AsyncGenerator[ServerSentEvent, None]:
    """Server-sent events, each a progress record as JSON; the present state first, the latest one always.

    The stream ends after `complete`, `error` or `cancelled`. Who connects later gets that last word again, also when
    it was an error of an earlier server on this data directory. While nothing happens there are comments as heartbeats.
    """
    number = 0
    async for state in states:
        if state is None:
            yield ServerSentEvent(comment="heartbeat")
        else:
            number += 1
            yield ServerSentEvent(data=state, id=str(number), retry=RETRY_MILLISECONDS)


@router.delete(
    "/cuda",
    summary="Delete the CUDA backend",
    responses=problems.responses(
        {**_REFUSED, 404: "there is none", 409: "this server is it, a program of it runs, or a change does"}
    ),
)
async def delete_cuda(service: Service) -> Done:
    """All versions, and what unfinished downloads left."""
    return await service.delete()


@router.post(
    "/rollback",
    summary="Go back to the version of the CUDA backend that was in use before",
    responses=problems.responses({**_REFUSED, 404: "there is none to go back to", 409: "a change runs"}),
)
async def rollback(service: Service) -> Done:
    """At once and without a network; it runs from the next start on. What was left is not installed again by itself."""
    return await service.rollback()


@router.get("/launcher", summary="The launcher that runs this server")
async def launcher(request: Request, response: Response, service: Service) -> Launcher:
    """Without one nothing can be switched; that is no error here."""
    response.headers["cache-control"] = "no-store"
    control = _control(request)
    if control is None:
        return Launcher(present=False)
    return _shown(await aside(control.status, "control"), service)


@router.post(
    "/restart",
    status_code=HTTPStatus.ACCEPTED,
    summary="Stop this server and start the chosen backend",
    responses=problems.responses(
        {**_REFUSED, **_CHANGES, 409: "no launcher, or it refuses", 502: "the launcher is silent"}
    ),
)
async def restart(control: OurLauncher, service: Service, how: Annotated[Restarting | None, Body()] = None) -> Launcher:
    """The launcher answers first and stops this server afterwards; the next one is at the same address."""
    retry = how is not None and how.retry
    return _shown(await aside(lambda: control.restart(retry=retry), "control"), service)


@router.post(
    "/choice",
    summary="Choose the backend for the next start",
    responses=problems.responses(
        {**_REFUSED, **_CHANGES, 409: "no launcher, or it refuses", 502: "the launcher is silent"}
    ),
)
async def choice(control: OurLauncher, service: Service, chosen: Chosen) -> Launcher:
    """Kept across restarts; takes effect with `POST /backend/restart`."""
    return _shown(await aside(lambda: control.choose(chosen.backend), "control"), service)


def _shown(said: LauncherStatus, service: Updates) -> Launcher:
    tell = service.place.discreet
    return Launcher(
        present=True,
        phase=said.phase,
        choice=said.choice,
        forced=tell(said.forced) if said.forced else None,
        reason=tell(said.reason) if said.reason else None,
        set_aside=said.set_aside.name if said.set_aside else None,
        set_aside_reason=tell(said.set_aside.reason) if said.set_aside else None,
    )
