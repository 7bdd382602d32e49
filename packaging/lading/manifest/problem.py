"""One thing that is wrong with a manifest, where it stands, and what would be right.

Does not find problems: the loader and the checks do. All problems of all files are shown together, because correcting
one and running again to see the next costs a person more than reading ten lines.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Literal

from lading.errors import ManifestInvalid
from lading.manifest.base import Record

Level = Literal["error", "note"]
Kind = Literal["ManifestInvalid", "LockMissing", "LockMismatch"]

SHOWN_CHOICES = 12  # more than these make a message that nobody reads


class Problem(Record):
    """What is wrong at one place of one file.

    Attributes:
        file: The file, relative to the project, with forward slashes.
        line, column: Where it stands, both from 1.
        key: The dotted key, such as ``driver.linux`` or ``exclude.3.reason``; empty for the whole file.
        what: What is wrong, in a few words.
        found: What stands there.
        allowed: What may stand there.
        hint: What was probably meant, or what to do.
        level: A ``note`` informs; an ``error`` stops every command.
        kind: The error class (and so the exit code) that a command ends with.
    """

    file: str
    line: int = 1
    column: int = 1
    key: str = ""
    what: str
    found: str | None = None
    allowed: str | None = None
    hint: str | None = None
    level: Level = "error"
    kind: Kind = "ManifestInvalid"

    @property
    def place(self) -> str:
        """``file:line:column``, which terminals and editors make clickable."""
        return f"{self.file}:{self.line}:{self.column}"

    def text(self) -> str:
        """The problem in two to four lines, for a person."""
        lines = [f"{self.place}: {self.key}: {self.what}" if self.key else f"{self.place}: {self.what}"]
        parts = {"found": self.found, "allowed": self.allowed, "hint": self.hint}
        lines += [f"    {name + ':':<9}{text}" for name, text in parts.items() if text is not None]
        return "\n".join(lines)


def in_reading_order(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Sort by file and place, errors before notes at the same place."""
    return tuple(sorted(problems, key=lambda p: (p.file, p.line, p.column, p.level, p.key, p.what)))


def one_of(choices: Iterable[str]) -> str:
    """List what is allowed, cut where the list gets too long to read."""
    names = list(choices)
    shown = ", ".join(names[:SHOWN_CHOICES])
    return shown + (f" and {len(names) - SHOWN_CHOICES} more" if len(names) > SHOWN_CHOICES else "")


def near_miss(found: str, choices: Iterable[str]) -> str | None:
    """``did you mean 'label'?`` for ``lable``; none when nothing is close."""
    by_fold = {choice.casefold(): choice for choice in choices}
    close = difflib.get_close_matches(found.casefold(), by_fold, n=1, cutoff=0.6)
    return f"did you mean {by_fold[close[0]]!r}?" if close else None


def refuse(problems: Sequence[Problem]) -> ManifestInvalid:
    """Make the error that tells all problems of the manifests at once.

    Args:
        problems: At least one.

    Returns:
        The error, to be raised; its ``problems`` are the list.
    """
    ordered = in_reading_order(problems)
    files = len({problem.file for problem in ordered})
    count = f"{len(ordered)} problems" if len(ordered) > 1 else "One problem"
    head = f"{count} in {files} files:" if files > 1 else f"{count} in {ordered[0].file}:"
    return ManifestInvalid(
        "\n".join([head, *(problem.text() for problem in ordered)]),
        usually="A manifest says something that Lading does not know, or that contradicts another file.",
        todo="Correct the lines named above, then run 'lading check'; docs/reference/manifests.md has every key.",
        problems=ordered,
    )
