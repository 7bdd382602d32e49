"""Small onedir trees, their build information, and what an archive holds as stock Python reads it."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from backports import zstd
from typing_extensions import override

from lading.manifest.app import Budgets
from lading.manifest.buildinfo import BuildInfo, OwnedEntry
from lading.manifest.project import load_project
from lading.manifest.release import Provenance, TorchBuild
from lading.manifest.toolkit import Toolkit
from lading.pack.pack import PackOptions, PackResult, pack
from lading.pack.scan import scan_tree
from lading.progress import Silent, Task

ROOT = Path(__file__).resolve().parents[3]
APP = "demo-server"
ENTRY = "demo-server-cuda"
CUDA_LIBRARY = "_internal/nvidia/cublas/lib/libcublas.so.12"
TORCH = TorchBuild(version="2.7.1+cu126", cuda="12.6", archs=("sm_80", "sm_90"), cudnn=90501, nccl="2.26.2")
PROVENANCE = Provenance(
    commit="0" * 40, epoch=1_700_000_000, python="3.11.9", pyinstaller="6.22.3", zstd="1.5.7", lading="0.1.0"
)


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Program:
    """An executable file."""

    data: bytes


Files = Mapping[str, bytes | Link | Program]


def noise(size: int, seed: object = 0) -> bytes:
    """Bytes that do not compress, the same every time and on every Python."""
    return hashlib.shake_256(str(seed).encode()).digest(size)


def code(name: str, lines: int = 200) -> bytes:
    """Bytes that compress like code, the same every time."""
    chosen = hashlib.shake_256(name.encode()).digest(3 * lines)
    words = ("load", "store", "call", name, "return", "jump", "compare", "import")
    return "".join(
        f"{words[chosen[at] % len(words)]} {chosen[at + 1] * 256 + chosen[at + 2]}\n" for at in range(0, len(chosen), 3)
    ).encode()


CORE: dict[str, bytes | Link | Program] = {
    ENTRY: Program(b"\x7fELF" + noise(5_000, 1)),
    "_internal/base_library.zip": noise(20_000, 2),
    "_internal/demo/app.pyc": code("app"),
    "_internal/demo/routes.pyc": code("routes"),
    "_internal/demo/empty.txt": b"",
    "_internal/libz.so.1": Program(noise(9_000, 3)),
    "_internal/libz.so": Link("libz.so.1"),
    "_internal/größe.txt": "größe\n".encode(),
}
LIBS: dict[str, bytes | Link | Program] = {
    CUDA_LIBRARY: Program(noise(70_000, 4) + code("cublas", 3_000)),
    "_internal/libcublas.so.12": Link("nvidia/cublas/lib/libcublas.so.12"),
    "_internal/torch/__init__.pyc": code("torch"),
    "_internal/torch/lib/libtorch_cuda.so": Program(noise(30_000, 5)),
}
OWNERS = {
    "_internal/demo": "app",
    "_internal/base_library.zip": "python",
    "_internal/libz": "system",
    "_internal/nvidia/cublas": "nvidia-cublas-cu12",
    "_internal/torch": "torch",
    ENTRY: "pyinstaller",
}


def make_tree(folder: Path, files: Files) -> Path:
    """Write a tree.

    Returns:
        The folder.
    """
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            os.symlink(content.target, path)  # noqa: PTH211 (pathlib would tidy the target)
        elif isinstance(content, Program):
            path.write_bytes(content.data)
            path.chmod(0o755)
        else:
            path.write_bytes(content)
    return folder


def owner_of(path: str, owners: Mapping[str, str] = OWNERS) -> str:
    """The owner by the longest beginning of the path."""
    known = [start for start in owners if path.startswith(start)]
    return owners[max(known, key=len)] if known else ""


@cache
def _cu126() -> Toolkit:
    return load_project(ROOT).toolkit("cu126")


def toolkit(label: str = "cu126-v1", budgets: Budgets | None = None) -> Toolkit:
    """The real cu126 manifest."""
    return _cu126().model_copy(update={"label": label, "budgets": budgets or Budgets()})


def describe(
    tree: Path, version: str = "0.1.0", *, cuda: bool = True, owners: Mapping[str, str] = OWNERS, entry: str = ENTRY
) -> BuildInfo:
    """What the freeze step would say about a tree."""
    entries = tuple(
        OwnedEntry(**found.model_dump(), owner=owner_of(found.path, owners)) for found in scan_tree(tree, Silent())
    )
    return BuildInfo(
        app=APP,
        version=version,
        platform="linux-x86_64",
        variant="cuda" if cuda else "cpu",
        entry=entry,
        toolkit="cu126" if cuda else None,
        modules="loose",
        files=entries,
        distributions={},
        torch=TORCH if cuda else None,
        glibc="2.28",
        provenance=PROVENANCE,
    )


def copy_project(folder: Path) -> Path:
    """This project's manifests and version in another folder, without budgets: they are the real product's.

    Returns:
        The folder.
    """
    shutil.copytree(ROOT / "manifests", folder / "manifests")
    for path in (folder / "manifests").rglob("*.yaml"):
        text = re.sub(r"^budgets:.*\n(?: +.*\n)*", "", path.read_text("utf-8"), flags=re.MULTILINE)
        path.write_text(text, "utf-8")
    version = folder / "server" / "lading_server"
    version.mkdir(parents=True)
    shutil.copy(ROOT / "server" / "lading_server" / "_version.py", version)
    return folder


@dataclass
class Desk:
    """Packs trees below one folder.

    Attributes:
        folder: Everything of it.
    """

    folder: Path
    trees: int = field(default=0)

    def tree(self, files: Files) -> Path:
        """Write a tree into a new folder."""
        self.trees += 1
        return make_tree(self.folder / f"tree-{self.trees}", files)

    def pack(
        self,
        files: Files,
        version: str = "0.1.0",
        *,
        out: str = "out",
        cuda: bool = True,
        label: str = "cu126-v1",
        options: PackOptions | None = None,
        budgets: Budgets | None = None,
        progress: Silent | None = None,
    ) -> PackResult:
        """Write a tree and pack it."""
        tree = self.tree(files)
        return pack(
            tree,
            describe(tree, version, cuda=cuda),
            toolkit(label, budgets) if cuda else None,
            self.folder / out,
            options=options or PackOptions(),
            progress=progress or Silent(),
            budgets=budgets,
        )


def names(folder: Path) -> set[str]:
    """The visible files of a folder; a packer's lock is not one."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")} if folder.exists() else set()


def hidden(folder: Path) -> set[str]:
    """What a packer left behind, but for its lock."""
    found = {path.name for path in folder.iterdir() if path.name.startswith(".")} if folder.exists() else set()
    return found - {".lading-pack.lock"}


def archive_bytes(result: PackResult, component: str) -> bytes:
    """A packed component's volumes, put together."""
    packed = next(packed for packed in result.components if packed.record.component == component)
    return b"".join((packed.folder / volume.name).read_bytes() for volume in packed.record.volumes)


def members(archive: bytes) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """An archive's members by name, as the standard library reads them."""
    with tarfile.open(fileobj=io.BytesIO(zstd.decompress(archive))) as tar:
        found = {}
        for info in tar.getmembers():
            stream = tar.extractfile(info) if info.isfile() else None
            assert info.name not in found
            found[info.name] = (info, stream.read() if stream else b"")
        return found


class _Acting(Silent):
    def __init__(self, action: Callable[[str, int], None], label: str) -> None:
        self._action = action
        self._label = label
        self._done = 0

    def advance(self, amount: int) -> None:
        """Do it."""
        self._done += amount
        self._action(self._label, self._done)

    def __enter__(self) -> Self:
        self._action(self._label, 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Acting(Silent):
    """Progress that does something at a given moment: what another process does to a tree meanwhile.

    Args:
        label: The step.
        after: Bytes of the step after which it is done.
        action: What to do, once.
    """

    def __init__(self, label: str, after: int, action: Callable[[], None]) -> None:
        self._wanted = label
        self._after = after
        self._act = action
        self.acted = False

    def _do(self, label: str, done: int) -> None:
        if not self.acted and label == self._wanted and done >= self._after:
            self.acted = True
            self._act()

    @override
    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        return _Acting(self._do, label)


def on_disk(folder: Path) -> dict[str, tuple[str, bytes]]:
    """What a folder holds: for each path its kind with the executable bit, and its bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = ("link", os.fsencode(path.readlink()))
        elif path.is_file():
            found[name] = ("program" if os.access(path, os.X_OK) and path.stat().st_mode & 0o100 else "file",
                           path.read_bytes())  # fmt: skip
    return found
