"""``GET /health``: who this server is, what it computes on, and whether that is what it was made for."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import asdict
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from lading_server import NAME, __version__
from lading_server.engine.base import EngineFacts
from lading_server.state import State, state_of
from lading_server.variant import Variant

router = APIRouter(tags=["health"])


class GpuHealth(BaseModel):
    """One GPU."""

    model_config = ConfigDict(frozen=True)

    index: int = Field(description="its number in this process")
    name: str = Field(description="what the driver calls it")
    compute_capability: str = Field(description="such as 9.0")
    memory_total_bytes: int
    memory_free_bytes: int = Field(description="now, whoever uses the rest")


class Health(BaseModel):
    """The state of the server."""

    model_config = ConfigDict(frozen=True)

    status: Literal["ok", "degraded"] = Field(description="degraded: it answers, but not as this build should")
    reason: str | None = Field(description="why it is degraded")
    fallback_reason: str | None = Field(description="why the launcher runs this backend although another is preferred")
    name: str
    version: str
    backend_variant: Variant = Field(description="which binary this is, by its executable's name")
    gpu_available: bool = Field(description="whether it computes on a GPU")
    gpu_type: Literal["cuda"] | None = Field(description="the kind of that GPU")
    gpu_name: str | None = Field(description="the name of the first GPU")
    gpu_count: int
    gpus: list[GpuHealth]
    engine: Literal["numpy", "torch"] = Field(description="the library that computes")
    device: Literal["cpu", "cuda"] = Field(description="where it computes")
    engine_reason: str = Field(description="why this engine and this device")
    torch_version: str | None = Field(description="none in a build without torch")
    torch_cuda: str | None = Field(description="the CUDA version that torch was built for")
    toolkit: str | None = Field(description="the same as a short name, such as cu126")
    python_version: str
    instance_id: str = Field(description="LADING_INSTANCE of its environment, else random; new with every start")
    pid: int
    uptime_seconds: float


def assess(
    variant: Variant, facts: EngineFacts, failure: str | None, fallback: str | None = None
) -> tuple[Literal["ok", "degraded"], str | None]:
    """Decide whether the server is what it should be.

    A CPU build without a GPU is what it should be, unless another backend was preferred; a CUDA build without one is
    not.

    Args:
        variant: Of this binary.
        facts: Of the engine.
        failure: How the engine last failed, if it did.
        fallback: Why the launcher runs this backend although another one is preferred.

    Returns:
        The status, and why it is not "ok".
    """
    if failure is not None:
        return "degraded", f"the engine failed: {failure}"
    if variant == "cuda" and facts.gpu_problem is not None:
        return "degraded", f"this is the CUDA build, but no GPU is used: {facts.gpu_problem}"
    if fallback is not None:
        return "degraded", fallback
    return "ok", None


def _measure(state: State) -> tuple[list[GpuHealth], str | None]:
    facts = state.engine.facts
    try:
        free = state.engine.free_memory()
    except RuntimeError as error:  # a GPU that fell off the bus, or a context broken by an earlier error
        return [], f"the GPU does not answer: {error}"
    return [GpuHealth(**asdict(gpu), memory_free_bytes=left) for gpu, left in zip(facts.gpus, free, strict=True)], None


def health_of(state: State) -> Health:
    """Ask a server's parts; a GPU is asked for its free memory, which blocks for microseconds."""
    facts = state.engine.facts
    gpus, silence = _measure(state)
    status, reason = assess(state.variant, facts, state.engine_failure or silence, state.fallback_reason)
    return Health(
        status=status,
        reason=reason,
        fallback_reason=state.fallback_reason,
        name=NAME,
        version=__version__,
        backend_variant=state.variant,
        gpu_available=bool(gpus),
        gpu_type="cuda" if gpus else None,
        gpu_name=gpus[0].name if gpus else None,
        gpu_count=len(gpus),
        gpus=gpus,
        engine=facts.engine,
        device=facts.device,
        engine_reason=facts.reason,
        torch_version=facts.torch_version,
        torch_cuda=facts.torch_cuda,
        toolkit=facts.toolkit,
        python_version=platform.python_version(),
        instance_id=state.instance,
        pid=os.getpid(),
        uptime_seconds=round(time.monotonic() - state.began, 3),
    )


@router.get("/health", summary="Who the server is and what it computes on")
def health(request: Request, response: Response) -> Health:
    """Answers also when the server is degraded, with status 200: it is up, and says what is wrong with it."""
    response.headers["cache-control"] = "no-store"
    return health_of(state_of(request))
