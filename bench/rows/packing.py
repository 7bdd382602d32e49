"""Packing a frozen tree: fast profile, release profile, and again after a change of the app's code only."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from bench.measure import run, warm
from bench.rows.base import ROOT, Context, Need, Result, mebibytes, megabytes, published_bytes

from lading.manifest.base import canonical_json, read_record
from lading.manifest.buildinfo import OWNER_APP, BuildInfo

MEMORY_LIMIT = 350.0  # MiB: 300 MB above an interpreter with everything imported, which has about 65


class PackFast:
    """The development profile must be much faster than the peer."""

    name = "pack-fast"
    needs: tuple[Need, ...] = ()

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Pack once each."""
        peer, _, _ = context.peer_packed()
        with context.folder("fast") as out:
            ours = context.lading_packed("fast", out)
            return (
                Result(row=self.name, what="packing, fast", unit="s", peer=peer.seconds, ours=ours.seconds, goal=8),
                Result(row=self.name, what="… memory", unit="MiB", ours=mebibytes(ours.peak_rss), limit=MEMORY_LIMIT),
            )


class PackRelease:
    """The release profile must not be slower than the peer, and a third smaller; it gives the sizes that ship."""

    name = "pack-release"
    needs: tuple[Need, ...] = ()

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Pack once each; weigh what comes out."""
        peer, said, _ = context.peer_packed()
        with context.folder("release") as out:
            ours = context.lading_packed("release", out)
            ours_bytes = published_bytes(out)
            core_bytes = sum(path.stat().st_size for path in out.rglob("*-core-*.tar.zst*") if path.suffix != ".sha256")
            return (
                Result(row=self.name, what="packing, release", unit="s", peer=peer.seconds, ours=ours.seconds, goal=1),
                Result(
                    row=self.name,
                    what="all bytes of a first install",
                    unit="MB",
                    peer=megabytes(said["size"]),
                    ours=megabytes(ours_bytes),
                    goal=1 / 0.66,
                    limit=2000,
                ),
                Result(row=self.name, what="… of them core", unit="MB", ours=megabytes(core_bytes), limit=85),
                Result(row=self.name, what="… memory", unit="MiB", ours=mebibytes(ours.peak_rss), limit=MEMORY_LIMIT),
            )


class Repack:
    """After a change of the app's code the libs must not be packed again."""

    name = "repack"
    needs: tuple[Need, ...] = ()

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Pack, change one module of the app, pack into the same folder again; the peer packs everything again."""
        peer, _, _ = context.peer_packed()
        with context.folder("repack") as work:
            out = work / "out"
            context.lading_packed("fast", out)
            changed, buildinfo = change_app(context.tree, context.buildinfo, work)
            warm(changed)
            ours = run(context.pack_command(changed, buildinfo, "fast", out), cwd=ROOT)
            return (
                Result(
                    row=self.name,
                    what="repacking, app changed",
                    unit="s",
                    peer=peer.seconds,
                    ours=ours.seconds,
                    goal=40,
                ),
            )


def change_app(tree: Path, buildinfo: Path, work: Path) -> tuple[Path, Path]:
    """Make a second tree in which one module of the app differs, as a real code change leaves it.

    Unchanged files are hard links to the first tree's, so it costs no room; the changed one is a new file.

    Args:
        tree: The frozen tree.
        buildinfo: Its record.
        work: Where the new tree and its record go.

    Returns:
        The new tree and its record.
    """
    info = read_record(BuildInfo, buildinfo.read_bytes(), origin=str(buildinfo))
    target = next(entry for entry in info.files if entry.owner == OWNER_APP and entry.path.endswith((".pyc", ".py")))
    copy = work / "changed"
    shutil.copytree(tree, copy, symlinks=True, copy_function=os.link)
    # The new app version's code: other bytes in the module's constants, same header.
    data = (tree / target.path).read_bytes() + b"\n# changed\n"
    place = copy / target.path
    place.unlink()
    place.write_bytes(data)
    place.chmod(target.mode)
    entry = target.model_copy(update={"size": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    files = tuple(entry if known.path == target.path else known for known in info.files)
    record = work / "changed.buildinfo.json"
    record.write_bytes(canonical_json(info.model_copy(update={"files": files})))
    return copy, record
