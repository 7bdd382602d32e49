"""The log file of a started server, and its last lines for an error message."""

from __future__ import annotations

from pathlib import Path

TAIL_BYTES = 16 * 2**10
TAIL_LINES = 20


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log.

    Args:
        log: The file; one that does not exist is an empty log.
        lines: How many.

    Returns:
        The lines, decoded with replacement; a first line that was cut is left out.
    """
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(0, size - TAIL_BYTES))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    found = text.splitlines()
    if size > TAIL_BYTES:
        found = found[1:]
    return "\n".join(found[-lines:])


def usable_log(wanted: Path, spare: Path) -> tuple[Path, str | None]:
    """Where a server's output can be kept.

    Args:
        wanted: The file.
        spare: Another one, where the first cannot be written.

    Returns:
        The file, and why it is not the one that was wanted.
    """
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        with wanted.open("ab"):
            pass
    except OSError as error:
        return spare, f"the log is {spare}, because {wanted} cannot be written: {error.strerror or error}"
    return wanted, None


def as_quote(log: Path) -> str:
    """The last lines as they are attached to an error, indented."""
    text = tail(log)
    return (
        "Its last lines:\n" + "\n".join(f"  | {line}" for line in text.splitlines()) if text else "It printed nothing."
    )
