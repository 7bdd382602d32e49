from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typing_extensions import override

from lading_server.engine.numpy_engine import NumpyEngine
from lading_server.engine.select import NO_TORCH
from lading_server.selftest import _attempt, libraries
from lading_server.selftest.engines import check_engine
from lading_server.selftest.libraries import find, is_cuda_library, load, loaded_files, stem_of, strangers
from lading_server.selftest.modules import REQUIRED, check_imports
from lading_server.selftest.numerics import convolution_reference, numpy_matmul, uniform_statistics, within
from lading_server.selftest.plan import Situation, checks
from lading_server.selftest.report import Check, CheckFailedError, CheckSkippedError, Result, run
from lading_server.variant import Variant


def situation(variant: Variant = "cpu", *, require_gpu: bool = False) -> Situation:
    return Situation(
        variant=variant,
        torch=None,
        torch_problem=NO_TORCH,
        engine=NumpyEngine(NO_TORCH),
        engine_problem=None,
        require_gpu=require_gpu,
        random=np.random.default_rng(1),
    )


def results(of: Situation) -> dict[str, Result]:
    # Those that start processes have their own tests, with real ones.
    return {check.name: run(check) for check in checks(of) if not check.name.startswith("worker.")}


def raiser(error: BaseException) -> Check:
    def work() -> dict[str, Any]:
        raise error

    return Check(name="a.check", work=work)


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (CheckSkippedError("no GPU"), "skipped", "no GPU"),
        (CheckFailedError("1 is not 2", {"found": 1}), "fail", "1 is not 2"),
        (RuntimeError("CUDA error: no kernel image"), "fail", "RuntimeError: CUDA error: no kernel image"),
        (OSError("libcufft.so.11: cannot open"), "fail", "OSError: libcufft.so.11: cannot open"),
        (MemoryError(), "fail", "MemoryError: "),
        (AssertionError("odd"), "fail", "AssertionError: odd"),
    ],
)
def test_whatever_a_check_raises_is_a_line_of_the_report(error: Exception, status: str, reason: str) -> None:
    result = run(raiser(error))
    assert (result.name, result.status, result.reason) == ("a.check", status, reason)
    assert result.seconds >= 0
    if isinstance(error, CheckFailedError):
        assert result.evidence == {"found": 1}


def test_an_interrupt_is_no_finding() -> None:
    with pytest.raises(KeyboardInterrupt):
        run(raiser(KeyboardInterrupt()))


def test_a_cpu_build_passes_and_says_why_the_rest_was_not_checked() -> None:
    found = results(situation())
    assert {name for name, result in found.items() if result.status == "pass"} == {
        "imports", "numpy.matmul", "engine.nearest",
    }  # fmt: skip
    assert {result.reason for result in found.values() if result.status == "skipped"} == {NO_TORCH}
    assert {f"cuda.{name}" for name in (
        "cublas.fp32", "cublas.tf32", "cublas.fp16", "cublas.bf16", "cudnn", "cufft", "cusparse", "cusolver", "curand",
        "nccl", "nvrtc.kernel", "memory", "device", "libraries", "nvrtc.compiler", "origin",
    )} <= set(found)  # fmt: skip


def test_a_cuda_build_without_torch_fails_by_the_check_of_the_build_alone() -> None:
    found = results(situation("cuda"))
    failed = {name: result.reason for name, result in found.items() if result.status == "fail"}
    assert failed == {"torch.build": f"this is the CUDA build, but {NO_TORCH}"}


def test_who_requires_a_gpu_gets_a_failure_for_every_check_that_needs_one() -> None:
    found = results(situation(require_gpu=True))
    failed = {name for name, result in found.items() if result.status == "fail"}
    assert {"cuda.device", "cuda.cublas.fp32", "cuda.nccl", "cuda.memory"} <= failed
    assert "torch.cpu.matmul" not in failed
    assert {found[name].reason for name in failed} == {NO_TORCH}


def test_a_missing_module_is_named_and_the_others_get_their_turn() -> None:
    assert check_imports(REQUIRED)["wrong"] == {}
    with pytest.raises(
        CheckFailedError, match=r"1 of 2 modules cannot be imported: lading_server\.nowhere: "
    ) as failed:
        check_imports(("lading_server.nowhere", "json"))
    assert list(failed.value.evidence["wrong"]) == ["lading_server.nowhere"]


@pytest.mark.parametrize("error", [1.1e-5, 1.0, math.inf, math.nan])
def test_an_error_beyond_the_tolerance_or_no_number_at_all_fails(error: float) -> None:
    assert within({"good": 1e-5}, 1e-5)["relative_errors"] == {"good": 1e-5}
    with pytest.raises(CheckFailedError, match="relative error beyond 1e-05: bad") as failed:
        within({"good": 0.0, "bad": error}, 1e-5)
    assert failed.value.evidence["tolerance"] == 1e-5


def test_numpy_agrees_with_itself() -> None:
    assert 0 < numpy_matmul(np.random.default_rng(2))["relative_errors"]["product"] < 1e-6


@pytest.mark.parametrize("case", ["constant", "shifted", "narrow", "correlated", "negative"])
def test_numbers_that_are_not_random_are_recognised(case: str) -> None:
    good = np.random.default_rng(3).random(100_000)
    assert uniform_statistics(good)["samples"] == 100_000
    bad = {
        "constant": np.full(100_000, 0.5),
        "shifted": good * 0.98 + 0.02,
        "narrow": 0.5 + (good - 0.5) * 0.9,
        "correlated": np.sort(good),
        "negative": np.where(np.arange(100_000) == 7, -1e-3, good),
    }[case]
    with np.errstate(invalid="ignore", divide="ignore"), pytest.raises(CheckFailedError):
        uniform_statistics(bad)


def test_the_reference_of_the_convolution_is_its_definition() -> None:
    random = np.random.default_rng(4)
    image, weight, slope = random.random((1, 2, 4, 5)), random.random((3, 2, 3, 3)), random.random((1, 3, 4, 5))
    padded = np.pad(image, ((0, 0), (0, 0), (1, 1), (1, 1)))

    def plain(values: np.ndarray[Any, Any], kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = np.zeros((1, 3, 4, 5))
        for output in range(3):
            for row in range(4):
                for column in range(5):
                    out[0, output, row, column] = (
                        values[0, :, row : row + 3, column : column + 3] * kernel[output]
                    ).sum()
        return out

    out, image_slope, weight_slope = convolution_reference(image, weight, slope)
    assert np.allclose(out, plain(padded, weight))
    # The gradients by differences; the function is linear in each, so a step of one is exact.
    step = np.zeros_like(weight)
    step[2, 1, 0, 2] = 1.0
    assert np.isclose(weight_slope[2, 1, 0, 2], (plain(padded, weight + step) - out).ravel() @ slope.ravel())
    moved = padded.copy()
    moved[0, 1, 1 + 2, 1 + 4] += 1.0
    assert np.isclose(image_slope[0, 1, 2, 4], (plain(moved, weight) - out).ravel() @ slope.ravel())


def test_an_engine_that_computes_wrongly_is_recognised() -> None:
    class Wrong(NumpyEngine):
        @override
        def nearest(self, queries: Any, corpus: Any, *, k: int, metric: Any) -> Any:
            return super().nearest(queries, corpus + 1e-6, k=k, metric=metric)

    check_engine(NumpyEngine("right"), np.random.default_rng(5))
    with pytest.raises(CheckFailedError):
        check_engine(Wrong("wrong"), np.random.default_rng(5))


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("libcublas.so.12", "cublas"),
        ("libcublasLt.so.12.6.4.1", "cublasLt"),
        ("cublas64_12.dll", "cublas"),
        ("cublasLt64_12.dll", "cublasLt"),
        ("cudnn64_9.dll", "cudnn"),
        ("cudnn_ops64_9.dll", "cudnn_ops"),
        ("libcudnn_engines_precompiled.so.9", "cudnn_engines_precompiled"),
        ("nvrtc64_120_0.dll", "nvrtc"),
        ("nvrtc-builtins64_126.dll", "nvrtc-builtins"),
        ("libnvrtc-builtins.so.12.6", "nvrtc-builtins"),
        ("nvJitLink_120_0.dll", "nvJitLink"),
        ("libnvJitLink.so.12", "nvJitLink"),
        ("libcudart-d0da41ae.so.11.0", "cudart"),
        ("NVTOOLSEXT64_1.DLL", "NVTOOLSEXT"),
        ("nvToolsExt64_1.dll", "nvToolsExt"),
        ("libnccl.so.2", "nccl"),
        ("libtorch_cuda.so", "torch_cuda"),
        ("libcuda.so.1", "cuda"),
        ("__init__.py", None),
        ("cudnn.h", None),
    ],
)
def test_a_library_has_one_name_on_every_system(filename: str, stem: str | None) -> None:
    assert stem_of(filename) == stem


def test_the_driver_and_torch_itself_are_not_libraries_of_the_toolkit() -> None:
    assert not any(is_cuda_library(stem) for stem in ("cuda", "torch_cuda", "c10_cuda", "stdc++", None))
    assert all(is_cuda_library(stem) for stem in ("cublas", "nccl", "cudnn_ops", "nvrtc-builtins"))


def test_libraries_are_found_in_the_layouts_of_both_systems_once_each(tmp_path: Path) -> None:
    for name in ("nvidia/cublas/lib/libcublas.so.12", "nvidia/cu13/lib/libcufft.so.12", "torch/lib/cudnn64_9.dll",
                 "nvidia/cublas/include/cublas.h", "cusparselt/lib/libcusparseLt.so.0", "torch/lib/libtorch.so",
                 "libcurand.so.10", "nvidia/nccl/lib/libnccl.so.2"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "libnccl.so.2").symlink_to(tmp_path / "nvidia/nccl/lib/libnccl.so.2")
    assert [library.stem for library in find(tmp_path)] == [
        "cublas", "cudnn", "cufft", "curand", "cusparseLt", "nccl",
    ]  # fmt: skip


def test_a_library_that_cannot_be_loaded_is_a_finding_with_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "nvidia" / "cublas" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcublas.so.12").write_bytes(b"not a library")
    facts = load(find(tmp_path)[0], tmp_path)
    assert (facts["name"], facts["path"]) == ("cublas", "nvidia/cublas/lib/libcublas.so.12")
    assert "libcublas.so.12" in facts["error"]


def test_a_tree_without_the_libraries_names_those_that_are_missing(tmp_path: Path) -> None:
    torch = SimpleNamespace(__file__=str(tmp_path / "torch" / "__init__.py"), version=SimpleNamespace(cuda="12.6"))
    with pytest.raises(CheckFailedError) as failed:
        libraries.check_loadable(torch)
    for name in libraries.REQUIRED:
        assert f"{name} is not in the tree" in str(failed.value)


def test_a_library_from_elsewhere_is_a_stranger(tmp_path: Path) -> None:
    own = tmp_path / "nvidia" / "cublas" / "lib" / "libcublas.so.12"
    foreign = "/usr/local/cuda-12.2/lib64/libcufft.so.11"
    assert strangers([str(own), foreign, "/usr/lib/libcuda.so.1", "/usr/lib/libc.so.6"], tmp_path) == [foreign]


def test_the_files_of_this_process_are_known() -> None:
    assert any("libc" in Path(path).name for path in loaded_files())


def test_an_attempt_gives_a_value_or_the_reason_why_not() -> None:
    def broken() -> None:
        raise OSError("libgomp.so.1: cannot open")

    def absent() -> None:
        __import__("a_module_that_nobody_has")

    assert _attempt(lambda: 3) == (3, None)
    assert _attempt(broken) == (None, "OSError: libgomp.so.1: cannot open")
    assert _attempt(absent) == (None, "this build has no a_module_that_nobody_has")
