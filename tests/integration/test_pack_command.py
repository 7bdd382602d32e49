"""``lading pack`` as a program: what it prints, its exit codes, and what a failure leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from tests.unit.pack.trees import (
    APP,
    CORE,
    CUDA_LIBRARY,
    ENTRY,
    LIBS,
    Files,
    Link,
    Program,
    copy_project,
    describe,
    hidden,
    make_tree,
    names,
    noise,
    on_disk,
)

from lading.manifest.base import canonical_json, read_record
from lading.manifest.release import Release
from lading.publish.packed import read_packed

FILES: Files = {**CORE, **LIBS}
SECONDS = 120


@dataclass(frozen=True)
class Bench:
    """A project, a tree and a folder for what is packed.

    Attributes:
        folder: Everything of it.
    """

    folder: Path

    @property
    def project(self) -> Path:
        return self.folder / "project"

    @property
    def tree(self) -> Path:
        return self.folder / "frozen" / "tree"

    @property
    def buildinfo(self) -> Path:
        return self.folder / "frozen" / "buildinfo.json"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    def freeze(self, files: Files = FILES, version: str = "0.1.0") -> None:
        """Write the tree with its build information beside it, as the freeze step does."""
        shutil.rmtree(self.tree.parent, ignore_errors=True)
        make_tree(self.tree, files)
        self.buildinfo.write_bytes(canonical_json(describe(self.tree, version)))

    def command(self, *words: str | Path) -> list[str]:
        base = [sys.executable, "-m", "lading", "pack", self.tree, "--project", self.project, "--out", self.out]
        return [str(word) for word in (*base, "--profile", "fast", *words)]

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
        return subprocess.run(
            self.command(*words), cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
            timeout=SECONDS,
        )  # fmt: skip

    def fails(self, code: int, kind: str, *words: str | Path) -> dict[str, Any]:
        """Run with ``--json`` and take the error apart."""
        done = self.run(*words, "--json")
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        error: dict[str, Any] = json.loads(done.stdout)
        assert (error["error"], error["exit_code"]) == (kind, code)
        return error


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = Bench(tmp_path)
    copy_project(made.project)
    made.freeze()
    return made


# --- what it does -----------------------------------------------------------------------------------------------------


def test_a_release_is_packed_and_told_as_json(bench: Bench) -> None:
    done = bench.run("--json")

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    told = json.loads(done.stdout)
    release = read_packed(bench.out, Path(told["release"])).release
    assert [part["component"] for part in told["components"]] == ["core", "libs"]
    for part, component in zip(told["components"], release.components, strict=True):
        assert (part["version"], part["size"], part["unpacked"]) == (
            component.version, component.size, component.unpacked,
        )  # fmt: skip
        assert part["volumes"] == [volume.name for volume in component.volumes]
        assert part["reused"] is False
    again = json.loads(bench.run("--json").stdout)
    assert [part["reused"] for part in again["components"]] == [True, True]


def test_a_person_gets_lines_while_it_works_and_a_table_at_the_end(bench: Bench) -> None:
    done = bench.run()

    assert done.returncode == 0, done.stderr
    assert {line.partition(":")[0] for line in done.stderr.splitlines()} == {
        "reading the tree", "packing libs", "packing core",
    }  # fmt: skip
    assert "core" in done.stdout
    assert "cu126-v1" in done.stdout
    assert done.stdout.splitlines()[-1].endswith(f"{APP}-0.1.0-cu126-linux-x86_64.release.json")


def test_a_later_release_gets_a_patch(bench: Bench) -> None:
    assert bench.run().returncode == 0
    bench.freeze({**FILES, "_internal/demo/app.pyc": b"changed"}, "0.2.0")

    done = bench.run("--previous", bench.out, "--json")

    assert done.returncode == 0, done.stderr
    (patch,) = json.loads(done.stdout)["patches"]
    assert patch["name"] == f"{APP}-core-0.2.0-cu126-linux-x86_64-from-0.1.0.patch"
    assert (bench.out / patch["name"]).stat().st_size == patch["size"]


def test_a_tree_that_was_made_without_lading_is_packed_by_name(bench: Bench) -> None:
    bench.buildinfo.unlink()

    done = bench.run("--toolkit", "cu126", "--app", "other-app", "--version", "3.2.1", "--channel", "beta", "--json")

    assert done.returncode == 0, done.stderr
    release = read_record(Release, Path(json.loads(done.stdout)["release"]).read_bytes(), origin="r")
    assert (release.app, release.version, release.channel, release.entry) == ("other-app", "3.2.1", "beta", ENTRY)
    assert release.components[1].files == len(LIBS)


@pytest.mark.skipif(os.name != "posix", reason="Windows cannot have such names")
def test_names_that_windows_cannot_have_pass_when_only_this_system_counts(bench: Bench) -> None:
    bench.freeze({**FILES, "_internal/demo/aux": b"x", "_internal/demo/APP.pyc": b"y"})

    error = bench.fails(52, "NameForbidden")
    assert "'aux' is a device name on Windows" in error["what"]
    assert "'_internal/demo/app.pyc' and '_internal/demo/APP.pyc' are one file" in error["what"]
    assert not bench.out.exists()
    assert bench.run("--native-names").returncode == 0


# --- what it refuses --------------------------------------------------------------------------------------------------


def _remove_buildinfo(bench: Bench, files: Files) -> None:
    shutil.rmtree(bench.tree.parent)
    make_tree(bench.tree, files)


def _empty(bench: Bench) -> None:
    _remove_buildinfo(bench, {})
    bench.tree.mkdir(parents=True)


def _pipe(bench: Bench) -> None:
    os.mkfifo(bench.tree / "_internal" / "pipe")


def _backslash(bench: Bench) -> None:
    (bench.tree / "_internal" / "a\\b").write_bytes(b"x")


def _undecodable(bench: Bench) -> None:
    (bench.tree / "_internal" / os.fsdecode(b"\xff")).write_bytes(b"x")


def _add_link(target: str) -> Callable[[Bench], None]:
    def act(bench: Bench) -> None:
        os.symlink(target, bench.tree / "_internal" / "link")  # noqa: PTH211 (as it is written)

    return act


def _edit(bench: Bench) -> None:
    (bench.tree / "_internal/demo/app.pyc").write_bytes(b"edited")


def _small_budget(bench: Bench) -> None:
    app = bench.project / "manifests" / "app.yaml"
    app.write_text(app.read_text("utf-8") + "budgets:\n  core_unpacked: 10 kB\n", "utf-8")


def _out_is_a_file(bench: Bench) -> None:
    bench.out.write_bytes(b"mine")


def _damaged_buildinfo(bench: Bench) -> None:
    bench.buildinfo.write_bytes(bench.buildinfo.read_bytes()[:-20])


def _nothing(bench: Bench) -> None:
    pass


Act = Callable[[Bench], None]
ADOPT = ("--cpu", "--app", "other-app", "--version", "1.0.0")
REFUSED: dict[str, tuple[int, str, Act, tuple[str, ...], str]] = {
    "no-tree": (50, "TreeInvalid", lambda bench: shutil.rmtree(bench.tree), (), "frozen/tree is not a folder"),
    "not-a-onedir": (
        50,
        "TreeInvalid",
        lambda bench: _remove_buildinfo(bench, {"program": Program(b"x")}),
        ADOPT,
        "it has no folder _internal and the executables ['program']",
    ),
    "empty-tree": (50, "TreeInvalid", _empty, (*ADOPT, "--entry", "program"), "frozen/tree has no files"),
    "pipe": (50, "TreeInvalid", _pipe, (), "_internal/pipe is neither a file, a folder nor a link"),
    "no-nvidia-files": (51, "NoNvidiaFiles", lambda bench: bench.freeze(CORE), (), "None of the 8 files of the tree"),
    "backslash": (52, "NameForbidden", _backslash, ("--native-names",), r"'_internal/a\\b': has the character"),
    "not-utf8": (52, "NameForbidden", _undecodable, ("--native-names",), r"'_internal/\udcff': is not UTF-8"),
    "link-out": (
        53,
        "LinkEscapes",
        _add_link("../../../etc/passwd"),
        (),
        "_internal/link leads to ../../../etc/passwd",
    ),
    "link-absolute": (53, "LinkEscapes", _add_link("/etc/passwd"), (), "leads to /etc/passwd, outside the tree"),
    "link-dangling": (53, "LinkEscapes", _add_link("gone"), (), "leads to gone, which is not in the tree"),
    "changed-since-freeze": (54, "FileChanged", _edit, (), "_internal/demo/app.pyc: changed since the freeze"),
    "budget": (56, "BudgetExceeded", _small_budget, (), "its budget is 0.0 MB"),
    "volume-limit": (
        10,
        "ManifestInvalid",
        _nothing,
        ("--volume-limit", "1 MB"),
        "The volume limit is 1,000,000 bytes",
    ),
    "volume-limit-form": (
        10,
        "ManifestInvalid",
        _nothing,
        ("--volume-limit", "much"),
        "--volume-limit: a size is a number",
    ),
    "other-toolkit": (
        10,
        "ManifestInvalid",
        _nothing,
        ("--toolkit", "cu128"),
        "frozen with cu126; it is to be packed with cu128",
    ),
    "unknown-toolkit": (10, "ManifestInvalid", _nothing, ("--toolkit", "cu127"), "cu127"),
    "cpu": (10, "ManifestInvalid", _nothing, ("--cpu",), "frozen with cu126; it is to be packed with no toolkit (CPU)"),
    "neither": (
        10,
        "ManifestInvalid",
        lambda bench: bench.buildinfo.unlink(),
        ("--app", "a", "--version", "1.0.0"),
        "Nothing says whether tree is a build for CUDA",
    ),
    "no-project": (
        10,
        "ManifestInvalid",
        _nothing,
        ("--project", "frozen"),
        "Nothing says what the toolkit cu126 consists of",
    ),
    "out-is-a-file": (10, "ManifestInvalid", _out_is_a_file, (), "The assets cannot lie in"),
    "out-below-a-file": (
        10,
        "ManifestInvalid",
        _nothing,
        ("--out", "frozen/buildinfo.json/x"),
        "The assets cannot lie in",
    ),
    "out-in-the-tree": (10, "ManifestInvalid", _nothing, ("--out", "frozen/tree/out"), "inside the tree"),
    "buildinfo": (31, "FormatInvalid", _damaged_buildinfo, (), "buildinfo.json is not a valid BuildInfo record"),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes, links and names that Windows does not have")
@pytest.mark.proves("S1-05")
@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shipped_is_refused_with_its_exit_code_and_leaves_nothing(bench: Bench, case: str) -> None:
    code, kind, prepare, words, message = REFUSED[case]
    prepare(bench)
    before = on_disk(bench.folder)

    error = bench.fails(code, kind, *words)

    assert message in error["what"]
    assert error["todo"]
    left = {path: content for path, content in on_disk(bench.folder).items() if path not in before}
    assert left == {}
    assert {path: content for path, content in on_disk(bench.folder).items() if path in before} == before


def test_a_message_for_a_person_has_three_parts_and_no_traceback(bench: Bench) -> None:
    bench.freeze(CORE)

    done = bench.run()

    assert done.returncode == 51
    lines = done.stderr.splitlines()
    at = lines.index("error (NoNvidiaFiles, exit code 51)")
    assert len(lines[at + 1 :]) == 3
    assert "Traceback" not in done.stderr
    assert not bench.out.exists()


def test_options_that_exclude_each_other_are_a_matter_of_usage(bench: Bench) -> None:
    done = bench.run("--cpu", "--toolkit", "cu126")

    assert done.returncode == 2
    assert "exclude each other" in done.stderr


def test_a_published_label_is_refused_with_the_files_and_the_next_one(bench: Bench) -> None:
    assert bench.run().returncode == 0
    bench.out.rename(bench.folder / "published")
    before = on_disk(bench.folder / "published")
    bench.freeze({**FILES, CUDA_LIBRARY: b"other"}, "0.2.0")

    error = bench.fails(55, "LabelTaken", "--published", bench.folder / "published")

    assert f"~ {CUDA_LIBRARY} (" in error["what"]
    assert error["todo"] == "Set `label: cu126-v2` in manifests/toolkits/cu126.yaml."
    assert on_disk(bench.folder / "published") == before
    assert names(bench.out) == set()

    toolkit = bench.project / "manifests" / "toolkits" / "cu126.yaml"
    toolkit.write_text(toolkit.read_text("utf-8").replace("label: cu126-v1", "label: cu126-v2"), "utf-8")
    assert bench.run("--published", bench.folder / "published").returncode == 0, "what was advised helps"


def test_a_folder_that_another_packer_holds_is_busy(bench: Bench) -> None:
    bench.out.mkdir()

    with FileLock(bench.out / ".lading-pack.lock"):
        error = bench.fails(21, "Busy")
    assert str(bench.out) in error["what"]
    assert names(bench.out) == set()


# --- no room ----------------------------------------------------------------------------------------------------------

LARGE: Files = {**FILES, "_internal/nvidia/large.so": noise(6 * 2**20, "large")}


def _limited() -> None:
    import resource  # noqa: PLC0415 (POSIX only)
    import signal  # noqa: PLC0415 (in the child)

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


@pytest.mark.skipif(os.name != "posix", reason="a limit of file sizes is POSIX")
@pytest.mark.filterwarnings("ignore:.*preexec_fn:DeprecationWarning")
def test_a_file_that_cannot_be_written_to_its_end_leaves_nothing_that_looks_whole(bench: Bench) -> None:
    assert bench.run().returncode == 0
    bench.freeze(LARGE)
    before = on_disk(bench.out)

    done = subprocess.run(
        [*bench.command("--json")], cwd=bench.folder, capture_output=True, text=True, check=False,
        preexec_fn=_limited, timeout=SECONDS,
    )  # fmt: skip

    assert done.returncode == 40, done.stdout + done.stderr
    error = json.loads(done.stdout)
    assert error["error"] == "DiskFull"
    assert "No room left while writing" in error["what"]
    assert on_disk(bench.out) == before, "what was packed before is as it was"
    assert hidden(bench.out) == set()
    assert bench.run().returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """Words before a command that give it a disk of 3 MB at ``disk``, in a mount namespace of its own."""
    (tmp_path / "disk").mkdir()
    rights = [] if os.name == "posix" and os.geteuid() == 0 else ["--map-root-user"]
    words = ["unshare", "--mount", *rights, "sh", "-c", 'mount -t tmpfs -o size=3m tmpfs disk && exec "$@"', "sh"]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed: no small disk can be made")
    tried = subprocess.run([*words, "true"], cwd=tmp_path, capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no small disk can be made: {tried.stderr.strip()}")
    return words


def test_a_full_disk_is_told_and_the_staging_folder_is_gone(bench: Bench, small_disk: list[str]) -> None:
    bench.freeze(LARGE)
    inside = 'lading="$1"; shift; "$lading" -m lading "$@"; code=$?; ls -A disk/out; exit $code'
    command = bench.command("--out", "disk/out", "--json")

    done = subprocess.run(
        [*small_disk, "sh", "-c", inside, "sh", command[0], *command[3:]],
        cwd=bench.folder, capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip

    assert done.returncode == 40, done.stdout + done.stderr
    error, end = json.JSONDecoder().raw_decode(done.stdout)
    assert error["error"] == "DiskFull"
    assert "No space left on device" in error["what"]
    assert "; 0 MB are free there" in error["what"], "of that disk, and not of another one"
    assert done.stdout[end:].split() == [".lading-pack.lock"]


# --- no rights --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs a second user; root can become one")
@pytest.mark.filterwarnings("ignore:.*preexec_fn:DeprecationWarning")
def test_a_folder_of_somebody_else_is_told(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "import lading.cli.main as main\n"
        "from lading.manifest.project import load_project\n"
        "load_project(Path('project'))  # what it imports, nobody may read\n"
        "main._register_commands([])\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "main._register_commands = lambda words: None\n"
        "main.main(sys.argv[1:])\n"
    )
    opened = [path for path in bench.tree.parents if path.is_relative_to(tmp_path_factory.getbasetemp().parent)]
    before = {path: path.stat().st_mode & 0o777 for path in opened}
    for path, mode in before.items():
        path.chmod(mode | 0o055)
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, *bench.command("--json")[3:]],
            cwd=bench.folder, capture_output=True, text=True, check=False, timeout=SECONDS,
        )  # fmt: skip
    finally:
        for path, mode in before.items():
            path.chmod(mode)

    assert done.returncode == 41, done.stdout + done.stderr
    error = json.loads(done.stdout)
    assert error["error"] == "AccessDenied"
    assert str(bench.out) in error["what"]
    assert not bench.out.exists()


def test_links_inside_the_tree_are_kept(bench: Bench) -> None:
    bench.freeze({**FILES, "_internal/folder": Link("demo"), "_internal/demo/up": Link("../libz.so")})

    assert bench.run().returncode == 0
    listed = subprocess.run(
        ["tar", "--zstd", "-tvf", next(bench.out.glob("*-core-*.tar.zst"))], capture_output=True, text=True, check=True
    ).stdout
    assert "_internal/folder -> demo" in listed
    assert "_internal/demo/up -> ../libz.so" in listed
