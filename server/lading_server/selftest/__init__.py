"""``--selftest``: does this build work on this machine? A JSON report, whatever happens.

With ``LADING_SELFTEST=quick`` in the environment only what a launcher asks before it starts a build: one kernel.

Exit status 0 when no check failed, 1 otherwise. Standard output carries the report and nothing else, also when a
library prints there on its own; progress goes to standard error.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import platform
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from lading_server import NAME, __version__
from lading_server.selftest.report import Evidence, Report, Result, run
from lading_server.variant import Variant, settle

if TYPE_CHECKING:
    from lading_server.engine.base import Engine

Made = TypeVar("Made")

EXIT_FAILED = 1
QUICK_VARIABLE = "LADING_SELFTEST"
SEED_BITS = 32


@contextmanager
def _only_the_report() -> Iterator[Callable[[str], None]]:
    """Give standard output to the report alone; what native code prints there, too, goes to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)

    def write(text: str) -> None:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8") as out:
            out.write(text)

    try:
        yield write
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def torch_facts(torch: Any) -> dict[str, Any]:
    """What torch says about its own build."""
    architectures = list(torch.cuda.get_arch_list())
    if not architectures and torch.version.cuda is not None:
        # The public function says nothing where there is no GPU; what was compiled in does not depend on one.
        flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)()  # noqa: SLF001 (see above)
        architectures = (flags or "").split()
    has_nccl = torch.distributed.is_available() and torch.distributed.is_nccl_available()
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "arch_list": architectures,
        "cudnn": torch.backends.cudnn.version(),
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if has_nccl else None,
    }


def _import_torch() -> Any:
    return importlib.import_module("torch")


def _make_engine() -> Engine:
    from lading_server.engine.select import select_engine  # noqa: PLC0415 (imports numpy)

    return select_engine()


def _attempt(work: Callable[[], Made]) -> tuple[Made | None, str | None]:
    """Do something that a broken build cannot do, and say why it cannot."""
    try:
        return work(), None
    except ModuleNotFoundError as error:
        return None, f"this build has no {error.name}"
    except Exception as error:  # noqa: BLE001 (a broken library fails in any way, and each belongs into the report)
        return None, f"{type(error).__name__}: {error}"


def _run_checks(variant: Variant, *, require_gpu: bool, seed: int, notify: Callable[[Result], None]) -> Report:
    import numpy as np  # noqa: PLC0415 (a broken numpy is a finding, not a crash)

    from lading_server.selftest.plan import Situation, checks  # noqa: PLC0415 (imports numpy)

    torch, torch_problem = _attempt(_import_torch)
    engine, engine_problem = _attempt(_make_engine)
    situation = Situation(
        variant=variant,
        torch=torch,
        torch_problem=torch_problem,
        engine=engine,
        engine_problem=engine_problem,
        require_gpu=require_gpu,
        random=np.random.default_rng(seed),
    )
    results = []
    for check in checks(situation, quick=os.environ.get(QUICK_VARIABLE) == "quick"):
        results.append(run(check))
        notify(results[-1])
    facts = situation.facts
    said, silence = (None, None) if torch is None else _attempt(lambda: torch_facts(torch))
    device = {
        "gpu_available": situation.gpu_problem is None,
        "reason": situation.gpu_problem,
        "gpus": [asdict(gpu) for gpu in facts.gpus] if facts else [],
    }
    return _report(variant, seed, tuple(results), device=device, torch={"error": silence} if silence else said)


def _report(
    variant: Variant, seed: int, results: tuple[Result, ...], *, device: Evidence, torch: Evidence | None
) -> Report:
    return Report(
        name=NAME,
        version=__version__,
        variant=variant,
        passed=all(result.status != "fail" for result in results),
        seed=seed,
        host={"python": platform.python_version(), "system": platform.system(), "machine": platform.machine()},
        device=device,
        torch=torch,
        checks=results,
    )


def selftest(*, require_gpu: bool, seed: int, notify: Callable[[Result], None]) -> Report:
    """Check everything.

    Args:
        require_gpu: A GPU that cannot be used is a failure.
        seed: Of the random inputs.
        notify: Told of every check when it has ended.
    """
    # Every kernel is compiled here and now, and nothing is left behind in the user's folder.
    os.environ["USE_PYTORCH_KERNEL_CACHE"] = "0"
    variant = settle(os.environ)
    report, problem = _attempt(lambda: _run_checks(variant, require_gpu=require_gpu, seed=seed, notify=notify))
    if report is not None:
        return report
    # Not even the checks can be imported: that is the finding.
    result = Result(name="imports", status="fail", reason=str(problem))
    notify(result)
    return _report(variant, seed, (result,), device={"gpu_available": False, "reason": problem, "gpus": []}, torch=None)


def _say(result: Result) -> None:
    line = f"{result.status:<8}{result.name:<28}{result.seconds:8.2f} s"
    print(f"{line}  {result.reason}".rstrip(), file=sys.stderr, flush=True)


def main(*, quiet: bool, require_gpu: bool) -> int:
    """Run the self-test and print its report.

    Args:
        quiet: Say nothing while it runs.
        require_gpu: A GPU that cannot be used is a failure.

    Returns:
        The exit status: 0 when no check failed, 1 otherwise.
    """
    faulthandler.enable()  # a library that crashes the process leaves at least its stack
    notify = _silence if quiet else _say
    with _only_the_report() as write:
        report = selftest(require_gpu=require_gpu, seed=secrets.randbits(SEED_BITS), notify=notify)
        write(json.dumps(asdict(report), indent=2) + "\n")
    return 0 if report.passed else EXIT_FAILED


def _silence(_result: Result) -> None:
    return
