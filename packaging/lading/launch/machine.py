"""The launcher's state machine. Pure: it takes a state and an event, and gives a state and what is to be done.

One thread owns the state and feeds it one event after the other (:mod:`lading.launch.supervisor`), so that "start
during stop" is not a race but a row of this table. ``T`` is what shall follow when a server has been ended.

====================  ==================  =================================================================
phase                 event               what follows
====================  ==================  =================================================================
stopped, failed       start, restart      choosing
choosing              chosen              probing, or starting when nothing is to be asked any more
choosing              nothing to run      failed
probing               passed              starting
probing               refused             set aside, then choosing
starting              healthy             ready
starting              start failed        the host's fault: ending, T = fail; a CPU build's: likewise;
                                          a CUDA build's: set aside, ending, T = choose
ready                 died                not too often: ending, T = pause; a CUDA build too often: set aside,
                                          ending, T = choose; a CPU build too often: ending, T = fail
pausing               pause over          choosing
pausing               start, restart      choosing, at once
choosing, pausing     stop                stopped
probing, starting,    stop                ending, T = stop
ready
ready                 restart             ending, T = choose; earlier deaths are forgotten
choosing              restart             choosing anew, if what there is to choose from has changed
probing, starting     restart             ending, T = choose, if what there is to choose from has changed
ending                ended               T = stop: stopped; choose: choosing; pause: pausing; fail: failed
ending                stop                T = stop
ending                start, restart      T = choose
====================  ==================  =================================================================

Whatever is not in the table changes nothing. Each attempt has a number, and an answer to an earlier attempt than the
present one is such an event: a probe that was given up may still answer.

Invariants:
    * A server is started only after everything of the one before it has ended.
    * A build is never tried twice in a row without either a pause or somebody asking for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from lading.manifest.base import Variant

Phase = Literal["stopped", "choosing", "probing", "starting", "ready", "pausing", "ending", "failed"]
Then = Literal["stop", "choose", "pause", "fail"]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds between a death and the next start; doubled each time
DEATHS, WINDOW = 3, 600.0  # so many deaths within so many seconds are too many


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How often and how fast a server that dies is started again.

    Attributes:
        deaths, window: With so many deaths within so many seconds it is given up.
        first_pause, longest_pause: Seconds before the next start; doubled with each death within the window.
    """

    deaths: int = DEATHS
    window: float = WINDOW
    first_pause: float = FIRST_PAUSE
    longest_pause: float = LONGEST_PAUSE

    def pause(self, deaths: int) -> float:
        """Seconds to wait after so many deaths."""
        return min(self.first_pause * 2.0 ** (deaths - 1), self.longest_pause)


@dataclass(frozen=True, kw_only=True)
class Target:
    """The build that an attempt is about.

    Attributes:
        variant: ``cpu`` or ``cuda``.
        name: The installed version's folder, or the path of a CPU build that is not installed.
    """

    variant: Variant
    name: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """Why something did not work.

    Attributes:
        what: In words, the first line by itself is a sentence.
        kind: The error's class, as programs know it.
        usually, todo: As in every error.
        host: It is not the build's fault: a taken port, a full disk. Another build would not do better.
    """

    what: str
    kind: str = "ServerUnhealthy"
    usually: str = ""
    todo: str = ""
    host: bool = False


@dataclass(frozen=True, kw_only=True)
class State:
    """Where the launcher stands.

    Attributes:
        phase: See the table.
        then: While ending: what follows.
        run: The present attempt's number.
        target: What is probed, started, run or ended.
        question: What there was to choose from at the last choice; opaque.
        deaths: When servers died after they had been ready, seconds, the latest last.
        trouble: Why it pauses, ends or has failed.
    """

    phase: Phase = "stopped"
    then: Then = "stop"
    run: int = 0
    target: Target | None = None
    question: str = ""
    deaths: tuple[float, ...] = ()
    trouble: Trouble | None = None


# --- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class StartAsked:
    """Somebody wants a server."""

    question: str


@dataclass(frozen=True, kw_only=True)
class RestartAsked:
    """Somebody wants another start, with whatever is chosen then."""

    question: str


@dataclass(frozen=True, kw_only=True)
class StopAsked:
    """Somebody wants no server."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A build was chosen.

    Attributes:
        run: The attempt.
        target: The build.
        probe: It has to prove itself first.
    """

    run: int
    target: Target
    probe: bool


@dataclass(frozen=True, kw_only=True)
class NothingToRun:
    """There is no build that could be started."""

    run: int
    trouble: Trouble


@dataclass(frozen=True, kw_only=True)
class ProbePassed:
    """The build proved itself."""

    run: int


@dataclass(frozen=True, kw_only=True)
class ProbeRefused:
    """The build did not prove itself."""

    run: int
    trouble: Trouble


@dataclass(frozen=True, kw_only=True)
class BecameHealthy:
    """The server answers, as the one that was started, and is well."""

    run: int


@dataclass(frozen=True, kw_only=True)
class StartFailed:
    """The server ended, hung or was not well before it was ready; something of it may still run."""

    run: int
    trouble: Trouble


@dataclass(frozen=True, kw_only=True)
class Died:
    """A server that was ready ended or is no longer well; something of it may still run.

    Attributes:
        run: The attempt.
        trouble: How.
        at: When, on a clock that never goes back, seconds.
    """

    run: int
    trouble: Trouble
    at: float


@dataclass(frozen=True, kw_only=True)
class Ended:
    """Nothing of the server, or of the probe, is left."""

    run: int


@dataclass(frozen=True, kw_only=True)
class PauseOver:
    """It was waited long enough."""

    run: int


Event: TypeAlias = (
    StartAsked
    | RestartAsked
    | StopAsked
    | Chosen
    | NothingToRun
    | ProbePassed
    | ProbeRefused
    | BecameHealthy
    | StartFailed
    | Died
    | Ended
    | PauseOver
)

# --- effects ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Choose:
    """Choose a build; answered by :class:`Chosen` or :class:`NothingToRun`."""

    run: int


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Let the build prove itself; answered by :class:`ProbePassed` or :class:`ProbeRefused`."""

    run: int
    target: Target


@dataclass(frozen=True, kw_only=True)
class Launch:
    """Wait for the port, start the build, wait for its health; then watch it until it dies."""

    run: int
    target: Target


@dataclass(frozen=True, kw_only=True)
class End:
    """End whatever runs of this attempt, with everything that it started; answered by :class:`Ended`."""

    run: int


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Wait; answered by :class:`PauseOver`."""

    run: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """Remember that a build is not to be started again by itself, and why."""

    target: Target
    trouble: Trouble


Effect: TypeAlias = Choose | Probe | Launch | End | Pause | SetAside
Step: TypeAlias = tuple[State, tuple[Effect, ...]]

# --- rules ------------------------------------------------------------------------------------------------------------


def step(state: State, event: Event, bounds: Bounds | None = None) -> Step:
    """Take one event.

    Args:
        state: Before.
        event: What happened.
        bounds: How often a server may die.

    Returns:
        The state afterwards, and what is to be done, in this order.
    """
    if not isinstance(event, StartAsked | RestartAsked | StopAsked) and event.run != state.run:
        return state, ()
    return _RULES[state.phase](state, event, bounds or Bounds())


def is_settled(state: State) -> bool:
    """Whether nothing changes any more until somebody asks or a server dies."""
    return state.phase in {"stopped", "ready", "failed"}


def _idle(state: State, event: Event, _bounds: Bounds) -> Step:
    match event:
        case StartAsked() | RestartAsked():
            return _begin(_forgiven(state), event.question)
        case StopAsked():
            return _stopped(state)
        case _:
            return state, ()


def _choosing(state: State, event: Event, _bounds: Bounds) -> Step:
    match event:
        case Chosen(target=target, probe=True):
            return replace(state, phase="probing", target=target), (Probe(run=state.run, target=target),)
        case Chosen(target=target):
            return _launch(state, target)
        case NothingToRun(trouble=trouble):
            return replace(state, phase="failed", trouble=trouble), ()
        case RestartAsked(question=question) if question != state.question:
            return _begin(state, question)
        case StopAsked():
            return _stopped(state)
        case _:
            return state, ()


def _probing(state: State, event: Event, _bounds: Bounds) -> Step:
    assert state.target is not None
    match event:
        case ProbePassed():
            return _launch(state, state.target)
        case ProbeRefused(trouble=trouble):
            return _begin(state, state.question, SetAside(target=state.target, trouble=trouble))
        case _:
            return _underway(state, event)


def _starting(state: State, event: Event, _bounds: Bounds) -> Step:
    assert state.target is not None
    match event:
        case BecameHealthy():
            return replace(state, phase="ready", trouble=None), ()
        case StartFailed(trouble=trouble) if trouble.host or state.target.variant == "cpu":
            return _end(replace(state, trouble=trouble), "fail")
        case StartFailed(trouble=trouble):
            return _give_up(replace(state, trouble=trouble), state.target, trouble)
        case _:
            return _underway(state, event)


def _ready(state: State, event: Event, bounds: Bounds) -> Step:
    assert state.target is not None
    match event:
        case Died(trouble=trouble, at=at):
            deaths = (*(before for before in state.deaths if at - before < bounds.window), at)
            after = replace(state, deaths=deaths, trouble=trouble)
            if len(deaths) < bounds.deaths:
                return _end(after, "pause")
            if state.target.variant == "cpu":
                return _end(after, "fail")
            return _give_up(replace(after, deaths=()), state.target, trouble)
        case RestartAsked(question=question):
            return _end(replace(_forgiven(state), question=question), "choose")
        case StopAsked():
            return _end(state, "stop")
        case _:
            return state, ()


def _pausing(state: State, event: Event, bounds: Bounds) -> Step:
    match event:
        case PauseOver():
            return _begin(state, state.question)
        case _:
            return _idle(state, event, bounds)


def _ending(state: State, event: Event, bounds: Bounds) -> Step:
    match event:
        case StopAsked():
            return replace(state, then="stop"), ()
        case StartAsked(question=question) | RestartAsked(question=question):
            return replace(state, then="choose", question=question, deaths=()), ()
        case Ended():
            return _after_the_end(state, bounds)
        case _:
            return state, ()


def _after_the_end(state: State, bounds: Bounds) -> Step:
    match state.then:
        case "stop":
            return _stopped(state)
        case "choose":
            return _begin(state, state.question)
        case "pause":
            seconds = bounds.pause(len(state.deaths))
            return replace(state, phase="pausing", target=None), (Pause(run=state.run, seconds=seconds),)
        case "fail":
            return replace(state, phase="failed", target=None), ()


def _underway(state: State, event: Event) -> Step:
    """What holds for every attempt that is not ready yet."""
    match event:
        case RestartAsked(question=question) if question != state.question:
            return _end(replace(_forgiven(state), question=question), "choose")
        case StopAsked():
            return _end(state, "stop")
        case _:
            return state, ()


def _begin(state: State, question: str, *before: Effect) -> Step:
    """Begin an attempt."""
    run = state.run + 1
    return replace(state, phase="choosing", run=run, target=None, question=question), (*before, Choose(run=run))


def _launch(state: State, target: Target) -> Step:
    return replace(state, phase="starting", target=target), (Launch(run=state.run, target=target),)


def _end(state: State, then: Then, *before: Effect) -> Step:
    return replace(state, phase="ending", then=then), (*before, End(run=state.run))


def _give_up(state: State, target: Target, trouble: Trouble) -> Step:
    return _end(state, "choose", SetAside(target=target, trouble=trouble))


def _forgiven(state: State) -> State:
    """The state after somebody asked: what happened before no longer counts."""
    return replace(state, deaths=(), trouble=None)


def _stopped(state: State) -> Step:
    # The number goes on, so that an answer to what was given up is not taken for one to what comes next.
    return replace(_forgiven(state), phase="stopped", run=state.run + 1, target=None), ()


_RULES: Mapping[Phase, Callable[[State, Event, Bounds], Step]] = {
    "stopped": _idle,
    "failed": _idle,
    "choosing": _choosing,
    "probing": _probing,
    "starting": _starting,
    "ready": _ready,
    "pausing": _pausing,
    "ending": _ending,
}
