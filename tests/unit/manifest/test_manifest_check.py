"""``lading check``: what manifests refer to exists, stays inside, and fits."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from lading.cli.main import main
from lading.manifest.check import check_folder, exit_code
from lading.manifest.problem import Problem

MakeProject = Callable[..., Path]
APP, KIT, DEST = "manifests/app.yaml", "manifests/toolkits/cu126.yaml", "manifests/destinations.yaml"
HASH = "--hash=sha256:" + "0" * 64


class Case(NamedTuple):
    file: str
    old: str | None  # none: the file is removed
    new: str
    place: str
    key: str
    what: str
    code: int = 10
    hint: str | None = None


CASES = {
    "entry-missing": Case(APP, "src/small/__main__.py", "src/small/__main_.py", f"{APP}:4:8", "entry",
        "this does not exist", hint="did you mean '__main__.py'?"),
    "spec-missing": Case("build/small.spec", None, "", f"{APP}:10:7", "spec", "this does not exist"),
    "requirements-missing": Case("build/small.in", None, "", f"{APP}:12:15", "requirements", "this does not exist"),
    "import-root-missing": Case(APP, "import_roots: [src]", "import_roots: [src, lib]", f"{APP}:5:21",
        "import_roots.1", "this does not exist"),
    "data-missing": Case(APP, "budgets:", "data: [{source: web, target: web}]\nbudgets:", f"{APP}:17:17",
        "data.0.source", "this does not exist"),
    "entry-is-a-folder": Case(APP, "entry: src/small/__main__.py", "entry: src/small", f"{APP}:4:8", "entry",
        "not of this kind"),
    "hooks-is-a-file": Case(APP, "hooks: build/hooks", "hooks: build/small.in", f"{APP}:11:8", "hooks",
        "not of this kind"),
    "package-missing": Case(APP, "packages: [small]", "packages: [smal]", f"{APP}:6:12", "packages.0",
        "no such package under the import roots", hint="did you mean 'small'?"),
    "excluded-and-required": Case(APP, "budgets:",
        "required_modules: [numpy.fft]\nexcluded_modules: [{module: 'numpy.*', reason: not needed here}]\nbudgets:",
        f"{APP}:17:20", "required_modules.0", "two lists contradict each other"),
    "missing-and-required": Case(APP, "budgets:",
        "required_modules: [numpy]\nallowed_missing: [{module: numpy, reason: it is optional}]\nbudgets:",
        f"{APP}:18:19", "allowed_missing.0", "two lists contradict each other"),
    "device-name": Case(APP, "name: small", "name: con", f"{APP}:2:7", "name",
        "Windows cannot have a file of this name"),
    "no-supported-python": Case(APP, "budgets:", 'python: "<3.11"\nbudgets:', f"{APP}:17:9", "python",
        "no supported Python is in this range"),
    "packed-above-unpacked": Case(APP, "core: 10 MB", "core: 30 MB", f"{APP}:18:9", "budgets.core",
        "the packed budget is larger than the unpacked one"),
    "empty-budget": Case(APP, "core: 10 MB", "core: 0", f"{APP}:18:9", "budgets.core",
        "no build fits into this budget"),
    "budget-in-the-wrong-file": Case(KIT, "libs: 1 GB", "core: 1 GB", f"{KIT}:20:9", "budgets.core",
        "this budget has no effect here"),
    "lock-missing": Case("build/cu126.txt", None, "", f"{KIT}:13:17", "locks.linux-x86_64",
        "this lock does not exist", 11),
    "lock-misspelt": Case(KIT, "build/cu126.txt", "build/cu_126.txt", f"{KIT}:13:17", "locks.linux-x86_64",
        "this lock does not exist", 11, "did you mean 'cu126.txt'?"),
    "cpu-lock-missing": Case("build/cpu.txt", None, "", f"{APP}:16:17", "cpu_locks.linux-x86_64",
        "this lock does not exist", 11),
    "freeze-lock-missing": Case("build/freeze.txt", None, "", f"{APP}:13:14", "freeze_lock",
        "this lock does not exist", 11),
    "lock-with-another-torch": Case("build/cu126.txt", "torch==2.7.1", "torch==2.7.0", "build/cu126.txt:5:1", "torch",
        "the lock pins another torch than toolkit cu126", 12),
    "lock-with-another-build": Case("build/cu126.txt", "torch==2.7.1", "torch==2.7.1+cu128", "build/cu126.txt:5:1",
        "torch", "the lock pins another torch than toolkit cu126", 12),
    "lock-with-a-cpu-build": Case("build/cu126.txt", "torch==2.7.1", "torch==2.7.1+cpu", "build/cu126.txt:5:1",
        "torch", "the lock pins another torch than toolkit cu126", 12),
    "lock-without-torch": Case("build/cu126.txt", "torch==2.7.1", "torchvision==1.0", f"{KIT}:13:17",
        "locks.linux-x86_64", "the lock has no torch", 12),
    "lock-for-another-cuda": Case("build/cu126.txt", "12.6.77", "12.8.90", "build/cu126.txt:3:1",
        "nvidia-cuda-runtime-cu12", "the lock is for another CUDA than toolkit cu126", 12),
    "lock-without-hashes": Case("build/cpu.txt", f" \\\n    {HASH}", "", "build/cpu.txt:1:1", "fastapi",
        "a requirement without a hash", 12),
    "lock-with-an-address": Case("build/cpu.txt", "fastapi", "-i https://index.example/simple\nfastapi",
        "build/cpu.txt:1:4", "", "an address in a lock", 12),
    "lock-without-a-direct-requirement": Case("build/small.in", "fastapi>=0.1", "flask", "build/cpu.txt:1:1", "flask",
        "a direct requirement is not in the lock", 12),
    "lock-with-an-unwanted-version": Case("build/small.in", "fastapi>=0.1", "fastapi>=0.6", "build/cpu.txt:1:1",
        "fastapi", "the lock pins a version that is not asked for", 12),
    "empty-lock": Case("build/cpu.txt", f"fastapi==0.5 \\\n    {HASH}", "# nothing", f"{APP}:16:17",
        "cpu_locks.linux-x86_64", "the lock is empty", 12),
    "freeze-lock-without-pyinstaller": Case("build/freeze.txt", "pyinstaller", "cx-freeze", f"{APP}:13:14",
        "freeze_lock", "the lock has no PyInstaller", 12),
}  # fmt: skip


def _changes(small: dict[str, str], case: Case) -> dict[str, str | None]:
    if case.old is None:
        return {case.file: None}
    assert small[case.file].count(case.old) == 1, "the case must change one place"
    return {case.file: small[case.file].replace(case.old, case.new)}


def _errors(root: Path) -> list[Problem]:
    return [problem for problem in check_folder(root) if problem.level == "error"]


@pytest.mark.parametrize("name", CASES)
def test_problem_is_told_at_its_place_with_its_exit_code(
    name: str, make_project: MakeProject, small_project: dict[str, str]
) -> None:
    case = CASES[name]
    problems = _errors(make_project(_changes(small_project, case)))
    assert (case.place, case.key, case.what) in [(p.place, p.key, p.what) for p in problems]
    assert {(p.key, p.what) for p in problems} == {(case.key, case.what)}
    assert exit_code(problems) == case.code
    if case.hint is not None:
        assert case.hint in [p.hint for p in problems]


def test_a_right_project_has_nothing_to_say(make_project: MakeProject) -> None:
    assert check_folder(make_project()) == ()


def test_a_mismatch_names_both_values(make_project: MakeProject, small_project: dict[str, str]) -> None:
    case = CASES["lock-with-another-torch"]
    problem = _errors(make_project(_changes(small_project, case)))[0]
    assert problem.found == "2.7.0"
    assert problem.allowed == f"2.7.1 or 2.7.1+cu126: {KIT}:5:8 says 2.7.1"


def test_a_lock_with_the_toolkits_own_build_is_right(make_project: MakeProject, small_project: dict[str, str]) -> None:
    lock = small_project["build/cu126.txt"].replace("torch==2.7.1", "torch==2.7.1+cu126")
    assert check_folder(make_project({"build/cu126.txt": lock})) == ()


def test_a_toolkit_without_a_lock_is_a_note(make_project: MakeProject, small_project: dict[str, str]) -> None:
    text = small_project[KIT].replace("locks:\n  linux-x86_64: build/cu126.txt\n", "notes: Ask the maintainer.\n")
    problems = check_folder(make_project({KIT: text}))
    assert [(p.level, p.key, p.hint) for p in problems] == [("note", "locks", "Ask the maintainer.")]
    assert exit_code(problems) == 0


def test_an_asset_too_large_for_the_cdn_is_a_note(make_project: MakeProject, small_project: dict[str, str]) -> None:
    more = "  r2:\n    kind: s3\n    preset: r2\n    bucket: small-releases\n    asset_limit: 1 GB\n"
    problems = check_folder(make_project({DEST: small_project[DEST] + more}))
    assert [(p.level, p.place, p.found) for p in problems] == [("note", f"{DEST}:13:18", "1,000,000,000 bytes")]


def test_more_volumes_than_have_numbers_are_refused(make_project: MakeProject, small_project: dict[str, str]) -> None:
    small = small_project[DEST].replace("path: out/store", "path: out/store\n    asset_limit: 64 MiB")
    big = small_project[KIT].replace("libs: 1 GB", "libs: 100 GB")
    problems = _errors(make_project({DEST: small, KIT: big}))
    assert [(p.place, p.what, p.found) for p in problems] == [
        (f"{DEST}:6:18", "too many volumes", "67,108,864 bytes, 1,491 volumes for the libs of cu126")
    ]


@pytest.mark.skipif(os.name != "posix", reason="links need a privilege on Windows")
@pytest.mark.parametrize("inside", [True, False])
def test_a_link_may_not_lead_out_of_the_project(make_project: MakeProject, tmp_path: Path, *, inside: bool) -> None:
    root = make_project({"build/cu126.txt": None, "build/small.spec": None})
    target = root / "build" if inside else tmp_path
    (target / "real.spec").write_text("", encoding="utf-8")
    (root / "build/small.spec").symlink_to(target / "real.spec")
    lock = (root / "build/cpu.txt").read_text(encoding="utf-8")
    (target / "real.txt").write_text(lock + f"torch==2.7.1 {HASH}\n", encoding="utf-8")
    (root / "build/cu126.txt").symlink_to(target / "real.txt")
    expected = [] if inside else [(f"{APP}:10:7", "spec"), (f"{KIT}:13:17", "locks.linux-x86_64")]
    assert [(p.place, p.key) for p in _errors(root)] == expected
    assert all(p.what == "this leaves the project" for p in _errors(root))


def test_a_wrong_manifest_decides_the_code_over_a_missing_lock_over_a_mismatch() -> None:
    kinds = {
        kind: Problem(file="f", what="w", kind=kind) for kind in ("ManifestInvalid", "LockMissing", "LockMismatch")
    }
    note = Problem(file="f", what="w", level="note")
    assert exit_code([note]) == 0
    assert exit_code([note, kinds["LockMismatch"]]) == 12
    assert exit_code([kinds["LockMismatch"], kinds["LockMissing"]]) == 11
    assert exit_code(kinds.values()) == 10


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(str(caught.value.code))


def test_the_command_prints_places_and_ends_with_the_code(
    make_project: MakeProject, small_project: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_project({KIT: small_project[KIT].replace("label:", "lable:")})
    assert _run("check", "--project", str(root)) == 10
    out = capsys.readouterr().out
    assert f"error: {KIT}:3:1: lable: unknown key" in out
    assert "did you mean 'label'?" in out
    assert out.rstrip().endswith("1 error.")


def test_the_commands_json_has_every_problem(
    make_project: MakeProject, small_project: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    root = make_project({"build/cu126.txt": None})
    assert _run("check", "--project", str(root), "--json") == 11
    result = json.loads(capsys.readouterr().out)
    assert (result["errors"], result["notes"]) == (1, 0)
    assert result["problems"][0]["file"] == KIT
    assert (result["problems"][0]["line"], result["problems"][0]["column"]) == (13, 17)
    assert result["problems"][0]["kind"] == "LockMissing"


def test_the_command_is_content_with_a_right_project(
    make_project: MakeProject, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("check", "--project", str(make_project())) == 0
    assert "right" in capsys.readouterr().out


def test_the_command_says_so_where_there_is_no_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("check", "--project", str(tmp_path)) == 10
    assert "manifests/app.yaml:1:1: the file does not exist" in capsys.readouterr().out
