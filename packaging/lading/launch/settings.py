"""How a launcher runs: what it was told, and how patient it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lading.launch.keeper import GRACE
from lading.launch.machine import Bounds
from lading.launch.server import DEADLINE, LOOPBACK, PATIENCE
from lading.manifest.base import Variant


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long a launcher waits, in seconds.

    Attributes:
        healthy: Until a server must be healthy.
        end: That a server may take to end in order.
        port: Until a port must be free; longer than :data:`GRACE`, in which a server of a killed launcher ends.
        probe: That ``--version`` may take; as the system needs when none.
        look: Between two looks at a server that is ready.
        answer: That one of these looks may take.
        misses: Looks in a row after which a server that does not answer, or says that it is not well, is given up.
        grace: That a server gets to end in order when the launcher is gone.
        bounds: How often and how fast a server that dies is started again.
    """

    healthy: float = DEADLINE
    end: float = PATIENCE
    port: float = 5.0
    probe: float | None = None
    look: float = 10.0
    answer: float = 5.0
    misses: int = 3
    grace: float = GRACE
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a launcher was told.

    Attributes:
        data: The data directory.
        app: The app's name.
        host, port: Where the server listens; 0 for any free port, which it then keeps.
        only: The variant to run, and no other.
        cpu_build: A CPU build that is not installed: its folder or executable.
        log: Where the server prints; ``logs/APP.log`` of the data directory when none.
        arguments: Further arguments of the server.
        environment: Further variables of the server.
        times: How patient it is.
    """

    data: Path
    app: str
    host: str = LOOPBACK
    port: int = 0
    only: Variant | None = None
    cpu_build: Path | None = None
    log: Path | None = None
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    times: Times = field(default_factory=Times)
