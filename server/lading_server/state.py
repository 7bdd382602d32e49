"""What the running server knows about itself, shared by its routes."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass, field

from fastapi import Request

from lading_server.engine.base import Engine
from lading_server.lane import Lane
from lading_server.variant import Variant

INSTANCE_VARIABLE = "LADING_INSTANCE"


def instance_id() -> str:
    """The name by which who started this server knows it: given by the launcher, else a random one."""
    return os.environ.get(INSTANCE_VARIABLE) or str(uuid.uuid4())


@dataclass(kw_only=True)
class State:
    """The server's state.

    Attributes:
        variant: Of this binary.
        instance: The name of this process.
        engine: What computes.
        lane: Where it computes.
        began: When the server started, on the monotonic clock.
        engine_failure: How the engine's last call failed by the engine's fault; nothing after one that did not.
        fallback_reason: Why the launcher runs this backend although another one is preferred.
    """

    variant: Variant
    engine: Engine
    lane: Lane
    instance: str = field(default_factory=instance_id)
    began: float = field(default_factory=time.monotonic)
    engine_failure: str | None = None
    fallback_reason: str | None = None


def state_of(request: Request) -> State:
    """The state of the server that a request came to."""
    state = request.app.state.server
    assert isinstance(state, State)
    return state
