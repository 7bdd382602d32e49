"""A first install from a server on loopback: download, check, unpack; time and memory of the client.

Lading flushes what it installed to the disk before it says that it is there; the peer leaves that to the system. So
there are two lines: as both are, and with the peer's files flushed too, which is the same promise on both sides.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from bench.fileserver import serving
from bench.measure import run
from bench.rows.base import LADING, PEER, ROOT, Context, Need, Result, mebibytes

MEMORY_LIMIT = 250.0  # MiB


class Install:
    """Installing must be several times faster than downloading, hashing and unpacking one after the other."""

    name = "install"
    needs: tuple[Need, ...] = ("store",)

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Install once each.

        The peer gets its two archives in two measured runs, the first archive being deleted in between, so that
        archives, download and unpacked tree together stay below 10 GB of disk.
        """
        assert context.store is not None
        _, said, archives = context.peer_packed()
        seconds, peak, flushing = 0.0, 0, 0.0
        with context.folder("peer-install") as into, serving(archives) as url:
            for name in (said["core"], said["libs"]):
                measured = run([*PEER, "install", url, into, name], cwd=ROOT)
                seconds += measured.seconds
                peak = max(peak, measured.peak_rss)
                flushing += flush(into)
                (archives / name).unlink()
        with context.folder("install") as into, serving(context.store) as url:
            root = context.store / "metadata" / "1.root.json"
            words: list[str | Path] = [
                "install",
                url,
                "--root",
                root,
                "--data",
                into,
                "--flavor",
                context.flavor,
                "--force",  # the machine that measures may have no GPU
                "--json",
            ]
            ours = run([*LADING, *words], cwd=ROOT)
        return (
            Result(row=self.name, what="first install", unit="s", peer=seconds, ours=ours.seconds, goal=4),
            Result(row=self.name, what="… both on the disk", unit="s", peer=seconds + flushing, ours=ours.seconds),
            Result(
                row=self.name,
                what="… memory",
                unit="MiB",
                peer=mebibytes(peak),
                ours=mebibytes(ours.peak_rss),
                limit=MEMORY_LIMIT,
            ),
        )


def flush(folder: Path) -> float:
    """Write every file of a folder through to the disk; gives the seconds that it took."""
    began = time.perf_counter()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("r+b") as stream:
                os.fsync(stream.fileno())
    return time.perf_counter() - began
