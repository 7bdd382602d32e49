"""``state.json``: what a variant went through. Nothing in it is needed to run what is installed.

A damaged state counts as an empty one: the pointer says what is in use, the versions say what there is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lading.atomic import write_atomic
from lading.errors import FormatInvalid
from lading.manifest.base import Record, canonical_json, read_record

HISTORY = 20  # activations kept


class Failure(Record):
    """The last failed change.

    Attributes:
        kind: The error's class.
        what: What happened.
    """

    kind: str
    what: str


class State(Record):
    """The state.

    Attributes:
        history: Versions in the order in which they came into use, the latest last.
        last_failure: Cleared by the next success.
    """

    schema_: Literal["lading/state/1"] = "lading/state/1"
    history: tuple[str, ...] = ()
    last_failure: Failure | None = None

    def activated(self, name: str) -> State:
        """The state after a version came into use."""
        history = (*(known for known in self.history if known != name), name)
        return State(history=history[-HISTORY:])

    def rolled_back(self, name: str) -> State:
        """The state after an earlier version came into use again: what came after it is forgotten."""
        if name not in self.history:
            return self.activated(name)
        return State(history=self.history[: self.history.index(name) + 1])

    def failed(self, kind: str, what: str) -> State:
        """The state after a failure."""
        return State(history=self.history, last_failure=Failure(kind=kind, what=what))

    def previous(self, current: str | None, complete: frozenset[str]) -> str | None:
        """The version that was in use before the current one and is still there."""
        end = self.history.index(current) if current in self.history else len(self.history)
        return next((name for name in reversed(self.history[:end]) if name in complete and name != current), None)


def read_state(path: Path) -> State:
    """Read a state; an absent or damaged one is empty."""
    try:
        return read_record(State, path.read_bytes(), origin=str(path))
    except (FileNotFoundError, FormatInvalid):
        return State()


def write_state(path: Path, state: State) -> None:
    """Write a state atomically."""
    write_atomic(path, canonical_json(state))
