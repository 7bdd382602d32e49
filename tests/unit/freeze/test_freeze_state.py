"""What a freeze uses, described from a real folder: which change of which file means what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from textwrap import dedent

import pytest

from lading.freeze.environment import Environment, Installed
from lading.freeze.settings import Collected, Contents
from lading.freeze.sources import SourceState, changed_modules, collected_files, source_state, still_collected
from lading.manifest.project import Project, load_project
from lading.manifest.toolkit import Exclusion

MANIFEST = """\
schema: lading/app/1
name: small
version_from: src/small/version.py
entry: src/small/__main__.py
import_roots: [src]
packages: [small, single]
executable: {cpu: small, cuda: small-cuda}
spec: build/small.spec
hooks: build/hooks
requirements: build/small.in
freeze_lock: build/freeze.txt
data:
  - {source: data, target: data}
budgets: {core: 10 MB}
"""

FILES = {
    "manifests/app.yaml": MANIFEST,
    "src/small/__init__.py": "",
    "src/small/version.py": '__version__ = "1.0.0"\n',
    "src/small/__main__.py": "import small\n",
    "src/small/deep/core.py": "import json\n\n\ndef work():\n    return json.dumps(1)\n",
    "src/small/web/index.html": "<html>",
    "src/single.py": "x = 1\n",
    "src/beside.py": "x = 1\n",
    "build/small.spec": "# a spec",
    "build/hooks/hook-x.py": "hiddenimports = []\n",
    "build/hooks/rth_x.py": "x = 1\n",
    "data/words.txt": "one",
    "notes.txt": "nothing to do with it",
}


def environment(**changes: object) -> Environment:
    plain = Environment(
        python=Path("/env/bin/python"), version="3.11.7", stdlib=Path("/py/lib"), base_prefix=Path("/py"),
        prefix=Path("/env/cpu-1"), site=(), torch=None, locks={"cpu.txt": "a" * 64}, reused=False,
        distributions={"dep": Installed(name="dep", version="1.0", requires=(), files=(), modules=())},
    )  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return tmp_path


def state(root: Path, **changes: object) -> SourceState:
    return source_state(load_project(root), None, environment(**changes))


def means(root: Path, change: Callable[[Path], object]) -> list[str] | None:
    """The modules to compile again after a change; none for a full freeze."""
    before = state(root)
    change(root)
    changed = changed_modules(state(root), before)
    return None if changed is None else [module.name for module in changed]


def write(path: str, text: str) -> Callable[[Path], object]:
    def change(root: Path) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(dedent(text))

    return change


def test_the_programs_own_modules_are_found_in_packages_and_as_single_files(root: Path) -> None:
    assert [module.name for module in state(root).modules] == ["single", "small", "small.deep.core", "small.version"]


@pytest.mark.parametrize(
    ("path", "text", "modules"),
    [
        ("src/small/version.py", '__version__ = "1.0.1"\n', ["small.version"]),
        ("src/small/deep/core.py", "import json\n\n\ndef work():\n    return json.dumps(2)\n", ["small.deep.core"]),
        ("src/single.py", "x = 2\n", ["single"]),
        ("notes.txt", "something else", []),
        ("src/small/deep/__pycache__/core.cpython-311.pyc", "cache", []),
        ("build/hooks/__pycache__/hook-x.cpython-311.pyc", "cache", []),
    ],
)
def test_a_change_inside_means_these_modules(root: Path, path: str, text: str, modules: list[str]) -> None:
    assert means(root, write(path, text)) == modules


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/small/deep/core.py", "import json, zlib\n"),
        ("src/small/more.py", ""),
        ("src/small/__main__.py", "import small  # the entry script\n"),
        ("src/small/web/index.html", "<html lang=en>"),
        ("src/small/web/new.css", ""),
        ("src/newly_importable.py", ""),
        ("src/new_package/__init__.py", ""),
        ("build/small.spec", "# another spec"),
        ("build/hooks/hook-x.py", "hiddenimports = ['y']\n"),
        ("build/hooks/rth_x.py", "x = 2\n"),
        ("data/words.txt", "two"),
        ("data/more/words.txt", "two"),
        ("manifests/app.yaml", MANIFEST + "hidden_imports: [json]\n"),
        ("manifests/app.yaml", MANIFEST + "modules: stored\n"),
        ("manifests/app.yaml", MANIFEST + "excluded_modules: [{module: x, reason: It is not needed.}]\n"),
    ],
)
def test_a_change_that_only_pyinstaller_can_follow_means_a_full_freeze(root: Path, path: str, text: str) -> None:
    assert means(root, write(path, text)) is None


def test_a_module_or_a_data_file_that_is_gone_means_a_full_freeze(root: Path) -> None:
    assert means(root, lambda root: (root / "data/words.txt").unlink()) is None
    assert means(root, lambda root: (root / "src/single.py").unlink()) is None


def test_a_data_file_that_became_executable_means_a_full_freeze(root: Path) -> None:
    assert means(root, lambda root: (root / "data/words.txt").chmod(0o755)) is None


@pytest.mark.parametrize("more", ["budgets: {core: 20 MB}\n", "channel: beta\n", "patches: 5\n"])
def test_what_only_packing_and_publishing_need_means_nothing(root: Path, more: str) -> None:
    text = MANIFEST.replace("budgets: {core: 10 MB}\n", "") + more
    assert means(root, write("manifests/app.yaml", text)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"locks": {"cpu.txt": "b" * 64}},
        {"version": "3.12.1"},
        {"prefix": Path("/env/cpu-2")},
        {"distributions": {"dep": Installed(name="dep", version="1.1", requires=(), files=(), modules=())}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_environment_means_a_full_freeze(root: Path, change: dict[str, object]) -> None:
    assert changed_modules(state(root, **change), state(root)) is None


def test_the_place_of_a_made_environment_means_nothing_and_that_of_another_does(root: Path) -> None:
    assert state(root, prefix=Path("/elsewhere/cpu-1")) == state(root)
    assert state(root, prefix=Path("/elsewhere/cpu-1"), locks={}) != state(root, locks={})


def test_an_exclusion_or_another_toolkit_means_a_full_freeze(root: Path) -> None:
    shipped = load_project(Path(__file__).parents[3])
    project, toolkit = load_project(root), shipped.toolkit("cu126")
    rules = (*toolkit.exclude, Exclusion(pattern="dep/tests/**", reason="Tests are not run by users."))
    states = {
        source_state(project, toolkit, environment()).base,
        source_state(project, toolkit.model_copy(update={"exclude": rules}), environment()).base,
        source_state(project, shipped.toolkit("cu128"), environment()).base,
        source_state(project, None, environment()).base,
        source_state(project, None, environment(), epoch=1).base,
    }
    assert len(states) == 5
    wider = toolkit.model_copy(update={"label": "cu126-v9", "notes": "changed"})
    assert source_state(project, wider, environment()).base in states


def collected(project: Project, *items: tuple[str, str]) -> Contents:
    entries = tuple(Collected(path=path, source=source, typecode="DATA") for path, source in items)
    return Contents(collected=entries, pure=(), dropped=())


def test_what_else_of_the_project_got_in_is_kept_with_its_digest(root: Path) -> None:
    project = load_project(root)
    (root / "out").mkdir()
    (root / "out/made.txt").write_text("an output")
    found = collected_files(
        collected(
            project,
            ("beside.pyc", "/elsewhere/localpycs/beside.pyc"),
            ("small/version.pyc", "/elsewhere/localpycs/small/version.pyc"),
            ("json/decoder.pyc", "/elsewhere/localpycs/json/decoder.pyc"),
            ("notes.txt", str(root / "notes.txt")),
            ("made.txt", str(root / "out/made.txt")),
            ("libz.so.1", "/usr/lib/libz.so.1"),
            ("libz.so", "libz.so.1"),
        ),
        project,
        source_state(project, None, environment()),
        [root / "out"],
    )
    assert [file.path for file in found] == ["notes.txt", "src/beside.py"]
    assert still_collected(found, project)
    (root / "src/beside.py").write_text("x = 2\n")
    assert not still_collected(found, project)
    (root / "src/beside.py").unlink()
    assert not still_collected(found, project)
