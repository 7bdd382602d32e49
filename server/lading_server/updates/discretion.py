"""What of an error's text may be told to whoever asks over the network: no absolute path, no password, no token. Pure.

Errors of Lading name files by their full path, because they are made for the person at the machine. A page, its
screenshots and bug reports travel further; there a file's last name, or the part of the path below a known place, says
as much.
"""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

_KNOWN = ("site-packages", "_internal")  # below these, a path of a program tells which file of which library
_WORD = r"[^\s'\"<>|*?,;()\[\]{}]"
_TOKENS = re.compile(
    r"(?P<url>\b[a-z][a-z0-9+.-]*://[^\s'\"<>]+)"  # before paths: an address has slashes too
    rf"|(?P<quoted>(?P<quote>['\"])(?:[A-Za-z]:[\\/]|\\\\|/)(?:(?!(?P=quote))[^\n])+(?P=quote))"
    rf"|(?P<windows>(?<![\w/\\])(?:[A-Za-z]:[\\/]|\\\\[\w.$-]+\\){_WORD}*)"
    rf"|(?P<posix>(?<![\w/.~…>-])/{_WORD}+)"
)


def discreet(text: str, *places: tuple[Path | None, str]) -> str:
    """A text as it may be told.

    Args:
        text: For the person at the machine.
        places: Folders, and what to call them instead.
    """
    for folder, name in sorted(places, key=lambda place: len(str(place[0])), reverse=True):
        if folder is not None:
            for written in {str(folder), str(folder.resolve()), folder.as_posix()} - {"/", "."}:
                text = re.sub(re.escape(written) + r"(?![\w-]|\.\w)", name.replace("\\", "/"), text)
    return _TOKENS.sub(_told, text)


def _told(match: re.Match[str]) -> str:
    if url := match["url"]:
        return _address(url)
    if quoted := match["quoted"]:
        return f"{quoted[0]}{_shortened(quoted[1:-1])}{quoted[0]}"
    return _shortened(match[0])


def _address(url: str) -> str:
    tail = url[len(url.rstrip(".:!")) :]
    parts = urlsplit(url[: len(url) - len(tail)])
    if parts.scheme == "file":
        return f"…/{parts.path.rpartition('/')[2]}{tail}"
    # A query may be a signature that lets everybody in.
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")) + tail


def _shortened(path: str) -> str:
    tail = path[len(path.rstrip(".:!")) :]
    parts = [part for part in re.split(r"[/\\]+", path[: len(path) - len(tail)]) if part]
    for known in _KNOWN:
        if known in parts[:-1]:
            return "…/" + "/".join(parts[len(parts) - parts[::-1].index(known) :]) + tail
    return f"…/{parts[-1]}{tail}" if parts else path
