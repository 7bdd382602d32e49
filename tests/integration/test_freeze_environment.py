"""The build environment, made by the real installer: what it refuses, and that nothing half-made is taken for one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.integration.freeze_projects import TinyProject, Workshop, make_wheel, pin

from lading.errors import FreezeFailed, LockMismatch, LockMissing, WrongInterpreter
from lading.freeze.environment import Environment, describe, make_environment, running_environment
from lading.progress import Silent

LOCK = "build/requirements/cpu.txt"
TOOLS = "build/requirements/freeze.txt"


@pytest.fixture
def project(workshop: Workshop, tmp_path: Path) -> TinyProject:
    """A project whose freezing tools are one small module: PyInstaller itself is installed by other tests."""
    project = workshop.project(tmp_path / "project")
    tool = make_wheel(workshop.wheel.parent, "tinytool", "2.0", {"tinytool.py": "x = 1\n"}, ("tinydep>=1",))
    project.write(TOOLS, pin(tool))
    return project


def make(project: TinyProject, folder: Path, *, allowed: str = ">=3.11") -> Environment:
    locks = [LOCK, TOOLS]
    return make_environment(
        project.root, locks, folder, flavor="cpu", allowed=allowed, with_torch=True, progress=Silent()
    )


def folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def test_an_environment_holds_what_the_locks_name_and_is_made_once(project: TinyProject, tmp_path: Path) -> None:
    first = make(project, tmp_path / "env")
    assert not first.reused
    assert folders(tmp_path / "env") == [first.prefix]
    installers = {"pip", "setuptools", "wheel"}  # venv brings these where there is no uv
    assert set(first.distributions) - installers == {"tinydep", "tinytool"}
    tool = first.distributions["tinytool"]
    assert (tool.version, tool.requires, tool.modules) == ("2.0", ("tinydep>=1",), ("tinytool",))
    assert {Path(file).name for file in tool.files} >= {"tinytool.py", "METADATA", "RECORD"}
    assert all(Path(file).is_relative_to(first.prefix) for file in tool.files)
    assert first.torch is None
    assert set(first.locks) == {LOCK, TOOLS}
    again = make(project, tmp_path / "env")
    assert again.reused
    assert (again.distributions, again.prefix) == (first.distributions, first.prefix)

    # Moved with its folder it is not made again, and its files are found where they are now.
    (tmp_path / "env").rename(tmp_path / "moved")
    moved = make(project, tmp_path / "moved")
    assert moved.reused
    assert moved.prefix == tmp_path / "moved" / first.prefix.name
    assert all(Path(file).is_relative_to(moved.prefix) for file in moved.distributions["tinytool"].files)

    # A wheel with other bytes than the lock's is refused, and the environment that is there stays.
    right = project.read(LOCK)
    project.write(LOCK, right[: right.index("sha256:")] + f"sha256:{'0' * 64}\n")
    with pytest.raises(LockMismatch, match="not the one that the lock names") as stopped:
        make(project, tmp_path / "moved")
    assert stopped.value.exit_code == 12
    project.write(LOCK, right)
    assert make(project, tmp_path / "moved").reused

    # Another lock makes another environment, in the place of the older one.
    project.write(LOCK, right + "# locked again\n")
    other = make(project, tmp_path / "moved")
    assert not other.reused
    assert folders(tmp_path / "moved") == [other.prefix]


def test_a_package_that_the_index_lacks_is_told_with_the_log(project: TinyProject, tmp_path: Path) -> None:
    project.write(LOCK, f"tinydep==9.9 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(FreezeFailed, match=r"(?s)could not be made.*tinydep") as stopped:
        make(project, tmp_path / "env")
    assert stopped.value.exit_code == 62
    assert folders(tmp_path / "env") == []
    (log,) = (tmp_path / "env").glob("cpu-*.log")
    assert log.name in stopped.value.todo
    assert "tinydep" in log.read_text()


def test_locks_that_disagree_are_refused_before_anything_is_made(project: TinyProject, tmp_path: Path) -> None:
    project.write(TOOLS, f"tinydep==2.0 --hash=sha256:{'0' * 64}\n")
    with pytest.raises(LockMismatch, match=rf"{TOOLS} pins tinydep 2\.0; {LOCK} pins tinydep 1\.0") as stopped:
        make(project, tmp_path / "env")
    assert stopped.value.exit_code == 12
    assert folders(tmp_path) == [project.root]


def test_a_lock_that_is_missing_or_none_is_refused_before_anything_is_made(
    project: TinyProject, tmp_path: Path
) -> None:
    project.write(LOCK, "tinydep\n")
    with pytest.raises(LockMismatch, match=f"{LOCK} is no hash lock:\n  {LOCK}:1:1: tinydep: not pinned"):
        make(project, tmp_path / "env")
    (project.root / LOCK).unlink()
    with pytest.raises(LockMissing, match=f"{LOCK} does not exist") as stopped:
        make(project, tmp_path / "env")
    assert stopped.value.exit_code == 11
    assert folders(tmp_path) == [project.root]


def test_another_python_is_refused_before_anything_is_made(project: TinyProject, tmp_path: Path) -> None:
    with pytest.raises(WrongInterpreter, match=r"This is Python 3\.\d+\.\d+; .* allows >=3\.99") as stopped:
        make(project, tmp_path / "env", allowed=">=3.99")
    assert stopped.value.exit_code == 13
    assert folders(tmp_path) == [project.root]
    with pytest.raises(WrongInterpreter):
        running_environment(allowed=">=3.99", with_torch=False)


def test_the_running_environment_is_taken_as_it_is() -> None:
    found = running_environment(allowed=">=3.11", with_torch=False)
    assert found.reused
    assert found.python == Path(sys.executable)
    assert found.locks == {}
    assert {"pyinstaller", "pytest", "lading"} <= set(found.distributions)
    assert "_pytest" in found.distributions["pytest"].modules


@pytest.mark.skipif(sys.platform == "win32", reason="the interpreter is a script here")
def test_an_environment_that_does_not_work_is_told(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'libcudart.so.12: cannot open shared object file' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(FreezeFailed, match=r"(?s)status 1:.*libcudart\.so\.12"):
        describe(broken, with_torch=True)
