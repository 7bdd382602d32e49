"""What a launcher says of itself: to the control interface, to a person, and to whoever embeds it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from lading.launch.health import Health
from lading.launch.machine import State, Trouble
from lading.manifest.base import Record, Variant
from lading.store.preference import Backend

Shown = Literal[
    "stopped", "choosing", "probing", "starting", "ready", "pausing", "restarting", "stopping", "failed"
]  # fmt: skip


class ServerHealth(Record):
    """What the server last said.

    Attributes:
        status: ``ok``, ``degraded`` or something else.
        reason: Why it is degraded.
        version: The app's version.
        backend_variant: The binary that runs.
        gpu_available: Whether it can use a GPU.
        gpu_type: Which kind.
    """

    status: str
    reason: str | None = None
    version: str | None = None
    backend_variant: str | None = None
    gpu_available: bool | None = None
    gpu_type: str | None = None


class SetAside(Record):
    """A version that is not started by itself.

    Attributes:
        name: Its folder's name.
        reason: Why.
        at: Since when, seconds since 1970.
    """

    name: str
    reason: str
    at: int


class LauncherError(Record):
    """Why there is no server, or why the last one ended.

    Attributes:
        code: The error's class.
        what, usually, todo: As in every error.
    """

    code: str
    what: str
    usually: str = ""
    todo: str = ""


class LauncherStatus(Record):
    """The status.

    Attributes:
        phase: ``ready`` when a server answers.
        url: The server's address, which it keeps across restarts; none before the first start.
        pid: The server's process.
        backend: The variant that runs, or is being started.
        installed: Its folder's name, or the path of a CPU build that is not installed.
        version: Its release; none when it is not installed.
        choice: What the user chose.
        forced: What leaves the user no choice: ``FORCE_CPU``, or an option of the launcher.
        reason: Why another backend than the preferred one runs, in words.
        set_aside: The CUDA version in use, when it is not started by itself.
        error: Why there is no server, or why the last one ended.
        health: What the server last said.
        starts: How many servers were started.
        ready_seconds: From the start of the process to ready.
        launcher_seconds: What the launcher itself took before it started the process: choosing, probing, the port.
        launcher_pid: The launcher's own process.
        log: Where the server prints.
        notes: What else is to be known.
    """

    schema_: Literal["lading/launcher/1"] = Field(default="lading/launcher/1", alias="schema")
    phase: Shown
    url: str | None = None
    pid: int | None = None
    backend: Variant | None = None
    installed: str | None = None
    version: str | None = None
    choice: Backend = "auto"
    forced: str | None = None
    reason: str | None = None
    set_aside: SetAside | None = None
    error: LauncherError | None = None
    health: ServerHealth | None = None
    starts: int = 0
    ready_seconds: float | None = None
    launcher_seconds: float | None = None
    launcher_pid: int
    log: str | None = None
    notes: tuple[str, ...] = ()


def shown_phase(state: State) -> Shown:
    """A state as it is told: of the end of a server, what it is for."""
    if state.phase != "ending":
        return state.phase
    return "restarting" if state.then in {"choose", "pause"} else "stopping"


def shown_error(trouble: Trouble | None) -> LauncherError | None:
    """A trouble as it is told."""
    if trouble is None:
        return None
    return LauncherError(code=trouble.kind, what=trouble.what, usually=trouble.usually, todo=trouble.todo)


def shown_health(health: Health | None) -> ServerHealth | None:
    """A server's answer as it is told: what every server has, and nothing that it adds."""
    if health is None:
        return None
    return ServerHealth.model_validate(health.model_dump(include=set(ServerHealth.model_fields)))
