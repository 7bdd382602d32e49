"""Which frames an unfinished install has verified and written: one line each, appended as it happens.

Why it needs no flush: a line is written after the frame's data. When the process is killed, both are in the operating
system's hands and survive. When the machine loses power, a line may survive without its data; so a journal is only ever
a hint of what need not be fetched, and every file is digested again before it counts. A line cut off by the crash, or
one of zeros, does not parse and is ignored. What proves wrong later is taken back by a line of its own.

A frame's number means nothing without its archive. A line of its own says which archive the numbers of a component are
of from there on; when it is another one than before, what was noted for the component until then no longer holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from lading.atomic import as_host_error
from lading.manifest.base import Component
from lading.manifest.release import ComponentRecord, Release

JOURNAL = "journal"  # its name in a staging folder
HEADER = b"lading-journal/2\n"
_FRAME = re.compile(rb"([+-]) (core|libs) ([0-9]{1,9})")
_ARCHIVE = re.compile(rb"= (core|libs) ([0-9a-f]{64})")


@dataclass
class _Notes:
    """What a journal says: which archive each component is, and which of its frames are done."""

    archives: dict[Component, str] = field(default_factory=dict)
    done: dict[Component, set[int]] = field(default_factory=lambda: {"core": set(), "libs": set()})

    def bind(self, name: Component, archive: str) -> bool:
        """Let the numbers of a component be those of an archive; true when they were not."""
        if self.archives.get(name) == archive:
            return False
        self.archives[name] = archive
        self.done[name].clear()
        return True


def archive_line(component: ComponentRecord) -> bytes:
    """The line that says which archive a component is."""
    return f"= {component.component} {component.sha256}\n".encode()


def journal_header(release: Release) -> bytes:
    """What a journal begins with."""
    return HEADER + b"".join(map(archive_line, release.components))


class Journal:
    """The journal of one staging folder.

    Args:
        path: The file; made if need be, and begun anew when it is not a journal that we know.
        release: The release that is being put together; what is noted of other archives is forgotten.

    Raises:
        AccessDenied, DiskFull: It cannot be written.
    """

    def __init__(self, path: Path, release: Release) -> None:
        self._path = path
        self._lock = Lock()
        data = path.read_bytes() if path.exists() else b""
        notes = _parse(data)
        self._done = notes.done
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags, 0o644)
            if not data.startswith(HEADER):
                os.truncate(path, 0)
                self._write(HEADER)
            else:  # a line that a crash cut off could read as another frame's
                os.truncate(path, data.rfind(b"\n") + 1)
        except OSError as error:
            raise as_host_error(error, f"writing {path}") from error
        for component in release.components:
            if notes.bind(component.component, component.sha256):
                self._write(archive_line(component))

    def done(self, component: Component) -> frozenset[int]:
        """The frames of an archive that are verified and written."""
        with self._lock:
            return frozenset(self._done[component])

    def covers(self, component: Component, frames: frozenset[int]) -> bool:
        """Whether all of some frames are verified and written."""
        with self._lock:
            return frames <= self._done[component]

    def add(self, component: Component, frame: int) -> None:
        """Note a frame; called from any thread."""
        with self._lock:
            self._write(f"+ {component} {frame}\n".encode())
            self._done[component].add(frame)

    def forget(self, component: Component, frames: Iterable[int]) -> None:
        """Take frames back whose data proved wrong."""
        with self._lock:
            for frame in sorted(self._done[component].intersection(frames)):
                self._write(f"- {component} {frame}\n".encode())
                self._done[component].discard(frame)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            raise as_host_error(error, f"writing {self._path}") from error


def journaled_frames(path: Path, release: Release) -> dict[Component, frozenset[int]]:
    """What the journal of an unfinished install says of a release's archives, without touching it."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    notes = _parse(data)
    for component in release.components:
        notes.bind(component.component, component.sha256)
    wanted = {component.component for component in release.components}
    return {name: frozenset(frames if name in wanted else ()) for name, frames in notes.done.items()}


def _parse(data: bytes) -> _Notes:
    notes = _Notes()
    if not data.startswith(HEADER):
        return notes
    for line in data[len(HEADER) :].split(b"\n")[:-1]:
        if (found := _ARCHIVE.fullmatch(line)) is not None:
            notes.bind(_name(found[1]), found[2].decode())
        elif (match := _FRAME.fullmatch(line)) is not None:
            frames = notes.done[_name(match[2])]
            if match[1] == b"+":
                frames.add(int(match[3]))
            else:
                frames.discard(int(match[3]))
    return notes


def _name(text: bytes) -> Component:
    return "core" if text == b"core" else "libs"
