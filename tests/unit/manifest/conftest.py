"""A small project that is right in everything, for tests to break in one place each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

HASH = "--hash=sha256:" + "0" * 64

APP = """\
schema: lading/app/1
name: small
version_from: src/small/version.py
entry: src/small/__main__.py
import_roots: [src]
packages: [small]
executable:
  cpu: small
  cuda: small-cuda
spec: build/small.spec
hooks: build/hooks
requirements: build/small.in
freeze_lock: build/freeze.txt
default_toolkit: cu126
cpu_locks:
  linux-x86_64: build/cpu.txt
budgets:
  core: 10 MB
  core_unpacked: 20 MB
"""

TOOLKIT = """\
schema: lading/toolkit/1
name: cu126
label: cu126-v1
cuda: "12.6"
torch: "2.7.1"
driver:
  linux: "525.60.13"
  windows: "528.33"
offers:
  - torch: ["2.7"]
    archs: ["8.6"]
locks:
  linux-x86_64: build/cu126.txt
libs:
  distributions: ["nvidia-*", torch]
exclude:
  - pattern: "torch/include/**"
    reason: Headers, for building only.
budgets:
  libs: 1 GB
"""

DESTINATIONS = """\
schema: lading/destinations/1
destinations:
  local:
    kind: folder
    path: out/store
  github:
    kind: github
    repository: example/small
"""

SMALL_PROJECT: Mapping[str, str] = {
    "manifests/app.yaml": APP,
    "manifests/toolkits/cu126.yaml": TOOLKIT,
    "manifests/destinations.yaml": DESTINATIONS,
    "src/small/__init__.py": "",
    "src/small/__main__.py": "print('small')\n",
    "src/small/version.py": '__version__ = "1.2.3"\n',
    "build/small.spec": "",
    "build/hooks/hook-small.py": "",
    "build/small.in": "fastapi>=0.1\n",
    "build/cpu.txt": f"fastapi==0.5 \\\n    {HASH}\n",
    "build/freeze.txt": f"pyinstaller==6.22.3 \\\n    {HASH}\n",
    "build/cu126.txt": (
        f"fastapi==0.5 \\\n    {HASH}\n"
        f"nvidia-cuda-runtime-cu12==12.6.77 ; sys_platform == 'linux' \\\n    {HASH}\n"
        f"torch==2.7.1 \\\n    {HASH}\n"
    ),
}

MakeProject = Callable[..., Path]


@pytest.fixture
def make_project(tmp_path: Path) -> MakeProject:
    """Write the small project; ``changes`` replaces a file's text, or removes the file when it is none."""

    def make(changes: Mapping[str, str | None] | None = None) -> Path:
        root = tmp_path / "project"
        for file, text in {**SMALL_PROJECT, **(changes or {})}.items():
            if text is not None:
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_text(text, encoding="utf-8")
        return root

    return make


@pytest.fixture
def small_project() -> dict[str, str]:
    """The small project's files."""
    return dict(SMALL_PROJECT)
