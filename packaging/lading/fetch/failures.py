"""What went wrong on the way to a server, in plain words: which side it was, and what can be done about it."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from urllib3 import exceptions as broken

from lading.errors import SourceUnreachable
from lading.fetch.proxies import Proxy
from lading.fetch.source import Temporary, Waits

_HOSTNAME_MISMATCH = {62, 64}  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_EXPIRED = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_GONE = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)

# From the most telling to the most general; the first that fits one of the causes, in their order, is said.
_WORDS: Sequence[tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any, Waits], str]]] = (
    (broken.ConnectTimeoutError, lambda _, waits: f"no connection within {waits.connect:g} s"),
    (broken.ReadTimeoutError, lambda _, waits: f"no byte within {waits.silence:g} s"),
    (broken.IncompleteRead, lambda error, _: f"it ended after {error.partial} bytes, {error.expected} are missing"),
    (http.client.IncompleteRead, lambda _, __: "it ended in the middle"),
    (http.client.RemoteDisconnected, lambda _, __: "it closed the connection"),
    (http.client.BadStatusLine, lambda error, _: f"it does not speak HTTP ({str(error)[:40]!r})"),
    (ssl.SSLError, lambda error, _: f"encryption failed ({(error.reason or str(error)).replace('_', ' ').lower()})"),
    (ConnectionRefusedError, lambda _, __: "connection refused"),
    (_GONE, lambda _, __: "the connection was reset"),
    (OSError, lambda error, _: (error.strerror or str(error) or type(error).__name__).lower()),
)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it, as libraries wrap them: as cause, as context, or as argument."""
    todo: list[BaseException] = [error]
    seen: set[int] = set()
    while todo:
        one = todo.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        linked = (one.__cause__, one.__context__, getattr(one, "original_error", None), *one.args)
        todo += [link for link in linked if isinstance(link, BaseException)]


def is_stale(error: BaseException) -> bool:
    """Whether a kept connection was closed by the server while we began to use it again; that is nobody's failure."""
    return isinstance(error, broken.ProtocolError) and any(isinstance(one, _GONE) for one in _causes(error))


def explain(error: BaseException, shown: str, proxy: Proxy | None, waits: Waits, *, begun: bool) -> SourceUnreachable:
    """Turn what a library raised into one of our errors.

    Args:
        error: What was raised.
        shown: The address that was asked for, fit to be shown.
        proxy: What the request went through.
        waits: How long was waited.
        begun: Whether there was an answer already.

    Returns:
        The error to raise; a :class:`Temporary` when it may pass.
    """
    causes = list(_causes(error))
    for one in causes:
        if isinstance(one, ssl.SSLCertVerificationError):
            return _bad_certificate(one, shown)
    if any(isinstance(one, broken.ProxyError) for one in causes) or _is_socks_error(causes):
        return _bad_proxy(causes, shown, proxy)
    if isinstance(error, broken.LocationValueError | ValueError | http.client.InvalidURL):
        return SourceUnreachable(
            f"{shown} is not an address that can be fetched.",
            todo="Give a folder, or an address that begins with https:// or http://.",
        )
    if any(isinstance(one, broken.NameResolutionError | socket.gaierror) for one in causes):
        return Temporary(
            f"{shown} did not answer: its name {urlsplit(shown).hostname} cannot be resolved.",
            usually="The name is misspelt, this machine is offline, or its DNS server has trouble.",
            todo="Check the address and the network, then run the same command again.",
        )
    via = f" (through the proxy {proxy.url})" if proxy else ""
    how = "broke off" if begun else "did not answer"
    return Temporary(f"{shown} {how}{via}: {_why(causes, waits)}.")


def _is_socks_error(causes: list[BaseException]) -> bool:
    return any(type(one).__module__ == "socks" for one in causes)


def _why(causes: list[BaseException], waits: Waits) -> str:
    telling = [one for one in causes if not isinstance(one, broken.NewConnectionError)]  # what led to it tells more
    for kind, say in _WORDS:
        for one in telling:
            if isinstance(one, kind):
                return say(one, waits)
    return type(causes[0]).__name__


def _bad_certificate(error: ssl.SSLCertVerificationError, shown: str) -> SourceUnreachable:
    what = f"{shown} cannot be trusted: certificate verification failed ({error.verify_message})."
    if error.verify_code in _HOSTNAME_MISMATCH:
        return SourceUnreachable(
            what,
            usually="Another server answers in its place, or the address names the server otherwise than its "
            "certificate.",
            todo="Check the address; use another network or source.",
        )
    if error.verify_code in _EXPIRED:
        return SourceUnreachable(
            what,
            usually="The server's certificate is past its date, or this machine's clock is wrong.",
            todo="Check this machine's clock; use another source, or tell the publisher.",
        )
    return SourceUnreachable(
        what,
        usually="A proxy or virus scanner opens encrypted connections with a certificate of its own, or this "
        "machine's certificates are old.",
        todo="Let SSL_CERT_FILE name your organisation's certificates (a PEM file), or use another source.",
    )


def _bad_proxy(causes: list[BaseException], shown: str, proxy: Proxy | None) -> SourceUnreachable:
    name = proxy.url if proxy else "of the environment"
    said = next((str(one) for one in causes if str(one).startswith("Tunnel connection failed")), "")
    if "407" in said:
        return proxy_wants_login(shown, name)
    inner = [one for one in causes if type(one) is OSError or isinstance(one, ConnectionError)]
    why = said or next((one.strerror for one in inner if one.strerror), None) or str(causes[-1]) or "it did not answer"
    return Temporary(
        f"{shown} did not answer: the proxy {name} failed ({why}).",
        usually="The proxy is down, or is not allowed to reach that host.",
        todo="Check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY; list the host in NO_PROXY to go without.",
    )


def proxy_wants_login(shown: str, name: str) -> SourceUnreachable:
    """The error for a proxy's 407."""
    return SourceUnreachable(
        f"{shown} cannot be reached: the proxy {name} wants a user and password (407).",
        todo="Write them into the variable: HTTPS_PROXY=http://user:password@host:port.",
    )
