"""The choice of the engine: torch when this build has it and it loads, numpy otherwise."""

from __future__ import annotations

from lading_server.engine.base import Engine
from lading_server.engine.numpy_engine import NumpyEngine

NO_TORCH = "this build has no torch"


def select_engine() -> Engine:
    """Make the best engine that works here; takes seconds where torch is loaded.

    A torch that is there but cannot be loaded is no reason to be no server at all: it is reported as the reason, which
    makes the health of a CUDA build "degraded".
    """
    try:
        from lading_server.engine.torch_engine import TorchEngine  # noqa: PLC0415 (imports torch)
    except ModuleNotFoundError as error:
        if error.name == "torch":
            return NumpyEngine(NO_TORCH)
        return NumpyEngine(f"torch cannot be loaded: {error}")
    except (ImportError, OSError) as error:  # OSError: a shared library that torch needs is missing or broken
        return NumpyEngine(f"torch cannot be loaded: {error}")
    return TorchEngine()
