"""Which checks are made: all of them, always, so that a report also shows what could not be checked here and why."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from lading_server.engine.base import Engine, EngineFacts
from lading_server.selftest import compiler, cuda, libraries, modules, rerun
from lading_server.selftest.engines import check_engine
from lading_server.selftest.numerics import FP32, TorchNumerics, numpy_matmul
from lading_server.selftest.report import Check, CheckFailedError, CheckSkippedError, Evidence
from lading_server.variant import Variant

# What tells within seconds whether this build computes on this machine's GPU: its torch, the device, one kernel.
QUICK = frozenset({"imports", "torch.build", "cuda.device", "cuda.cublas.fp32"})


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the checks depend on.

    Attributes:
        variant: Of this binary.
        torch: The torch module; nothing when it cannot be imported.
        torch_problem: Why it cannot.
        engine: What the server would compute with here; nothing when it cannot be made.
        engine_problem: Why it cannot.
        require_gpu: A GPU that cannot be used is a failure.
        random: Makes the inputs.
    """

    variant: Variant
    torch: Any
    torch_problem: str | None
    engine: Engine | None
    engine_problem: str | None
    require_gpu: bool
    random: np.random.Generator

    @property
    def facts(self) -> EngineFacts | None:
        """What the engine says about itself."""
        return None if self.engine is None else self.engine.facts

    @property
    def gpu_problem(self) -> str | None:
        """Why no GPU can be used; nothing when one can."""
        return self.engine_problem if self.engine is None else self.engine.facts.gpu_problem


def _made(check: Callable[..., Evidence], *arguments: Any) -> Callable[[], Evidence]:
    return lambda: check(*arguments)


def _refused(kind: type[Exception], reason: str | None) -> Callable[[], Evidence]:
    def refuse() -> Evidence:
        raise kind(reason)

    return refuse


def _check_build(situation: Situation) -> Evidence:
    """A CUDA build has a torch for CUDA."""
    torch = situation.torch
    if torch is None:
        if situation.variant == "cuda":
            raise CheckFailedError(f"this is the CUDA build, but {situation.torch_problem}")
        raise CheckSkippedError(str(situation.torch_problem))
    if situation.variant == "cuda" and torch.version.cuda is None:
        raise CheckFailedError(f"this is the CUDA build, but torch {torch.__version__} is built without CUDA")
    return {"version": str(torch.__version__), "cuda": torch.version.cuda}


def _with_torch(situation: Situation) -> list[Check]:
    numerics = TorchNumerics(situation.torch, "cpu", situation.random)
    works: dict[str, Callable[[], Evidence]] = {
        "torch.imports": _made(modules.check_imports, modules.REQUIRED_WITH_TORCH),
        "torch.cpu.matmul": _made(numerics.matmul, "float32", FP32),
        "torch.cpu.convolution": numerics.convolution,
        "torch.cpu.fourier": numerics.fourier,
        "torch.cpu.sparse": numerics.sparse,
        "torch.cpu.linear_algebra": numerics.linear_algebra,
        "cuda.libraries": _made(libraries.check_loadable, situation.torch),
        "cuda.nvrtc.compiler": _made(compiler.check_compiles, situation.torch),
    }
    if situation.torch is None:
        # Without torch in a CPU build there is nothing to check; in a CUDA build "torch.build" has failed already.
        works = dict.fromkeys(works, _refused(CheckSkippedError, situation.torch_problem))
    return [Check(name=name, work=work) for name, work in works.items()]


def _check_device(situation: Situation) -> Evidence:
    facts = situation.facts
    if situation.gpu_problem is not None or facts is None:
        raise (CheckFailedError if situation.require_gpu else CheckSkippedError)(str(situation.gpu_problem))
    return {"gpus": [vars(gpu) for gpu in facts.gpus]}


def _with_gpu(situation: Situation) -> list[Check]:
    made = cuda.checks(situation.torch, situation.random)
    if situation.gpu_problem is None:
        return made
    kind = CheckFailedError if situation.require_gpu else CheckSkippedError
    return [Check(name=check.name, work=_refused(kind, situation.gpu_problem)) for check in made]


def _check_engine(situation: Situation) -> Evidence:
    if situation.engine is None:
        raise CheckFailedError(str(situation.engine_problem))
    return check_engine(situation.engine, situation.random)


def _check_origin(situation: Situation) -> Evidence:
    if situation.torch is None:
        raise CheckSkippedError(str(situation.torch_problem))
    return libraries.check_origin(situation.torch)


def checks(situation: Situation, *, quick: bool = False) -> list[Check]:
    """The checks in their order; the last one looks at everything that the others made the process load.

    Args:
        situation: What they depend on.
        quick: Only those of :data:`QUICK`.
    """
    return [check for check in _all(situation) if not quick or check.name in QUICK]


def _all(situation: Situation) -> list[Check]:
    return [
        Check(name="imports", work=_made(modules.check_imports, modules.REQUIRED)),
        Check(name="numpy.matmul", work=_made(numpy_matmul, situation.random)),
        Check(name="worker.rerun", work=rerun.check_worker),
        Check(name="worker.multiprocessing", work=rerun.check_multiprocessing),
        Check(name="torch.build", work=_made(_check_build, situation)),
        *_with_torch(situation),
        Check(name="cuda.device", work=_made(_check_device, situation)),
        *_with_gpu(situation),
        Check(name="engine.nearest", work=_made(_check_engine, situation)),
        Check(name="cuda.origin", work=_made(_check_origin, situation)),
    ]
