"""``--version`` of the frozen server against a frozen program that does nothing else."""

from __future__ import annotations

import statistics
from pathlib import Path

from bench.measure import run
from bench.rows.base import ROOT, Context, Need, Result

from lading.manifest.base import read_record
from lading.manifest.buildinfo import BuildInfo

ROUNDS = 21


class VersionTime:
    """Telling the version must cost hardly more than starting any frozen program."""

    name = "version"
    needs: tuple[Need, ...] = ("freeze_python",)

    def measure(self, context: Context) -> tuple[Result, ...]:
        """Start both alternately; compare medians."""
        assert context.freeze_python is not None
        info = read_record(BuildInfo, context.buildinfo.read_bytes(), origin=str(context.buildinfo))
        server = context.tree / info.entry
        with context.folder("empty") as work:
            empty = freeze_empty(context.freeze_python, work)
            times: dict[Path, list[float]] = {empty: [], server: []}
            for _ in range(ROUNDS):
                for program, seconds in times.items():
                    seconds.append(run([program, "--version"], cwd=program.parent).seconds)
        return (
            Result(
                row=self.name,
                what="--version of the frozen server",
                unit="ms",
                peer=statistics.median(times[empty]) * 1e3,
                ours=statistics.median(times[server]) * 1e3,
                goal=1 / 1.1,
            ),
        )


def freeze_empty(python: Path, work: Path) -> Path:
    """Freeze a program that prints one line, with loose modules as the server has; gives its executable."""
    script = work / "empty.py"
    script.write_text("print('empty 0.0.0')\n", "utf-8")
    argv: list[str | Path] = [
        python,
        "-m",
        "PyInstaller",
        "--onedir",
        "--debug",
        "noarchive",
        "--noconfirm",
        "--log-level",
        "ERROR",
    ]
    folders: list[str | Path] = ["--distpath", work / "dist", "--workpath", work / "build", "--specpath", work]
    run([*argv, *folders, script], cwd=ROOT)
    found = [work / "dist" / "empty" / name for name in ("empty", "empty.exe")]
    return next(path for path in found if path.is_file())
