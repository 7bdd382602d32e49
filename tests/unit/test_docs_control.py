"""The page on the launcher says what the program does: fields, variables, requests, codes, examples."""

from __future__ import annotations

import configparser
import json
import re
from pathlib import Path
from typing import get_args

from lading.errors import Busy, NotInstalled, PortTaken, ServerUnhealthy
from lading.launch import control, launcher
from lading.launch.address import Address
from lading.launch.child import INSTANCE_VARIABLE
from lading.launch.kept import LOG_KEEP, LOG_LIMIT
from lading.launch.status import LauncherStatus, ServerHealth, SetAside, Shown

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "reference" / "control.md").read_text("utf-8")


def rows(heading: str) -> list[list[str]]:
    lines = PAGE.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip().replace("`", "") for cell in line.strip("|").split(" | ")])
    return found


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_every_field_of_the_status_is_told_and_no_other() -> None:
    told = {row[0]: row[2] for row in rows("field")}
    assert list(told) == [name for name in LauncherStatus.model_fields if name != "schema_"]
    assert set(re.findall(r"\w+", rows("field")[0][2])) == set(get_args(Shown))
    for record, field in ((ServerHealth, "health"), (SetAside, "set_aside")):
        assert all(name in told[field] for name in record.model_fields)


def test_every_variable_is_told() -> None:
    assert {row[0] for row in rows("variable of the server's environment")} == {
        control.URL_VARIABLE,
        control.TOKEN_VARIABLE,
        launcher.DATA_VARIABLE,
        launcher.APP_VARIABLE,
        INSTANCE_VARIABLE,
        launcher.FALLBACK_VARIABLE,
        launcher.CHOICE_VARIABLE,
        "CUDA_VISIBLE_DEVICES",
    }


def test_every_request_and_every_refusal_is_told() -> None:
    routes = control._Handler._routes
    assert {row[0] for row in rows("request")} == {f"{method} {path}" for path, (method, _, _) in routes.items()}
    source = Path(control.__file__).read_text("utf-8")
    raised = {(status, code) for status, code in re.findall(r'Refusal\((\d{3}), "(\w+)"', source)}
    told = {
        pair
        for row in rows("answer")
        if row[1] not in {"ConfigError", "the error's class"}
        for status, codes in [(row[0].split(", "), row[1].split(", "))]
        for pair in (zip(status, codes, strict=True) if len(status) > 1 else [(status[0], code) for code in codes])
    }
    assert told == raised


def test_exit_codes_and_limits_are_those_of_the_program() -> None:
    codes = {int(row[0]) for row in rows("exit code")}
    assert codes == {0, Busy.exit_code, NotInstalled.exit_code, ServerUnhealthy.exit_code, PortTaken.exit_code}
    assert (LOG_LIMIT, LOG_KEEP) == (10 * 2**20, 4)
    assert "put aside at 10 MiB" in PAGE
    assert "four earlier ones stay" in PAGE
    assert control.LARGEST_BODY == 4 * 1024
    assert "at most 4 KiB" in PAGE


def test_the_example_of_the_address_is_one() -> None:
    example = Address.model_validate(json.loads(blocks("json")[0]))
    assert example.schema_ == "lading/control/1"


def test_the_unit_and_the_desktop_entry_can_be_read_and_start_the_launcher() -> None:
    for text, section, key in zip(blocks("ini"), ("Service", "Desktop Entry"), ("ExecStart", "Exec"), strict=True):
        parser = configparser.ConfigParser(interpolation=None)
        parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys are written with capitals
        parser.read_string(text)
        assert "lading run --data" in parser[section][key]
