"""What the server knows of its surroundings: the variables that whoever starts it sets, and what the build embeds.

==========================  ===========================================================================================
variable                    meaning
==========================  ===========================================================================================
``LADING_DATA``             the data directory; without it the server is *not managed*: it says so and changes nothing
``LADING_SOURCE``           the repository, and its mirrors after it, separated by ``|``
``LADING_ROOT``             a file with the trusted root metadata
``LADING_APP``              the app's name in the repository
``LADING_CHANNEL``          the channel
``LADING_AUTO_UPDATE``      ``0``: ask nobody when the server starts
``LADING_CONTROL_URL``      the launcher's control interface
``LADING_CONTROL_TOKEN``    its token
``LADING_FALLBACK_REASON``  why the launcher runs this backend although another one is preferred
``LADING_TOKEN``            a token that allows requests which change something, from wherever they come
``LADING_ALLOWED_HOSTS``    names by which the server may be addressed, beside loopback, separated by commas
``LADING_ALLOWED_ORIGINS``  origins of other pages that may use the server, separated by commas
==========================  ===========================================================================================

Repository, root, app and channel come from the first that knows them: the variable; the folder ``embedded`` beside this
module, which a build may bring (``repository.json`` with ``app``, ``channel``, ``sources``, and ``root.json``); what
the installed CUDA backend was installed from; what the installed CPU build was installed from. Both tokens are taken
out of the environment when it is read, so that no child of the server inherits them.

Reads; decides nothing about requests or installs.
"""

from __future__ import annotations

import json
import os
from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from lading_server import NAME
from lading_server.updates.control import Control

EMBEDDED = Path(__file__).with_name("embedded")
DEFAULT_CHANNEL = "stable"
SEPARATOR = "|"  # in no address and no Windows path


class SettingsInvalid(ValueError):
    """A variable holds what it cannot hold; the text names it."""


@dataclass(frozen=True, kw_only=True)
class Repository:
    """Where releases come from, as far as it is known.

    Attributes:
        sources: Addresses or folders, the preferred one first; none when nobody said.
        root: The trusted root metadata; empty when nobody said.
        app, channel: Which releases.
    """

    sources: tuple[str, ...] = ()
    root: bytes = b""
    app: str = NAME
    channel: str = DEFAULT_CHANNEL

    @property
    def complete(self) -> bool:
        """Whether something can be installed from it."""
        return bool(self.sources and self.root)


@dataclass(frozen=True, kw_only=True)
class Said:
    """Some of a repository, by one who knows; what he does not know is none."""

    sources: tuple[str, ...] | None = None
    root: bytes | None = None
    app: str | None = None
    channel: str | None = None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The surroundings.

    Attributes:
        data: The data directory; none when the server is not managed.
        said: What the variables say of the repository.
        auto_update: Whether to ask for an update when the server starts.
        control: The launcher, if one runs this server.
        fallback_reason: Why this backend runs although another one is preferred.
        token: Allows requests that change something.
        hosts: Names by which the server may be addressed.
        origins: Other pages that may use it.
    """

    data: Path | None = None
    said: Said = field(default_factory=Said)
    auto_update: bool = True
    control: Control | None = None
    fallback_reason: str | None = None
    token: SecretStr | None = None
    hosts: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()


def take(environment: MutableMapping[str, str]) -> Settings:
    """Read the variables, and take the secrets out of them.

    Args:
        environment: The process's variables; changed.

    Raises:
        SettingsInvalid: A value cannot be meant.
    """
    control_token = environment.pop("LADING_CONTROL_TOKEN", "")
    control_url = environment.get("LADING_CONTROL_URL", "")
    if control_url and not control_url.startswith("http://"):
        raise SettingsInvalid("LADING_CONTROL_URL is an address such as http://127.0.0.1:40123")
    token = environment.pop("LADING_TOKEN", "")
    data = environment.get("LADING_DATA", "")
    sources = _parts(environment.get("LADING_SOURCE", ""), SEPARATOR)
    root = environment.get("LADING_ROOT", "")
    return Settings(
        data=Path(data).absolute() if data else None,
        said=Said(
            sources=sources or None,
            root=_read_root(Path(root)) if root else None,
            app=environment.get("LADING_APP") or None,
            channel=environment.get("LADING_CHANNEL") or None,
        ),
        auto_update=_switch("LADING_AUTO_UPDATE", environment.get("LADING_AUTO_UPDATE", "")),
        control=Control(control_url, SecretStr(control_token)) if control_url and control_token else None,
        fallback_reason=environment.get("LADING_FALLBACK_REASON") or None,
        token=SecretStr(token) if token else None,
        hosts=tuple(name.lower() for name in _parts(environment.get("LADING_ALLOWED_HOSTS", ""), ",")),
        origins=_origins(environment.get("LADING_ALLOWED_ORIGINS", "")),
    )


def repository(*known: Said) -> Repository:
    """Put together what several know; the first that knows something is right.

    Args:
        known: The most important first.
    """
    return Repository(
        sources=next((one.sources for one in known if one.sources), ()),
        root=next((one.root for one in known if one.root), b""),
        app=next((one.app for one in known if one.app), NAME),
        channel=next((one.channel for one in known if one.channel), DEFAULT_CHANNEL),
    )


def embedded(folder: Path = EMBEDDED) -> Said:
    """What the build brings.

    Args:
        folder: Where it lies.

    Raises:
        SettingsInvalid: It is there and cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((folder / "repository.json").read_bytes())
        root = folder / "root.json"
        return Said(
            sources=tuple(str(source) for source in found.get("sources", ())) or None,
            root=root.read_bytes() if root.is_file() else None,
            app=found.get("app"),
            channel=found.get("channel"),
        )
    except FileNotFoundError:
        return Said()
    except (ValueError, AttributeError) as error:
        raise SettingsInvalid(f"the embedded repository.json cannot be read: {error}") from error


def installed(data: Path | None) -> Said:
    """What is known because something was installed from there: the CUDA backend before the CPU build.

    Args:
        data: The data directory.
    """
    if data is None:
        return Said()
    from lading.store.home import Home  # noqa: PLC0415 (a server that is not managed does without)
    from lading.store.installed import VARIANTS  # noqa: PLC0415 (as above)
    from lading.store.origin import read_origin  # noqa: PLC0415 (as above)

    origins = (read_origin(Home(data, variant).origin) for variant in reversed(VARIANTS))
    found = next((origin for origin in origins if origin is not None and origin.sources), None)
    if found is None:
        return Said()
    return Said(sources=found.sources, root=found.root_bytes, app=found.app, channel=found.channel)


def _parts(text: str, separator: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(separator) if part.strip())


def _switch(name: str, text: str) -> bool:
    match text.strip().lower():
        case "" | "1" | "true" | "yes" | "on":
            return True
        case "0" | "false" | "no" | "off":
            return False
        case _:
            raise SettingsInvalid(f"{name} is 0 or 1; found {text!r}")


def _read_root(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SettingsInvalid(
            f"LADING_ROOT names a file that cannot be read: {os.strerror(error.errno or 0)}"
        ) from error


def _origins(text: str) -> tuple[str, ...]:
    found = tuple(part.rstrip("/").lower() for part in _parts(text, ","))
    for origin in found:
        scheme, mark, rest = origin.partition("://")
        if scheme not in {"http", "https"} or not mark or not rest or "/" in rest or "*" in rest:
            raise SettingsInvalid(
                f"LADING_ALLOWED_ORIGINS has origins such as https://app.example.org; found {origin!r}"
            )
    return found
