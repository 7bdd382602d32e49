"""``--events``: what a running command does, as JSON lines for another program.

Each line is an object with ``event``: ``begin``, ``progress``, ``end``, ``note``, and as the last one ``result`` or
``error``; when neither came, the process died. When the reader is gone, the command goes on without telling anybody.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from lading.errors import ConfigError, LadingError
from lading.manifest.base import Record, canonical_json
from lading.progress import ProgressEvent

_DESCRIPTOR = re.compile(r"fd:([0-9]{1,5})")


class EventStream:
    """Where the events of this run go.

    Args:
        descriptor: An open file descriptor; it stays open, because the process ends soon after the last event.
        is_stderr: It is standard error, where nothing else may then be drawn.
    """

    def __init__(self, descriptor: int, *, is_stderr: bool = False) -> None:
        self._descriptor = descriptor
        self.is_stderr = is_stderr
        self._ended = False

    def tell(self, event: ProgressEvent) -> None:
        """Write an event of a long step."""
        body = event.model_dump(mode="json", exclude={"kind"})
        self._write({"event": event.kind, **body})

    def result(self, result: Record | Mapping[str, object]) -> None:
        """Write the result, which is the last event."""
        body = json.loads(canonical_json(result)) if isinstance(result, Record) else dict(result)
        self._end({"event": "result", "result": body})

    def error(self, error: LadingError) -> None:
        """Write the failure, which is the last event."""
        texts = {"what": error.what, "usually": error.usually, "todo": error.todo}
        self._end({"event": "error", "error": error.kind, "exit_code": error.exit_code, **texts})

    def _end(self, body: Mapping[str, object]) -> None:
        if not self._ended:  # a command that prints its result and then fails has told both in the result
            self._ended = True
            self._write(body)

    def _write(self, body: Mapping[str, object]) -> None:
        line = json.dumps(body, ensure_ascii=False, default=str, separators=(",", ":")) + "\n"
        data = memoryview(line.encode())
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:  # the reader is gone, or its disk is full: telling is not worth failing for
            self._descriptor = os.open(os.devnull, os.O_WRONLY)


_open: list[EventStream] = []  # of this process's run; whoever reports an error finds it here


def open_events(wanted: str) -> EventStream:
    """Open where events are wanted.

    Args:
        wanted: ``stderr``, ``fd:`` and the number of a descriptor that is open, or a file's path.

    Raises:
        ConfigError: It cannot be written.
    """
    try:
        stream = _opened(wanted)
    except OSError as error:
        raise ConfigError(
            f"Events cannot be written to {wanted}: {error.strerror or error}.",
            usually="The descriptor was not passed on to this process, or the folder does not exist.",
            todo="Give `stderr`, `fd:` and an open descriptor's number, or a file in an existing folder.",
        ) from error
    _open[:] = [stream]
    return stream


def _opened(wanted: str) -> EventStream:
    if wanted == "stderr":
        sys.stderr.flush()
        return EventStream(sys.stderr.fileno(), is_stderr=True)
    if match := _DESCRIPTOR.fullmatch(wanted):
        descriptor = int(match[1])
        os.fstat(descriptor)
        return EventStream(descriptor)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | getattr(os, "O_BINARY", 0)
    return EventStream(os.open(Path(wanted), flags, 0o644))


def tell_error(error: LadingError) -> None:
    """Tell whoever reads this run's events that it failed; nothing when nobody does."""
    for stream in _open:
        stream.error(error)
