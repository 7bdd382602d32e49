"""From an installed version to one running, healthy server."""

from __future__ import annotations

from lading.launch.health import Health, NoHealth, ask
from lading.launch.server import RunningServer, running

__all__ = ["Health", "NoHealth", "RunningServer", "ask", "running"]
