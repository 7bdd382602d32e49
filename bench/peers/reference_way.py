"""The peer: how a CUDA build is commonly split, packed and installed without Lading.

Split by name, one ``tarfile`` in ``w:gz`` a part, one SHA-256 a whole archive; the client downloads one archive after
the other, hashes it, and unpacks it with ``extractall``. Written to be fair: streaming, no needless work, and nothing
that the common way does not do (no threads, no reuse, no verification of single files).

It does not sign, does not stage, does not resume, and does not tell what changed.

    python -m bench.peers.reference_way pack TREE OUT
    python -m bench.peers.reference_way install URL INTO ARCHIVE...
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tarfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import httpx

# The level that tarfile takes for "w:gz" when none is given, as the common scripts give none; explicit here so that a
# changed default cannot change the comparison. zlib's own default (6) takes 0.43 of the time for 0.2 % more bytes on a
# sample of a CUDA tree, so a peer who thought of it would be that much faster.
GZIP_LEVEL = 9
BLOCK = 2**20
NVIDIA_FOLDER = "nvidia"
NVIDIA_PREFIXES = (
    "caffe2_nvrtc", "cublas", "cublaslt", "cudart", "cudnn", "cufft", "cufftw", "curand", "cusolver", "cusolvermg",
    "cusparse", "nccl", "nvjitlink", "nvrtc",
)  # fmt: skip
SHARED = (".so", ".dll")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What packing gave: seconds, bytes of both archives, and the archives' names."""

    seconds: float
    size: int
    core: str
    libs: str


@dataclass(frozen=True, kw_only=True)
class Installed:
    """What installing took: seconds and bytes downloaded."""

    seconds: float
    size: int


def is_nvidia(path: str) -> bool:
    """Whether a file goes to the libs archive: below a folder ``nvidia``, or a shared library with a listed prefix.

    The prefixes carry no ``lib`` and the suffix must end the name, so on Linux ``libcublas.so.12`` outside ``nvidia/``
    stays in core, and so does all of torch. That is how the common rule is.
    """
    lower = PurePosixPath(path.lower())
    if NVIDIA_FOLDER in lower.parts[:-1]:
        return True
    return lower.name.startswith(NVIDIA_PREFIXES) and lower.name.endswith(SHARED)


def split(tree: Path) -> tuple[list[str], list[str]]:
    """Divide the files of a tree into core and libs, as sorted paths."""
    parts: tuple[list[str], list[str]] = ([], [])
    for path in sorted(tree.rglob("*")):
        if not path.is_dir():
            name = path.relative_to(tree).as_posix()
            parts[is_nvidia(name)].append(name)
    return parts


def sha256(path: Path) -> str:
    """Digest a whole file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _archive(tree: Path, names: Iterable[str], target: Path) -> str:
    with tarfile.open(target, "w:gz", compresslevel=GZIP_LEVEL) as archive:
        for name in names:
            archive.add(tree / name, arcname=name, recursive=False)
    digest = sha256(target)
    target.with_name(target.name + ".sha256").write_text(f"{digest}  {target.name}\n", "utf-8")
    return digest


def pack(tree: Path, out: Path, label: str = "cu126-v1") -> Packed:
    """Split and pack a tree.

    Args:
        tree: A onedir tree.
        out: Where the archives go; made if need be.
        label: The version of the libs.

    Raises:
        SystemExit: There is no NVIDIA file.
    """
    began = time.perf_counter()
    core, libs = split(tree)
    if not libs:
        raise SystemExit(f"no NVIDIA files found in {tree}")
    out.mkdir(parents=True, exist_ok=True)
    core_archive, libs_archive = out / "server-cuda.tar.gz", out / f"cuda-libs-{label}.tar.gz"
    _archive(tree, core, core_archive)
    digest = _archive(tree, libs, libs_archive)
    record = {"version": label, "torch_compat": ">=2.7.0,<2.8.0", "archive": libs_archive.name, "sha256": digest}
    (out / "cuda-libs.json").write_text(json.dumps(record, indent=2) + "\n", "utf-8")
    return Packed(
        seconds=time.perf_counter() - began,
        size=core_archive.stat().st_size + libs_archive.stat().st_size,
        core=core_archive.name,
        libs=libs_archive.name,
    )


def install(url: str, into: Path, archives: Sequence[str]) -> Installed:
    """Download, check and unpack archives, one after the other.

    Args:
        url: Where the archives and their checksums lie.
        into: The folder that they are unpacked into.
        archives: Their names.

    Raises:
        RuntimeError: A checksum does not match.
        httpx.HTTPError: The server does not give it.
    """
    began = time.perf_counter()
    size = 0
    into.mkdir(parents=True, exist_ok=True)
    with httpx.Client(base_url=url, timeout=60) as client:
        for name in archives:
            expected = client.get(f"/{name}.sha256").raise_for_status().text.split()[0]
            temporary = into / f"{name}.download"
            size += _download(client, name, temporary)
            found = sha256(temporary)
            if found != expected:
                temporary.unlink()
                raise RuntimeError(f"{name}: SHA-256 is {found}, expected {expected}")
            with tarfile.open(temporary, "r:gz") as archive:
                archive.extractall(into, filter="data")
            temporary.unlink()
    return Installed(seconds=time.perf_counter() - began, size=size)


def _download(client: httpx.Client, name: str, target: Path) -> int:
    with client.stream("GET", f"/{name}") as response, target.open("wb") as stream:
        response.raise_for_status()
        for block in response.iter_bytes(BLOCK):
            stream.write(block)
        return stream.tell()


def main(arguments: list[str] | None = None) -> int:
    """Pack or install, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="The common way to split, pack and install a CUDA build.")
    commands = parser.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack")
    packing.add_argument("tree", type=Path)
    packing.add_argument("out", type=Path)
    installing = commands.add_parser("install")
    installing.add_argument("url")
    installing.add_argument("into", type=Path)
    installing.add_argument("archives", nargs="+")
    options = parser.parse_args(arguments)
    result: Packed | Installed
    if options.command == "pack":
        result = pack(options.tree, options.out)
    else:
        result = install(options.url, options.into, options.archives)
    print(json.dumps(asdict(result)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
