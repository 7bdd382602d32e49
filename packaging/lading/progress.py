"""How a long step tells how far it is. Rooms report; only the command line draws."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One running step; leaving the block ends it."""

    def advance(self, amount: int) -> None:
        """Say that so many more bytes (or items) are done. Called from any thread."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Progress(Protocol):
    """Where steps report."""

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:
        """Begin a step.

        Args:
            label: What is being done, for a person: ``packing libs``.
            total: Bytes or items in all, when known.
            unit: ``bytes`` or the name of the items.
        """

    def note(self, text: str) -> None:
        """Tell a fact worth a line, such as what was reused."""


class _SilentTask:
    def advance(self, amount: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Silent:
    """Reports to nobody."""

    def task(self, label: str, total: int | None, *, unit: str = "bytes") -> Task:  # noqa: ARG002 (the protocol's names)
        """Begin a step that nobody watches."""
        return _SilentTask()

    def note(self, text: str) -> None:
        """Tell nobody."""
