"""Who may use the server: each attack from a foreign page or machine, and each honest client."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from lading_server.problems import ProblemError
from lading_server.updates.guard import Asked, Rules, is_loopback, judge

OWN = "127.0.0.1:8765"
TOKEN = SecretStr("a-token")
RULES = Rules()


def asked(host: str | None = OWN, method: str = "POST", path: str = "/backend/download-cuda", **known: object) -> Asked:
    lists = {name: (value,) if isinstance(value, str) else value for name, value in known.items() if name != "client"}
    return Asked(
        method=method, path=path, hosts=() if host is None else (host,), client=str(known.get("client", "127.0.0.1")),
        **lists,  # type: ignore[arg-type]
    )  # fmt: skip


def code(refusal: ProblemError | None) -> tuple[int, str] | None:
    return None if refusal is None else (refusal.status.value, refusal.code)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        OWN,
        "localhost:8765",
        "LOCALHOST",
        "localhost.",
        "127.8.9.1:1",
        "[::1]:8765",
        "[::ffff:127.0.0.1]:1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_loopback_is_always_the_servers_own_name(host: str, method: str) -> None:
    assert judge(asked(host, method), RULES) is None


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "localhost.evil.example", "192.0.2.7:8765", "",
     "[::2]:8765", "127.0.0.1@evil.example", "0.0.0.0:8765", "[127.0.0.1", None],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_a_name_that_was_bent_to_loopback_is_not(host: str | None, method: str) -> None:
    assert code(judge(asked(host, method), RULES)) == (421, "wrong-host")


def test_two_host_headers_are_none() -> None:
    both = Asked(method="GET", path="/health", hosts=(OWN, "evil.example"))
    assert code(judge(both, RULES)) == (421, "wrong-host")


def test_the_address_that_it_listens_on_and_configured_names_are_its_own() -> None:
    rules = Rules(listens="192.0.2.7", hosts=("server.lan",))
    for host in ("192.0.2.7:8765", "server.lan", "Server.LAN:8765"):
        assert judge(asked(host, "GET"), rules) is None
    assert code(judge(asked("192.0.2.8", "GET"), rules)) == (421, "wrong-host")


@pytest.mark.parametrize("everywhere", ["0.0.0.0", "::"])
def test_listening_everywhere_any_address_is_its_own_but_no_name(everywhere: str) -> None:
    rules = Rules(listens=everywhere)
    assert judge(asked("192.0.2.7:8765", "GET"), rules) is None
    assert code(judge(asked("evil.example", "GET"), rules)) == (421, "wrong-host")


@pytest.mark.parametrize(
    "headers",
    [
        {"origins": "https://evil.example"},
        {"origins": "null"},  # a sandboxed frame, a file
        {"origins": ""},
        {"origins": "http://127.0.0.1:3000"},  # another program's page on this machine
        {"origins": "https://127.0.0.1:8765"},  # another scheme
        {"origins": "http://127.0.0.1:8765.evil.example"},
        {"origins": ("http://127.0.0.1:8765", "https://evil.example")},
        {"sites": "cross-site"},
        {"sites": "same-site"},
        {"sites": ""},
        {"origins": "https://evil.example", "sites": "same-origin"},
    ],
)
@pytest.mark.parametrize(("method", "path"), [("POST", "/backend/restart"), ("DELETE", "/backend/cuda")])
def test_another_page_changes_nothing(headers: dict[str, str], method: str, path: str) -> None:
    assert code(judge(asked(method=method, path=path, **headers), RULES)) == (403, "foreign-origin")


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        (OWN, {"origins": f"http://{OWN}", "sites": "same-origin"}),
        (OWN, {"origins": f"http://{OWN}".upper().replace("HTTP", "http")}),
        ("localhost:80", {"origins": "http://localhost"}),
        (OWN, {"sites": "same-origin"}),
        (OWN, {"sites": "none"}),
    ],
)
def test_the_servers_own_page_may_change_something(host: str, headers: dict[str, str]) -> None:
    assert judge(asked(host, **headers), RULES) is None


def test_a_configured_origin_may_and_its_neighbours_may_not() -> None:
    rules = Rules(origins=("https://app.example.org",))
    assert judge(asked(origins="https://app.example.org", sites="cross-site"), rules) is None
    assert code(judge(asked(origins="https://b.example.org", sites="cross-site"), rules)) == (403, "foreign-origin")


def test_a_program_on_this_machine_needs_no_origin() -> None:
    assert judge(asked(), RULES) is None
    assert judge(asked(client="::1"), RULES) is None


@pytest.mark.parametrize(
    ("host", "client"),
    [("192.0.2.7:8765", "192.0.2.9"), (OWN, "192.0.2.9"), ("192.0.2.7:8765", "127.0.0.1"), (OWN, "::2")],
    ids=["from elsewhere", "from elsewhere with a forged host", "by its outer address", "IPv6"],
)
def test_a_program_on_another_machine_needs_the_token(host: str, client: str) -> None:
    rules = Rules(listens="0.0.0.0", token=TOKEN)
    assert code(judge(asked(host, client=client), rules)) == (403, "token-needed")
    assert judge(asked(host, client=client, authorizations="Bearer a-token"), rules) is None
    assert judge(asked(host, method="GET", path="/backend/cuda-status", client=client), rules) is None


@pytest.mark.parametrize("sent", ["Bearer wrong", "Bearer", "Basic a-token", "a-token", "Bearer a-token-and-more"])
def test_a_wrong_token_is_refused_even_from_this_machine(sent: str) -> None:
    refusal = judge(asked(authorizations=sent), Rules(token=TOKEN))
    assert code(refusal) == (401, "wrong-token")
    assert refusal is not None
    assert refusal.headers == {"www-authenticate": "Bearer"}
    assert "a-token" not in refusal.detail


def test_two_authorizations_are_none() -> None:
    both = asked(authorizations=("Bearer a-token", "Bearer wrong"))
    assert code(judge(both, Rules(token=TOKEN))) == (401, "wrong-token")


def test_computing_changes_nothing_and_needs_no_token() -> None:
    rules = Rules(listens="0.0.0.0")
    assert judge(asked("192.0.2.7", path="/v1/similarity", client="192.0.2.9"), rules) is None


def test_what_is_new_and_not_declared_harmless_is_guarded() -> None:
    assert code(judge(asked(path="/whatever/comes", origins="https://evil.example"), RULES)) == (403, "foreign-origin")


@pytest.mark.parametrize(
    ("name", "is_it"),
    [("localhost", True), ("127.0.0.1", True), ("::1", True), ("127.0.0.1.", False), ("2130706433", False),
     ("0x7f.1", False), ("::ffff:192.0.2.1", False), ("", False)],
)  # fmt: skip
def test_only_what_means_this_machine_without_asking_anybody_is_loopback(name: str, is_it: bool) -> None:  # noqa: FBT001 (a table)
    assert is_loopback(name) is is_it
