"""The next version of a frozen tree without freezing again: some files in other bytes, everything else hard links.

The changes are real ones: a line of the app's code compiled as the freeze compiles it, another version of a dependency
from its own wheel, another build of a native library.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.rows.base import ROOT

from lading.freeze.inside.builder import FORM
from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import OWNER_APP, BuildInfo, OwnedEntry

PAYLOAD = "_internal/"
PYC_HEADER = 16  # bytes: magic, flags, and what a loose module of a tree leaves zero
OTHER = {"sympy": "1.13.3", "nvidia-nvjitlink-cu12": "12.6.77"}  # the tree has 1.14.0 and 12.6.85
Replaced = Mapping[str, bytes]
Change = Callable[["Tree"], Replaced]


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A frozen tree with its record, and where other versions of what is in it lie."""

    folder: Path
    buildinfo: Path
    wheels: Path | None = None

    def info(self) -> BuildInfo:
        """The record."""
        return read_record(BuildInfo, self.buildinfo.read_bytes(), origin=str(self.buildinfo))

    def owned_by(self, owner: str) -> tuple[OwnedEntry, ...]:
        """The plain files of a distribution."""
        return tuple(entry for entry in self.info().files if entry.owner == owner and entry.type == "file")


def fetch_wheels(target: Path) -> Path:
    """Unpack the other versions of what the changes replace.

    Raises:
        RuntimeError: They cannot be had; says why.
    """
    target.mkdir(parents=True, exist_ok=True)
    wanted = [f"{name}=={version}" for name, version in OTHER.items()]
    argv = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(target), *wanted]
    try:
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise RuntimeError("uv is not installed") from error
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or ["uv failed"])[-1])
    return target


def next_version(tree: Tree, target: Path, version: str, replaced: Replaced) -> Tree:
    """Make the tree of another version.

    Args:
        tree: The tree.
        target: Gets the new tree and its record; made anew.
        version: The new version.
        replaced: The new bytes of changed files, by path.

    Returns:
        The new tree.
    """
    shutil.rmtree(target, ignore_errors=True)
    folder = target / tree.folder.name
    shutil.copytree(tree.folder, folder, symlinks=True, copy_function=os.link)
    info = tree.info()
    entries = []
    for entry in info.files:
        if (data := replaced.get(entry.path)) is None:
            entries.append(entry)
            continue
        place = folder / entry.path
        place.unlink()
        place.write_bytes(data)
        place.chmod(entry.mode)
        digest = hashlib.sha256(data).hexdigest()
        entries.append(entry.model_copy(update={"size": len(data), "sha256": digest}))
    record = target / "buildinfo.json"
    record.write_bytes(canonical_json(info.model_copy(update={"version": version, "files": tuple(entries)})))
    return Tree(folder=folder, buildinfo=record, wheels=tree.wheels)


def code_changed(tree: Tree) -> Replaced:
    """One line added to one module of the app, and the version's own module.

    Where the app's source is not at hand, as with a small tree of a test, the modules get a few bytes more.
    """
    modules = [entry for entry in tree.owned_by(OWNER_APP) if entry.path.endswith(".pyc")]
    chosen = [entry for entry in modules if entry.path.endswith(("/health.pyc", "/_version.pyc"))] or modules[:1]
    replaced = {}
    for entry in chosen:
        old = (tree.folder / entry.path).read_bytes()
        name = entry.path.removeprefix(PAYLOAD).removesuffix("c")
        source = ROOT / "server" / name
        if source.is_file():
            text = source.read_text("utf-8") + '\nFIXED = "one line"\n'
            replaced[entry.path] = compiled(text, name, old)
        else:
            replaced[entry.path] = old + b"\n# changed\n"
    return replaced


def compiled(text: str, name: str, like: bytes) -> bytes:
    """A module compiled as the freeze compiles it.

    Args:
        text: The source.
        name: The path that is written into it.
        like: The module that it takes the place of, for its header.
    """
    code = compile(text, name, "exec", dont_inherit=True, optimize=0)
    return like[:PYC_HEADER] + marshal.dumps(code, FORM)


def dependency_changed(tree: Tree) -> Replaced:
    """Every module of sympy that is in both versions, from the other one."""
    assert tree.wheels is not None
    replaced = {}
    for entry in tree.owned_by("sympy"):
        name = entry.path.removeprefix(PAYLOAD).removesuffix("c")
        source = tree.wheels / name
        if entry.path.endswith(".pyc") and source.is_file():
            old = (tree.folder / entry.path).read_bytes()
            new = compiled(source.read_text("utf-8"), name, old)
            if new != old:
                replaced[entry.path] = new
    return replaced


def library_changed(tree: Tree) -> Replaced:
    """One native library of NVIDIA's from another build of the same minor version."""
    assert tree.wheels is not None
    entry = next(entry for entry in tree.owned_by("nvidia-nvjitlink-cu12") if "libnvJitLink.so" in entry.path)
    return {entry.path: (tree.wheels / entry.path.removeprefix(PAYLOAD)).read_bytes()}
