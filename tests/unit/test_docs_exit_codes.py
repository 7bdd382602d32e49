"""The page of exit codes is what the classes say."""

from __future__ import annotations

import re
from pathlib import Path

from lading import errors
from lading.errors import LadingError
from lading.manifest.exitcodes import EXIT_CODES_FILE, exit_codes_text

ROOT = Path(__file__).resolve().parents[2]
_ROW = re.compile(r"^\| (\d+) \| `(\w+)` \| \S.* \|$", re.MULTILINE)
_FAMILY = re.compile(r"^\| (\d)x \| `(\w+)` \| \S.* \|$", re.MULTILINE)


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / EXIT_CODES_FILE).read_text("utf-8") == exit_codes_text(), "run `lading schema --write`"


def test_every_class_has_a_row_and_every_family_says_what_to_do() -> None:
    kinds = {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, LadingError)}
    rows = {name: int(code) for code, name in _ROW.findall(exit_codes_text())}
    assert rows == {kind.__name__: kind.exit_code for kind in kinds - {LadingError}}
    families = dict(_FAMILY.findall(exit_codes_text()))
    assert families.items() >= {"1": "ConfigError", "2": "Unavailable", "3": "Untrusted", "4": "HostCannot"}.items()
