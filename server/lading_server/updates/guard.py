"""Keeps other people's web pages from using this server through the browser of the person at this machine.

A server on loopback has no password, and every page in a browser may send requests to it. Decided for each request, in
this order; everything that is refused is refused before a route sees it:

    1. **Host** (DNS rebinding: a foreign name that suddenly means 127.0.0.1). It must be loopback (``localhost``,
       127.0.0.0/8, ::1), the address that the server listens on, or a name from ``LADING_ALLOWED_HOSTS``. A server
       that listens on all addresses takes any address, but no name: rebinding needs a name. Otherwise 421.
    2. What changes nothing (GET, HEAD, OPTIONS, and :data:`HARMLESS`) needs no more: without CORS headers a foreign
       page cannot read the answer.
    3. **Token**: ``Authorization: Bearer`` with ``LADING_TOKEN`` is enough; a wrong one is refused (401).
    4. **Origin**, which browsers send with everything that changes something: it must be the server's own, or one of
       ``LADING_ALLOWED_ORIGINS``. Without it, ``Sec-Fetch-Site`` must be ``same-origin`` or ``none``. Otherwise 403.
    5. Neither of the two: no browser. Such a client must be on this machine: Host and address both loopback. Otherwise
       it needs the token (403).

Every answer says that it is no document to be guessed at (``nosniff``) and nobody else's resource.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from pydantic import SecretStr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lading_server.problems import ProblemError, answer

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
HARMLESS = frozenset({"/v1/similarity"})  # computes, and changes nothing
OWN_SITE = frozenset({"same-origin", "none"})  # none: the person at the browser, not a page
WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 (compared with, not bound to)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Who may use the server.

    Attributes:
        listens: The address that it listens on.
        hosts: Names by which it may be addressed, beside loopback; lower case.
        origins: Other pages that may use it; lower case.
        token: Allows everything.
    """

    listens: str = "127.0.0.1"
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    token: SecretStr | None = None


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is known of a request.

    Attributes:
        method, path, scheme: Of it.
        hosts, origins, sites, authorizations: Its headers of those names, each as often as it was sent.
        client: The address that it came from; none when that is not known.
    """

    method: str
    path: str
    scheme: str = "http"
    hosts: Sequence[str] = ()
    origins: Sequence[str] = ()
    sites: Sequence[str] = ()
    authorizations: Sequence[str] = ()
    client: str | None = None


def judge(asked: Asked, rules: Rules) -> ProblemError | None:
    """Decide whether a request may be answered. Pure.

    Args:
        asked: The request.
        rules: Who may.

    Returns:
        Why not; none when it may.
    """
    host = _only(asked.hosts)
    if host is None or not _is_ours(_name(host), rules):
        return _refused(HTTPStatus.MISDIRECTED_REQUEST, "wrong-host", "This server does not go by that name.")
    if asked.method in SAFE_METHODS or asked.path in HARMLESS:
        return None
    if rules.token is not None and asked.authorizations:
        return _judged_token(_only(asked.authorizations), rules.token)
    return _judged_origin(asked, host, rules)


def _judged_token(sent: str | None, token: SecretStr) -> ProblemError | None:
    scheme, _, value = (sent or "").partition(" ")
    right = secrets.compare_digest(value.strip().encode(), token.get_secret_value().encode())
    if scheme.lower() == "bearer" and right:
        return None
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        code="wrong-token",
        detail="The token is not this server's.",
        headers={"www-authenticate": "Bearer"},
    )


def _judged_origin(asked: Asked, host: str, rules: Rules) -> ProblemError | None:
    foreign = _refused(HTTPStatus.FORBIDDEN, "foreign-origin", "Only this server's own page may ask for that.")
    if asked.origins:
        origin = (_only(asked.origins) or "null").lower()
        own = f"{asked.scheme}://{_plain(host, asked.scheme)}"
        return None if origin in {own, *rules.origins} else foreign
    if asked.sites:
        return None if _only(asked.sites) in OWN_SITE else foreign
    if is_loopback(_name(host)) and (asked.client is None or is_loopback(asked.client)):
        return None
    return _refused(
        HTTPStatus.FORBIDDEN,
        "token-needed",
        "From another machine this needs the server's token (LADING_TOKEN), or its own page.",
    )


def _refused(status: HTTPStatus, code: str, detail: str) -> ProblemError:
    return ProblemError(status, code=code, detail=detail)


def _only(values: Sequence[str]) -> str | None:
    """The one value of a header; a header that was sent twice is none."""
    return values[0].strip() if len(values) == 1 else None


def _name(host: str) -> str:
    """The name or address in a Host header, without port and brackets."""
    if host.startswith("[") and "]" in host:
        return host[1:].partition("]")[0].lower()
    name, mark, port = host.rpartition(":")
    return (name if mark and port.isdigit() else host).lower().removesuffix(".")


def _plain(host: str, scheme: str) -> str:
    """A host as browsers write it in an origin: without the scheme's own port."""
    return host.lower().removesuffix(":443" if scheme == "https" else ":80")


def is_loopback(name: str) -> bool:
    """Whether a name or address means this machine, whatever a name server says."""
    if name == "localhost":
        return True
    address = _address(name)
    return address is not None and (address.ipv4_mapped or address if address.version == 6 else address).is_loopback  # noqa: PLR2004 (IPv6)


def _address(name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(name)
    except ValueError:
        return None


def _is_ours(name: str, rules: Rules) -> bool:
    if is_loopback(name) or name in rules.hosts or name == rules.listens.lower():
        return True
    return rules.listens in WILDCARDS and _address(name) is not None


class Guard:
    """The rules as ASGI middleware.

    Args:
        app: What is guarded.
        rules: Who may use it.
    """

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let it through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        client = scope.get("client")
        refusal = judge(
            Asked(
                method=scope["method"],
                path=scope["path"],
                scheme=scope.get("scheme", "http"),
                hosts=headers.getlist("host"),
                origins=headers.getlist("origin"),
                sites=headers.getlist("sec-fetch-site"),
                authorizations=headers.getlist("authorization"),
                client=client[0] if client else None,
            ),
            self._rules,
        )
        if refusal is not None:
            await answer(scope["path"], refusal)(scope, receive, _closed(send))
            return
        await self._app(scope, receive, _closed(send))


def _closed(send: Send) -> Send:
    async def closed(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            headers["cross-origin-resource-policy"] = "same-origin"
            headers["referrer-policy"] = "no-referrer"
        await send(message)

    return closed
