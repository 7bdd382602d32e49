"""Each way of being wrong is told with place, key, what was found, what is allowed, and a hint."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from lading.errors import ManifestInvalid
from lading.manifest.app import App
from lading.manifest.base import Record
from lading.manifest.destination import Destinations
from lading.manifest.loader import load_record, try_record
from lading.manifest.problem import Problem, near_miss
from lading.manifest.toolkit import Toolkit


class Wrong(NamedTuple):
    kind: type[Record]
    file: str  # of the small project
    old: str
    new: str
    place: tuple[int, int]
    key: str
    what: str
    found: str | None = None
    allowed: str | None = None
    hint: str | None = None


APP, KIT, DEST = "manifests/app.yaml", "manifests/toolkits/cu126.yaml", "manifests/destinations.yaml"

WRONG = {
    "unknown-key": Wrong(Toolkit, KIT, "label: cu", "lable: cu", (3, 1), "lable", "unknown key", "'lable'",
        "label, notes", "did you mean 'label'?"),
    "unknown-key-inside": Wrong(App, APP, "  cuda: small-cuda", "  cuda: small-cuda\n  cudaa: x", (10, 3),
        "executable.cudaa", "unknown key", "'cudaa'", "no further key", "did you mean 'cuda'?"),
    "unknown-key-in-union": Wrong(Destinations, DEST, "    repository: example/small",
        "    repository: example/small\n    asset_limits: 1 GB", (9, 5), "destinations.github.asset_limits",
        "unknown key", "'asset_limits'", "api, asset_limit", "did you mean 'asset_limit'?"),
    "missing-key": Wrong(App, APP, "entry: src/small/__main__.py\n", "", (1, 1), "entry", "this key is missing", None,
        "a relative path with forward slashes"),
    "missing-key-inside": Wrong(Toolkit, KIT, '  windows: "528.33"\n', "", (6, 1), "driver.windows",
        "this key is missing", None, 'a driver version in quotes, such as "525.60.13" or "580"'),
    "missing-kind": Wrong(Destinations, DEST, "    kind: github\n", "", (6, 3), "destinations.github.kind",
        "this key is missing", None, "folder, github, s3"),
    "version-read-as-number": Wrong(Toolkit, KIT, 'cuda: "12.6"', "cuda: 12.6", (4, 7), "cuda", "wrong type", "12.6",
        "text", "Write it in quotes: '12.6'."),
    "version-that-loses-its-zero": Wrong(Toolkit, KIT, 'torch: ["2.7"]', 'torch: ["2.7", 2.10]', (10, 20),
        "offers.0.torch.1", "wrong type", "2.10", "text", "Write it in quotes: '2.10'."),
    "driver-read-as-number": Wrong(Toolkit, KIT, '"528.33"', "580", (8, 12), "driver.windows", "wrong type", "580",
        "text", "Write it in quotes: '580'."),
    "text-for-a-list": Wrong(App, APP, "packages: [small]", "packages: small", (6, 11), "packages", "wrong type",
        "'small'", "a list", "Write it as a list: [small]."),
    "list-for-text": Wrong(App, APP, "name: small", "name: [small]", (2, 7), "name", "wrong type", "a list", "text"),
    "text-for-a-mapping": Wrong(App, APP, "executable:\n  cpu: small\n  cuda: small-cuda\n", "executable: small\n",
        (7, 13), "executable", "wrong type", "'small'", "a mapping"),
    "nothing-for-a-mapping": Wrong(App, APP, "  core: 10 MB\n  core_unpacked: 20 MB\n", "", (17, 9), "budgets",
        "wrong type", "nothing", "a mapping"),
    "text-for-a-number": Wrong(App, APP, "name: small", 'name: small\npatches: "3"', (3, 10), "patches", "wrong type",
        "'3'", "a whole number", "Write it without quotes."),
    "number-too-large": Wrong(App, APP, "name: small", "name: small\npatches: 21", (3, 10), "patches", "out of range",
        "21", "input should be less than or equal to 20"),
    "truth-value-for-a-number": Wrong(App, APP, "name: small", "name: small\npatches: true", (3, 10), "patches",
        "wrong type", "true", "a whole number"),
    "unknown-choice": Wrong(App, APP, "name: small", "name: small\nmodules: lose", (3, 10), "modules",
        "unknown value", "'lose'", "loose, stored, compressed", "did you mean 'loose'?"),
    "unknown-kind": Wrong(Destinations, DEST, "kind: github", "kind: gihtub", (7, 11), "destinations.github.kind",
        "unknown value", "'gihtub'", "folder, github, s3", "did you mean 'github'?"),
    "unknown-platform": Wrong(Toolkit, KIT, "  linux-x86_64:", "  linux-x86-64:", (13, 3), "locks.linux-x86-64",
        "unknown name", "'linux-x86-64'", "linux-x86_64, windows-x86_64, linux-aarch64",
        "did you mean 'linux-x86_64'?"),
    "schema-of-another-record": Wrong(App, APP, "lading/app/1", "lading/app/2", (1, 9), "schema", "unknown value",
        "'lading/app/2'", "lading/app/1", "did you mean 'lading/app/1'?"),
    "bad-name": Wrong(App, APP, "name: small", "name: Small App", (2, 7), "name", "wrong form", "'Small App'",
        "lower-case letters and digits, with - or _ between them, such as lading-server"),
    "bad-destination-name": Wrong(Destinations, DEST, "  github:\n", "  GitHub:\n", (6, 3), "destinations.GitHub",
        "wrong form of a name", "'GitHub'",
        "lower-case letters and digits, with - or _ between them, such as lading-server"),
    "bad-label": Wrong(Toolkit, KIT, "cu126-v1", "cu126-v0", (3, 8), "label", "wrong form", "'cu126-v0'",
        "a label such as cu126-v1"),
    "bad-driver": Wrong(Toolkit, KIT, '"525.60.13"', '"R525"', (7, 10), "driver.linux", "wrong form", "'R525'",
        'a driver version in quotes, such as "525.60.13" or "580"'),
    "bad-size": Wrong(App, APP, "10 MB", "10 megabytes", (18, 9), "budgets.core",
        "a size is a number with one of the units B, kB, MB, GB, KiB, MiB, GiB, such as '85 MB'; found '10 megabytes'"),
    "limit-above-the-host's": Wrong(Destinations, DEST, "    repository: example/small",
        "    repository: example/small\n    asset_limit: 3 GB", (9, 18), "destinations.github.asset_limit",
        "out of range", "3 GB", "input should be less than or equal to 2147483648"),
    "path-that-escapes": Wrong(App, APP, "entry: src/small/__main__.py", "entry: ../other/__main__.py", (4, 8), "entry",
        "a path must be relative, with forward slashes, and must not leave its folder; found '../other/__main__.py'"),
    "path-of-another-machine": Wrong(App, APP, "spec: build/small.spec", "spec: 'C:\\small.spec'", (10, 7), "spec",
        "a path must be relative, with forward slashes, and must not leave its folder; found 'C:\\\\small.spec'"),
    "path-in-a-roundabout-way": Wrong(App, APP, "hooks: build/hooks", "hooks: build//hooks/", (11, 8), "hooks",
        "a path must be written plainly, as 'build/hooks'; found 'build//hooks/'"),
    "escaping-lock": Wrong(Toolkit, KIT, "build/cu126.txt", "/etc/passwd", (13, 17), "locks.linux-x86_64",
        "a path must be relative, with forward slashes, and must not leave its folder; found '/etc/passwd'"),
    "cuda-executable-without-cuda": Wrong(App, APP, "small-cuda", "small-gpu", (9, 9), "executable.cuda",
        "the CUDA executable's name must contain 'cuda'; found 'small-gpu'"),
    "cpu-executable-with-cuda": Wrong(App, APP, "  cpu: small", "  cpu: small-nocuda", (8, 8), "executable.cpu",
        "the CPU executable's name must not contain 'cuda'; found 'small-nocuda'"),
    "cuda-that-is-not-the-name's": Wrong(Toolkit, KIT, '"12.6"', '"12.8"', (4, 7), "cuda",
        "toolkit cu126 cannot be CUDA 12.8"),
    "label-of-another-toolkit": Wrong(Toolkit, KIT, "label: cu126-v1", "label: cu128-v1", (3, 8), "label",
        "the label of cu126 must begin with 'cu126-'; found 'cu128-v1'"),
    "torch-that-does-not-exist-for-it": Wrong(Toolkit, KIT, '"2.7.1"', '"2.5.0"', (5, 8), "torch",
        "no build of torch 2.5.0 exists for cu126; 'offers' has 2.7"),
    "pattern-that-escapes": Wrong(Toolkit, KIT, '"torch/include/**"', '"../include/**"', (17, 14), "exclude.0.pattern",
        "a pattern is a relative path with forward slashes; found '../include/**'"),
    "reason-too-short": Wrong(Toolkit, KIT, "reason: Headers, for building only.", "reason: big", (18, 13),
        "exclude.0.reason", "out of range", "'big'", "string should have at least 10 characters"),
    "empty-list": Wrong(App, APP, "packages: [small]", "packages: []", (6, 11), "packages", "too few",
        "an empty list", "at least 1"),
    "bad-python-range": Wrong(App, APP, "name: small", 'name: small\npython: "3.11+"', (3, 9), "python",
        "not a range of versions: '3.11+'; write it as '>=3.11,<3.14'"),
    "truth-value-for-a-text": Wrong(Toolkit, KIT, "reason: Headers, for building only.", "reason: no", (18, 13),
        "exclude.0.reason", "YAML reads this as a truth value", "no", "true or false, or a text in quotes",
        "Write it in quotes if it is a text: 'no'."),
}  # fmt: skip


def _broken(small: dict[str, str], wrong: Wrong, tmp_path: Path) -> Path:
    text = small[wrong.file]
    assert text.count(wrong.old) == 1, "the case must change one place"
    path = tmp_path / "broken.yaml"
    path.write_text(text.replace(wrong.old, wrong.new), encoding="utf-8")
    return path


@pytest.mark.parametrize("case", WRONG)
def test_problem_names_place_key_found_allowed_and_hint(
    case: str, small_project: dict[str, str], tmp_path: Path
) -> None:
    wrong = WRONG[case]
    outcome = try_record(wrong.kind, _broken(small_project, wrong, tmp_path), wrong.file)
    line, column = wrong.place
    expected = Problem(
        file=wrong.file, line=line, column=column, key=wrong.key, what=wrong.what,
        found=wrong.found, allowed=wrong.allowed, hint=wrong.hint,
    )  # fmt: skip
    assert isinstance(outcome, tuple)
    assert len(outcome) == 1
    problem = outcome[0]
    if wrong.allowed is not None and wrong.what == "unknown key":
        assert problem.allowed is not None
        assert set(wrong.allowed.split(", ")) <= set(problem.allowed.split(", "))
        problem = problem.model_copy(update={"allowed": wrong.allowed})
    assert problem == expected


def test_a_right_file_gives_the_record_and_its_places(small_project: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "cu126.yaml"
    path.write_text(small_project[KIT], encoding="utf-8")
    loaded = load_record(Toolkit, path, KIT)
    assert loaded.record.torch == "2.7.1"
    assert loaded.record.budgets.libs == 1_000_000_000
    assert loaded.document.place(("torch",)) == (5, 8)


def test_every_problem_of_a_file_is_told_at_once_in_reading_order(
    small_project: dict[str, str], tmp_path: Path
) -> None:
    text = small_project[KIT].replace("label:", "lable:").replace('"12.6"', "12.6").replace("torch: [", "torhc: [")
    path = tmp_path / "cu126.yaml"
    path.write_text(text + "budgets: {}\n", encoding="utf-8")
    with pytest.raises(ManifestInvalid) as caught:
        load_record(Toolkit, path, KIT)
    problems = caught.value.problems
    assert [(p.line, p.key) for p in problems] == [
        (3, "lable"),
        (4, "cuda"),
        (10, "offers.0.torhc"),
        (21, "budgets"),
    ]
    assert caught.value.exit_code == 10
    assert all(f"{KIT}:{p.line}:{p.column}" in caught.value.what for p in problems)


def test_the_message_is_read_from_place_to_hint(small_project: dict[str, str], tmp_path: Path) -> None:
    path = _broken(small_project, WRONG["unknown-key"], tmp_path)
    with pytest.raises(ManifestInvalid) as caught:
        load_record(Toolkit, path, KIT)
    first = caught.value.problems[-1]
    assert first.text().splitlines()[0] == f"{KIT}:3:1: lable: unknown key"
    assert "    hint:    did you mean 'label'?" in first.text()


def test_a_file_that_is_a_list_is_told_at_its_start(tmp_path: Path) -> None:
    path = tmp_path / "app.yaml"
    path.write_text("- a\n- b\n", encoding="utf-8")
    outcome = try_record(App, path, APP)
    assert isinstance(outcome, tuple)
    assert [(p.line, p.column, p.what, p.allowed) for p in outcome] == [(1, 1, "wrong type", "a mapping")]


@pytest.mark.parametrize(
    ("found", "hint"),
    [("lable", "did you mean 'label'?"), ("LABEL", "did you mean 'label'?"), ("zzzz", None), ("", None)],
)
def test_near_misses_are_hinted_at_and_far_ones_not(found: str, hint: str | None) -> None:
    assert near_miss(found, ["label", "driver"]) == hint
