"""Print, as JSON, what the build environment holds: interpreter, distributions with their files, torch.

Runs with the environment's own interpreter in isolated mode; the other side is :mod:`lading.freeze.environment`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _files(found: importlib.metadata.Distribution) -> list[str]:
    """Its files, relative to where it is installed; looked for where the installer kept no list (Debian's packages)."""
    if found.files:
        return [str(file) for file in found.files]
    base = Path(str(found.locate_file("")))
    names = (found.read_text("top_level.txt") or "").split()
    paths = [path for name in names for path in ((base / name).rglob("*"), base.glob(f"{name}.*"))]
    return sorted(path.relative_to(base).as_posix() for group in paths for path in group if path.is_file())


def _distribution(found: importlib.metadata.Distribution) -> dict[str, Any]:
    files = _files(found)
    absolute = [os.path.abspath(str(found.locate_file(file))) for file in files]  # noqa: PTH100 (normalises "..")
    modules = {file.split("/")[0].split(".")[0] for file in files if _is_module(file)}
    return {
        "name": _normal(found.metadata["Name"]),
        "version": found.version,
        "requires": found.requires or [],
        "files": absolute,
        "modules": sorted(modules.union(*(_linked_modules(Path(file)) for file in absolute if file.endswith(".pth")))),
    }


def _linked_modules(link: Path) -> set[str]:
    """What a ``.pth`` file makes importable: the modules of an editable installation."""
    if not link.is_file():
        return set()
    lines = [line.strip() for line in link.read_text(encoding="utf-8", errors="replace").splitlines()]
    folders = [link.parent / line for line in lines if not line.startswith(("import ", "import\t", "#"))]
    there = [path for folder in folders if folder != link.parent and folder.is_dir() for path in folder.iterdir()]
    return {path.stem for path in there if path.suffix == ".py" or (path / "__init__.py").is_file()}


def _is_module(path: str) -> bool:
    top = path.split("/", maxsplit=1)[0]
    return not top.endswith((".dist-info", ".data", ".libs")) and top not in {"..", "__pycache__"} and top.isascii()


def _torch() -> dict[str, Any] | None:
    try:
        import torch  # noqa: PLC0415 (heavy, and absent from CPU builds)
    except ModuleNotFoundError:
        return None
    # The public list is empty on a machine without a GPU; the flags that it is made from are the build's own.
    flags = torch.cuda.get_arch_list() or (torch._C._cuda_getArchFlags() or "").split()  # noqa: SLF001
    nccl = torch.cuda.nccl.version() if torch.version.cuda and torch.distributed.is_nccl_available() else None
    return {
        "version": str(torch.__version__),
        "cuda": torch.version.cuda,
        "archs": list(flags),
        "cudnn": torch.backends.cudnn.version() if torch.version.cuda else None,
        "nccl": ".".join(str(part) for part in nccl) if nccl else None,
    }


def main() -> None:
    """Print the description; diagnostics of imported libraries go to standard error."""
    out = os.dup(1)
    os.dup2(2, 1)  # a library that prints while it is imported must not spoil the JSON
    import_folders = [path for path in sys.path if path.startswith(sys.prefix)]  # .pth files add some (pywin32)
    description = {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "stdlib": sysconfig.get_paths()["stdlib"],
        "base_prefix": sys.base_prefix,
        "prefix": sys.prefix,
        "site": [sysconfig.get_paths()["purelib"], sysconfig.get_paths()["platlib"], *import_folders],
        "distributions": [_distribution(found) for found in importlib.metadata.distributions()],
        "torch": _torch() if "--torch" in sys.argv else None,
    }
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        json.dump(description, stream)


if __name__ == "__main__":
    main()
