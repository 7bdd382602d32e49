"""Fail unless the torch of this very interpreter was built for the toolkit that is asked for.

It stands alone: the standard library and the torch under test, so that it says the same wherever it runs, and the
release pipeline need not trust the toolchain that it checks. It does not need a GPU: what a wheel was built for is
written in it.

Run it with the interpreter of the build environment: ``out/env/.../bin/python workflows/verify_torch_cuda.py cu126``.
"""

from __future__ import annotations

import importlib
import re
import sys

FAILED = 58  # as lading's WrongTorch


def problem(toolkit: str, cuda: str | None, version: str, archs: list[str]) -> str | None:
    """Judge a torch build.

    Args:
        toolkit: Such as ``cu126``.
        cuda: ``torch.version.cuda``; none in a CPU-only build.
        version: ``torch.__version__``.
        archs: The architectures that the build has code for, from ``torch._C._cuda_getArchFlags()``.

    Returns:
        What is wrong, or none.
    """
    if cuda is None:
        return f"torch {version} is a CPU-only build (torch.version.cuda is None); {toolkit} was asked for"
    built = "cu" + "".join(cuda.split(".")[:2])
    if built != toolkit:
        return f"torch {version} was built with CUDA {cuda} ({built}); {toolkit} was asked for"
    if not archs:
        return f"torch {version} has code for no GPU architecture at all"
    return None


def main(arguments: list[str]) -> int:
    """Check the installed torch; the exit code says whether it is the right one."""
    if len(arguments) != 1 or re.fullmatch(r"cu[0-9]{3}", arguments[0]) is None:
        print("usage: verify_torch_cuda.py cu126", file=sys.stderr)
        return 2
    toolkit = arguments[0]
    try:
        torch = importlib.import_module("torch")
    except ImportError as error:
        print(f"torch cannot be imported: {error}", file=sys.stderr)
        return FAILED
    # get_arch_list() answers [] on a machine without a GPU; the flags that it reads are in the binary.
    flags = getattr(torch._C, "_cuda_getArchFlags", lambda: None)() or ""  # noqa: SLF001 (the public call needs a GPU)
    found = problem(toolkit, torch.version.cuda, torch.__version__, flags.split())
    if found is not None:
        print(found, file=sys.stderr)
        return FAILED
    print(f"torch {torch.__version__}, CUDA {torch.version.cuda}, architectures {flags}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
