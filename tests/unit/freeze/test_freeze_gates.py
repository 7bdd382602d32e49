"""What stops a broken build: each gate with what it lets through and what it does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.errors import FrozenBroken, ImportMissing, LinkageBroken, StrangerInTree, WrongTorch
from lading.freeze.gates import (
    MissingImport,
    allowed_distributions,
    check_imports,
    check_linkage,
    check_strangers,
    check_torch,
    check_untouched,
    modules_of,
    parse_missing,
    unwanted_modules,
)
from lading.freeze.owners import ELSEWHERE
from lading.freeze.settings import Collected, Contents
from lading.linkage import Escape, Linkage, Unreadable, Unresolved
from lading.manifest.app import App
from lading.manifest.base import Variant
from lading.manifest.project import load_project
from lading.manifest.release import TorchBuild
from lading.manifest.toolkit import Toolkit

ENTRY = Path("/home/me/my server (new)/src/small/__main__.py")

# Lines of a real list of a CUDA server, and one of a script whose folder has spaces, commas and brackets.
WARNINGS = """
This file lists modules PyInstaller was not able to find. This does not
necessarily mean these modules are required for running your program.

Types of import:
* top-level: imported at the top-level - look at these first
* optional: imported within a try-except-statement

missing module named 'org.python' - imported by copy (optional), xml.sax (delayed, conditional)
missing module named org - imported by pickle (optional)
missing module named winreg - imported by platform (delayed, optional), torch._appdirs (delayed), setuptools.msvc (conditional)
excluded module named _frozen_importlib - imported by importlib (optional), importlib.abc (optional), zipimport (top-level)
invalid module named small.broken - imported by small.entry (delayed)
missing module named multiprocessing.set_start_method - imported by multiprocessing (top-level), multiprocessing.spawn (top-level)
missing module named 'distutils._modified' - imported by setuptools._distutils.file_util (delayed)
missing module named pyimod02_importers - imported by /home/me/a, b (c)/rthooks/pyi_rth_pkgutil.py (delayed)
missing module named psutil - imported by numpy.testing (delayed, optional), triton.testing (delayed), torch._numpy.testing.utils (delayed, conditional, optional)
"""  # noqa: E501 (PyInstaller's lines)


def app(**changes: object) -> App:
    known = {
        "schema": "lading/app/1", "name": "small", "version_from": "src/small/version.py",
        "entry": "src/small/__main__.py", "import_roots": ["src"], "packages": ["small"],
        "executable": {"cpu": "small", "cuda": "small-cuda"}, "requirements": "build/small.in",
        "freeze_lock": "build/freeze.txt",
    }  # fmt: skip
    return App.model_validate(known | changes)


def contents(*collected: tuple[str, str], pure: tuple[str, ...] = ()) -> Contents:
    return Contents(
        collected=tuple(Collected(path=path, source="", typecode=kind) for path, kind in collected),
        pure=tuple(Collected(path=name, source="", typecode="PYMODULE") for name in pure),
        dropped=(),
    )


def imports(
    warnings: str = "",
    log: str = "",
    there: Contents | None = None,
    program: App | None = None,
    variant: Variant = "cpu",
) -> tuple[str, ...]:
    return check_imports(warnings, log, there or contents(), program or app(), variant=variant, entry=ENTRY)


def test_the_list_is_read_with_every_kind_of_line() -> None:
    found = {missing.module: missing for missing in parse_missing(WARNINGS)}
    assert list(found) == [
        "org.python", "org", "winreg", "_frozen_importlib", "small.broken", "multiprocessing.set_start_method",
        "distutils._modified", "pyimod02_importers", "psutil",
    ]  # fmt: skip
    assert found["winreg"] == MissingImport(
        module="winreg",
        attribute=False,
        importers=(
            ("platform", frozenset({"delayed", "optional"})),
            ("torch._appdirs", frozenset({"delayed"})),
            ("setuptools.msvc", frozenset({"conditional"})),
        ),
    )
    assert found["psutil"].importers[-1] == (
        "torch._numpy.testing.utils",
        frozenset({"delayed", "conditional", "optional"}),
    )


def test_a_name_in_quotes_is_a_module_and_one_without_may_be_an_attribute() -> None:
    attributes = {missing.module for missing in parse_missing(WARNINGS) if missing.attribute}
    assert attributes == {"multiprocessing.set_start_method"}


def test_a_script_is_an_importer_by_its_whole_path() -> None:
    importers = {missing.module: missing.importers for missing in parse_missing(WARNINGS)}
    assert importers["pyimod02_importers"] == (
        ("/home/me/a, b (c)/rthooks/pyi_rth_pkgutil.py", frozenset({"delayed"})),
    )


def test_an_empty_list_has_no_missing_modules() -> None:
    assert parse_missing("") == ()


@pytest.mark.parametrize("how", ["top-level", "delayed"])
def test_an_unguarded_import_of_the_programs_own_stops_the_build(how: str) -> None:
    with pytest.raises(ImportMissing, match=r"nosuch: imported by small\.entry") as stopped:
        imports(f"missing module named nosuch - imported by small.entry ({how}), copy (optional)\n")
    assert "copy" not in stopped.value.what


@pytest.mark.parametrize("how", ["optional", "conditional", "delayed, optional", "conditional, optional"])
def test_a_guarded_import_does_not(how: str) -> None:
    assert imports(f"missing module named nosuch - imported by small.entry ({how})\n") == ()


def test_an_import_of_the_entry_script_counts_and_is_named_as_in_the_manifest() -> None:
    with pytest.raises(ImportMissing, match=r"nosuch: imported by src/small/__main__\.py"):
        imports(f"missing module named nosuch - imported by {ENTRY} (top-level)\n")


def test_an_import_of_another_script_or_package_does_not_count() -> None:
    warnings = "missing module named nosuch - imported by /x/__main__.py (top-level), smaller.entry (top-level)\n"
    assert imports(warnings) == ()


def test_an_excluded_or_invalid_module_is_as_missing_as_one_that_is_not_there() -> None:
    for kind in ("excluded", "invalid"):
        with pytest.raises(ImportMissing, match="nosuch"):
            imports(f"{kind} module named nosuch - imported by small (top-level)\n")


def test_a_module_that_cannot_be_compiled_is_none_though_its_package_is_there() -> None:
    with pytest.raises(ImportMissing, match=r"small\.broken: imported by small\.entry"):
        imports(WARNINGS, there=contents(("small/__init__.pyc", "DATA")))


def test_an_attribute_of_a_module_that_is_there_is_not_missing() -> None:
    warnings = "missing module named dep.Thing - imported by small (top-level)\n"
    assert imports(warnings, there=contents(("dep/__init__.pyc", "DATA"))) == ()
    with pytest.raises(ImportMissing, match=r"dep\.Thing"):
        imports(warnings)


def test_a_module_that_may_be_missing_is_not_reported_in_its_variant() -> None:
    program = app(allowed_missing=[{"module": "torch.*", "variant": "cpu", "reason": "The CPU build has NumPy."}])
    warnings = "missing module named torch - imported by small (top-level)\n"
    warnings += "missing module named 'torch.nn' - imported by small (top-level)\n"
    with pytest.raises(ImportMissing, match="1 module"):  # torch.* is what lies below torch
        imports(warnings, program=program)
    program = app(allowed_missing=[{"module": "torch", "variant": "cpu", "reason": "The CPU build has NumPy."}])
    assert imports(warnings, program=program) == ()
    with pytest.raises(ImportMissing, match="2 module"):
        imports(warnings, program=program, variant="cuda")


def test_all_that_is_missing_is_told_at_once() -> None:
    program = app(hidden_imports=["plugins.one"], required_modules=["dep.core", "dep.extra"])
    log = "1 INFO: x\n2 ERROR: Hidden import 'plugins.one' not found\n3 ERROR: Hidden import \"scipy.x\" not found\n"
    with pytest.raises(ImportMissing) as stopped:
        imports(
            "missing module named nosuch - imported by small (top-level)\n",
            log,
            contents(("dep/core.cpython-311-x86_64-linux-gnu.so", "EXTENSION")),
            program,
        )
    assert stopped.value.exit_code == 57
    assert stopped.value.what.splitlines()[1:] == [
        "  nosuch: imported by small",
        "  plugins.one: a hidden import of manifests/app.yaml",
        "  dep.extra: required by manifests/app.yaml",
    ]


def test_hidden_imports_of_dependencies_hooks_are_only_noted() -> None:
    assert imports(log="2 ERROR: Hidden import 'scipy.x' not found\n") == ("scipy.x",)


def test_modules_are_known_loose_compiled_and_inside_the_executable() -> None:
    there = contents(
        ("dep/__init__.pyc", "DATA"),
        ("dep/nn/layers.pyc", "DATA"),
        ("dep/_C.cpython-311-x86_64-linux-gnu.so", "EXTENSION"),
        ("dep/_rust.abi3.so", "EXTENSION"),
        ("top.pyd", "EXTENSION"),
        ("python3.11/lib-dynload/_ssl.cpython-311-x86_64-linux-gnu.so", "EXTENSION"),
        ("lib-dynload/zlib.cpython-311-x86_64-linux-gnu.so", "EXTENSION"),
        ("dep/lib/libx.so", "BINARY"),
        ("dep/words.txt", "DATA"),
        pure=("packed.module",),
    )
    assert modules_of(there) == {
        "dep", "dep.nn.layers", "dep._C", "dep._rust", "top", "_ssl", "zlib", "packed.module",
    }  # fmt: skip


@pytest.fixture
def toolkit(root: Path) -> Toolkit:
    return load_project(root).toolkit("cu126")


def torch(version: str, cuda: str) -> TorchBuild:
    return TorchBuild(version=version, cuda=cuda, archs=("sm_86",))


def test_the_toolkits_torch_passes_with_or_without_a_local_version(toolkit: Toolkit) -> None:
    check_torch(torch("2.7.1+cu126", "12.6"), toolkit)
    check_torch(torch("2.7.1", "12.6"), toolkit)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (None, "no torch"),
        (torch("2.7.1+cpu", "none"), r"torch 2\.7\.1\+cpu .* has no CUDA"),
        (torch("2.7.1+cu128", "12.8"), r"torch 2\.7\.1\+cu128 .* CUDA 12\.8; .* CUDA 12\.6"),
        (torch("2.8.0+cu126", "12.6"), r"torch 2\.8\.0\+cu126; .* torch 2\.7\.1"),
        (torch("2.7.10+cu126", "12.6"), r"2\.7\.10"),
    ],
    ids=["no torch", "CPU torch", "other CUDA", "other version", "longer version"],
)
def test_another_torch_stops_a_cuda_build_with_both_values(
    found: TorchBuild | None, says: str, toolkit: Toolkit
) -> None:
    with pytest.raises(WrongTorch, match=says) as stopped:
        check_torch(found, toolkit)
    assert stopped.value.exit_code == 58
    assert "cu126" in stopped.value.todo


def test_files_of_what_is_allowed_and_of_no_distribution_pass() -> None:
    owners = {"a": "dep", "b": "app", "c": "python", "d": "pyinstaller", "e": "system"}
    check_strangers(owners, {"dep"})


def test_a_stranger_is_named_with_an_example() -> None:
    owners = {"_internal/pytest/__init__.pyc": "pytest", "_internal/pytest/x.pyc": "pytest", "small": "app"}
    with pytest.raises(StrangerInTree, match=r"pytest: 2 file\(s\), such as _internal/pytest/__init__.pyc") as stopped:
        check_strangers(owners, {"dep"})
    assert stopped.value.exit_code == 61


def test_a_module_from_a_folder_that_is_nobodys_is_a_stranger() -> None:
    with pytest.raises(StrangerInTree, match="elsewhere: 1 file"):
        check_strangers({"_internal/other/__init__.pyc": ELSEWHERE}, {"dep"})


def test_what_a_lock_pins_may_be_in_the_tree_and_without_a_lock_what_is_required() -> None:
    assert allowed_distributions(["a", "b"], ()) == {"a", "b"}
    assert allowed_distributions((), ["c"]) == {"c"}


def test_unwanted_are_the_modules_of_what_is_beside() -> None:
    installed = {"dep": ("dep",), "pytest": ("pytest", "_pytest"), "pyinstaller": ("PyInstaller",)}
    assert unwanted_modules(installed, {"dep"}) == ("_pytest", "pytest")


def test_a_namespace_package_that_an_allowed_distribution_shares_is_wanted() -> None:
    installed = {"google-auth": ("google",), "google-beside": ("google", "beside")}
    assert unwanted_modules(installed, {"google-auth"}) == ("beside",)


def test_the_programs_own_package_is_wanted_though_it_is_installed_beside() -> None:
    installed = {"lading": ("lading", "small"), "tests": ("tests",)}
    assert unwanted_modules(installed, (), ["small", "tests.of.mine"]) == ("lading",)


def test_a_backport_beside_does_not_exclude_the_standard_librarys_module() -> None:
    assert unwanted_modules({"dataclasses": ("dataclasses",), "typing": ("typing", "other")}, ()) == ("other",)


def linkage(**changes: object) -> Linkage:
    known = {"system": "linux", "payload": "_internal", "objects": (), "symlinks": {}, "needs": (), "unresolved": ()}
    return Linkage.model_validate(known | {"escapes": ()} | changes)


def test_a_tree_in_which_all_is_resolved_passes() -> None:
    assert check_linkage(linkage()) == ()


def test_an_escaping_search_path_is_only_noted() -> None:
    escape = Escape(path="_internal/libx.so", entry="/opt/cuda/lib64", reason="absolute")
    assert check_linkage(linkage(escapes=(escape,))) == ("_internal/libx.so: /opt/cuda/lib64",)


def test_an_unresolved_library_stops_the_build_with_who_needs_it() -> None:
    lacks = Unresolved(importer="_internal/libx.so", name="libnotthere.so.1", reason="not in the tree")
    with pytest.raises(LinkageBroken, match=r"1 shared library lacks .*\n  _internal/libx.so: libnotthere.so.1") as one:
        check_linkage(linkage(unresolved=(lacks,)))
    assert one.value.exit_code == 59
    broken = Unreadable(path="_internal/liby.so", reason="cut off")
    with pytest.raises(LinkageBroken, match=r"2 shared libraries lack .*\n.*\n  _internal/liby.so: cut off"):
        check_linkage(linkage(unresolved=(lacks,), unreadable=(broken,)))


def test_a_program_that_writes_into_its_own_folder_is_refused() -> None:
    check_untouched(["small", "_internal/a"], {"small", "_internal/a"})
    with pytest.raises(FrozenBroken, match=r"wrote 1 file\(s\) .*\n  server.log"):
        check_untouched(["small", "server.log"], {"small": "app"})
