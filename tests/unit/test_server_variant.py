from __future__ import annotations

import pytest

from lading_server.variant import VARIABLE, settle, variant_of

pytestmark = pytest.mark.proves("S0-12")


@pytest.mark.parametrize(
    ("executable", "variant"),
    [
        ("/opt/app/lading-server", "cpu"),
        ("/opt/app/lading-server-cuda", "cuda"),
        ("lading-server-cuda", "cuda"),
        (r"C:\Program Files\app\lading-server-cuda.exe", "cuda"),
        (r"C:\Program Files\app\LADING-SERVER-CUDA.EXE", "cuda"),
        (r"C:\cuda\lading-server.exe", "cpu"),
        ("/data/backends/cuda/versions/1/lading-server", "cpu"),
        ("/usr/bin/python3.11", "cpu"),
        ("", "cpu"),
    ],
)
def test_the_name_of_the_executable_alone_decides(executable: str, variant: str) -> None:
    assert variant_of(executable) == variant


@pytest.mark.parametrize("inherited", [None, "", "cpu", "cuda", "nonsense"])
@pytest.mark.parametrize(("executable", "variant"), [("/a/lading-server", "cpu"), ("/a/lading-server-cuda", "cuda")])
def test_what_was_inherited_is_overwritten(inherited: str | None, executable: str, variant: str) -> None:
    environment = {"PATH": "/bin"} if inherited is None else {"PATH": "/bin", VARIABLE: inherited}
    assert settle(environment, executable) == variant
    assert environment == {"PATH": "/bin", VARIABLE: variant}


def test_from_source_the_executable_is_an_interpreter_and_the_variant_is_cpu() -> None:
    environment = {VARIABLE: "cuda"}
    assert settle(environment) == "cpu"
    assert environment[VARIABLE] == "cpu"
