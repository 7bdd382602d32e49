"""The engine of a build with torch: on the first GPU when one is usable, on the processor otherwise.

Importing this module imports torch, which takes seconds: only :mod:`lading_server.engine.select` does.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch

from lading_server.engine.base import DeviceMemoryError, EngineFacts, Gpu, Matches, Metric, Rows
from lading_server.engine.driver import explain, probe_driver
from lading_server.engine.geometry import block_size, centred, unit_rows

_PROBE_SIDE = 8  # the smallest product that cuBLAS really computes


def gpu_problem() -> str | None:
    """Why torch cannot compute on a GPU here; nothing when it can. Computes once, because "available" is no proof."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    if not torch.cuda.is_available():
        return explain(probe_driver(), torch_cuda=torch.version.cuda, visible=os.environ.get("CUDA_VISIBLE_DEVICES"))
    try:
        ones = torch.ones(_PROBE_SIDE, _PROBE_SIDE, dtype=torch.float64, device="cuda")
        total = float((ones @ ones).sum().item())
    except RuntimeError as error:  # what torch raises for every CUDA error, "no kernel image" among them
        capability = ".".join(map(str, torch.cuda.get_device_capability(0)))
        built_for = ", ".join(torch.cuda.get_arch_list())
        return f"the GPU (compute capability {capability}; torch is built for {built_for}) cannot compute: {error}"
    if total != _PROBE_SIDE**3:
        return f"the GPU computes wrongly: the sum of {_PROBE_SIDE}³ ones is {total}"
    return None


def usable_gpus() -> tuple[Gpu, ...]:
    """The GPUs that torch sees."""
    found = []
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        found.append(
            Gpu(
                index=index,
                name=str(facts.name),
                compute_capability=f"{facts.major}.{facts.minor}",
                memory_total_bytes=int(facts.total_memory),
            )
        )
    return tuple(found)


class TorchEngine:
    """Computes with torch. Chooses its device when it is made, once."""

    def __init__(self) -> None:
        problem = gpu_problem()
        self._device = torch.device("cpu" if problem else "cuda:0")
        gpus = () if problem else usable_gpus()
        self._facts = EngineFacts(
            engine="torch",
            device="cpu" if problem else "cuda",
            reason=f"torch on the processor: {problem}" if problem else f"torch on {gpus[0].name}",
            gpu_problem=problem,
            gpus=gpus,
            torch_version=str(torch.__version__),
            torch_cuda=torch.version.cuda,
        )

    @property
    def facts(self) -> EngineFacts:
        """What it runs on."""
        return self._facts

    def free_memory(self) -> tuple[int, ...]:
        """Free bytes of each GPU, now."""
        return tuple(int(torch.cuda.mem_get_info(gpu.index)[0]) for gpu in self._facts.gpus)

    def nearest(self, queries: Rows, corpus: Rows, *, k: int, metric: Metric) -> Matches:
        """Find the ``k`` nearest corpus rows of each query; see the protocol."""
        if metric == "cosine":
            queries, corpus = unit_rows(queries), unit_rows(corpus)
        try:
            with torch.inference_mode():
                return self._nearest(queries, corpus, k, metric)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise DeviceMemoryError(str(error)) from error

    def _nearest(self, queries: Rows, corpus: Rows, k: int, metric: Metric) -> Matches:
        asked, rows = self._moved(queries), self._moved(corpus)
        if metric == "euclidean":
            moved_queries, moved_corpus = centred(queries, corpus)
            near_queries, near_rows = self._moved(moved_queries), self._moved(moved_corpus)
        else:
            near_queries, near_rows = asked, rows
        indices: list[list[int]] = []
        scores: list[list[float]] = []
        step = block_size(len(corpus), corpus.shape[1], k)
        for at in range(0, len(queries), step):
            block = slice(at, at + step)
            if metric == "euclidean":
                chosen = _choose(near_rows.square().sum(1) - 2.0 * (near_queries[block] @ near_rows.T), k)
                keys = torch.linalg.vector_norm(asked[block, None, :] - rows[chosen], dim=2)
                found, values = _ranked(chosen, keys)
            else:
                keys = -(asked[block] @ rows.T)
                chosen = _choose(keys, k)
                found, values = _ranked(chosen, keys.gather(1, chosen))
                values = -values
            indices += found.cpu().tolist()
            scores += values.cpu().tolist()
        return Matches(indices=indices, scores=scores)

    def _moved(self, rows: Rows) -> Any:
        return torch.from_numpy(np.ascontiguousarray(rows)).to(self._device)


def _choose(keys: Any, k: int) -> Any:
    # Sorted by index, so that the stable sort by key that follows leaves equal keys in the order of their index.
    return torch.topk(keys, k, dim=1, largest=False).indices.sort(dim=1).values


def _ranked(chosen: Any, keys: Any) -> tuple[Any, Any]:
    values, order = torch.sort(keys, dim=1, stable=True)
    return chosen.gather(1, order), values
