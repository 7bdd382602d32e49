"""Gathers what there is to choose from, lets :mod:`lading.launch.choose` decide, and remembers how builds did.

Reads the data directory and asks the driver; starts nothing. What cannot be remembered on the disk, because the data
directory is read-only or full, is remembered as long as the launcher runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lading.errors import LadingError, NotInstalled, ServerUnhealthy
from lading.host.facts import VISIBLE, host_facts
from lading.host.record import HostFacts
from lading.host.resolve import resolve
from lading.host.visible import visible_gpus
from lading.launch.choose import (
    CudaFacts,
    Decision,
    Proof,
    Wishes,
    decide,
    forced_by,
    needs_cuda,
    refusal,
    without_choice,
)
from lading.launch.examine import Build, build_of, damage_of, find_cpu_build
from lading.launch.machine import Trouble
from lading.launch.settings import Settings
from lading.launch.status import SetAside
from lading.store.choice import against, candidate_of
from lading.store.home import Home
from lading.store.installed import Installed, current_version
from lading.store.pointer import read_pointer
from lading.store.preference import Backend, cpu_is_forced, read_preference, write_preference
from lading.store.trials import Machine, Trial, lift, read_trial, trial_of, write_trial

NOTES = 5  # kept


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What is to be started, and how.

    Attributes:
        build: The build.
        reason: Why not the preferred one.
        proof: How it has to prove itself first.
        environment: Variables that it needs.
        machine: What it will run on.
    """

    build: Build
    reason: str | None = None
    proof: Proof = "none"
    environment: dict[str, str] = field(default_factory=dict)
    machine: Machine = field(default_factory=Machine)


@dataclass(frozen=True, kw_only=True)
class _Cuda:
    """The CUDA version in use, with what follows from the machine."""

    facts: CudaFacts
    version: Installed | None
    machine: Machine = field(default_factory=Machine)
    visible: str | None = None


class Selector:
    """Chooses for one launcher; for one thread at a time, except :meth:`choice` and :meth:`set_aside_now`.

    Args:
        settings: What the launcher was told.
        look: Looks at this machine.
    """

    def __init__(self, settings: Settings, look: Callable[[], HostFacts] = host_facts) -> None:
        self._settings = settings
        self._look = look
        self._home = Home(settings.data, "cuda")
        self._trials: dict[str, Trial] = {}
        self._troubles: dict[str, Trouble] = {}
        self._choice: Backend | None = None
        self._disregarded: set[str] = set()  # versions whose notes on the disk could not be deleted
        self._retries = 0
        self.notes: tuple[str, ...] = ()

    @property
    def choice(self) -> Backend:
        """What the user chose."""
        return self._choice or read_preference(self._settings.data)

    @property
    def forced(self) -> str | None:
        """What leaves the user no choice."""
        return forced_by(self._wishes())

    def question(self) -> str:
        """What there is to choose from, as one opaque text: another one is a reason to choose again."""
        homes = [self._home, Home(self._settings.data, "cpu")]
        return "|".join([self.choice, str(self._retries), *(str(read_pointer(home.current)) for home in homes)])

    def choose_backend(self, backend: Backend) -> None:
        """Keep the user's choice. Who chooses ``cuda`` wants it tried, also when it is set aside."""
        if backend == "cuda" and self.set_aside_now() is not None:
            self.retry()
        self._choice = backend
        if self._kept("the choice", lambda: write_preference(self._settings.data, backend)):
            self._choice = None  # from now on, what lies on the disk counts, whoever writes it

    def retry(self) -> None:
        """Let versions that were set aside be tried again."""
        self._retries += 1
        self._trials.clear()
        if not self._kept("that it is tried again", lambda: lift(self._home)) and (
            version := current_version(self._home)
        ):
            self._trials[version.name] = trial_of(version, "passed", Machine())

    def select(self) -> Selection:
        """Choose what is to be started.

        Raises:
            NotInstalled: There is nothing.
            ServerUnhealthy: What there is was set aside.
            ConfigError: A variable of the environment has a senseless value.
        """
        return self._select(self._wishes(), None)

    def passed(self, selection: Selection) -> None:
        """Remember that a build proved itself."""
        self._remember(selection, "")

    def failed(self, selection: Selection, trouble: Trouble) -> None:
        """Remember that a build is not to be started again by itself."""
        self._troubles[selection.build.name] = trouble
        self._remember(selection, reason_of(trouble))

    def set_aside_now(self) -> SetAside | None:
        """The CUDA version in use, when it is set aside."""
        version = current_version(self._home)
        trial = self._trial(version, None) if version else None
        if trial is None or trial.outcome == "passed":
            return None
        return SetAside(name=trial.version, reason=trial.reason, at=trial.at)

    def _wishes(self) -> Wishes:
        return Wishes(choice=self.choice, forced_cpu=cpu_is_forced(), only=self._settings.only)

    def _select(self, wishes: Wishes, because: str | None) -> Selection:
        cuda = self._look_at_cuda() if needs_cuda(wishes) else None
        decision = decide(wishes, cuda.facts if cuda else None)
        if decision.forget_choice:
            self._forget_choice()
        if decision.variant == "cuda":
            return self._cuda_selection(decision, cuda, because)
        build = find_cpu_build(self._settings.data, self._settings.cpu_build, self._settings.app)
        if build is not None:
            return Selection(build=build, reason=because or decision.reason)
        if decision.otherwise == "decide again":
            selection = self._select(without_choice(wishes), "the CPU build was chosen, and there is none")
            self._forget_choice()
            return selection
        if decision.otherwise == "cuda":
            return self._cuda_selection(decision, cuda, f"{decision.reason} There is no CPU build.")
        raise self._nothing(cuda)

    def _cuda_selection(self, decision: Decision, cuda: _Cuda | None, because: str | None) -> Selection:
        if cuda is None or cuda.version is None or refusal(cuda.facts) is not None:
            raise self._nothing(cuda)
        shown = {VISIBLE: cuda.visible} if cuda.visible is not None and VISIBLE not in os.environ else {}
        return Selection(
            build=build_of(cuda.version, "cuda"),
            reason=because,
            proof=decision.proof,
            environment=shown,
            machine=cuda.machine,
        )

    def _look_at_cuda(self) -> _Cuda | None:
        version = current_version(self._home)
        if version is None:
            name = read_pointer(self._home.current)
            return _Cuda(facts=CudaFacts(name=name, damage="its records are damaged"), version=None) if name else None
        with ThreadPoolExecutor(1, thread_name_prefix="lading-look") as beside:
            looking = beside.submit(self._look)
            damage = damage_of(version)
            host = looking.result()
        machine = machine_of(host)
        trial = self._trial(version, machine)
        facts = CudaFacts(
            name=version.name,
            damage=damage,
            aside=trial.reason if trial and trial.outcome == "failed" else None,
            proven=trial is not None and trial.outcome == "passed",
            sees_gpu=bool(visible_gpus(host.gpu.gpus, host.visible)),
        )
        return self._with_fitness(_Cuda(facts=facts, version=version, machine=machine), host)

    @staticmethod
    def _with_fitness(cuda: _Cuda, host: HostFacts) -> _Cuda:
        assert cuda.version is not None
        if cuda.facts.damage is not None:
            return cuda
        candidate = candidate_of(cuda.version.release())
        found = resolve(host, [candidate], forced=candidate.flavor)
        one = found.assessments[0]
        known = {**vars(cuda.facts), "fits": one.verdict, "against": against(one)}
        return _Cuda(facts=CudaFacts(**known), version=cuda.version, machine=cuda.machine, visible=found.visible)

    def _trial(self, version: Installed, machine: Machine | None) -> Trial | None:
        remembered = self._trials.get(version.name)
        if remembered is not None and remembered.counts(machine):
            return remembered
        return None if version.name in self._disregarded else read_trial(self._home, version, machine)

    def _remember(self, selection: Selection, reason: str) -> None:
        version = current_version(self._home)
        if version is None or version.name != selection.build.name:
            return  # it was removed, or another one was installed meanwhile
        trial = trial_of(version, "failed" if reason else "passed", selection.machine, reason=reason)
        self._trials[version.name] = trial
        if self._kept(f"how {version.name} did", lambda: write_trial(self._home, trial)):
            del self._trials[version.name]  # on the disk others can lift it

    def _forget_choice(self) -> None:
        self.choose_backend("auto")

    def _kept(self, what: str, write: Callable[[], object]) -> bool:
        """Write something; where that is refused it holds as long as this launcher runs, and a note says so."""
        try:
            write()
        except LadingError as error:
            note = f"{what} is remembered only until the launcher ends: {error.what}"
            self.notes = (*(known for known in self.notes if known != note), note)[-NOTES:]
            return False
        return True

    def _nothing(self, cuda: _Cuda | None) -> LadingError:
        reason = refusal(cuda.facts) if cuda else None
        if cuda is None or reason is None:
            return not_installed(self._settings, cpu_is_forced())
        instead = " There is no CPU build to take its place." if self._settings.only is None else ""
        last = self._troubles.get(cuda.facts.name)
        if cuda.facts.aside is None:
            return NotInstalled(
                f"{reason}.{instead}",
                usually="An interrupted copy, a cleaning program or a failing disk.",
                todo="`lading install --repair` puts it in order.",
            )
        return ServerUnhealthy(
            f"{last.what if last else reason}\n{cuda.facts.name} is set aside.{instead}",
            usually=last.usually if last else "It failed before, and is not tried again by itself.",
            todo=(f"{last.todo} " if last else "") + "`lading run --retry` tries it again.",
        )


def not_installed(settings: Settings, forced_cpu: bool) -> NotInstalled:  # noqa: FBT001 (a fact, not an option)
    """The error where there is no build at all."""
    wanted = settings.only or ("cpu" if forced_cpu else "cuda or cpu")
    place = f", and none at {settings.cpu_build}" if settings.cpu_build and wanted != "cuda" else ""
    return NotInstalled(
        f"No {wanted} version is installed under {settings.data}{place}.",
        usually="Nothing was installed there yet, or another data directory holds it.",
        todo="Install one with `lading install`, or name its data directory with --data.",
    )


def machine_of(host: HostFacts) -> Machine:
    """What a proof depends on."""
    gpus = visible_gpus(host.gpu.gpus, host.visible)
    return Machine(driver=host.gpu.driver, gpus=tuple(gpu.uuid for gpu in gpus))


def reason_of(trouble: Trouble) -> str:
    """A trouble in one line, without the log's tail."""
    first = trouble.what.partition("\n")[0].rstrip(".:")
    return f"{first}. {trouble.usually}".rstrip(" .") + "."


def log_of(settings: Settings, build: Build) -> Path:
    """Where a build's server prints: where somebody said, else in the data directory, called after the app."""
    return (settings.log or settings.data / "logs" / f"{build.app}.log").absolute()
