"""The launcher: one server at a time, started, watched, restarted, replaced by the CPU build when it has to be.

One thread owns the state (:mod:`lading.launch.machine`) and takes one event after the other. What takes time (choosing,
probing, starting, ending) is done in a thread of its own, which answers with an event. Any thread may ask: start,
restart, choose, stop, status.

Invariants:
    * At most one server of this launcher runs, and it keeps its port across restarts.
    * Nobody who holds the port is ever killed.
    * When the launcher ends, however it ends, nothing that it started goes on (:mod:`lading.launch.keeper`).
"""

from __future__ import annotations

import logging
import os
import queue
import secrets
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lading import errors
from lading.atomic import as_host_error
from lading.errors import (
    AccessDenied,
    ConfigError,
    DiskFailing,
    DiskFull,
    LadingError,
    PortTaken,
    ServerUnhealthy,
)
from lading.host.facts import host_facts
from lading.host.record import HostFacts
from lading.launch import machine
from lading.launch.child import server_environment
from lading.launch.examine import Build
from lading.launch.health import Health, NoHealth, judge
from lading.launch.health import ask as ask_health
from lading.launch.kept import Kept, Sink
from lading.launch.log import tail, usable_log
from lading.launch.machine import State, Target, Trouble, is_settled
from lading.launch.port import free_port, is_free, taken, wait_until_free
from lading.launch.proof import prove
from lading.launch.selector import Selection, Selector, log_of
from lading.launch.server import ended, unwell, url_of, wait_until_healthy
from lading.launch.settings import Settings
from lading.launch.signatures import advice_for
from lading.launch.status import LauncherStatus, shown_error, shown_health, shown_phase
from lading.store.preference import Backend

logger = logging.getLogger(__name__)

FALLBACK_VARIABLE = "LADING_FALLBACK_REASON"
CHOICE_VARIABLE = "LADING_BACKEND_CHOICE"
DATA_VARIABLE = "LADING_DATA"
APP_VARIABLE = "LADING_APP"
_HOST_FAULTS = (PortTaken, DiskFull, AccessDenied, DiskFailing, ConfigError)


@dataclass(kw_only=True)
class Attempt:
    """What one attempt has running.

    Attributes:
        run: Its number.
        selection: What it is about, once that is chosen.
        process: What runs: a probe, or the server.
        worker: The thread that works on it.
        cancelled: It was given up.
        began: When it was begun, on the clock that never goes back.
    """

    run: int
    selection: Selection | None = None
    process: Kept | None = None
    worker: threading.Thread | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class _Facts:
    """What is told besides the state."""

    url: str | None = None
    pid: int | None = None
    selection: Selection | None = None
    health: Health | None = None
    log: Path | None = None
    starts: int = 0
    ready_seconds: float | None = None
    launcher_seconds: float | None = None
    note: str | None = None


class Launcher:
    """Runs one server.

    Args:
        settings: What it was told.
        look: Looks at this machine.
        listener: Told of the status after each change, in the thread that owns the state: it must not block.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        look: Callable[[], HostFacts] = host_facts,
        listener: Callable[[LauncherStatus], None] | None = None,
    ) -> None:
        self.settings = settings
        self.environment: dict[str, str] = {}
        self._selector = Selector(settings, look)
        self._listener = listener
        self._events: queue.SimpleQueue[tuple[int, machine.Event] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._state = State()
        self._facts = _Facts()
        self._asked = self._handled = 0
        self._attempt = Attempt(run=0)
        self._port = settings.port
        self._thread = threading.Thread(target=self._own, name="lading-launcher", daemon=True)
        self._thread.start()

    # --- asking -------------------------------------------------------------------------------------------------------

    def start(self, *, wait: bool = True) -> LauncherStatus:
        """Start a server, if none runs.

        Args:
            wait: Until it is ready.

        Returns:
            The status.

        Raises:
            LadingError: It did not get ready.
        """
        return self._ask(lambda: machine.StartAsked(question=self._selector.question()), wait=wait)

    def restart(self, *, wait: bool = True, retry: bool = False) -> LauncherStatus:
        """End the server and start what is to be chosen now, on the same port.

        Args:
            wait: Until it is ready.
            retry: Also a version that was set aside.

        Returns:
            The status, with the address.

        Raises:
            LadingError: It did not get ready.
        """
        if retry:
            self._selector.retry()
        return self._ask(lambda: machine.RestartAsked(question=self._selector.question()), wait=wait)

    def stop(self, *, wait: bool = True) -> LauncherStatus:
        """End the server.

        Args:
            wait: Until nothing of it is left.
        """
        return self._ask(machine.StopAsked, wait=wait)

    def choose(self, backend: Backend) -> LauncherStatus:
        """Keep the user's choice, for the next start.

        Args:
            backend: What is chosen.

        Returns:
            The status.

        Raises:
            ConfigError: The launcher was told what to run, so that no choice would count.
        """
        if self.settings.only is not None:
            raise ConfigError(
                f"This launcher runs only the {self.settings.only} variant; {backend} would not count.",
                todo="Start it without --variant.",
            )
        self._selector.choose_backend(backend)
        self._tell()
        return self.status()

    def status(self) -> LauncherStatus:
        """How everything is."""
        with self._changed:
            state, facts = self._state, self._facts
        selection, aside = facts.selection, self._selector.set_aside_now()
        build = selection.build if selection else None
        running = state.phase not in {"stopped", "failed"}
        notes = (*self._selector.notes, *([facts.note] if facts.note else []))
        return LauncherStatus(
            phase=shown_phase(state),
            url=facts.url,
            pid=facts.pid if running else None,
            backend=build.variant if build and running else None,
            installed=build.name if build and running else None,
            version=build.version if build and running else None,
            choice=self._selector.choice,
            forced=self._selector.forced,
            reason=selection.reason if selection and running else None,
            set_aside=aside,
            error=shown_error(state.trouble),
            health=shown_health(facts.health) if state.phase == "ready" else None,
            starts=facts.starts,
            ready_seconds=facts.ready_seconds,
            launcher_seconds=facts.launcher_seconds,
            launcher_pid=os.getpid(),
            log=str(facts.log) if facts.log else None,
            notes=notes,
        )

    def wait(self, until: Callable[[State], bool], timeout: float | None = None) -> bool:
        """Wait until the state is as wanted.

        Args:
            until: Decides.
            timeout: Seconds; for ever when none.

        Returns:
            Whether it came to that.
        """
        with self._changed:
            return self._changed.wait_for(lambda: until(self._state), timeout)

    def close(self) -> None:
        """End the server and this launcher; done twice does no harm."""
        if self._thread.is_alive():
            self.stop()
            self._events.put(None)
            self._thread.join()

    def _ask(self, event: Callable[[], machine.Event], *, wait: bool) -> LauncherStatus:
        with self._changed:
            self._asked += 1
            number = self._asked
        self._events.put((number, event()))
        if wait:
            with self._changed:
                self._changed.wait_for(lambda: self._handled >= number and is_settled(self._state))
                trouble = self._state.trouble if self._state.phase == "failed" else None
            if trouble is not None:
                raise error_of(trouble)
        else:
            with self._changed:
                self._changed.wait_for(lambda: self._handled >= number)
        return self.status()

    # --- the owner of the state ---------------------------------------------------------------------------------------

    def _own(self) -> None:
        while (item := self._events.get()) is not None:
            number, event = item
            after, effects = machine.step(self._state, event, self.settings.times.bounds)
            if effects or after != self._state:
                logger.debug("%s + %s -> %s", self._state.phase, type(event).__name__, after.phase)
            for effect in effects:
                self._do(effect)
            with self._changed:
                self._state = after
                self._handled = max(self._handled, number)
                self._changed.notify_all()
            self._tell()

    def _learn(self, change: Callable[[_Facts], _Facts]) -> None:
        with self._changed:
            self._facts = change(self._facts)

    def _tell(self) -> None:
        if self._listener is not None:
            self._listener(self.status())

    def _say(self, event: machine.Event) -> None:
        self._events.put((0, event))

    def _do(self, effect: machine.Effect) -> None:
        attempt = self._attempt
        match effect:
            case machine.Choose(run=run):
                attempt = self._attempt = Attempt(run=run)
                self._work(attempt, self._choose)
            case machine.Probe():
                self._work(attempt, self._prove)
            case machine.Launch():
                self._work(attempt, self._launch)
            case machine.End(run=run):
                attempt.cancelled.set()
                self._thread_for("end", lambda: self._end(attempt, run))
            case machine.Pause(run=run, seconds=seconds):
                timer = threading.Timer(seconds, lambda: self._say(machine.PauseOver(run=run)))
                timer.daemon = True
                timer.start()
            case machine.SetAside(trouble=trouble):
                assert attempt.selection is not None
                self._selector.failed(attempt.selection, trouble)

    def _work(self, attempt: Attempt, work: Callable[[Attempt], machine.Event | None]) -> None:
        def do() -> None:
            try:
                answer = work(attempt)
            except Exception as error:
                # A bug in here must end in "failed" with its words, and not in a launcher that waits for ever.
                logger.exception("attempt %d broke", attempt.run)
                for event in _broken(attempt.run, error):
                    self._say(event)
            else:
                if answer is not None:
                    self._say(answer)

        attempt.worker = self._thread_for(work.__name__.strip("_"), do)

    @staticmethod
    def _thread_for(name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=work, name=f"lading-{name}", daemon=True)
        thread.start()
        return thread

    # --- the work -----------------------------------------------------------------------------------------------------

    def _choose(self, attempt: Attempt) -> machine.Event:
        try:
            selection = self._selector.select()
        except (LadingError, OSError) as error:
            return machine.NothingToRun(run=attempt.run, trouble=trouble_of(error))
        attempt.selection = selection
        target = Target(variant=selection.build.variant, name=selection.build.name)
        self._learn(lambda facts: replace(facts, selection=selection, health=None))
        return machine.Chosen(run=attempt.run, target=target, probe=selection.proof != "none")

    def _prove(self, attempt: Attempt) -> machine.Event:
        selection = attempt.selection
        assert selection is not None
        try:
            why = prove(
                selection.build,
                selection.proof,
                environment={**self.settings.environment, **selection.environment},
                hand=lambda process: self._hand(attempt, process),
                patience=self.settings.times.probe,
            )
        except (LadingError, OSError) as error:
            return machine.ProbeRefused(run=attempt.run, trouble=trouble_of(error))
        if why is not None:
            trouble = Trouble(what=f"{selection.build.name} did not prove itself: {why}")
            return machine.ProbeRefused(run=attempt.run, trouble=trouble)
        if not attempt.cancelled.is_set():
            self._selector.passed(selection)
        return machine.ProbePassed(run=attempt.run)

    def _hand(self, attempt: Attempt, process: Kept) -> None:
        """Note what runs; what was given up while it was being started is ended at once."""
        attempt.process = process
        if attempt.cancelled.is_set():
            process.end(0)

    def _launch(self, attempt: Attempt) -> machine.Event | None:
        assert attempt.selection is not None
        log = self._log_place(attempt.selection.build)
        try:
            process, url, instance, port = self._start(attempt, log)
            if attempt.cancelled.is_set():
                return None
            began = time.monotonic()
            health = wait_until_healthy(
                process, url, port, instance=instance, deadline=self.settings.times.healthy, log=log
            )
        except (LadingError, OSError) as error:
            return machine.StartFailed(run=attempt.run, trouble=trouble_of(error, attempt.process, log))
        seconds = round(time.monotonic() - began, 3)
        self._learn(lambda facts: replace(facts, health=health, ready_seconds=seconds))
        self._say(machine.BecameHealthy(run=attempt.run))
        if (end := self._watch(attempt, process, url, instance, log)) is None:
            return None
        return machine.Died(run=attempt.run, trouble=trouble_of(end, process, log), at=time.monotonic())

    def _start(self, attempt: Attempt, log: Path) -> tuple[Kept, str, str, int]:
        """Wait for the port, and start the build on it."""
        selection = attempt.selection
        assert selection is not None
        port = self._free_port(attempt)
        url = url_of(self.settings.host, port)
        instance = secrets.token_hex(16)
        process = Kept(
            selection.build.tree.absolute(),
            selection.build.entry,
            ["--host", self.settings.host, "--port", str(port), *self.settings.arguments],
            environment=self._environment(selection, instance),
            sink=Sink(log=log),
            grace=self.settings.times.grace,
        )
        own = round(time.monotonic() - attempt.began, 3)
        self._learn(
            lambda facts: replace(
                facts, url=url, pid=process.pid, log=log, starts=facts.starts + 1, launcher_seconds=own
            )
        )
        self._hand(attempt, process)
        return process, url, instance, port

    def _free_port(self, attempt: Attempt) -> int:
        any_will_do = self.settings.port == 0 and self._facts.ready_seconds is None
        if any_will_do and (self._port == 0 or not is_free(self.settings.host, self._port)):
            self._port = free_port(self.settings.host)
        patience = self.settings.times.port
        if not wait_until_free(self.settings.host, self._port, patience=patience, cancel=attempt.cancelled):
            raise taken(self._port)
        return self._port

    def _environment(self, selection: Selection, instance: str) -> dict[str, str]:
        told = {
            **self.settings.environment,
            **self.environment,
            **selection.environment,
            DATA_VARIABLE: str(self.settings.data.absolute()),
            APP_VARIABLE: os.environ.get(APP_VARIABLE, selection.build.app),
            CHOICE_VARIABLE: self._selector.choice,
            FALLBACK_VARIABLE: selection.reason or "",
        }
        environment = server_environment(instance, told)
        if selection.reason is None:
            del environment[FALLBACK_VARIABLE]
        return environment

    def _log_place(self, build: Build) -> Path:
        wanted = log_of(self.settings, build)
        spare = Path(tempfile.gettempdir()) / f"{build.app}-{os.getpid()}.log"
        log, note = usable_log(wanted, spare)
        self._learn(lambda facts: replace(facts, note=note))
        return log

    def _watch(self, attempt: Attempt, process: Kept, url: str, instance: str, log: Path) -> LadingError | None:
        """Look after a healthy server, until it ends, is not well any more, or was given up."""
        times, misses = self.settings.times, 0
        while process.wait(times.look) is None:
            if attempt.cancelled.is_set():
                return None
            why = self._look(url, instance)
            misses = 0 if why is None else misses + 1
            if misses >= times.misses:
                return unwell(f"The server is not well any more: {why}, {misses} times in a row.", log)
        if attempt.cancelled.is_set():
            return None
        status = process.poll()
        assert status is not None
        return ended(status, log)

    def _look(self, url: str, instance: str) -> str | None:
        """What is wrong with a server that was healthy; none when nothing is."""
        try:
            health = ask_health(url, timeout=self.settings.times.answer)
        except NoHealth as error:
            return str(error)
        self._learn(lambda facts: replace(facts, health=health))
        return None if judge(health, instance) == "ready" else f"status {health.status!r} of {health.instance_id!r}"

    def _end(self, attempt: Attempt, run: int) -> None:
        while True:
            if attempt.process is not None:
                attempt.process.end(self.settings.times.end)
            if attempt.worker is None:
                break
            attempt.worker.join(self.settings.times.answer)
            if not attempt.worker.is_alive():
                break
        self._say(machine.Ended(run=run))


def _broken(run: int, error: Exception) -> tuple[machine.Event, ...]:
    """What ends an attempt, whichever phase it is in: the one that fits is heeded, the others are not."""
    trouble = Trouble(what=f"The launcher itself broke: {error!r}", kind="LadingError", host=True)
    return (
        machine.NothingToRun(run=run, trouble=trouble),
        machine.ProbeRefused(run=run, trouble=trouble),
        machine.StartFailed(run=run, trouble=trouble),
        machine.Died(run=run, trouble=trouble, at=time.monotonic()),
    )


def trouble_of(error: LadingError | OSError, process: Kept | None = None, log: Path | None = None) -> Trouble:
    """An error as the state machine takes it.

    Args:
        error: What happened.
        process: The server that it happened to.
        log: What it printed.
    """
    if isinstance(error, OSError):
        translated = as_host_error(error, "starting the server")
        if isinstance(translated, OSError):
            return Trouble(what=f"The system refuses: {translated}", kind="HostCannot", host=True)
        error = translated
    advice = advice_for(tail(log), process.poll()) if process is not None and log is not None else None
    return Trouble(
        what=error.what,
        kind=error.kind,
        usually=error.usually,
        todo=error.todo,
        host=isinstance(error, _HOST_FAULTS) or (advice is not None and advice.host),
    )


def error_of(trouble: Trouble) -> LadingError:
    """A trouble as the error that it was."""
    kind = getattr(errors, trouble.kind, ServerUnhealthy)
    wanted = kind if isinstance(kind, type) and issubclass(kind, LadingError) else ServerUnhealthy
    return wanted(trouble.what, usually=trouble.usually, todo=trouble.todo)
