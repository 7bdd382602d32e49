"""The documentation is true where a program can tell: links, commands, tables, versions, docstrings."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from interrogate.config import InterrogateConfig, parse_pyproject_toml
from interrogate.coverage import InterrogateCoverage

from lading.cli import main as cli
from lading_server import __version__

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOOLKITS = sorted((ROOT / "manifests" / "toolkits").glob("*.yaml"))
pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<body>.*?)^(?P=indent)```[ \t]*$", re.MULTILINE | re.DOTALL
)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_MARKER = re.compile(r"^<!-- ci: (?P<name>[a-z-]+) -->\n```bash\n(?P<command>.*?)```$", re.MULTILINE | re.DOTALL)


def prose(text: str) -> str:
    """A page without its fenced blocks and inline code, where brackets mean something else."""
    return re.sub(r"`[^`\n]*`", "", _FENCE.sub("", text))


def anchors(text: str) -> set[str]:
    """The anchors that a host makes for headings."""
    headings = re.findall(r"^#+ +(.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def commands() -> Iterator[tuple[Path, str]]:
    """Every command line of a shell block, with its page."""
    for page in PAGES:
        for block in _FENCE.finditer(page.read_text("utf-8")):
            if block["language"] in {"bash", "sh", "console"}:
                for line in block["body"].replace("\\\n", " ").splitlines():
                    for command in re.split(r"&&|\|", line):
                        if command.strip():
                            yield page, command.strip()


def table(text: str, first_heading: str) -> list[list[str]]:
    """The cells of the table whose first heading is given, without heading and rule."""
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first_heading} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def sessions() -> set[str]:
    """The sessions of the noxfile, read without running it."""
    tree = ast.parse((ROOT / "noxfile.py").read_text("utf-8"))
    found = set()
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for decorator in function.decorator_list:
            if ast.unparse(decorator).startswith("nox.session"):
                keywords = decorator.keywords if isinstance(decorator, ast.Call) else []
                named = [ast.literal_eval(keyword.value) for keyword in keywords if keyword.arg == "name"]
                found.add(named[0] if named else function.name)
    return found


def options(command: Any) -> set[str]:
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


# --- form -------------------------------------------------------------------------------------------------------------


@pages
def test_every_relative_link_leads_to_a_page_and_a_heading(page: Path) -> None:
    broken = []
    for match in _LINK.finditer(prose(page.read_text("utf-8"))):
        target, _, anchor = match["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in anchors(place.read_text("utf-8"))):
            broken.append(match["target"])
    assert broken == []


@pages
@pytest.mark.proves("S0-25")
def test_every_fenced_block_names_its_language(page: Path) -> None:
    text = page.read_text("utf-8")

    assert text.count("```") % 2 == 0
    assert [block["body"] for block in _FENCE.finditer(text) if not block["language"]] == []


@pages
def test_yaml_in_the_pages_is_yaml(page: Path) -> None:
    for block in _FENCE.finditer(page.read_text("utf-8")):
        if block["language"] in {"yaml", "yml"}:
            assert isinstance(yaml.safe_load(block["body"]), dict)


def test_every_page_is_listed() -> None:
    listed = set(_LINK.findall((ROOT / "docs" / "README.md").read_text("utf-8")))
    pages_there = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}

    assert pages_there - {"README.md"} <= listed


# --- commands ---------------------------------------------------------------------------------------------------------


def test_every_nox_session_in_the_pages_exists() -> None:
    known = sessions()
    unknown = []
    for page, command in commands():
        words = command.split()
        if words[:2] == ["nox", "-s"]:
            wanted = words[2 : words.index("--") if "--" in words else None]
            unknown += [f"{page.name}: {name}" for name in wanted if name not in known]
    for row in table((ROOT / "README.md").read_text("utf-8"), "command"):
        name = row[0].strip("`").removeprefix("nox -s ")
        unknown += [f"README.md: {name}"] if name not in known else []
    assert unknown == []


def test_every_lading_command_in_the_pages_exists_with_its_options() -> None:
    cli._register_commands([])
    program: Any = typer.main.get_command(cli.app)
    wrong = []
    for page, command in commands():
        words = command.split()
        if words[0] != "lading" or words[1].startswith("-"):
            continue
        found = program.commands.get(words[1])
        rest = words[2:]
        while found is not None and rest and rest[0] in getattr(found, "commands", {}):
            found = found.commands[rest.pop(0)]
        if found is None:
            wrong.append(f"{page.name}: {command}")
            continue
        named = {word.partition("=")[0] for word in rest if word.startswith("-")} - {"--help", "-h"}
        wrong += [f"{page.name}: {command}: {name}" for name in named - options(found)]
    assert wrong == []


def test_the_two_commands_of_the_readme_are_the_ones_that_ci_runs() -> None:
    marked = {
        match["name"]: match["command"].strip() for match in _MARKER.finditer((ROOT / "README.md").read_text("utf-8"))
    }
    script = (ROOT / ".ci" / "run").read_text("utf-8")

    assert marked == {
        "main-job": "python -m pip install nox uv && nox -s build_cuda",
        "tests": "python -m pip install nox uv && nox -s tests",
    }
    assert "for name in main-job tests; do" in script


@pytest.mark.skipif(os.name == "nt", reason="the script is for Linux machines")
def test_the_ci_script_reads_the_commands_as_they_stand() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    function = script[script.index("block() {") : script.index("suitable() {")]

    for name, command in (("main-job", "nox -s build_cuda"), ("tests", "nox -s tests"), ("other", "")):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", f"{function}\nblock {name}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == (f"python -m pip install nox uv && {command}" if command else "")
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


# --- facts ------------------------------------------------------------------------------------------------------------


def highest(offers: list[dict[str, Any]], torch: str) -> dict[str, Any]:
    line = torch.rpartition(".")[0]
    return next(offer for offer in offers if line in offer["torch"])


@pytest.mark.proves("S0-24", "S1-26")
def test_the_table_of_toolkits_is_the_manifests() -> None:
    names = {"linux-x86_64": "Linux x86_64", "windows-x86_64": "Windows x86_64", "linux-aarch64": "Linux aarch64"}
    wanted = []
    for path in TOOLKITS:
        toolkit = yaml.safe_load(path.read_text("utf-8"))
        offer = highest(toolkit["offers"], toolkit["torch"])
        archs = ", ".join(offer["archs"]) + (f" and PTX {offer['ptx']}" if "ptx" in offer else "")
        locks = ", ".join(names[platform] for platform in toolkit.get("locks", {})) or "none"
        drivers = (toolkit["driver"]["linux"], toolkit["driver"]["windows"])
        wanted.append([f"`{toolkit['name']}`", toolkit["cuda"], toolkit["torch"], *drivers, archs, locks])

    assert table((ROOT / "docs/reference/cuda-and-drivers.md").read_text("utf-8"), "toolkit") == wanted


@pytest.mark.proves("S0-24")
def test_the_readme_names_the_cuda_versions_and_the_lowest_drivers_beside_the_command_that_builds() -> None:
    default = yaml.safe_load((ROOT / "manifests" / "app.yaml").read_text("utf-8"))["default_toolkit"]
    wanted = []
    for path in TOOLKITS:
        toolkit = yaml.safe_load(path.read_text("utf-8"))
        name = f"`{toolkit['name']}`" + (" (default)" if toolkit["name"] == default else "")
        wanted.append([name, toolkit["cuda"], toolkit["driver"]["linux"], toolkit["driver"]["windows"]])

    assert [row[:4] for row in table((ROOT / "README.md").read_text("utf-8"), "toolkit")] == wanted


@pytest.mark.proves("S1-26")
def test_the_download_impact_is_told_for_every_kind_of_change() -> None:
    rows = table((ROOT / "docs/explanation/download-impact.md").read_text("utf-8"), "what happened")
    told = {row[0]: row[1:] for row in rows}

    assert set(told) >= {
        "first install",
        "nothing new",
        "a change in the app's code",
        "another version of a Python dependency",
        "another version of torch or of an NVIDIA library",
        "another CUDA toolkit",
    }
    assert told["nothing new"][:2] == ["nothing", "nothing"]
    assert told["a change in the app's code"][1] == "nothing", "a change of the app never touches libs"
    assert all(len(row) == 4 and all(row) for row in rows)


@pytest.mark.proves("S1-26")
def test_the_version_is_written_once_and_told_the_same_everywhere() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    newest = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    version_from = yaml.safe_load((ROOT / "manifests" / "app.yaml").read_text("utf-8"))["version_from"]
    project = (ROOT / "pyproject.toml").read_text("utf-8")

    assert newest is not None
    assert newest[1] == __version__
    assert f'__version__ = "{__version__}"' in (ROOT / version_from).read_text("utf-8")
    assert f'path = "{version_from}"' in project
    assert 'dynamic = ["version"]' in project
    assert not re.search(r'^version\s*=\s*"', project, re.MULTILINE)


@pytest.mark.proves("S1-26")
def test_only_one_way_to_split_exists_beside_the_peer_of_the_benchmark() -> None:
    """An older splitter that stays around is used one day by accident."""
    sources = [
        path
        for folder in ("packaging", "server", "build", "workflows", "bench", ".ci")
        for path in (ROOT / folder).rglob("*")
        if path.suffix in {".py", ".spec", ".yaml", ".sh", ""} and path.is_file()
    ]
    old = re.compile(r"w:gz|NVIDIA_PREFIXES|split_cuda|cuda-libs\.json")

    found = {path.relative_to(ROOT).as_posix() for path in sources if old.search(path.read_text("utf-8", "replace"))}

    assert found == {"bench/peers/reference_way.py"}


@pytest.mark.proves("S1-26")
@pytest.mark.parametrize("package", ["packaging/lading", "server/lading_server"])
def test_docstrings_cover_80_percent(package: str) -> None:
    settings = parse_pyproject_toml(str(ROOT / "pyproject.toml"))

    results = InterrogateCoverage(paths=[str(ROOT / package)], conf=InterrogateConfig(**settings)).get_coverage()

    assert settings["fail_under"] == 80
    assert results.total > 0
    assert results.perc_covered >= 80, [
        f"{file.filename}: {file.perc_covered:.0f} %" for file in results.file_results if file.perc_covered < 80
    ]
