"""A server with its endpoints, a data directory, and a real signed repository with a small "CUDA" release."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from pydantic import SecretStr
from tests.packed_release import APP, ENTRY, Files, Shop, program
from tests.range_server import RangeServer

from lading.host.record import GpuFacts, HostFacts
from lading_server.app import create_app
from lading_server.engine.numpy_engine import NumpyEngine
from lading_server.serve import _Server
from lading_server.updates.control import Control
from lading_server.updates.feed import Feed
from lading_server.updates.place import Place
from lading_server.updates.service import Updates
from lading_server.updates.settings import Said, Settings
from lading_server.variant import Variant

NOISE = bytes(range(256)) * 400
CORE: Files = {ENTRY: program("one"), "_internal/a.pyc": b"a" * 60_000}
NEXT: Files = {**CORE, ENTRY: program("two")}
LIBS: Files = {f"_internal/nvidia/lib{n}.so": bytes([n]) * 30_000 + NOISE for n in range(8)}
FORCED = {"force": True}  # this machine need not have a GPU
NO_GPU = HostFacts(
    platform="linux-x86_64", system="Linux 6", libc="glibc", glibc="2.36", cpus=2, memory=8 * 2**30,
    gpu=GpuFacts(source="simulated", reason="no_driver"),
)  # fmt: skip


def cuda_shop(folder: Path) -> Shop:
    """A repository with one CUDA release."""
    shop = Shop(folder)
    shop.release("0.1.0", CORE, LIBS)
    return shop


@dataclass
class World:
    """A running server and everything around it.

    Attributes:
        http: Speaks to it.
        url: Its address.
        updates: Its service.
        data: Its data directory.
    """

    http: httpx.AsyncClient
    url: str
    updates: Updates
    data: Path

    async def status(self) -> dict[str, Any]:
        answer = await self.http.get("/backend/cuda-status")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def download(self, **wanted: Any) -> httpx.Response:
        return await self.http.post("/backend/download-cuda", json={**FORCED, **wanted})

    async def events(self, enough: Callable[[dict[str, Any]], bool] = lambda _: False) -> list[dict[str, Any]]:
        """The progress until the stream ends, or an event is enough."""
        found: list[dict[str, Any]] = []
        async with self.http.stream("GET", "/backend/cuda-progress", timeout=60) as answer:
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    found.append(json.loads(line.removeprefix("data: ")))
                    if enough(found[-1]):
                        break
        return found

    async def last(self) -> dict[str, Any]:
        """The last word of the progress."""
        return (await self.events())[-1]


@dataclass(frozen=True, kw_only=True)
class Around:
    """What a server is started with."""

    data: Path
    shop: Shop
    source: str | None = None
    variant: Variant = "cpu"
    managed: bool = True
    auto_update: bool = False
    heartbeat: float = 5.0
    control: Control | None = None
    fallback_reason: str | None = None
    token: str | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    facts: Callable[[], HostFacts] = field(default=lambda: NO_GPU)

    def settings(self) -> Settings:
        said = Said(sources=(self.source or str(self.shop.store),), root=self.shop.root, app=APP)
        return Settings(
            data=self.data if self.managed else None,
            said=said if self.managed else Said(),
            auto_update=self.auto_update,
            control=self.control,
            fallback_reason=self.fallback_reason,
            token=SecretStr(self.token) if self.token else None,
            hosts=self.hosts,
            origins=self.origins,
        )


@asynccontextmanager
async def world(around: Around) -> AsyncIterator[World]:
    """Run a server in this event loop, over a real socket."""
    settings = around.settings()
    updates = Updates(
        Place(settings, around.facts),
        around.variant,
        auto_update=around.auto_update,
        feed=Feed(heartbeat=around.heartbeat),
    )
    app = create_app(around.variant, lambda: NumpyEngine("simulated"), settings=settings, updates=updates)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = _Server(
            uvicorn.Config(app, log_config=None, http="h11", loop="none", ws="none", timeout_graceful_shutdown=5),
            updates,
        )
        serving = asyncio.create_task(server._serve(sockets=[listening]))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            while not server.started:
                assert not serving.done(), "it did not start"
                await asyncio.sleep(0.005)
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=url, limits=limits, timeout=60) as http:
                yield World(http=http, url=url, updates=updates, data=around.data)
        finally:
            server.should_exit = True
            await serving


def bytes_asked(server: RangeServer) -> list[str]:
    """The paths of archive parts that were asked for, in order, without metadata and manifests."""
    return [path for path, _ in server.requests if ".tar.zst" in path]
