"""A project is read together, agrees with itself, and knows its version without running anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lading.errors import LadingError, LockMissing, ManifestInvalid
from lading.manifest.project import Project, load_project

MakeProject = Callable[..., Path]
KIT = "manifests/toolkits/cu126.yaml"


def test_a_project_is_complete(make_project: MakeProject) -> None:
    root = make_project()
    project = load_project(root)
    assert project.version == "1.2.3"
    assert list(project.toolkits) == ["cu126"]
    assert list(project.destinations) == ["local", "github"]
    assert project.toolkit().name == project.toolkit("cu126").name == "cu126"
    assert project.root == root.absolute()
    assert project.lock("cu126", "linux-x86_64") == root / "build/cu126.txt"
    assert project.lock("cpu", "linux-x86_64") == root / "build/cpu.txt"


def test_a_project_without_toolkits_and_destinations_is_a_cpu_project(
    make_project: MakeProject, small_project: dict[str, str]
) -> None:
    app = small_project["manifests/app.yaml"].replace("default_toolkit: cu126\n", "")
    root = make_project({KIT: None, "manifests/destinations.yaml": None, "manifests/app.yaml": app})
    project = load_project(root)
    assert dict(project.toolkits) == {}
    assert list(project.destinations) == ["local"]
    with pytest.raises(ManifestInvalid, match="No toolkit was named"):
        project.toolkit()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ('__version__ = "1.2.3"\n', "1.2.3"),
        ('"""Doc."""\n\n__version__: str = "2.0.0"\n', "2.0.0"),
        ("__version__ = '1.2.3rc1'  # soon\nother = 1\n", "1.2.3rc1"),
        ('import nothing_of_that_name\n__version__ = "1.0.0"\n', "1.0.0"),
    ],
)
def test_the_version_is_read_without_importing(make_project: MakeProject, text: str, version: str) -> None:
    assert load_project(make_project({"src/small/version.py": text})).version == version


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("version = '1'\n", "manifests/app.yaml:3:15", "the version cannot be read"),
        ("__version__ = make()\n", "manifests/app.yaml:3:15", "the version cannot be read"),
        ("__version__ =\n", "manifests/app.yaml:3:15", "the version cannot be read"),
        ("\0", "manifests/app.yaml:3:15", "the version cannot be read"),
        (None, "manifests/app.yaml:3:15", "the version cannot be read"),
        ('\n__version__ = "one"\n', "src/small/version.py:2:1", "wrong form"),
    ],
    ids=["no-line", "not-a-literal", "not-python", "null-byte", "no-file", "not-a-version"],
)
def test_an_unreadable_version_is_told_where_it_is_named(
    make_project: MakeProject, text: str | None, place: str, what: str
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({"src/small/version.py": text}))
    assert [(p.place, p.what) for p in caught.value.problems] == [(place, what)]


def test_a_folder_that_is_no_project_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid, match=r"has no manifests/app\.yaml") as caught:
        load_project(tmp_path)
    assert "--project" in caught.value.todo
    assert not list(tmp_path.iterdir())


def test_two_toolkits_with_labels_of_their_own_are_fine(
    make_project: MakeProject, small_project: dict[str, str]
) -> None:
    other = small_project[KIT].replace("cu126", "cu128").replace('"12.6"', '"12.8"')
    project = load_project(make_project({"manifests/toolkits/cu128.yaml": other}))
    assert [toolkit.label for toolkit in project.toolkits.values()] == ["cu126-v1", "cu128-v1"]


def test_a_file_under_another_name_is_refused(make_project: MakeProject, small_project: dict[str, str]) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({KIT: None, "manifests/toolkits/cu128.yaml": small_project[KIT]}))
    told = {(p.place, p.key, p.what, p.found) for p in caught.value.problems}
    assert ("manifests/toolkits/cu128.yaml:2:7", "name", "the file has another name", "'cu126'") in told


def test_a_copied_toolkit_has_another_name_and_a_label_that_is_taken(
    make_project: MakeProject, small_project: dict[str, str]
) -> None:
    copy = "manifests/toolkits/cu128.yaml"
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({copy: small_project[KIT]}))
    assert [(p.place, p.key, p.what) for p in caught.value.problems] == [
        (f"{copy}:2:7", "name", "the file has another name"),
        (f"{copy}:3:8", "label", "two toolkits have the same label"),
    ]
    assert caught.value.problems[1].found == f"'cu126-v1', also in {KIT}:3:8"


def test_a_toolkit_file_with_another_ending_is_not_overlooked(
    make_project: MakeProject, small_project: dict[str, str]
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({"manifests/toolkits/cu128.yml": small_project[KIT]}))
    assert [p.what for p in caught.value.problems] == ["a toolkit's file must be named <name>.yaml"]


def test_an_unknown_default_toolkit_is_hinted_at(make_project: MakeProject, small_project: dict[str, str]) -> None:
    app = small_project["manifests/app.yaml"].replace("default_toolkit: cu126", "default_toolkit: cu127")
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({"manifests/app.yaml": app}))
    problem = caught.value.problems[0]
    assert (problem.place, problem.key, problem.found) == ("manifests/app.yaml:14:18", "default_toolkit", "'cu127'")
    assert (problem.allowed, problem.hint) == ("cu126", "did you mean 'cu126'?")


def test_problems_of_several_files_are_told_together(make_project: MakeProject, small_project: dict[str, str]) -> None:
    app = small_project["manifests/app.yaml"].replace("name: small", "nam: small")
    kit = small_project[KIT].replace('"12.6"', "12.6")
    with pytest.raises(ManifestInvalid) as caught:
        load_project(make_project({"manifests/app.yaml": app, KIT: kit, "manifests/destinations.yaml": "a: [\n"}))
    assert [p.file for p in caught.value.problems] == ["manifests/app.yaml", "manifests/destinations.yaml", KIT]
    assert caught.value.what.startswith("3 problems in 3 files:")


def _toolkit(project: Project) -> object:
    return project.toolkit("cu127")


def _destination(project: Project) -> object:
    return project.destination("gihtub")


def _no_lock_named(project: Project) -> object:
    return project.lock("cu126", "windows-x86_64")


def _lock_of_unknown(project: Project) -> object:
    return project.lock("cu127", "linux-x86_64")


@pytest.mark.parametrize(
    ("ask", "kind", "words"),
    [
        (_toolkit, ManifestInvalid, ["'cu127'", "there are: cu126", "Did you mean 'cu126'?"]),
        (_destination, ManifestInvalid, ["'gihtub'", "local, github", "Did you mean 'github'?"]),
        (_no_lock_named, LockMissing, ["cu126 on windows-x86_64", "linux-x86_64", KIT]),
        (_lock_of_unknown, ManifestInvalid, ["'cu127'"]),
    ],
)
def test_asking_for_what_is_not_there_says_what_there_is(
    make_project: MakeProject, ask: Callable[[Project], object], kind: type[LadingError], words: list[str]
) -> None:
    project = load_project(make_project())
    with pytest.raises(kind) as caught:
        ask(project)
    assert all(word in str(caught.value) for word in words)


def test_a_named_lock_that_does_not_exist_has_its_own_error(make_project: MakeProject) -> None:
    project = load_project(make_project({"build/cu126.txt": None}))
    with pytest.raises(LockMissing, match=r"build/cu126\.txt") as caught:
        project.lock("cu126", "linux-x86_64")
    assert caught.value.exit_code == 11
