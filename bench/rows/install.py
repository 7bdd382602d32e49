"""A first install from a server on loopback: download, check, unpack; time and memory of the client."""

from __future__ import annotations

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
        seconds, peak = 0.0, 0
        with context.folder("peer-install") as into, serving(archives) as url:
            for name in (said["core"], said["libs"]):
                measured = run([*PEER, "install", url, into, name], cwd=ROOT)
                seconds += measured.seconds
                peak = max(peak, measured.peak_rss)
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
                "--json",
            ]
            ours = run([*LADING, *words], cwd=ROOT)
        return (
            Result(row=self.name, what="first install", unit="s", peer=seconds, ours=ours.seconds, goal=4),
            Result(
                row=self.name,
                what="… memory",
                unit="MiB",
                peer=mebibytes(peak),
                ours=mebibytes(ours.peak_rss),
                limit=MEMORY_LIMIT,
            ),
        )
