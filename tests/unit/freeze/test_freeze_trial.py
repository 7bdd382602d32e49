"""The frozen program is tried as its users will run it."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from textwrap import dedent

import pytest

from lading.errors import FrozenBroken
from lading.freeze.trial import try_selftest, try_version

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="programs are scripts here")


def program(tree: Path, code: str) -> str:
    """Write a program into a tree; gives its name."""
    entry = tree / "small"
    entry.write_text(f"#!{sys.executable}\n{dedent(code)}")
    entry.chmod(0o755)
    return entry.name


def version(tree: Path, code: str, timeout: float = 60) -> None:
    try_version(tree, program(tree, code), name="small", version="1.2.3", timeout=timeout)


def test_the_right_version_passes_run_in_its_own_folder_with_a_clean_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/junk")
    code = """
        import os, sys
        assert os.getcwd() == os.path.dirname(os.path.realpath(__file__))
        assert sys.argv[1:] == ["--version"] and "LD_LIBRARY_PATH" not in os.environ
        print("small 1.2.3")
        """
    version(tmp_path, code)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('small 1.2.4')", r"says 'small 1\.2\.4'; expected is 'small 1\.2\.3'"),
        ("", "says ''; expected"),
        ("print('small 1.2.3'); print('Loading …')", "expected is"),
        ("print('small 1.2.3'); raise SystemExit(3)", "ended with status 3"),
        ("import nosuchmodule", "ended with status 1.*\n(.*\n)*.*No module named 'nosuchmodule'"),
        ("import os; os.kill(os.getpid(), 11)", "ended with status -11"),
    ],
    ids=["another", "nothing", "more", "status", "exception", "crash"],
)
def test_a_wrong_answer_is_told_with_what_was_expected(tmp_path: Path, code: str, says: str) -> None:
    with pytest.raises(FrozenBroken, match=says) as broken:
        version(tmp_path, code)
    assert broken.value.exit_code == 60


def test_a_program_that_hangs_is_stopped(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(FrozenBroken, match=r"small --version did not end within 1 s"):
        version(tmp_path, "import time; time.sleep(600)", timeout=1)
    assert time.monotonic() - began < 30


def test_what_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "small").write_text("x")
    with pytest.raises(FrozenBroken, match="small cannot be started: Permission denied"):
        try_version(tmp_path, "small", name="small", version="1")
    (tmp_path / "small").chmod(0o755)
    with pytest.raises(FrozenBroken, match="small cannot be started: Exec format error"):
        try_version(tmp_path, "small", name="small", version="1")


def selftest(tree: Path, report: object, status: int = 0) -> dict[str, object]:
    return try_selftest(tree, program(tree, f"print({json.dumps(report)!r}); raise SystemExit({status})"))


def test_a_passed_self_test_gives_its_report(tmp_path: Path) -> None:
    report = {"passed": True, "checks": [{"name": "gpu", "status": "skip", "reason": "no GPU"}]}
    assert selftest(tmp_path, report) == report


@pytest.mark.parametrize(
    ("report", "status", "says"),
    [
        (
            {"passed": True, "checks": [{"name": "gpu", "status": "fail", "reason": "off"}]},
            0,
            "1 failure.*\n  gpu: off",
        ),
        ({"passed": False, "checks": []}, 0, "0 failure"),
        ({"passed": True, "checks": []}, 1, "0 failure"),
        ({"checks": []}, 0, "0 failure"),
        ([], 0, "no report"),
        ("fine", 0, "no report"),
    ],
)
def test_a_failed_one_names_the_checks(tmp_path: Path, report: object, status: int, says: str) -> None:
    with pytest.raises(FrozenBroken, match=says):
        selftest(tmp_path, report, status)


def test_a_self_test_without_a_report_shows_what_the_program_said(tmp_path: Path) -> None:
    with pytest.raises(FrozenBroken, match=r"status 1 and no report\.\n(.*\n)*.*No module named 'nosuchmodule'"):
        try_selftest(tmp_path, program(tmp_path, "import nosuchmodule"))
    with pytest.raises(FrozenBroken, match="--selftest --json did not end"):
        try_selftest(tmp_path, program(tmp_path, "import time; time.sleep(600)"), timeout=0.3)
