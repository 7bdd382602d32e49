"""What a server's own state means on this machine. Pure."""

from __future__ import annotations

from lading.host.record import HostFacts
from lading.launch.health import Health


def health_problems(health: Health, host: HostFacts) -> list[str]:
    """What is wrong with a server's state.

    Args:
        health: What it said.
        host: The machine; a CUDA build that is degraded on a machine without a GPU is as it should be.

    Returns:
        One line a problem.
    """
    expected = health.status == "degraded" and health.backend_variant == "cuda" and not host.has_gpu
    if health.status == "ok" or expected:
        return []
    return [f"its status is {health.status!r}{f': {health.reason}' if health.reason else ''}"]
