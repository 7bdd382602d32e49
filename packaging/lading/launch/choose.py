"""Which backend is started. Pure.

Rules, the first that applies:

    1. A variant that the launcher was told to run (``--variant``): that one, and no other.
    2. ``FORCE_CPU``: the CPU build, and no other.
    3. The user chose ``cpu``: the CPU build; without one, what the rules below give.
    4. The CUDA version in use, when its files are whole and belong together, when it is not set aside, and when it runs
       on this machine as far as can be known. Who chose ``cuda`` gets it also where it does not: the server then says
       that it computes without a GPU, and why.
    5. The CPU build, with the reason against the CUDA one.
    6. Without a CPU build: the CUDA one all the same, when nothing but its fitness speaks against it.
    7. Nothing, with all reasons.

The CPU build is looked for only where a rule needs it: a broken one never keeps a CUDA build from starting. A choice of
something that is not there any more counts as none, and is to be forgotten.

A CUDA build has to prove itself before it is started (``--version``, one kernel), unless it did already, on this very
machine with this very driver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lading.host.choice import Verdict
from lading.manifest.base import Variant
from lading.store.preference import FORCE_CPU, Backend

Proof = Literal["none", "version", "kernel"]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What was asked for.

    Attributes:
        choice: The user's, kept in the data directory.
        forced_cpu: ``FORCE_CPU`` is set.
        only: The variant that the launcher was told to run.
    """

    choice: Backend = "auto"
    forced_cpu: bool = False
    only: Variant | None = None


@dataclass(frozen=True, kw_only=True)
class CudaFacts:
    """What is known of the CUDA version in use.

    Attributes:
        name: Its folder's name.
        damage: What is wrong with its files, in words; none when they are whole and belong together.
        aside: Why it was set aside.
        proven: It passed its probe on this machine, with this driver.
        fits: Whether it runs on this machine, as far as can be known.
        against: What speaks against that, in words.
        sees_gpu: There is a GPU that it could use.
    """

    name: str
    damage: str | None = None
    aside: str | None = None
    proven: bool = False
    fits: Verdict = "fits"
    against: str = ""
    sees_gpu: bool = True


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be started.

    Attributes:
        variant: This one.
        reason: Why not the preferred one; none when it is the preferred one.
        proof: How a CUDA build has to prove itself.
        otherwise: What to do where the decision is for a CPU build and there is none: start the CUDA one all the same,
            or decide again as if nothing had been chosen.
        forget_choice: The user's choice is of something that is not there.
    """

    variant: Variant
    reason: str | None = None
    proof: Proof = "none"
    otherwise: Literal["cuda", "decide again"] | None = None
    forget_choice: bool = False


def refusal(cuda: CudaFacts) -> str | None:
    """Why a CUDA version may not be started, whoever wants it; none when it may."""
    if cuda.damage is not None:
        return f"CUDA {cuda.name} is damaged: {cuda.damage}"
    if cuda.aside is not None:
        return f"CUDA {cuda.name} is set aside: {cuda.aside}"
    return None


def proof_for(cuda: CudaFacts) -> Proof:
    """How a CUDA version has to prove itself before it is started."""
    if cuda.proven:
        return "none"
    return "kernel" if cuda.sees_gpu and cuda.fits != "no" else "version"


def needs_cuda(wishes: Wishes) -> bool:
    """Whether the CUDA version has to be looked at, which takes longer than all the rest."""
    if wishes.only is not None:
        return wishes.only == "cuda"
    return not wishes.forced_cpu and wishes.choice != "cpu"


def decide(wishes: Wishes, cuda: CudaFacts | None) -> Decision:
    """Choose a variant, by the rules above.

    Args:
        wishes: What was asked for.
        cuda: The CUDA version in use; none when there is none, or :func:`needs_cuda` says no.

    Returns:
        The decision. A ``cuda`` that may not be started, or is not there, is decided for only by rule 1.
    """
    if wishes.only == "cuda":
        return Decision(variant="cuda", proof="none" if cuda is None else proof_for(cuda))
    if wishes.only == "cpu" or wishes.forced_cpu:
        return Decision(variant="cpu")
    if wishes.choice == "cpu":
        return Decision(variant="cpu", otherwise="decide again")
    return _by_facts(wishes, cuda)


def _by_facts(wishes: Wishes, cuda: CudaFacts | None) -> Decision:
    chosen = wishes.choice == "cuda"
    if cuda is None:
        return Decision(
            variant="cpu", reason="CUDA was chosen, and none is installed" if chosen else None, forget_choice=chosen
        )
    if (hard := refusal(cuda)) is not None:
        return Decision(variant="cpu", reason=hard)
    if cuda.fits == "no" and not chosen:
        unfit = f"CUDA {cuda.name} does not run on this machine: {cuda.against}"
        return Decision(variant="cpu", reason=unfit, proof=proof_for(cuda), otherwise="cuda")
    return Decision(variant="cuda", proof=proof_for(cuda))


def without_choice(wishes: Wishes) -> Wishes:
    """What was asked for, without the choice of a build that is not there."""
    return replace(wishes, choice="auto")


def forced_by(wishes: Wishes) -> str | None:
    """What leaves no choice, for a person; none when the user's own choice counts."""
    if wishes.only is not None:
        return f"--variant {wishes.only}"
    return FORCE_CPU if wishes.forced_cpu else None
