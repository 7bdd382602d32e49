"""Each command is found, whether its module is imported alone or with all others."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import Any

import pytest
import typer

from lading.cli.main import MODULE_OF, command_modules


def names_of(module: str) -> set[str]:
    app = typer.Typer()
    app.callback()(lambda: None)  # a program of several commands, however few this module adds
    importlib.import_module(f"lading.cli.{module}").register(app)
    group: Any = typer.main.get_command(app)
    return set(group.commands)


@pytest.mark.parametrize("command", sorted(MODULE_OF))
def test_a_command_that_is_imported_alone_is_in_its_module(command: str) -> None:
    assert command in names_of(MODULE_OF[command])


def test_no_two_modules_add_the_same_command() -> None:
    names = [name for module in command_modules() for name in names_of(module)]
    assert len(names) == len(set(names))


def test_a_client_command_imports_nothing_of_the_build_side() -> None:
    program = (
        "import sys\n"
        "from lading.cli.main import main\n"
        "try:\n"
        "    main(['status', '--data', 'nowhere'])\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('lading.')}\n"
        "print('\\n'.join(sorted(rooms)), file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"freeze", "linkage", "pack", "publish", "road", "verify"}.isdisjoint(done.stderr.split())
