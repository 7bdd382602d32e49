"""``state.json``: what a variant went through. Nothing in it is needed to run what is installed.

A damaged state counts as an empty one: the pointer says what is in use, the versions say what there is.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

from packaging.version import Version as Number

from lading.atomic import write_atomic
from lading.errors import FormatInvalid
from lading.manifest.base import Record, Version, canonical_json, read_record

HISTORY = 20  # activations kept


class Failure(Record):
    """The last failed change.

    Attributes:
        kind: The error's class.
        what: What happened.
        at: When, seconds since 1970.
    """

    kind: str
    what: str
    at: int = 0


class State(Record):
    """The state.

    Attributes:
        history: Versions in the order in which they came into use, the latest last.
        last_failure: Cleared by the next success.
        held: The newest release that a roll back left: an update by itself installs only what is newer than that.
    """

    schema_: Literal["lading/state/1"] = "lading/state/1"
    history: tuple[str, ...] = ()
    last_failure: Failure | None = None
    held: Version | None = None

    def activated(self, name: str) -> State:
        """The state after a version came into use; whoever brought it there no longer holds anything back."""
        history = (*(known for known in self.history if known != name), name)
        return State(history=history[-HISTORY:])

    def repaired(self, damaged: str, sound: str) -> State:
        """The state after a sound copy took the place of a damaged version: one cannot go back to that one."""
        history = tuple(sound if known == damaged else known for known in self.history)
        return State(history=history).activated(sound).holding(self.held)

    def rolled_back(self, name: str, *, left: str | None = None, to: str | None = None) -> State:
        """The state after an earlier version came into use again: what came after it is forgotten.

        Args:
            name: Its folder's name.
            left: The release that was left, if that is known.
            to: The release gone back to.
        """
        state = self.activated(name)
        if name in self.history:
            state = State(history=self.history[: self.history.index(name) + 1])
        held = max((known for known in (self.held, left) if known), key=Number, default=None)
        return state.holding(held if held and to and Number(held) > Number(to) else None)

    def withdrawn(self, name: str, *, left: str | None) -> State:
        """The state after another version took the place of a withdrawn one, which is not to be gone back to.

        What an earlier roll back left is held back as before.

        Args:
            name: The folder's name of the version that came into use.
            left: That of the withdrawn one.
        """
        return (self.forgetting(left) if left else self).activated(name).holding(self.held)

    def holding(self, held: str | None) -> State:
        """The state with a release held back, or none."""
        return self.model_copy(update={"held": held})

    def failed(self, kind: str, what: str) -> State:
        """The state after a failure."""
        return self.model_copy(update={"last_failure": Failure(kind=kind, what=what, at=int(time.time()))})

    def forgetting(self, name: str) -> State:
        """The state after a version was deleted."""
        return self.model_copy(update={"history": tuple(known for known in self.history if known != name)})

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
    """Write a state atomically, unless it is that already."""
    if read_state(path) != state or not path.exists():
        write_atomic(path, canonical_json(state))
