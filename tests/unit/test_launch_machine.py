"""The launcher's state machine against its table: every phase with every event, and any sequence of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lading.launch.machine import (
    BecameHealthy,
    Bounds,
    Choose,
    Chosen,
    Died,
    Effect,
    End,
    Ended,
    Event,
    Launch,
    NothingToRun,
    Pause,
    PauseOver,
    Phase,
    Probe,
    ProbePassed,
    ProbeRefused,
    RestartAsked,
    SetAside,
    StartAsked,
    StartFailed,
    State,
    StopAsked,
    Target,
    Then,
    Trouble,
    is_settled,
    step,
)

CUDA, CPU = Target(variant="cuda", name="0.1.0+cu126-v1-aaaaaaaa"), Target(variant="cpu", name="0.1.0-bbbbbbbb")
BAD, HOST = Trouble(what="It died."), Trouble(what="The port is taken.", host=True)
RUN = 7
NEW = "another question"

START, RESTART, STOP = StartAsked(question=""), RestartAsked(question=""), StopAsked()
EVENTS: dict[str, Event] = {
    "start": START,
    "restart": RESTART,
    "restart with news": RestartAsked(question=NEW),
    "stop": STOP,
    "chosen": Chosen(run=RUN, target=CUDA, probe=False),
    "chosen to be probed": Chosen(run=RUN, target=CUDA, probe=True),
    "nothing to run": NothingToRun(run=RUN, trouble=BAD),
    "passed": ProbePassed(run=RUN),
    "refused": ProbeRefused(run=RUN, trouble=BAD),
    "healthy": BecameHealthy(run=RUN),
    "start failed": StartFailed(run=RUN, trouble=BAD),
    "start failed by the host": StartFailed(run=RUN, trouble=HOST),
    "died": Died(run=RUN, trouble=BAD, at=100.0),
    "ended": Ended(run=RUN),
    "pause over": PauseOver(run=RUN),
}
ASIDE = SetAside(target=CUDA, trouble=BAD)
AGAIN, ENDING = Choose(run=RUN + 1), End(run=RUN)

# The table of the module, row by row, for a CUDA build: phase, event, phase afterwards, what is done.
TABLE: dict[tuple[Phase, str], tuple[str, tuple[Effect, ...]]] = {
    ("stopped", "start"): ("choosing", (AGAIN,)),
    ("stopped", "restart"): ("choosing", (AGAIN,)),
    ("stopped", "restart with news"): ("choosing", (AGAIN,)),
    ("stopped", "stop"): ("stopped", ()),
    ("failed", "start"): ("choosing", (AGAIN,)),
    ("failed", "restart"): ("choosing", (AGAIN,)),
    ("failed", "restart with news"): ("choosing", (AGAIN,)),
    ("failed", "stop"): ("stopped", ()),
    ("choosing", "chosen"): ("starting", (Launch(run=RUN, target=CUDA),)),
    ("choosing", "chosen to be probed"): ("probing", (Probe(run=RUN, target=CUDA),)),
    ("choosing", "nothing to run"): ("failed", ()),
    ("choosing", "restart with news"): ("choosing", (AGAIN,)),
    ("choosing", "stop"): ("stopped", ()),
    ("probing", "passed"): ("starting", (Launch(run=RUN, target=CUDA),)),
    ("probing", "refused"): ("choosing", (ASIDE, AGAIN)),
    ("probing", "restart with news"): ("ending choose", (ENDING,)),
    ("probing", "stop"): ("ending stop", (ENDING,)),
    ("starting", "healthy"): ("ready", ()),
    ("starting", "start failed"): ("ending choose", (ASIDE, ENDING)),
    ("starting", "start failed by the host"): ("ending fail", (ENDING,)),
    ("starting", "restart with news"): ("ending choose", (ENDING,)),
    ("starting", "stop"): ("ending stop", (ENDING,)),
    ("ready", "died"): ("ending pause", (ENDING,)),
    ("ready", "restart"): ("ending choose", (ENDING,)),
    ("ready", "restart with news"): ("ending choose", (ENDING,)),
    ("ready", "stop"): ("ending stop", (ENDING,)),
    ("pausing", "pause over"): ("choosing", (AGAIN,)),
    ("pausing", "start"): ("choosing", (AGAIN,)),
    ("pausing", "restart"): ("choosing", (AGAIN,)),
    ("pausing", "restart with news"): ("choosing", (AGAIN,)),
    ("pausing", "stop"): ("stopped", ()),
    ("ending", "stop"): ("ending stop", ()),
    ("ending", "start"): ("ending choose", ()),
    ("ending", "restart"): ("ending choose", ()),
    ("ending", "restart with news"): ("ending choose", ()),
    ("ending", "ended"): ("stopped", ()),
}


def state_in(phase: Phase, *, target: Target | None = CUDA, then: Then = "stop") -> State:
    return State(phase=phase, then=then, run=RUN, target=target if phase in {"probing", "starting", "ready"} else None)


def named(state: State) -> str:
    return f"ending {state.then}" if state.phase == "ending" else state.phase


@pytest.mark.proves("X-38")
@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("phase", get_args(Phase))
def test_every_event_in_every_phase_does_what_the_table_says_and_nothing_where_it_says_nothing(
    phase: Phase, name: str
) -> None:
    before = state_in(phase)
    after, effects = step(before, EVENTS[name])
    if (phase, name) not in TABLE:
        assert (after, effects) == (before, ())
        return
    assert (named(after), effects) == TABLE[phase, name]


@pytest.mark.parametrize(
    ("then", "phase", "effects"),
    [
        ("stop", "stopped", ()),
        ("choose", "choosing", (AGAIN,)),
        ("pause", "pausing", (Pause(run=RUN, seconds=1.0),)),
        ("fail", "failed", ()),
    ],
)
def test_what_follows_an_end_was_decided_before_it(then: Then, phase: Phase, effects: tuple[Effect, ...]) -> None:
    before = replace(state_in("ending", then=then), deaths=(1.0, 2.0), trouble=BAD)
    after, done = step(before, Ended(run=RUN))
    assert (after.phase, done) == (phase, effects)
    assert (after.trouble is None) == (then == "stop")


@pytest.mark.parametrize("trouble", [BAD, HOST])
def test_a_cpu_build_that_does_not_get_ready_has_nothing_to_take_its_place(trouble: Trouble) -> None:
    after, effects = step(state_in("starting", target=CPU), StartFailed(run=RUN, trouble=trouble))
    assert (named(after), effects, after.trouble) == ("ending fail", (ENDING,), trouble)
    assert step(after, Ended(run=RUN))[0].phase == "failed"


@pytest.mark.parametrize("target", [CPU, CUDA])
def test_a_server_that_dies_is_started_again_with_growing_pauses_and_given_up_at_the_bound(target: Target) -> None:
    bounds = Bounds(deaths=4, window=100, first_pause=0.5, longest_pause=1.5)
    state, pauses = state_in("ready", target=target), []
    effects: tuple[Effect, ...] = ()
    for number in range(4):
        state, effects = step(state, Died(run=state.run, trouble=BAD, at=float(number)), bounds)
        if state.then != "pause":
            break
        state, [pause] = step(state, Ended(run=state.run), bounds)
        assert isinstance(pause, Pause)
        pauses.append(pause.seconds)
        state, _ = step(state, PauseOver(run=state.run), bounds)
        state, _ = step(state, Chosen(run=state.run, target=target, probe=False), bounds)
        state, _ = step(state, BecameHealthy(run=state.run), bounds)
        assert state.phase == "ready"
    assert pauses == [0.5, 1.0, 1.5]
    if target is CUDA:
        assert (state.then, effects) == ("choose", (ASIDE, End(run=state.run)))
    else:
        assert (state.then, effects) == ("fail", (End(run=state.run),))


def test_deaths_long_ago_do_not_count_and_neither_do_those_before_somebody_asked() -> None:
    bounds = Bounds(deaths=2, window=10)
    after, _ = step(replace(state_in("ready"), deaths=(0.0,)), Died(run=RUN, trouble=BAD, at=11.0), bounds)
    assert after.then == "pause"
    asked, _ = step(replace(state_in("ready"), deaths=(0.0,)), RESTART)
    assert asked.deaths == ()


@pytest.mark.proves("X-38")
def test_start_during_stop_starts_after_the_end_and_stop_during_start_stops() -> None:
    stopping, effects = step(state_in("ready"), STOP)
    assert effects == (ENDING,)
    back, effects = step(stopping, START)
    assert (back.phase, effects) == ("ending", ())
    assert step(back, Ended(run=RUN))[1] == (AGAIN,)
    given_up, effects = step(state_in("starting"), STOP)
    assert effects == (ENDING,)
    assert step(given_up, BecameHealthy(run=RUN)) == (given_up, ())
    assert step(given_up, Ended(run=RUN))[0].phase == "stopped"


@pytest.mark.proves("X-38")
def test_a_second_stop_and_a_second_restart_do_nothing_twice() -> None:
    stopping, first = step(state_in("ready"), STOP)
    twice, second = step(stopping, STOP)
    assert (twice, first, second) == (stopping, (ENDING,), ())
    restarting, first = step(state_in("ready"), RESTART)
    twice, second = step(restarting, RESTART)
    assert (twice.phase, twice.then, first, second) == ("ending", "choose", (ENDING,), ())


def test_asking_again_for_what_is_being_started_does_not_begin_it_again() -> None:
    for phase in ("choosing", "probing", "starting"):
        before = state_in(phase)
        assert step(before, RESTART) == (before, ())


@given(name=st.sampled_from(sorted(EVENTS)), phase=st.sampled_from(get_args(Phase)), behind=st.integers(1, RUN))
def test_an_answer_to_an_earlier_attempt_changes_nothing(name: str, phase: Phase, behind: int) -> None:
    event = EVENTS[name]
    if isinstance(event, StartAsked | RestartAsked | StopAsked):
        return
    before = state_in(phase)
    assert step(before, replace(event, run=RUN - behind)) == (before, ())


class World:
    """Does what the machine says, in any order, with any outcome; notices when a promise is broken."""

    def __init__(self) -> None:
        self.state = State()
        self.pending: list[Effect] = []
        self.live: set[int] = set()
        self.healthy: set[int] = set()
        self.aside: set[Target] = set()
        self.clock = 0.0

    def feed(self, event: Event) -> None:
        self.state, effects = step(self.state, event, Bounds(deaths=2, window=50))
        for effect in effects:
            if isinstance(effect, Launch | Probe):
                others = self.live - {effect.run}
                assert not others, "a build is started while another one still runs"
                self.live.add(effect.run)
            if isinstance(effect, SetAside):
                self.aside.add(effect.target)
            else:
                self.pending.append(effect)

    def answers(self, effect: Effect) -> Sequence[Event]:
        """What may come of an effect."""
        match effect:
            case Choose(run=run):
                target = CPU if CUDA in self.aside else CUDA
                return [
                    Chosen(run=run, target=target, probe=target is CUDA),
                    Chosen(run=run, target=target, probe=False),
                    NothingToRun(run=run, trouble=BAD),
                ]
            case Probe(run=run):
                return [ProbePassed(run=run), ProbeRefused(run=run, trouble=BAD)]
            case Launch(run=run):
                failed = [StartFailed(run=run, trouble=trouble) for trouble in (BAD, HOST)]
                died = [Died(run=run, trouble=BAD, at=self.clock)]
                return died if run in self.healthy else [BecameHealthy(run=run), *failed]
            case End(run=run):
                return [Ended(run=run)]
            case Pause(run=run):
                return [PauseOver(run=run)]
            case SetAside():
                return []

    def answer(self, number: int, outcome: int) -> None:
        effect = self.pending[number % len(self.pending)]
        choices = self.answers(effect)
        event = choices[outcome % len(choices)]
        self.clock += 1
        if isinstance(event, BecameHealthy):
            self.healthy.add(event.run)  # and may die yet
        else:
            self.pending.remove(effect)
        if isinstance(event, Ended | ProbeRefused):
            self.live.discard(event.run)
        self.feed(event)

    def come_to_rest(self) -> None:
        for _ in range(200):
            if is_settled(self.state):
                return
            relevant = [effect for effect in self.pending if getattr(effect, "run", None) == self.state.run]
            assert relevant, f"{self.state} waits for nothing"
            self.answer(self.pending.index(relevant[-1]), 0)
        raise AssertionError("it never comes to rest")


ASKED = st.sampled_from([START, RESTART, RestartAsked(question=NEW), STOP])
MOVES = st.lists(st.one_of(ASKED, st.tuples(st.integers(0, 9), st.integers(0, 3))), max_size=60)


@pytest.mark.proves("X-38", "X-25")
@given(moves=MOVES)
@settings(max_examples=400)
def test_any_sequence_keeps_the_promises_and_comes_to_rest(moves: Sequence[Event | tuple[int, int]]) -> None:
    world = World()
    for move in moves:
        if not isinstance(move, tuple):
            world.feed(move)
        elif world.pending:
            world.answer(*move)
        assert (world.state.target is not None) == (world.state.phase in {"probing", "starting", "ready"}) or (
            world.state.phase == "ending"
        )
    world.come_to_rest()
    world.feed(STOP)
    world.come_to_rest()
    assert (world.state.phase, world.state.target) == ("stopped", None)
    world.feed(START)
    world.come_to_rest()
    assert world.state.phase == "ready"
