"""Who owns a file of a frozen tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from lading.freeze.environment import Environment, Installed
from lading.freeze.owners import Sources, owner_of, owners, sources
from lading.freeze.settings import Collected, Contents

SITE = Path("/home/me/env/lib/python3.11/site-packages")
STDLIB = Path("/opt/python/lib/python3.11")
PROJECT = Path("/home/me/project")


def environment(base: Path = Path("/opt/python")) -> Environment:
    def installed(name: str, *files: str) -> Installed:
        paths = tuple(str(SITE / file) for file in files)
        return Installed(name=name, version="1", requires=(), files=paths, modules=())

    distributions = [
        installed("torch", "torch/__init__.py", "torch/nn/__init__.py", "torch/lib/libtorch.so", "torch/x.so"),
        installed("six", "six.py"),
        installed("sourceless", "secret/core.pyc"),
        installed(
            "pyinstaller",
            "PyInstaller/hooks/rthooks/pyi_rth.py",
            "PyInstaller/data.bin",
            "PyInstaller/fake-modules/_pyi_rth_utils/__init__.py",
        ),
        installed("pyinstaller-hooks-contrib", "_pyinstaller_hooks_contrib/rt.txt"),
    ]
    return Environment(
        python=SITE / "bin/python",
        version="3.11.7",
        stdlib=STDLIB if base == Path("/opt/python") else base / "lib/python3.11",
        base_prefix=base,
        prefix=Path("/home/me/env"),
        site=(SITE,),
        distributions={item.name: item for item in distributions},
        torch=None,
        locks={},
        reused=False,
    )


def known(base: Path = Path("/opt/python")) -> Sources:
    return sources(environment(base), PROJECT, (PROJECT / "src",), ("small",))


def owner(
    path: str, source: str, kind: str = "DATA", *, exist: tuple[str, ...] = (), base: Path = Path("/opt/python")
) -> str:
    item = Collected(path=path, source=source, typecode=kind)
    return owner_of(item, known(base), lambda path: str(path) in exist)


LOCALPYCS = "/builds/cpu/server/localpycs/0"


@pytest.mark.parametrize(
    ("path", "source", "kind", "expected"),
    [
        ("torch/lib/libtorch.so", f"{SITE}/torch/lib/libtorch.so", "BINARY", "torch"),
        ("secret/core.pyc", f"{SITE}/secret/core.pyc", "DATA", "sourceless"),
        ("data.bin", f"{SITE}/PyInstaller/data.bin", "DATA", "pyinstaller"),
        ("rt.txt", f"{SITE}/_pyinstaller_hooks_contrib/rt.txt", "DATA", "pyinstaller"),
        ("web/index.html", f"{PROJECT}/src/small/web/index.html", "DATA", "app"),
        ("words.txt", f"{PROJECT}/data/words.txt", "DATA", "app"),
        ("libpython3.11.so.1.0", "/opt/python/lib/libpython3.11.so.1.0", "BINARY", "python"),
        ("python3.11/lib-dynload/_ssl.so", f"{STDLIB}/lib-dynload/_ssl.so", "EXTENSION", "python"),
        ("libffi.so.8", "/opt/python/lib/libffi.so.8", "BINARY", "python"),
        ("libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", "BINARY", "system"),
        ("base_library.zip", "/builds/cpu/server/base_library.zip", "DATA", "python"),
        ("small", "/builds/cpu/server/small", "EXECUTABLE", "app"),
    ],
)
def test_the_source_decides(path: str, source: str, kind: str, expected: str) -> None:
    assert owner(path, source, kind) == expected


@pytest.mark.parametrize(
    ("path", "exist", "expected"),
    [
        ("torch/nn/__init__.pyc", (), "torch"),
        ("six.pyc", (), "six"),
        ("json/decoder.pyc", (f"{STDLIB}/json/decoder.py",), "python"),
        ("small/words.pyc", (), "app"),
        ("helpers.pyc", (f"{PROJECT}/src/helpers.py",), "app"),
        ("_pyi_rth_utils/__init__.pyc", (), "pyinstaller"),
        ("linked/from/another/project.pyc", (), "elsewhere"),
    ],
)
def test_a_compiled_module_has_the_owner_of_the_source_of_its_name(
    path: str, exist: tuple[str, ...], expected: str
) -> None:
    assert owner(path, f"{LOCALPYCS}/{path}", exist=exist) == expected


def test_a_prefix_that_the_interpreter_shares_with_the_system_is_not_all_pythons() -> None:
    usr = Path("/usr")
    assert owner("libz.so.1", "/usr/lib/x86_64-linux-gnu/libz.so.1", "BINARY", base=usr) == "system"
    assert owner("libpython3.11.so.1.0", "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0", base=usr) == "python"
    assert owner("_ssl.so", "/usr/lib/python3.11/lib-dynload/_ssl.so", "EXTENSION", base=usr) == "python"


def collected(*items: tuple[str, str, str]) -> Contents:
    entries = tuple(Collected(path=path, source=source, typecode=kind) for path, source, kind in items)
    return Contents(collected=entries, pure=(), dropped=())


def test_a_link_has_the_owner_of_where_it_leads_also_through_other_links() -> None:
    found = owners(
        collected(
            ("small", "/x/small", "EXECUTABLE"),
            ("torch/lib/libtorch.so", f"{SITE}/torch/lib/libtorch.so", "BINARY"),
            ("libtorch.so", "torch/lib/libtorch.so", "SYMLINK"),
            ("torch/lib/libtorch.so.2", "libtorch.so", "SYMLINK"),
            ("deep/er/lib.so", "../../libtorch.so", "SYMLINK"),
        ),
        known(),
        "_internal",
    )
    assert found == {
        "small": "app",
        "_internal/torch/lib/libtorch.so": "torch",
        "_internal/libtorch.so": "torch",
        "_internal/torch/lib/libtorch.so.2": "torch",
        "_internal/deep/er/lib.so": "torch",
    }


def test_links_in_a_circle_or_to_nothing_have_the_system_as_owner() -> None:
    found = owners(
        collected(("a.so", "b.so", "SYMLINK"), ("b.so", "a.so", "SYMLINK"), ("c.so", "gone.so", "SYMLINK")),
        known(),
        "_internal",
    )
    assert set(found.values()) == {"system"}
