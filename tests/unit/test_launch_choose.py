"""Which backend is started, by the rules; what is remembered of builds; what last words mean."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lading.errors import ConfigError, DiskFull, PortTaken, ServerUnhealthy
from lading.host.choice import Verdict
from lading.launch.choose import (
    CudaFacts,
    Decision,
    Wishes,
    decide,
    forced_by,
    needs_cuda,
    proof_for,
    refusal,
    without_choice,
)
from lading.launch.job import KILL_ON_JOB_CLOSE, Job, limits
from lading.launch.launcher import error_of, trouble_of
from lading.launch.log import usable_log
from lading.launch.machine import State, Trouble
from lading.launch.selector import reason_of
from lading.launch.selftest import proof_problem
from lading.launch.signatures import Sign, advice_for
from lading.launch.status import shown_phase
from lading.manifest.base import Variant
from lading.store.home import choice_file
from lading.store.preference import Backend, cpu_is_forced, read_preference, write_preference
from lading.store.trials import Machine, Trial

NAME = "0.1.0+cu126-v1-aaaaaaaa"
GOOD = CudaFacts(name=NAME)
UNFIT = CudaFacts(name=NAME, fits="no", against="It needs driver 560 or newer.", sees_gpu=True)
DAMAGED = CudaFacts(name=NAME, damage="_internal/a.so (missing)")
ASIDE = CudaFacts(name=NAME, aside="It died.")


@pytest.mark.proves("S0-26", "S0-28", "X-28")
@pytest.mark.parametrize(
    ("wishes", "cuda", "decision"),
    [
        pytest.param(Wishes(), GOOD, Decision(variant="cuda", proof="kernel"), id="cuda where it runs"),
        pytest.param(Wishes(), None, Decision(variant="cpu"), id="cpu where there is no cuda"),
        pytest.param(
            Wishes(), DAMAGED,
            Decision(variant="cpu", reason=f"CUDA {NAME} is damaged: _internal/a.so (missing)"), id="damaged",
        ),
        pytest.param(
            Wishes(), ASIDE, Decision(variant="cpu", reason=f"CUDA {NAME} is set aside: It died."), id="set aside"
        ),
        pytest.param(
            Wishes(choice="cuda"), ASIDE,
            Decision(variant="cpu", reason=f"CUDA {NAME} is set aside: It died."), id="chosen and set aside",
        ),
        pytest.param(
            Wishes(), UNFIT,
            Decision(
                variant="cpu", proof="version", otherwise="cuda",
                reason=f"CUDA {NAME} does not run on this machine: It needs driver 560 or newer.",
            ),
            id="unfit",
        ),
        pytest.param(Wishes(choice="cuda"), UNFIT, Decision(variant="cuda", proof="version"), id="chosen and unfit"),
        pytest.param(
            Wishes(choice="cuda"), None,
            Decision(variant="cpu", reason="CUDA was chosen, and none is installed", forget_choice=True),
            id="chosen and gone",
        ),
        pytest.param(Wishes(choice="cpu"), GOOD, Decision(variant="cpu", otherwise="decide again"), id="cpu chosen"),
        pytest.param(Wishes(forced_cpu=True, choice="cuda"), GOOD, Decision(variant="cpu"), id="cpu forced"),
        pytest.param(Wishes(only="cpu"), GOOD, Decision(variant="cpu"), id="only cpu"),
        pytest.param(
            Wishes(only="cuda", forced_cpu=True), ASIDE, Decision(variant="cuda", proof="kernel"), id="only cuda"
        ),
    ],
)  # fmt: skip
def test_the_rules(wishes: Wishes, cuda: CudaFacts | None, decision: Decision) -> None:
    assert decide(wishes, cuda) == decision


facts = st.builds(
    CudaFacts,
    name=st.just(NAME),
    damage=st.sampled_from([None, "a file"]),
    aside=st.sampled_from([None, "it died"]),
    proven=st.booleans(),
    fits=st.sampled_from(get_args(Verdict)),
    against=st.just("why not"),
    sees_gpu=st.booleans(),
)


@given(choice=st.sampled_from(get_args(Backend)), cuda=st.none() | facts)
def test_what_may_not_be_started_never_is_and_whoever_gets_something_else_hears_why(
    choice: Backend, cuda: CudaFacts | None
) -> None:
    decision = decide(Wishes(choice=choice), cuda)
    if decision.variant == "cuda":
        assert cuda is not None
        assert refusal(cuda) is None
        assert decision.proof == proof_for(cuda)
    elif cuda is not None and choice != "cpu":
        assert decision.reason
    if decision.otherwise == "cuda":
        assert cuda is not None
        assert refusal(cuda) is None
    if decision.otherwise == "decide again":
        assert decide(without_choice(Wishes(choice=choice)), cuda).otherwise != "decide again"


def test_cuda_is_looked_at_only_where_it_matters() -> None:
    variants: tuple[Variant | None, ...] = (None, "cpu", "cuda")
    for choice, forced, only in itertools.product(get_args(Backend), (False, True), variants):
        wishes = Wishes(choice=choice, forced_cpu=forced, only=only)
        wanted = only == "cuda" or (only is None and not forced and choice != "cpu")
        assert needs_cuda(wishes) == wanted
        if not wanted:
            assert decide(wishes, None).variant == "cpu"
    assert forced_by(Wishes(only="cpu", forced_cpu=True)) == "--variant cpu"
    assert forced_by(Wishes(forced_cpu=True)) == "FORCE_CPU"
    assert forced_by(Wishes()) is None


@pytest.mark.parametrize(
    ("cuda", "proof"),
    [
        (CudaFacts(name=NAME, proven=True), "none"),
        (CudaFacts(name=NAME), "kernel"),
        (CudaFacts(name=NAME, fits="unknown"), "kernel"),
        (CudaFacts(name=NAME, fits="no"), "version"),
        (CudaFacts(name=NAME, sees_gpu=False), "version"),
    ],
)
def test_a_build_proves_itself_once_as_far_as_the_machine_lets_it(cuda: CudaFacts, proof: str) -> None:
    assert proof_for(cuda) == proof


# --- what is remembered -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("outcome", "now", "counts"),
    [
        ("passed", Machine(driver="570", gpus=("GPU-1",)), True),
        ("passed", Machine(driver="580", gpus=("GPU-1",)), False),
        ("passed", Machine(driver="570", gpus=("GPU-2",)), False),
        ("passed", Machine(), False),
        ("failed", Machine(driver="570", gpus=("GPU-1",)), True),
        ("failed", Machine(driver="570", gpus=("GPU-2",)), True),
        ("failed", Machine(driver="580", gpus=("GPU-1",)), False),
        ("failed", Machine(), True),
        ("failed", None, True),
    ],
)
def test_a_proof_counts_for_its_machine_and_a_failure_until_the_driver_is_another(
    outcome: Any,
    now: Machine | None,
    counts: bool,  # noqa: FBT001 (cases)
) -> None:
    trial = Trial(version=NAME, installed=1, outcome=outcome, machine=Machine(driver="570", gpus=("GPU-1",)))
    assert trial.counts(now) == counts


@pytest.mark.proves("X-28")
def test_a_choice_is_kept_and_a_damaged_one_counts_as_none(tmp_path: Path) -> None:
    assert read_preference(tmp_path) == "auto"
    write_preference(tmp_path, "cuda")
    assert read_preference(tmp_path) == "cuda"
    choice_file(tmp_path).write_text('{"backend":"rocm"}', "utf-8")
    assert read_preference(tmp_path) == "auto"


@pytest.mark.parametrize(
    ("text", "forced"),
    [("1", True), ("true", True), (" Yes ", True), ("ON", True), ("0", False), ("", False), ("no", False)],
)
def test_force_cpu_is_yes_or_no(text: str, forced: bool) -> None:  # noqa: FBT001 (cases)
    assert cpu_is_forced({"FORCE_CPU": text}) is forced
    assert cpu_is_forced({}) is False


def test_force_cpu_that_is_neither_is_refused() -> None:
    with pytest.raises(ConfigError, match="FORCE_CPU is 'maybe'"):
        cpu_is_forced({"FORCE_CPU": "maybe"})


# --- last words -------------------------------------------------------------------------------------------------------

# One line each as the programs print them.
SAID: dict[Sign, tuple[str, ...]] = {
    "gpu_out_of_memory": (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB.",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ),
    "no_kernel_image": (
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "CUDA error: device kernel image is invalid",
    ),
    "driver_too_old": (
        "RuntimeError: The NVIDIA driver on your system is too old (found version 11040).",
        "CUDA error: CUDA driver version is insufficient for CUDA runtime version",
        "CUDA error: the provided PTX was compiled with an unsupported toolchain.",
    ),
    "driver_mismatch": ("Failed to initialize NVML: Driver/library version mismatch",),
    "no_gpu": ("RuntimeError: No CUDA GPUs are available: no CUDA-capable device is detected",),
    "gpu_failed": (
        "RuntimeError: CUDA error: an illegal memory access was encountered",
        "CUDA error: unspecified launch failure",
    ),
    "glibc_too_old": (
        "/lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.34' not found (required by ./libtorch_cuda.so)",
        "/lib64/libstdc++.so.6: version `GLIBCXX_3.4.29' not found (required by ./libtorch.so)",
    ),
    "missing_library": (
        "ImportError: libcudnn.so.9: cannot open shared object file: No such file or directory",
        "ImportError: DLL load failed while importing _C: The specified module could not be found.",
    ),
    "not_executable": (
        "error while loading shared libraries: libz.so.1: failed to map segment from shared object",
        "libtorch_cpu.so: cannot enable executable stack as shared object requires: Invalid argument",
    ),
    "blocked": (
        "OSError: [WinError 225] Operation did not complete successfully because the file contains a virus",
        "OSError: [WinError 1260] This program is blocked by group policy.",
    ),
    "incomplete": ("[PYI-4711:ERROR] Failed to load Python shared library '/x/_internal/libpython3.11.so.1.0'",),
    "port_taken": ("OSError: [Errno 98] Address already in use", "error: 127.0.0.1 port 8765 is already in use"),
    "disk_full": ("OSError: [Errno 28] No space left on device",),
    "out_of_memory": ("MemoryError", "OSError: [WinError 1455] The paging file is too small", "std::bad_alloc"),
    "wrong_machine": ("OSError: [Errno 8] Exec format error",),
    "killed": (),
    "crashed": (),
}


@pytest.mark.parametrize(("sign", "line"), [(sign, line) for sign, lines in SAID.items() for line in lines])
def test_known_last_words_become_advice(sign: Sign, line: str) -> None:
    found = advice_for(f"starting up\nTraceback (most recent call last):\n{line}\n", 1)
    assert found is not None
    assert found.sign == sign
    assert found.usually
    assert found.todo


def test_every_kind_of_advice_has_its_words() -> None:
    assert set(SAID) == set(get_args(Sign))


@pytest.mark.parametrize(
    ("status", "sign"),
    [(-9, "killed"), (-11, "crashed"), (-6, "crashed"), (-4, "wrong_machine"), (1, None), (-15, None)],
)
def test_the_signal_alone_tells_something(status: int, sign: str | None) -> None:
    found = advice_for("nothing that is known", status)
    assert (found.sign if found else None) == sign


def test_the_last_known_line_decides_and_not_an_earlier_one() -> None:
    found = advice_for("CUDA error: out of memory\nOSError: [Errno 28] No space left on device\nbye", 1)
    assert found is not None
    assert (found.sign, found.host) == ("disk_full", True)
    assert advice_for("", None) is None


# --- small parts ------------------------------------------------------------------------------------------------------


@pytest.mark.proves("X-30")
@pytest.mark.parametrize(
    ("stdout", "status", "words"),
    [
        ('{"name":"a","version":"1","variant":"cuda","passed":true,"checks":[]}', 0, None),
        ("hello\n" + '{"name":"a","version":"1","variant":"cuda","passed":true,"checks":[]}', 0, None),
        ('{"name":"a","version":"1","variant":"cuda","passed":true,"checks":[]}', 1, "did not pass"),
        ('{"name":"a","version":"1","variant":"cuda","passed":false,"checks":[]}', 1, "does not say why"),
        (
            '{"name":"a","version":"1","variant":"cuda","passed":false,"checks":[{"name":"k","status":"fail","reason":"off"}]}',
            1,
            "its self-test failed: k: off",
        ),
        ("nonsense", 0, "it printed no JSON"),
        ("", -11, "exit status -11): Segmentation"),
        ("", 2, None),
    ],
)
def test_an_unsure_selftest_is_no_proof(stdout: str, status: int, words: str | None) -> None:
    found = proof_problem(stdout, "trace\nSegmentation fault", status)
    assert (found is None) == (words is None)
    assert (words or "") in (found or "")


def test_a_job_object_is_told_to_end_its_processes_with_its_last_handle() -> None:
    record = limits()
    assert len(record) == 144, "JOBOBJECT_EXTENDED_LIMIT_INFORMATION in a 64-bit process"
    assert struct.unpack_from("<I", record, 16) == (KILL_ON_JOB_CLOSE,)
    assert record.count(0) == 143
    if os.name == "posix":
        Job().close()


def test_a_trouble_is_the_error_that_it_was() -> None:
    error = PortTaken("Port 1 is taken.", usually="u", todo="t")
    trouble = trouble_of(error)
    assert trouble == Trouble(what="Port 1 is taken.", kind="PortTaken", usually="u", todo="t", host=True)
    again = error_of(trouble)
    assert (type(again), again.what, again.usually, again.todo) == (PortTaken, "Port 1 is taken.", "u", "t")
    assert trouble_of(OSError(28, "No space left on device")).kind == DiskFull.__name__
    assert trouble_of(OSError(99, "odd")).host
    assert isinstance(error_of(Trouble(what="x", kind="os")), ServerUnhealthy)


def test_a_reason_is_one_line_without_the_log() -> None:
    trouble = Trouble(what="The server ended with exit code 7.\nIts last lines:\n  | x", usually="The GPU is full.")
    assert reason_of(trouble) == "The server ended with exit code 7. The GPU is full."
    assert reason_of(Trouble(what="It hangs")) == "It hangs."


def test_a_log_that_cannot_be_written_is_elsewhere_and_told(tmp_path: Path) -> None:
    wanted, spare = tmp_path / "logs" / "a.log", tmp_path / "spare.log"
    assert usable_log(wanted, spare) == (wanted, None)
    (tmp_path / "file").write_text("", "utf-8")
    log, note = usable_log(tmp_path / "file" / "a.log", spare)
    assert log == spare
    assert "cannot be written" in (note or "")


def test_an_end_is_told_by_what_it_is_for() -> None:
    assert [shown_phase(State(phase="ending", then=then)) for then in ("stop", "choose", "pause", "fail")] == [
        "stopping",
        "restarting",
        "restarting",
        "stopping",
    ]
    assert shown_phase(State(phase="ready")) == "ready"
