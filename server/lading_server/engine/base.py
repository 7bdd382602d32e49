"""What an engine is: the protocol, what it says about itself, and how it fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Metric = Literal["cosine", "dot", "euclidean"]
Rows = NDArray[np.float64]

# Every engine computes in double precision, also on a GPU: a request is bounded by what fits into JSON (at most about
# 4 GFlop), where single precision would save milliseconds and cost the engines their agreement.
# Of the scores of a request, ‖found - reference‖ / ‖reference‖, between any engine and a float64 reference. A single
# dot product that nearly cancels has fewer digits of its own, in any arithmetic.
RELATIVE_TOLERANCE = 1e-9


class DeviceMemoryError(Exception):
    """The device has no room for this request now; the engine is well and may be asked again."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU that the engine can use.

    Attributes:
        index: Its number in this process.
        name: What the driver calls it.
        compute_capability: Such as ``9.0``.
        memory_total_bytes: Its memory.
    """

    index: int
    name: str
    compute_capability: str
    memory_total_bytes: int


@dataclass(frozen=True, kw_only=True)
class EngineFacts:
    """What an engine runs on; does not change while it lives.

    Attributes:
        engine: The library that computes.
        device: Where it computes.
        reason: Why this engine and this device, in one sentence.
        gpu_problem: Why no GPU is used; nothing when one is.
        gpus: The GPUs that it can use.
        torch_version: Torch's version, when this build has torch.
        torch_cuda: The CUDA version that torch was built for, such as ``12.6``.
    """

    engine: Literal["numpy", "torch"]
    device: Literal["cpu", "cuda"]
    reason: str
    gpu_problem: str | None
    gpus: tuple[Gpu, ...] = ()
    torch_version: str | None = None
    torch_cuda: str | None = None

    @property
    def toolkit(self) -> str | None:
        """The toolkit's short name, such as ``cu126``; nothing for a build without CUDA."""
        return None if self.torch_cuda is None else toolkit_name(self.torch_cuda)


@dataclass(frozen=True, kw_only=True)
class Matches:
    """The nearest rows of each query, best first; equal scores by index.

    Attributes:
        indices: Row numbers of the corpus.
        scores: Their scores: similarity (larger is nearer), or the distance for ``euclidean`` (smaller is nearer).
    """

    indices: list[list[int]]
    scores: list[list[float]]


class Engine(Protocol):
    """Something that computes. Its methods block and are called from one thread at a time."""

    @property
    def facts(self) -> EngineFacts:
        """What it runs on."""
        ...

    def nearest(self, queries: Rows, corpus: Rows, *, k: int, metric: Metric) -> Matches:
        """Find the ``k`` nearest corpus rows of each query, by comparing with every row.

        Args:
            queries, corpus: Finite rows of the same width; for ``cosine``, none of them zero.
            k: How many, at most the number of corpus rows.
            metric: What near means.

        Raises:
            DeviceMemoryError: The device has no room for it now.
        """
        ...

    def free_memory(self) -> tuple[int, ...]:
        """Free bytes of each GPU in ``facts.gpus``, now."""
        ...


def toolkit_name(cuda_version: str) -> str:
    """The short name of a CUDA version: ``12.6`` gives ``cu126``."""
    major, minor = cuda_version.split(".")[:2]
    return f"cu{major}{minor}"
