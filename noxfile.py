#!/usr/bin/env -S uv run --script
# /// script
# requires-python = ">=3.11,<3.14"
# dependencies = ["nox>=2025.5", "uv"]
# ///
"""The manual: what can be done here, in the order of use. Arguments for a session follow ``--``.

Sessions install hash-locked requirements (``build/requirements``, made by the session ``lock``) and arrange ``lading``
commands; nothing is decided here.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = True
nox.options.sessions = ["tests", "lint", "types", "acceptance", "workflows"]

ROOT = Path(__file__).parent
LOCKS = Path("build/requirements")
OUT = Path("out")
CHECKLIST = ROOT.parent / "shared" / "checklist.md"
# Flavors whose torch the package index has; cu118 needs an index of the maintainer's own.
FLAVORS = ("cpu", "cu126", "cu128", "cu130")
GROUPS = ("tests", "types", "lint")
ALONE = ("ci", "sbom")  # groups of tools that have an environment to themselves


def prepare(session: nox.Session, lock: str) -> None:
    """Install a lock, then this project itself as an editable package without asking the index again."""
    session.install("--require-hashes", "--no-deps", "-r", str(LOCKS / f"{lock}.txt"))
    session.install("--no-deps", "--no-build-isolation", "-e", ".")


@nox.session(default=False)
def build_cuda(session: nox.Session) -> None:
    """Walk the whole road with CUDA: freeze, pack, sign, publish, install over HTTP, start, verify."""
    prepare(session, "lading")
    session.run("lading", "build", "--cuda", *session.posargs)


@nox.session(default=False)
def build_cpu(session: nox.Session) -> None:
    """Walk the same road without CUDA; takes half a minute."""
    prepare(session, "lading")
    session.run("lading", "build", *session.posargs)


@nox.session(default=False)
def publish(session: nox.Session) -> None:
    """Publish what was packed: ``nox -s publish -- --to local``."""
    prepare(session, "lading")
    session.run("lading", "publish", str(OUT / "release"), *session.posargs)


@nox.session(default=False)
def verify(session: nox.Session) -> None:
    """Verify the packed assets and what is installed; ``-- --require-gpu`` where there is a GPU."""
    prepare(session, "lading")
    session.run("lading", "verify", str(OUT / "release"))
    session.run("lading", "verify", str(OUT / "data"), *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the unit and integration tests: real PyInstaller, processes and sockets, no CUDA."""
    prepare(session, "tests")
    session.run("pytest", "tests/unit", "tests/integration", *session.posargs)


@nox.session(default=False)
def system(session: nox.Session) -> None:
    """Test the real CUDA product that ``build_cuda`` made under ``out/``."""
    prepare(session, "tests")
    session.run("pytest", "tests/system", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting."""
    prepare(session, "lint")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("interrogate", "packaging/lading", "server/lading_server")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, of the packages, the tests, the benchmarks and this file."""
    prepare(session, "types")
    session.run("mypy")


@nox.session
def acceptance(session: nox.Session) -> None:
    """Print every line of the acceptance list with the tests that prove it; fail on a line with none."""
    prepare(session, "tests")
    checklist = ("--checklist", str(CHECKLIST)) if CHECKLIST.is_file() else ()
    session.run("python", "tests/acceptance.py", *checklist, *session.posargs)


@nox.session
def workflows(session: nox.Session) -> None:
    """Check that rendered workflows, schemas and pages are those of their sources, and the workflows by known tools."""
    prepare(session, "tests")
    session.run("python", "workflows/render.py", "--check")
    session.run("python", "workflows/check.py")
    session.run("lading", "schema")
    session.run("lading", "check")


@nox.session(default=False)
def rehearse(session: nox.Session) -> None:
    """Rehearse a release with the CPU build by the workflows' own steps, to a folder and a local object store."""
    prepare(session, "tests")
    out = OUT / "rehearsal"
    session.run("lading", "build", "--cpu", "--profile", "fast", "--out", str(out), *session.posargs)
    session.run("python", "workflows/rehearse.py", str(out / "release"))


@nox.session(default=False)
def bench(session: nox.Session) -> None:
    """Measure packing, updating, installing and uploading against the common way, on the tree of ``build_cuda``."""
    tree = OUT / "tree" / "cu126"
    words = ["--tree", str(tree / "lading-server-cuda"), "--buildinfo", str(tree / "buildinfo.json")]
    words += ["--store", str(OUT / "store")]
    for python in sorted((OUT / "env").glob("cu126-*/bin/python")):
        words += ["--freeze-python", str(python)]
    only_upload = "upload" in session.posargs
    if not only_upload:
        prepare(session, "lading")
        session.run("python", "-m", "bench.run", *words, *session.posargs)
    if only_upload or not session.posargs:
        # Apart: boto3, the peer, would be imported by every client command where it is installed.
        prepare(session, "tests")
        session.run("python", "-m", "bench.run", *words, "--row", "upload", "--out", str(OUT / "bench-upload"))


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Write the generated schemas and reference pages anew."""
    prepare(session, "lading")
    session.run("lading", "schema", "--write")
    session.run("python", "workflows/render.py")


@nox.session(default=False, venv_backend="none")
def lock(session: nox.Session) -> None:
    """Make all hash locks anew; ``-- --upgrade`` takes the newest versions."""
    uv = shutil.which("uv") or "uv"
    common = [uv, "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes"]
    common += [
        "--no-emit-index-url",
        "--no-emit-find-links",
        "--custom-compile-command",
        "nox -s lock",
        *session.posargs,
    ]
    # The address of an index or a cache must not get into a lock.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_INDEX", "PIP_"))}
    for flavor in (*FLAVORS, "freeze"):
        session.run(
            *common, str(LOCKS / f"{flavor}.in"), "-o", str(LOCKS / f"{flavor}.txt"), env=environment, external=True
        )
    words = ["pyproject.toml", "--extra", "s3", "--group", "package"]
    session.run(*common, *words, "-o", str(LOCKS / "lading.txt"), env=environment, external=True)
    for group in ALONE:
        session.run(*common, "--group", group, "-o", str(LOCKS / f"{group}.txt"), env=environment, external=True)
    doubles = Path("tests/doubles")
    session.run(*common, str(doubles / "swift.in"), "-o", str(doubles / "swift.txt"), env=environment, external=True)
    for group in GROUPS:
        words = ["pyproject.toml", "--extra", "server", "--extra", "s3", "--group", "package", "--group", group]
        session.run(*common, *words, "-o", str(LOCKS / f"{group}.txt"), env=environment, external=True)


if __name__ == "__main__":
    nox.main()
