"""A small server, really frozen: what gets into its tree, what is recorded of it, and what each change costs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock
from tests.integration.freeze_projects import CC, TinyProject, Workshop, contents, say

from lading.digest import sha256_file
from lading.errors import Busy, FrozenBroken, ImportMissing
from lading.freeze.freeze import FreezeResult, read_buildinfo
from lading.freeze.provenance import DEFAULT_EPOCH
from lading.freeze.settings import IRREPRODUCIBLE
from lading.manifest.buildinfo import BuildInfo
from lading.pack.scan import scan_tree
from lading.process import run
from lading.progress import Silent

VERSION = "server/tiny_server/_version.py"
WORDS = "server/tiny_server/words.py"
SELFTEST = "server/tiny_server/selftest.py"
ENTRY = "server/tiny_server/entry.py"
SCRIPT = "server/tiny_server/__main__.py"
native = pytest.mark.skipif(sys.platform != "linux" or CC is None, reason="needs a C compiler on Linux")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A project with the outputs of its first freeze."""

    workshop: Workshop
    project: TinyProject
    out: Path
    first: FreezeResult

    @property
    def log(self) -> Path:
        """PyInstaller's log; every full freeze writes it anew."""
        return self.out / "work" / "cpu-pyinstaller.log"

    def again(self) -> FreezeResult:
        """Freeze once more."""
        return self.workshop.freeze(self.project, self.out)

    def still_good(self) -> None:
        """Assert that the first build is in its place, whole, and runs, and that nothing half-made is beside it."""
        home = self.out / "tree" / "cpu"
        assert sorted(path.name for path in self.out.joinpath("tree").iterdir()) == ["cpu"]
        assert sorted(path.name for path in home.iterdir()) == ["buildinfo.json", "freeze-state.json", "tiny-server"]
        info = read_buildinfo(home / "buildinfo.json")
        assert contents(info) == contents(self.first.info)
        assert {e.path: (e.mode, e.sha256, e.target) for e in scan_tree(self.first.tree, Silent())} == contents(info)
        assert say(self.first.tree, "--version").stdout == "tiny-server 1.2.3\n"
        assert not (self.out / "work" / "cpu" / "next").exists()
        assert not (self.out / "work" / "cpu" / "previous").exists()


@pytest.fixture(scope="module")
def built(workshop: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A frozen project, which no test changes."""
    folder = tmp_path_factory.mktemp("built")
    project = workshop.project(folder / "project")
    out = workshop.out(folder / "out")
    return Built(workshop=workshop, project=project, out=out, first=workshop.freeze(project, out))


@pytest.fixture
def mine(built: Built, tmp_path: Path) -> Built:
    """A copy of it, for a test to change."""
    project = TinyProject(root=tmp_path / "project")
    shutil.copytree(built.project.root, project.root)
    out = built.workshop.out(tmp_path / "out")
    shutil.copytree(built.out / "tree", out / "tree", symlinks=True)
    return Built(workshop=built.workshop, project=project, out=out, first=built.workshop.freeze(project, out))


def owners(info: BuildInfo) -> dict[str, str]:
    return {entry.path: entry.owner for entry in info.files}


def test_the_frozen_server_runs_and_has_what_it_needs_and_nothing_from_beside(built: Built) -> None:
    assert built.first.reused is None
    done = say(built.first.tree, "--selftest", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert {check["name"]: check["status"] for check in report["checks"]} == dict.fromkeys(
        ["dependency", "metadata", "library", "words", "nothing beside"], "pass"
    )


def test_the_build_information_has_every_file_with_its_digest(built: Built) -> None:
    info = read_buildinfo(built.first.info_file)
    assert info == built.first.info
    assert [entry.tree_entry() for entry in info.files] == list(scan_tree(built.first.tree, Silent()))
    assert [entry.path for entry in info.files] == sorted(entry.path for entry in info.files)
    assert (info.app, info.version, info.variant, info.entry) == ("tiny-server", "1.2.3", "cpu", "tiny-server")
    assert (info.toolkit, info.torch, info.modules) == (None, None, "loose")


def test_every_file_has_its_owner(built: Built) -> None:
    found = owners(built.first.info)
    assert {path for path, owner in found.items() if owner == "app"} == {
        "tiny-server",
        *(f"_internal/tiny_server/{name}.pyc" for name in ("__init__", "_version", "entry", "selftest", "words")),
    }
    assert found["_internal/tinydep/__init__.pyc"] == "tinydep"
    assert found["_internal/tinydep-1.0.dist-info/METADATA"] == "tinydep"
    assert found["_internal/json/decoder.pyc"] == "python"
    assert not any("tinydep/unused" in path or "/packaging/" in path for path in found)
    assert set(found.values()) <= {"app", "python", "tinydep", "system", "pyinstaller"}
    assert built.first.info.distributions == {"tinydep": "1.0"}


@native
def test_native_files_have_their_owners_too(built: Built) -> None:
    found = owners(built.first.info)
    links = {entry.path: entry.target for entry in built.first.info.files if entry.type == "link"}
    assert links["_internal/libtinybase.so"] == "tinydep/libtinybase.so"
    assert found["_internal/libtinybase.so"] == found["_internal/tinydep/libtinybase.so"] == "tinydep"
    assert {owner for path, owner in found.items() if "/lib-dynload/" in path} == {"python"}
    assert {owner for path, owner in found.items() if path.startswith("_internal/libpython")} <= {"python"}
    shared = {path for path, owner in found.items() if owner == "system"}
    assert all(path.startswith("_internal/lib") and ".so" in path for path in shared)
    assert "_internal/libz.so.1" in shared


def test_what_differs_between_installations_is_left_out_and_recorded(built: Built) -> None:
    dropped = {item.path: item for item in built.first.info.dropped}
    info = "_internal/tinydep-1.0.dist-info"
    assert "tinydep-1.0.dist-info/RECORD" in dropped
    assert {path.rpartition("/")[2] for path in dropped} <= {rule.pattern.rpartition("/")[2] for rule in IRREPRODUCIBLE}
    for item in dropped.values():
        assert item.owner == "tinydep"
        assert len(item.reason) >= 10
    assert not {f"_internal/{path}" for path in dropped} & set(owners(built.first.info))
    assert sorted(path for path in owners(built.first.info) if path.startswith(info)) == [
        f"{info}/METADATA",
        f"{info}/WHEEL",
    ]


def test_the_provenance_is_recorded(built: Built) -> None:
    provenance = built.first.info.provenance
    assert (provenance.commit, provenance.epoch) == ("unknown", DEFAULT_EPOCH)
    assert provenance.python == ".".join(map(str, sys.version_info[:3]))
    assert provenance.torch is None
    assert provenance.locks == {
        lock: sha256_file(built.project.root / lock)
        for lock in ("build/requirements/cpu.txt", "build/requirements/freeze.txt")
    }
    assert f"pyinstaller=={provenance.pyinstaller} " in built.project.read("build/requirements/freeze.txt")


def test_a_project_that_was_moved_with_its_outputs_is_not_frozen_again(mine: Built) -> None:
    assert mine.first.reused == "tree"
    assert not mine.log.exists()


def test_nothing_changed_takes_the_tree_that_is_there(built: Built) -> None:
    before = built.log.stat().st_mtime_ns
    again = built.again()
    assert (again.reused, again.environment_reused) == ("tree", True)
    assert built.log.stat().st_mtime_ns == before
    assert again.info == built.first.info
    built.still_good()


def test_a_commit_is_recorded_without_freezing_again(mine: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(mine.project.root)
    git = [shutil.which("git") or "git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "log", "-1", "--format=%H %ct"], check=True, capture_output=True, text=True)
    name, time = head.stdout.split()
    clean = mine.again()
    assert (clean.reused, clean.info.provenance.commit, clean.info.provenance.epoch) == ("tree", name, int(time))
    assert read_buildinfo(clean.info_file) == clean.info
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1234567890")
    mine.project.change(WORDS, "0.5", "0.75")
    dirty = mine.again()
    assert (dirty.reused, dirty.info.provenance.commit) == ("modules", f"{name}+dirty")
    assert dirty.info.provenance.epoch == 1234567890


def test_a_change_inside_modules_gives_in_a_moment_the_bytes_of_a_full_freeze(mine: Built, tmp_path: Path) -> None:
    older = {path.name: path.stat().st_ino for path in mine.first.tree.rglob("*.pyc")}
    # Names that other modules, the entry script and the compiler itself use too, sets, and a new function.
    mine.project.change(WORDS, "sorted(POLITE)", 'sorted(POLITE | {"json", "main", "checks", "tiny_server"})')
    mine.project.change(
        WORDS, "def greeting", "def main(tinydep=None, SystemExit=()):\n    return tinydep\n\n\ndef greeting"
    )
    mine.project.change(ENTRY, "found = checks()", 'found = checks()\n    metadata = {"double": "selftest"}')
    mine.project.write(VERSION, '__version__ = "1.3.0"\n')
    quick = mine.again()
    assert quick.reused == "modules"
    assert not mine.log.exists()
    full = mine.workshop.freeze(mine.project, mine.workshop.out(tmp_path / "fresh"))
    assert full.reused is None
    assert contents(quick.info) == contents(full.info)
    assert quick.info == full.info
    assert quick.info == read_buildinfo(quick.info_file)
    assert [entry.tree_entry() for entry in quick.info.files] == list(scan_tree(quick.tree, Silent()))
    changed = {path for path, what in contents(quick.info).items() if what != contents(mine.first.info).get(path)}
    assert changed == {f"_internal/tiny_server/{name}.pyc" for name in ("_version", "entry", "words")}
    assert say(quick.tree, "--version").stdout == "tiny-server 1.3.0\n"
    assert older["selftest.pyc"] == (quick.tree / "_internal/tiny_server/selftest.pyc").stat().st_ino  # not copied
    assert mine.again().reused == "tree"


@pytest.mark.parametrize(
    ("path", "old", "new", "says"),
    [
        (WORDS, '{word}, world"', '{word}, moon"', "words: words is False"),
        (ENTRY, "return 0\n", "return 3\n", "--version ended with status 3"),
        (ENTRY, "tiny-server {__version__}", "other {__version__}", r"says 'other 1\.2\.3'"),
        (WORDS, "def shout", "raise SystemError\n\n    def shout", "SystemError"),
        (SELFTEST, "results = {", 'Path("cache.db").touch()\n    results = {', r"wrote 1 file\(s\) .*\n  cache\.db"),
    ],
    ids=["self-test fails", "version fails", "version is wrong", "import fails", "writes into its folder"],
)
def test_a_change_that_breaks_the_server_leaves_the_older_build(
    mine: Built, path: str, old: str, new: str, says: str
) -> None:
    mine.project.change(path, old, new)
    for _ in range(2):  # the same again, not taken for something that is done
        with pytest.raises(FrozenBroken, match=says) as broken:
            mine.again()
        assert broken.value.exit_code == 60
        mine.still_good()
    mine.project.change(path, new, old)
    assert mine.again().reused == "tree"
    mine.project.change(WORDS, "0.5", "0.25")
    assert mine.again().reused == "modules"
    assert not mine.log.exists()


def test_a_new_module_is_frozen_in_full_and_one_that_cannot_be_compiled_never_gets_in(mine: Built) -> None:
    mine.project.write("server/tiny_server/more.py", "def more(:\n")
    mine.project.change(WORDS, "from dataclasses", "from tiny_server.more import MORE\nfrom dataclasses")
    with pytest.raises(ImportMissing, match=r"tiny_server\.more: imported by tiny_server\.words"):
        mine.again()
    mine.still_good()
    mine.project.write("server/tiny_server/more.py", 'MORE = "more"\n')
    again = mine.again()
    assert again.reused is None
    assert mine.log.exists()
    assert owners(again.info)["_internal/tiny_server/more.pyc"] == "app"
    mine.project.write("server/tiny_server/more.py", 'MORE = "more and more"\n')
    assert mine.again().reused == "modules"


def test_other_files_of_the_project_that_got_in_are_watched(mine: Built) -> None:
    """A module beside the packages, data that the manifest names, data that a hook takes."""
    mine.project.write("server/beside.py", 'WORD = "one"\n')
    mine.project.change(WORDS, "from dataclasses", "import beside\nfrom dataclasses")
    mine.project.write("data/words.txt", "one\n")
    mine.project.write("taken/by_hook.txt", "one\n")
    mine.project.manifest("data:\n  - source: data\n    target: words\n")
    hook = f'\ndatas = [({str(mine.project.root / "taken" / "by_hook.txt")!r}, "hooked")]\n'
    mine.project.write("build/hooks/hook-beside.py", hook)
    first = mine.again()
    assert first.reused is None
    found = owners(first.info)
    added = ["_internal/beside.pyc", "_internal/words/words.txt", "_internal/hooked/by_hook.txt"]
    assert [found[path] for path in added] == ["app", "app", "app"]
    assert mine.again().reused == "tree"
    for path, text in [("server/beside.py", 'WORD = "two"\n'), ("taken/by_hook.txt", "two\n")]:
        mine.project.write(path, text)
        assert mine.again().reused is None, path
    assert mine.again().reused == "tree"


def test_a_tree_that_somebody_touched_is_made_anew(mine: Built) -> None:
    (mine.first.tree / "_internal/tiny_server/words.pyc").unlink()
    (mine.first.tree / "left.log").write_text("x")
    assert mine.again().reused is None
    mine.still_good()


def test_what_a_killed_run_left_is_put_right(mine: Built) -> None:
    home = mine.out / "tree" / "cpu"
    work = mine.out / "work" / "cpu"
    home.rename(work / "previous")
    (work / "next" / "tiny-server").mkdir(parents=True)
    assert mine.again().reused == "tree"
    mine.still_good()


def test_two_at_once_do_not_meet(mine: Built) -> None:
    with FileLock(mine.out / "work" / "cpu.lock"), pytest.raises(Busy, match="freezing cpu") as busy:
        mine.again()
    assert busy.value.exit_code == 21
    mine.still_good()


def test_place_user_umask_zone_and_the_callers_variables_make_no_difference(
    mine: Built, tmp_path: Path, root: Path
) -> None:
    """The whole command, elsewhere, with everything around it different; the CPU build has the CPU's name."""
    project = tmp_path / "an other (place), with words" / "deep"
    shutil.copytree(mine.project.root, project)
    for path in project.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_000))
    out = mine.workshop.out(tmp_path / "elsewhere")
    home = tmp_path / "home"
    home.mkdir()
    junk = tmp_path / "junk"
    (junk / "tinydep").mkdir(parents=True)
    (junk / "tinydep/__init__.py").write_text("raise SystemExit('this is not the one that was locked')\n")
    environment = {
        "HOME": str(home), "TZ": "Asia/Kolkata", "LC_ALL": "C", "PYTHONHASHSEED": "4711", "PYTHONPATH": str(junk),
        "LD_LIBRARY_PATH": str(junk), "PYTHONOPTIMIZE": "2", "PYTHONSTARTUP": str(junk / "x.py"),
        "PYINSTALLER_ZLIB_COMPRESSION_LEVEL": "1", "SOURCE_DATE_EPOCH": "1600000000", "TMPDIR": str(home),
        "CUDA_HOME": str(junk), "COLUMNS": "40",
    }  # fmt: skip
    # The interpreter that runs Lading must find Lading itself; only what it starts is to be undisturbed.
    script = (
        "import os, sys; os.umask(0o077); from lading.cli.main import main; "
        f"os.environ.update({environment!r}); main(sys.argv[1:])"
    )
    words = ["freeze", "--project", str(project), "--cpu", "--out", str(out), "--json"]
    done = run([sys.executable, "-c", script, *words], cwd=junk, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["entry"], said["reused"], said["tree"]) == ("tiny-server", None, f"{out}/tree/cpu/tiny-server")
    info = read_buildinfo(Path(said["buildinfo"]))
    assert contents(info) == contents(mine.first.info)
    assert info.files == mine.first.info.files
    assert info.provenance.epoch == 1600000000
    secret = [str(tmp_path).encode(), str(root).encode()]
    inside = [path for path in Path(said["tree"]).rglob("*") if path.is_file() and path.suffix in {".pyc", ""}]
    assert not [path for path in inside if any(word in path.read_bytes() for word in secret)]
