"""``lading freeze``: the switch between the CPU's and the CUDA build, and the environment that is there already."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.integration.freeze_projects import TinyProject, Workshop, make_wheel, pin, say

from lading.errors import WrongTorch
from lading.freeze.freeze import read_buildinfo
from lading.host.platform import this_platform
from lading.manifest.buildinfo import BuildInfo
from lading.process import Finished, run

SUFFIX = ".exe" if sys.platform == "win32" else ""

# What Lading asks torch for, and what PyInstaller's hook for torch reads.
TORCH = {
    "torch/__init__.py": """\
        from torch import _C, backends, cuda, distributed
        from torch.version import __version__
        """,
    "torch/version.py": '__version__ = "2.7.1+cu126"\ncuda = "12.6"\n',
    "torch/_C.py": 'def _cuda_getArchFlags():\n    return "sm_50 sm_86"\n',
    "torch/cuda/__init__.py": "from torch.cuda import nccl\n\n\ndef get_arch_list():\n    return []\n",
    "torch/cuda/nccl.py": "def version():\n    return (2, 26, 2)\n",
    "torch/distributed.py": "def is_nccl_available():\n    return True\n",
    "torch/backends/__init__.py": "from torch.backends import cudnn\n",
    "torch/backends/cudnn.py": "def version():\n    return 90501\n",
    "torch/include/torch.h": "// a header\n",
}

TOOLKIT = """\
schema: lading/toolkit/1
name: {name}
label: {name}-v1
cuda: "{cuda}"
torch: "2.7.1"
driver:
  linux: "525.60.13"
  windows: "528.33"
offers:
  - torch: ["2.7"]
    archs: ["8.6"]
locks:
  {platform}: build/requirements/{name}.txt
libs:
  distributions: ["nvidia-*", torch]
exclude:
  - pattern: "torch/include/**"
    reason: Headers, for building extensions only.
"""


def lading(*words: str) -> Finished:
    return run([sys.executable, "-m", "lading", "freeze", *words, "--json"], timeout=300)


def frozen(*words: str) -> tuple[dict[str, object], BuildInfo]:
    done = lading(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    said: dict[str, object] = json.loads(done.stdout)
    info = read_buildinfo(Path(str(said["buildinfo"])))
    assert said["files"] == len(info.files)
    return said, info


@pytest.fixture(scope="module")
def both(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[TinyProject, Path]:
    """A project with a toolkit whose torch is a small one of the right name and version, and its outputs' folder."""
    folder = tmp_path_factory.mktemp("both")
    project = workshop.project(folder / "project")
    torch = make_wheel(workshop.wheel.parent, "torch", "2.7.1+cu126", TORCH)
    for name, cuda in (("cu126", "12.6"), ("cu128", "12.8")):
        text = TOOLKIT.format(name=name, cuda=cuda, platform=this_platform())
        project.write(f"manifests/toolkits/{name}.yaml", text)
    project.write("build/requirements/cu126.txt", project.read("build/requirements/cpu.txt") + pin(torch))
    project.manifest("default_toolkit: cu126\n")
    project.change(
        "server/tiny_server/entry.py",
        "import sys\n",
        "import sys\n\ntry:\n    import torch\nexcept ImportError:\n    torch = None\n",
    )
    return project, workshop.out(folder / "out")


@pytest.mark.proves("S0-19")
def test_the_switches_give_the_cuda_build_and_the_cpu_build_each_under_its_name(
    both: tuple[TinyProject, Path],
) -> None:
    project, out = both
    where = ["--project", str(project.root), "--out", str(out)]
    said, info = frozen(*where, "--toolkit", "cu126")
    assert (said["entry"], info.variant, info.toolkit) == (f"tiny-server-cuda{SUFFIX}", "cuda", "cu126")
    assert info.torch is not None
    assert (info.torch.version, info.torch.cuda, info.torch.archs) == ("2.7.1+cu126", "12.6", ("sm_50", "sm_86"))
    assert (info.torch.cudnn, info.torch.nccl) == (90501, "2.26.2")
    owner = {entry.path: entry.owner for entry in info.files}
    assert owner["_internal/torch/version.pyc"] == "torch"
    assert not any("torch/include" in path for path in owner)
    reasons = {item.path: item.reason for item in info.dropped}
    assert reasons.get("torch/include/torch.h", "Headers, for building extensions only.").startswith("Headers")
    tree = Path(str(said["tree"]))
    assert sorted(path.name for path in tree.iterdir()) == ["_internal", f"tiny-server-cuda{SUFFIX}"]
    assert say(tree, "--version", entry=f"tiny-server-cuda{SUFFIX}").stdout == "tiny-server 1.2.3\n"

    said, info = frozen(*where)  # without a switch
    assert (said["entry"], info.variant, info.toolkit, info.torch) == (f"tiny-server{SUFFIX}", "cpu", None, None)
    assert not any(entry.owner == "torch" for entry in info.files)
    assert sorted(path.name for path in Path(str(said["tree"])).iterdir()) == ["_internal", f"tiny-server{SUFFIX}"]
    assert tree.is_dir()  # each has its own place


@pytest.mark.proves("S0-19")
def test_a_project_without_toolkits_is_built_for_the_cpu(
    workshop: Workshop, both: tuple[TinyProject, Path], tmp_path: Path
) -> None:
    project = workshop.project(tmp_path / "project")
    said, info = frozen("--project", str(project.root), "--out", str(workshop.out(tmp_path / "out")))
    assert (said["entry"], info.variant) == (f"tiny-server{SUFFIX}", "cpu")


def test_switches_that_contradict_each_other_are_a_usage_error(both: tuple[TinyProject, Path]) -> None:
    done = lading("--project", str(both[0].root), "--cpu", "--toolkit", "cu126")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_a_torch_of_another_cuda_or_none_stops_the_build_before_anything_is_frozen(
    both: tuple[TinyProject, Path],
) -> None:
    project, out = both
    toolkit = "manifests/toolkits/cu128.yaml"
    project.write("build/requirements/cu128.txt", project.read("build/requirements/cu126.txt"))
    where = ["--project", str(project.root), "--out", str(out)]
    for words, says in (
        (["--toolkit", "cu128"], "torch 2.7.1+cu126 in the build environment is built with CUDA 12.6"),
        (["--toolkit", "cu128", "--reuse-env"], "The build environment has no torch"),
    ):
        done = lading(*where, *words)
        assert done.returncode == WrongTorch.exit_code, done.stdout
        error = json.loads(done.stdout)
        assert error["error"] == "WrongTorch"
        assert says in error["what"]
        assert f"{toolkit} says torch 2.7.1 with CUDA 12.8" in error["what"]
    assert not (out / "tree" / "cu128").exists()
    assert not (out / "work" / "cu128-pyinstaller.log").exists()


def test_the_running_environment_is_frozen_without_what_is_beside(workshop: Workshop, tmp_path: Path) -> None:
    project = workshop.project(tmp_path / "project")
    beside = "".join(
        f"    try:\n        import {name}\n        found.append('{name}')\n    except ImportError:\n        pass\n"
        for name in ("pytest", "mypy", "httpx", "lading", "numpy")
    )
    project.write(
        "server/tiny_server/selftest.py",
        "import idna\n\n\ndef checks():\n    found = []\n"
        f"{beside}"
        '    good = not found and idna.encode("ö.de") == b"xn--nda.de"\n'
        '    return [{"name": "beside", "status": "pass" if good else "fail", "reason": str(found)}]\n',
    )
    project.write("build/requirements/more.in", "idna # a dependency of httpx, which is not wanted\n")
    project.write("build/requirements/server.in", "-r more.in\n")
    (project.root / "build/hooks/hook-tinydep.py").unlink()
    out = tmp_path / "out"
    words = ["--project", str(project.root), "--out", str(out), "--cpu", "--reuse-env"]
    said, info = frozen(*words)
    assert said["environment_reused"] is True
    assert info.provenance.locks == {}
    assert {entry.owner for entry in info.files} <= {"app", "python", "system", "pyinstaller", "idna"}
    assert set(info.distributions) == {"idna"}
    assert say(Path(str(said["tree"])), "--selftest", "--json").returncode == 0
    assert not (out / "env").exists()
    assert frozen(*words)[0]["reused"] == "tree"


def test_a_wrong_python_a_missing_lock_and_a_folder_that_is_no_project_have_their_codes(
    workshop: Workshop, tmp_path: Path
) -> None:
    project = workshop.project(tmp_path / "project")
    where = ["--project", str(project.root), "--cpu"]
    (project.root / "build/requirements/cpu.txt").unlink()
    assert lading(*where).returncode == 11
    project.change("manifests/app.yaml", ">=3.11,<3.14", ">=3.99")
    project.write("build/requirements/cpu.txt", pin(workshop.wheel))
    assert lading(*where).returncode == 13
    assert lading(*where, "--reuse-env").returncode == 13
    assert lading("--project", str(tmp_path)).returncode == 10
    left = {path.relative_to(project.root).as_posix() for path in (project.root / "out").rglob("*") if path.is_file()}
    assert left <= {Path("out", "work", "cpu.lock").as_posix()}


def test_a_person_reads_what_was_made(workshop: Workshop, both: tuple[TinyProject, Path]) -> None:
    project, out = both
    done = run(
        [sys.executable, "-m", "lading", "freeze", "--project", project.root, "--out", out, "--toolkit", "cu126"],
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tiny-server-cuda 1.2.3  ")
    assert done.stdout.splitlines()[-1] == str(out / "tree" / "cu126" / "tiny-server-cuda")
