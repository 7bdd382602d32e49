"""How modules are stored, measured on the real product: loose files, a stored archive, a compressed archive.

For each way: freeze the project, pack it, change one line of the program and update one dependency (sympy), and print
what a user downloads and how long the program takes to start. Takes about ten minutes and 25 GB; run it on a quiet
machine::

    python -m bench.modules --out out/bench-modules [--mode loose --mode stored]

The result is written down in docs/explanation/loose-modules.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPIED = ("manifests", "build", "server", "packaging")
OLDER_SYMPY = "1.13.3"  # the oldest that torch 2.7.1 allows; the lock has 1.14.0
STARTS = 7


def lading(*words: str, project: Path) -> dict[str, object]:
    """Run a ``lading`` command and read its JSON."""
    argv = [sys.executable, "-m", "lading", *words, "--project", str(project), "--json"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stdout + done.stderr)
    result: dict[str, object] = json.loads(done.stdout)
    return result


def copy_project(target: Path, mode: str, *, sympy: str | None) -> None:
    """Make a copy of the project that stores modules in another way, or pins another sympy."""
    for name in COPIED:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    app = target / "manifests" / "app.yaml"
    text = app.read_text(encoding="utf-8").replace("modules: loose", f"modules: {mode}")
    app.write_text(text.replace("core: 55 MB", "core: 500 MB").replace("220 MB", "2 GB"), encoding="utf-8")
    if sympy is not None:
        source = target / "build" / "requirements" / "cu126.in"
        source.write_text(source.read_text(encoding="utf-8") + f"sympy=={sympy}\n", encoding="utf-8")
        words = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
        words += ["--no-emit-index-url", str(source), "-o", str(source.with_suffix(".txt"))]
        subprocess.run(words, check=True)


def set_version(project: Path, version: str) -> None:
    """Give the copy another version."""
    (project / "server/lading_server/_version.py").write_text(f'__version__ = "{version}"\n', encoding="utf-8")


def change_a_line(project: Path) -> None:
    """What a one-line fix is."""
    path = project / "server/lading_server/health.py"
    path.write_text(path.read_text(encoding="utf-8") + '\nFIXED = "one line"\n', encoding="utf-8")


def start_times(tree: Path, entry: str, words: tuple[str, ...]) -> float:
    """Median seconds of a start, after one that fills the cache."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    seconds = []
    for _ in range(STARTS + 1):
        began = time.perf_counter()
        subprocess.run([str(tree / entry), *words], cwd=tree, env=environment, check=True, capture_output=True)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds[1:])


def build(project: Path, out: Path, previous: Path | None) -> tuple[dict[str, object], dict[str, object], float]:
    """Freeze and pack a project; gives both results and the seconds of the freeze."""
    began = time.perf_counter()
    frozen = lading("freeze", "--cuda", "--out", str(out / "build"), project=project)
    seconds = time.perf_counter() - began
    earlier = ("--previous", str(previous)) if previous else ()
    packed = lading("pack", str(frozen["tree"]), "--out", str(out / "release"), *earlier, project=project)
    return frozen, packed, seconds


def component(packed: dict[str, object], name: str) -> dict[str, int]:
    """One component of a packed release."""
    components = packed["components"]
    assert isinstance(components, list)
    found: dict[str, int] = next(item for item in components if item["component"] == name)
    return found


def patch_size(packed: dict[str, object]) -> int:
    """Bytes of all patches of a release."""
    patches = packed["patches"]
    assert isinstance(patches, list)
    return sum(int(patch["size"]) for patch in patches)


def measure(mode: str, out: Path) -> dict[str, object]:
    """All figures of one way."""
    base = out / mode
    shutil.rmtree(base, ignore_errors=True)
    project = base / "project"
    copy_project(project, mode, sympy=OLDER_SYMPY)
    frozen, packed, seconds = build(project, base, None)
    tree, entry = Path(str(frozen["tree"])), str(frozen["entry"])
    row: dict[str, object] = {
        "mode": mode,
        "files": frozen["files"],
        "freeze_seconds": round(seconds, 1),
        "core_bytes": component(packed, "core")["size"],
        "core_unpacked": component(packed, "core")["unpacked"],
        "libs_bytes": component(packed, "libs")["size"],
        "version_seconds": round(start_times(tree, entry, ("--version",)), 4),
        "selftest_seconds": round(start_times(tree, entry, ("--selftest", "--json")), 2),
    }
    set_version(project, "0.1.1")
    change_a_line(project)
    _, packed, seconds = build(project, base, base / "release")
    row |= {"code_freeze_seconds": round(seconds, 1), "code_patch_bytes": patch_size(packed)}
    set_version(project, "0.1.2")
    shutil.copy2(ROOT / "build/requirements/cu126.txt", project / "build/requirements/cu126.txt")
    packed = build(project, base, base / "release")[1]
    patches = packed["patches"]
    assert isinstance(patches, list)
    row["dependency_patch_bytes"] = patches[0]["size"] if patches else None
    shutil.rmtree(base)
    return row


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "bench-modules")
    parser.add_argument("--mode", action="append", choices=["loose", "stored", "compressed"])
    options = parser.parse_args()
    rows = [measure(mode, options.out.absolute()) for mode in options.mode or ["loose", "stored"]]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
