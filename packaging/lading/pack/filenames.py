r"""Which file names every supported system can have, and which names no release can carry. Pure.

Windows' rules are the narrow ones: reserved characters and device names, no trailing dot or space, and names that
differ only by case are one file (Microsoft, "Naming Files, Paths, and Namespaces").

Names that the formats themselves cannot carry are refused on every system: what is not UTF-8 cannot stand in JSON, a
backslash and a drive letter are separators on Windows, and a control character could break the lines of a tree digest.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

from lading.errors import NameForbidden, listed

_RESERVED = re.compile(r"^(?:con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)", re.IGNORECASE)
_FORBIDDEN = re.compile(r'[<>:"|?*\\\x00-\x1f]')
_UNCARRIED = re.compile(r"[\\\x00-\x1f\x7f]")
_NOT_TEXT = re.compile(r"[\ud800-\udfff]")  # how Python shows bytes that are not UTF-8
_DRIVE = re.compile(r"^[A-Za-z]:")
LONGEST_NAME = 255  # UTF-16 units a name on NTFS, bytes a name on ext4


def _uncarried(path: str) -> str | None:
    if _NOT_TEXT.search(path):
        return "is not UTF-8"
    if match := _UNCARRIED.search(path):
        return f"has the character {match[0]!r}"
    if _DRIVE.match(path):
        return "begins like a drive letter"
    return None


def check_carried(paths: Iterable[str]) -> None:
    """Refuse names that no release can carry, whatever the platform.

    Args:
        paths: Relative paths with forward slashes.

    Raises:
        NameForbidden: Lists the first such names.
    """
    problems = [f"{path!r}: {problem}" for path in paths if (problem := _uncarried(path))]
    if problems:
        raise NameForbidden(
            f"{len(problems)} file name(s) cannot be in a release:{listed(problems)}",
            usually="A file was unpacked with a wrong encoding, or its name was made from unchecked input.",
            todo="Rename the files, or exclude them.",
        )


def _problem(part: str) -> str | None:
    if match := _FORBIDDEN.search(part):
        return f"has the character {match[0]!r}"
    if _RESERVED.match(part):
        return "is a device name on Windows"
    if part[-1] in ". ":
        return "ends with a dot or a space, which Windows drops"
    if len(part.encode()) > LONGEST_NAME:
        return f"is longer than {LONGEST_NAME} bytes"
    return None


def _with_parents(path: str) -> Iterator[str]:
    """The folders above a path, outermost first, then the path."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts) + 1))


def name_problems(paths: Iterable[str]) -> list[str]:
    """Find the names that some supported system cannot have.

    Args:
        paths: Relative paths with forward slashes, that passed :func:`check_carried`.

    Returns:
        One line a problem; empty when all names are portable.
    """
    problems: list[str] = []
    seen: dict[str, str] = {}
    for path in paths:
        for place in _with_parents(path):
            folded = unicodedata.normalize("NFC", place).casefold()
            other = seen.setdefault(folded, place)
            if other != place:
                problems.append(f"{place!r} and {other!r} are one file or folder where case does not count")
                break
        found = ((part, _problem(part)) for part in path.split("/"))
        problems += [f"{path!r}: {part!r} {problem}" for part, problem in found if problem]
    return problems


def check_names(paths: Iterable[str]) -> None:
    """Refuse names that some supported system cannot have.

    Raises:
        NameForbidden: Lists the first such names.
    """
    problems = name_problems(paths)
    if problems:
        raise NameForbidden(
            f"{len(problems)} file name(s) cannot exist on every system:{listed(problems)}",
            usually="A data file was named with characters that Linux allows and Windows does not.",
            todo="Rename the files, exclude them, or pack with --native-names for this platform alone.",
        )
