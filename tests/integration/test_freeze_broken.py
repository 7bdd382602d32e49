"""Builds that must not come to be: each gate with a real program that trips it, and what is left afterwards."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.freeze_projects import CC, TinyProject, Workshop, compiled, contents, say

from lading.errors import FreezeFailed, FrozenBroken, ImportMissing, LadingError, LinkageBroken, StrangerInTree
from lading.freeze.freeze import FreezeResult, read_buildinfo

WORDS = "server/tiny_server/words.py"
SELFTEST = "server/tiny_server/selftest.py"
SCRIPT = "server/tiny_server/__main__.py"
HOOK = "build/hooks/hook-tinydep.py"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A project to break, whose outputs have a good build."""

    workshop: Workshop
    project: TinyProject
    out: Path
    good: FreezeResult

    def refused(self, kind: type[LadingError], says: str) -> LadingError:
        """Freeze, expect a failure, and see that the good build is still there and runs."""
        with pytest.raises(kind, match=says) as stopped:
            self.workshop.freeze(self.project, self.out)
        home = self.out / "tree" / "cpu"
        assert [path.name for path in home.parent.iterdir()] == ["cpu"]
        assert contents(read_buildinfo(home / "buildinfo.json")) == contents(self.good.info)
        assert say(self.good.tree, "--selftest", "--json").returncode == 0
        return stopped.value


@pytest.fixture(scope="module")
def first(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FreezeResult]:
    folder = tmp_path_factory.mktemp("bench")
    out = workshop.out(folder / "out")
    return out, workshop.freeze(workshop.project(folder / "good"), out)


@pytest.fixture
def bench(workshop: Workshop, first: tuple[Path, FreezeResult], tmp_path: Path) -> Bench:
    """A fresh project that shares its outputs with the others: each is refused, so the good build stays."""
    return Bench(workshop=workshop, project=workshop.project(tmp_path / "project"), out=first[0], good=first[1])


@pytest.mark.proves("P-13")
def test_modules_that_the_program_needs_stop_the_build_and_guarded_ones_do_not(bench: Bench) -> None:
    project = bench.project
    project.write(SCRIPT, "import nosuch_script\n" + project.read(SCRIPT))
    project.write(
        WORDS,
        "import nosuch_top\nimport packaging.version\nfrom tinydep import double, nosuch_attribute\n"
        "try:\n    import nosuch_guarded\nexcept ImportError:\n    pass\n"
        "if len(__name__) > 1000:\n    import nosuch_conditional\n"
        "def later():\n    import nosuch_later.part\n" + project.read(WORDS),
    )
    project.manifest("""\
        hidden_imports: [nosuch_hidden, tinydep.unused]
        required_modules: [tinydep.gone, tinydep.unused, json]
        allowed_missing:
          - module: packaging
            reason: It is there to see that what is allowed is not told.
        """)
    for _ in range(2):  # PyInstaller keeps what it found; the second run must find the same
        error = bench.refused(ImportMissing, r"5 module\(s\)")
        assert error.exit_code == 57
        assert error.what.splitlines()[1:] == [
            "  nosuch_later: imported by tiny_server.words",
            "  nosuch_script: imported by server/tiny_server/__main__.py",
            "  nosuch_top: imported by tiny_server.words",
            "  nosuch_hidden: a hidden import of manifests/app.yaml",
            "  tinydep.gone: required by manifests/app.yaml",
        ]


@pytest.mark.proves("P-13")
@pytest.mark.skipif(sys.platform != "linux" or CC is None, reason="needs a C compiler on Linux")
def test_a_library_that_needs_one_that_nobody_has_stops_the_build(bench: Bench) -> None:
    folder = bench.project.root / "native"
    missing = compiled(folder, "libnotthere.so.1", "int f(void) { return 1; }\n")
    compiled(folder, "libneedy.so", "int f(void); int g(void) { return f(); }\n", str(missing))
    missing.unlink()
    bench.project.manifest("data:\n  - source: native\n    target: native\n")
    error = bench.refused(LinkageBroken, r"_internal/native/libneedy\.so: libnotthere\.so\.1")
    assert error.exit_code == 59


def test_files_of_a_package_that_nothing_asked_for_stop_the_build(bench: Bench) -> None:
    hook = bench.project.read(HOOK)
    bench.project.write(
        HOOK, hook + 'from PyInstaller.utils.hooks import copy_metadata\ndatas = copy_metadata("packaging")\n'
    )
    error = bench.refused(StrangerInTree, r"packaging: \d+ file\(s\), such as _internal/packaging-")
    assert error.exit_code == 61


def test_a_server_that_fails_its_trial_stops_a_full_freeze_too(bench: Bench) -> None:
    bench.project.write(SELFTEST, "import zlib\n" + bench.project.read(SELFTEST))  # another import: no short way
    bench.project.change(SELFTEST, "results = {", 'Path("cache.db").touch()\n    results = {')
    error = bench.refused(FrozenBroken, r"wrote 1 file\(s\) into its own folder:\n  cache\.db")
    assert error.exit_code == 60


def test_a_spec_that_fails_is_told_with_the_end_of_the_log(bench: Bench) -> None:
    spec = bench.project.read("build/server.spec")
    bench.project.write("build/server.spec", 'raise LookupError("a spec of mine")\n' + spec)
    error = bench.refused(FreezeFailed, "PyInstaller ended with status 1:\n(.*\n)*.*LookupError: a spec of mine")
    assert error.exit_code == 62
    assert "cpu-pyinstaller.log" in error.todo
    assert "a spec of mine" in (bench.out / "work" / "cpu-pyinstaller.log").read_text()


def test_an_entry_script_with_a_syntax_error_is_told(bench: Bench) -> None:
    bench.project.write(SCRIPT, "def broken(:\n")
    bench.refused(FreezeFailed, "SyntaxError|invalid syntax")


@pytest.mark.parametrize("modules", ["stored", "compressed"])
def test_modules_inside_the_executable_are_known_and_a_change_takes_a_full_freeze(
    bench: Bench, workshop: Workshop, tmp_path: Path, modules: str
) -> None:
    required = "[re, encodings.idna, json.decoder, zlib, tiny_server.words, tinydep]"
    bench.project.manifest(f"modules: {modules}\nrequired_modules: {required}\n")
    out = workshop.out(tmp_path / "out")
    made = workshop.freeze(bench.project, out)
    assert made.info.modules == modules
    assert say(made.tree, "--selftest", "--json").returncode == 0
    assert {entry.path: entry.owner for entry in made.info.files}["_internal/base_library.zip"] == "python"
    assert workshop.freeze(bench.project, out).reused == "tree"
    if modules == "stored":
        bench.project.change(WORDS, "0.5", "0.25")
        assert workshop.freeze(bench.project, out).reused is None
