"""Path patterns of the manifests, the same on every system.

A pattern is matched against a whole relative path with forward slashes, case-sensitively::

    *     any characters of one name, also none
    ?     one character of a name
    [ab]  one of these characters; [!ab] none of these
    **    any number of folders, also none; alone between slashes

``fnmatch`` is not used because its ``*`` crosses slashes, and ``PurePath.match`` has no ``**`` before Python 3.13.
"""

from __future__ import annotations

import re
from functools import cache

_CLASS = re.compile(r"\[(!?)([^\]/]+)\]")


@cache
def path_pattern(pattern: str) -> re.Pattern[str]:
    """Compile a pattern.

    Raises:
        ValueError: It is absolute, leaves its folder, uses backslashes, or ``**`` is not alone between slashes.
    """
    parts = pattern.split("/")
    if "\\" in pattern or "" in parts or ".." in parts or "." in parts:
        message = f"a pattern is a relative path with forward slashes; found {pattern!r}"
        raise ValueError(message)
    if any("**" in part and part != "**" for part in parts):
        message = f"'**' stands alone between slashes; found {pattern!r}"
        raise ValueError(message)
    last = len(parts) - 1
    return re.compile("".join(_part(part, is_last=number == last) for number, part in enumerate(parts)))


def _part(part: str, *, is_last: bool) -> str:
    if part == "**":
        return ".+" if is_last else "(?:[^/]+/)*"
    return _name(part) + ("" if is_last else "/")


def _name(part: str) -> str:
    regex, position = "", 0
    while position < len(part):
        if chars := _CLASS.match(part, position):
            regex += f"[{'^/' if chars[1] else ''}{re.escape(chars[2]).replace(chr(92) + '-', '-')}]"
            position = chars.end()
            continue
        regex += {"*": "[^/]*", "?": "[^/]"}.get(part[position], re.escape(part[position]))
        position += 1
    return regex


def matches(pattern: str, path: str) -> bool:
    """Whether a path matches a pattern as a whole."""
    return path_pattern(pattern).fullmatch(path) is not None
