"""The modules that the server needs at run time, each of which must be in a frozen build and importable."""

from __future__ import annotations

import importlib

from lading_server.selftest.report import CheckFailedError, Evidence

# Those that are imported by name, late, or only on some path: what PyInstaller or an import at start would miss.
REQUIRED = (
    "lading_server.app",
    "lading_server.engine.numpy_engine",
    "lading_server.engine.select",
    "lading_server.serve",
    "lading_server.workers.command",
    "lading_server.workers.dispatch",
    "lading_server.workers.echo",
    "anyio._backends._asyncio",
    "fastapi",
    "h11",
    "multiprocessing.spawn",
    "numpy",
    "pydantic_core",
    "uvicorn.lifespan.on",
    "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.h11_impl",
)
REQUIRED_WITH_TORCH = (
    "lading_server.engine.torch_engine",
    "torch",
    "torch.backends.cudnn",
    "torch.cuda.jiterator",
    "torch.distributed",
    "torch.fft",
    "torch.linalg",
)


def check_imports(names: tuple[str, ...]) -> Evidence:
    """Import every module.

    Raises:
        CheckFailedError: Naming those that cannot be imported, and why.
    """
    wrong: dict[str, str] = {}
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 (a broken extension raises anything; every module gets its turn)
            wrong[name] = f"{type(error).__name__}: {error}"
    evidence = {"modules": len(names), "wrong": wrong}
    if wrong:
        listed = "; ".join(f"{name}: {reason}" for name, reason in wrong.items())
        raise CheckFailedError(f"{len(wrong)} of {len(names)} modules cannot be imported: {listed}", evidence)
    return evidence
