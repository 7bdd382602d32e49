"""When an older tree is still right: what a change of a source means."""

from __future__ import annotations

from textwrap import dedent

import pytest

from lading.freeze.sources import SourceModule, SourceState, changed_modules, import_signature

BEFORE = """
import os
from typing import TYPE_CHECKING

try:
    import fast
except ImportError:
    fast = None

def work():
    import json
    return json.dumps([1, 2])
"""


def signature(source: str) -> str:
    return import_signature(dedent(source).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[1, 2]", "[1, 2, 3] if os.sep else None"),
        ("def work():", "# a comment\n\n\ndef work():"),
        ("def work():", "class More:\n    word = 'import zlib'\n\ndef work():"),
        ("fast = None", "fast = len(os.environ)"),
        ("return json", 'print("text")\n    return json'),
    ],
)
def test_a_changed_body_leaves_the_signature(old: str, new: str) -> None:
    assert old in BEFORE
    assert signature(BEFORE.replace(old, new)) == signature(BEFORE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import os", "import os, zlib"),
        ("import os", "import os as system"),
        ("import os\n", ""),
        ("    import fast", "    import fast.lane"),
        ("try:\n    import fast\nexcept ImportError:\n    fast = None", "import fast"),
        ("import os\n", "try:\n    import os\nexcept ImportError:\n    pass\n"),
        ("    import json\n", "    if work:\n        import json\n"),
        ("return json", "__import__('zlib')\n    return json"),
        ("return json", "from . import near\n    return json"),
    ],
)
def test_another_import_or_another_place_for_it_changes_the_signature(old: str, new: str) -> None:
    assert old in BEFORE
    assert signature(BEFORE.replace(old, new)) != signature(BEFORE)


@pytest.mark.parametrize(
    ("header", "old", "new"),
    [
        ("import ctypes", 'ctypes.CDLL("libone.so")', 'ctypes.CDLL("libtwo.so")'),
        ("import ctypes", 'ctypes.cdll.LoadLibrary("libone.so")', 'ctypes.cdll.LoadLibrary("libtwo.so")'),
        ("import ctypes", "ctypes.cdll.one", "ctypes.cdll.two"),
        ("from ctypes import windll", "windll.one.call()", "windll.two.call()"),
        ("from ctypes.util import find_library", 'find_library("one")', 'find_library("two")'),
        ("import importlib.metadata", 'importlib.metadata.version("one")', 'importlib.metadata.version("two")'),
        ("from importlib.metadata import version", 'version("one")', 'version("two")'),
        ("from importlib import metadata", 'metadata.files("one")', 'metadata.files("two")'),
        ("import importlib", 'importlib.import_module("one")', 'importlib.import_module("two")'),
        ("import pkg_resources", 'pkg_resources.require("one")', 'pkg_resources.require("two")'),
    ],
)
def test_a_library_or_metadata_that_is_loaded_by_name_is_part_of_the_signature(header: str, old: str, new: str) -> None:
    def module(call: str) -> str:
        return signature(f"{header}\n\ndef load():\n    return {call}\n")

    assert module(old) != module(new)
    assert module(old) == module(f'({old}, print("other"))[0]')


def test_a_source_that_cannot_be_parsed_counts_by_its_bytes() -> None:
    assert signature("def broken(:\n") != signature("def broken(: \n")
    assert import_signature(b"x = 1\0") != import_signature(b"x = 2\0")


def test_the_order_of_imports_and_the_encoding_of_the_file_do_not_matter() -> None:
    assert signature("import a\nimport b\n") == signature("import b\nimport a\n")
    assert import_signature(b"import a\r\nx = 1\r\n") == import_signature(b"\xef\xbb\xbfimport a\nx = 2\n")


def state(base: str = "a", **modules: tuple[str, str]) -> SourceState:
    return SourceState(
        base=base * 64,
        modules=tuple(
            SourceModule(name=name, path=f"src/{name}.py", sha256=source * 64, imports=imports * 64)
            for name, (source, imports) in modules.items()
        ),
    )


def test_nothing_changed_means_nothing_to_do() -> None:
    assert changed_modules(state(one=("1", "a")), state(one=("1", "a"))) == ()


def test_changed_insides_are_the_modules_to_compile() -> None:
    old, new = state(one=("1", "a"), two=("2", "b")), state(one=("1", "a"), two=("3", "b"))
    changed = changed_modules(new, old)
    assert changed is not None
    assert [module.name for module in changed] == ["two"]


@pytest.mark.parametrize(
    "new",
    [
        state("b", one=("1", "a")),
        state(one=("1", "a"), two=("2", "b")),
        state(),
        state(other=("1", "a")),
        state(one=("2", "b")),
    ],
    ids=["base", "new module", "module gone", "renamed", "other imports"],
)
def test_everything_else_takes_a_full_freeze(new: SourceState) -> None:
    assert changed_modules(new, state(one=("1", "a"))) is None
