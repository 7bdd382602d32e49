"""What a server says about itself on ``GET /health``, and whether it is the one that was started.

Pure but for :func:`ask`, which makes one request that can neither hang nor go through a proxy.
"""

from __future__ import annotations

from typing import Literal

import urllib3
from pydantic import BaseModel, ConfigDict, ValidationError

REQUEST_TIMEOUT = 5.0  # seconds for one answer on loopback; a server that computes must still answer this
READY = frozenset({"ok", "healthy", "degraded"})
NOT_YET = frozenset({"starting", "loading"})


class Health(BaseModel):
    """The answer. Not one of Lading's own records: servers add fields, and a newer one must not look broken.

    Attributes:
        status: ``ok``, ``degraded`` (it serves, but not as it should), ``starting`` or something worse.
        version: The app's version.
        backend_variant: ``cpu`` or ``cuda``: the binary that really runs.
        gpu_available: Whether it can use a GPU.
        gpu_type: The kind of GPU that it uses, or its name.
        reason: Why it is degraded.
        instance_id: What the starter gave it in ``LADING_INSTANCE``.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    status: str
    version: str | None = None
    backend_variant: str | None = None
    gpu_available: bool | None = None
    gpu_type: str | None = None
    reason: str | None = None
    instance_id: str | None = None


Verdict = Literal["ready", "wait", "stranger", "unhealthy"]


def judge(health: Health | None, instance: str) -> Verdict:
    """Decide what an answer means for the one who started instance ``instance``.

    Args:
        health: The answer; none when nobody answered.
        instance: The identity that was given to the server.

    Returns:
        ``ready``, ``wait``, ``stranger`` (somebody else answers) or ``unhealthy``.
    """
    if health is None:
        return "wait"
    if health.instance_id != instance:
        return "stranger"
    if health.status in READY:
        return "ready"
    return "wait" if health.status in NOT_YET else "unhealthy"


class NoHealth(Exception):
    """Nobody answered, or not with a health record; the text says which."""


def ask(url: str, *, timeout: float = REQUEST_TIMEOUT) -> Health:
    """Ask a server how it is.

    Args:
        url: Its base URL.
        timeout: Seconds.

    Raises:
        NoHealth: No answer, or not a health record.
    """
    try:
        with urllib3.PoolManager() as pool:  # which knows no proxy: a request on loopback is not to go to the user's
            answer = pool.request("GET", f"{url}/health", timeout=timeout, redirect=False, retries=False)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise NoHealth(f"{type(error).__name__}: {error}" if str(error) else type(error).__name__) from error
    try:
        return Health.model_validate_json(answer.data)
    except ValidationError as error:
        raise NoHealth(f"HTTP {answer.status} with something that is no health record") from error
