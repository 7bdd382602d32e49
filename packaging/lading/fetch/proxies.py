"""Which proxy a request goes through: what the environment or the system says, decided per address.

``HTTPS_PROXY``, ``HTTP_PROXY`` and ``ALL_PROXY`` name it, ``NO_PROXY`` lists exceptions; in lower case too. On Windows
and macOS the system's settings count where no variable is set. A proxy's password is used and never shown.
"""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lading.errors import ConfigError

_HTTP = ("http", "https")
_SOCKS = {"socks4": "socks4", "socks4a": "socks4a", "socks5": "socks5", "socks5h": "socks5h", "socks": "socks5h"}


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy.

    Attributes:
        scheme: ``http``, ``https``, or one of SOCKS.
        place: Host and port; what messages show.
        user, password: For the proxy itself.
    """

    scheme: str
    place: str
    user: str | None = None
    password: str | None = None

    @property
    def url(self) -> str:
        """Its address, without user and password."""
        return f"{self.scheme}://{self.place}"

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS and not HTTP."""
        return self.scheme not in _HTTP


def proxy_for(url: str, proxies: Mapping[str, str] | None = None) -> Proxy | None:
    """Decide which proxy a request goes through.

    Args:
        url: The address.
        proxies: Instead of what the environment or the system says, by scheme, with ``all`` and ``no``.

    Returns:
        The proxy, or none for a direct connection.

    Raises:
        ConfigError: What is set is no address of a proxy.
    """
    known = urllib.request.getproxies() if proxies is None else proxies
    where = urlsplit(url)
    text = known.get(where.scheme) or known.get("all")
    if not text or _is_exception(where.netloc.rpartition("@")[2], known):
        return None
    return parse_proxy(text)


def _is_exception(place: str, known: Mapping[str, str]) -> bool:
    if "no" in known:
        return bool(urllib.request.proxy_bypass_environment(place, dict(known)))  # type: ignore[attr-defined]
    return bool(urllib.request.proxy_bypass(place))


def parse_proxy(text: str) -> Proxy:
    """Read a proxy's address: ``http://user:password@host:3128``, ``socks5h://host:1080``, ``host:3128``.

    Raises:
        ConfigError: It is none.
    """
    where = urlsplit(text if "://" in text else f"http://{text}")
    scheme = where.scheme if where.scheme in _HTTP else _SOCKS.get(where.scheme)
    if scheme is None or not where.hostname:
        shown = text.rpartition("@")[2]
        raise ConfigError(
            f"The proxy {shown} of the environment cannot be used.",
            usually="It is misspelt: http, https, socks5 (names are looked up here) and socks5h (names are looked up "
            "there) are known.",
            todo="Correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, for example to http://proxy.example.org:3128.",
        )
    return Proxy(
        scheme=scheme,
        place=where.netloc.rpartition("@")[2],
        user=unquote(where.username) if where.username else None,
        password=unquote(where.password) if where.password else None,
    )
