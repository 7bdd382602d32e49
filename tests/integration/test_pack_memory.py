"""Packing needs a bounded amount of memory, whatever the input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.pack.trees import APP, Program, make_tree, noise

MIB = 2**20
BOUND = 300.0  # MB above the interpreter with everything imported
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc")

# Packs a tree for the CPU and prints how far the peak of memory went above what the imports needed.
SCRIPT = """
import json, sys
from pathlib import Path
from lading.cli import main, pack as command
from lading.pack.adopt import adopt
from lading.pack.pack import PackOptions, pack
from lading.progress import Silent

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

tree, out, profile, threads = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
Path("/proc/self/clear_refs").write_text("5")
before = peak()
info = adopt(tree, app="demo-server", version="0.1.0", platform="linux-x86_64", toolkit=None, entry=None,
             progress=Silent())
read = peak() - before
pack(tree, info, None, out, options=PackOptions(profile=profile, threads=threads or None), progress=Silent())
print(json.dumps({"read": read / 1e6, "packed": (peak() - before) / 1e6, "interpreter": before / 1e6}))
"""


def measure(tree: Path, out: Path, profile: str, threads: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tree, out, profile, str(threads)], capture_output=True, text=True, check=True
    )
    figures: dict[str, float] = json.loads(done.stdout)
    print(tree.name, profile, f"threads={threads or 'default'}", {name: round(mb, 1) for name, mb in figures.items()})
    return figures


def sparse(folder: Path, size: int) -> Path:
    tree = make_tree(folder, {"demo-server": Program(b"x"), "_internal/x": b"y"})
    with (tree / "_internal" / "model.bin").open("wb") as stream:
        stream.truncate(size)
    return tree


@pytest.mark.proves("S0-20")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_sparse_file_above_a_gibibyte_streams_and_twice_as_much_needs_no_more(tmp_path: Path, threads: int) -> None:
    tiny = measure(sparse(tmp_path / "tiny", 0), tmp_path / "out-tiny", "fast", threads)
    one = measure(sparse(tmp_path / "1200MiB", 1200 * MIB), tmp_path / "out-1", "fast", threads)
    two = measure(sparse(tmp_path / "2400MiB", 2400 * MIB), tmp_path / "out-2", "fast", threads)

    for figures in (one, two):
        assert figures["read"] - tiny["read"] < 8, "reading and digesting needs a block a thread"
        assert figures["packed"] - tiny["packed"] < 160, "writing needs a few frames"
    assert abs(two["packed"] - one["packed"]) < 40, "a frame more or less by chance, and nothing of the 1,258 MB more"
    archive = tmp_path / "out-2" / f"{APP}-core-0.1.0-cpu-linux-x86_64.tar.zst"
    assert archive.stat().st_size < MIB


@pytest.mark.proves("S0-20")
@pytest.mark.parametrize("profile", ["fast", "release"])
def test_what_does_not_compress_needs_no_more_than_300_megabytes(tmp_path: Path, profile: str) -> None:
    """The worst case: compressed frames are as large as raw ones. More frames than can be in flight."""
    files = {f"_internal/noise{number}.bin": noise(48 * MIB, number) for number in range(7)}
    tree = make_tree(tmp_path / "noise", {"demo-server": Program(b"x"), **files})

    figures = measure(tree, tmp_path / "out", profile, 0)

    assert figures["packed"] < BOUND


def test_many_small_files_need_little(tmp_path: Path) -> None:
    files = {f"_internal/{number % 50}/f{number}.bin": noise(20_000, number) for number in range(3000)}
    tree = make_tree(tmp_path / "small", {"demo-server": Program(b"x"), **files})

    assert measure(tree, tmp_path / "out", "release", 0)["packed"] < BOUND


def test_each_thread_that_is_asked_for_needs_about_110_megabytes(tmp_path: Path) -> None:
    """By itself the number of processors does not matter."""
    files = {f"_internal/noise{number}.bin": noise(32 * MIB, number) for number in range(8)}
    tree = make_tree(tmp_path / "noise", {"demo-server": Program(b"x"), **files})

    peaks = [measure(tree, tmp_path / f"out{threads}", "release", threads)["packed"] for threads in (1, 2, 3)]

    assert all(peak < 60 + 115 * threads for threads, peak in enumerate(peaks, start=1))
    assert len({path.read_bytes()[:64] for path in tmp_path.glob("out*/*.tar.zst.sha256")}) == 1, "the same archive"
