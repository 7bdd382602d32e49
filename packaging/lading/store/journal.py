"""Which frames an unfinished install has verified and written: one line each, appended as it happens.

Why it needs no flush: a line is written after the frame's data. When the process is killed, both are in the operating
system's hands and survive. When the machine loses power, a line may survive without its data; so a journal is only ever
a hint of what need not be fetched, and every file is digested again before it counts. A line cut off by the crash, or
one of zeros, does not parse and is ignored. What proves wrong later is taken back by a line of its own.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from threading import Lock

from lading.atomic import as_host_error
from lading.manifest.base import Component
from lading.manifest.release import Release

_LINE = re.compile(rb"([+-]) (core|libs) ([0-9]{1,9})")


def journal_header(release: Release) -> bytes:
    """The first line: which archives the frame numbers belong to."""
    return b"lading-journal/1 " + " ".join(component.sha256 for component in release.components).encode() + b"\n"


class Journal:
    """The journal of one staging folder.

    Args:
        path: The file; made if need be, and begun anew when it belongs to other archives.
        release: The release that is being put together.

    Raises:
        AccessDenied, DiskFull: It cannot be written.
    """

    def __init__(self, path: Path, release: Release) -> None:
        self._path = path
        self._lock = Lock()
        header = journal_header(release)
        data = path.read_bytes() if path.exists() else b""
        self._done = _parse(data, header)
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
            self._descriptor = os.open(path, flags, 0o644)
            if not data.startswith(header):
                os.truncate(path, 0)
                self._write(header)
            else:  # a line that a crash cut off could read as another frame's
                os.truncate(path, data.rfind(b"\n") + 1)
        except OSError as error:
            raise as_host_error(error, f"writing {path}") from error

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
    """What the journal of an unfinished install says, without touching it; nothing when there is none."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        data = b""
    return {name: frozenset(frames) for name, frames in _parse(data, journal_header(release)).items()}


def _parse(data: bytes, header: bytes) -> dict[Component, set[int]]:
    done: dict[Component, set[int]] = {"core": set(), "libs": set()}
    if not data.startswith(header):
        return done
    for line in data[len(header) :].split(b"\n")[:-1]:
        match = _LINE.fullmatch(line)
        if match is None:
            continue
        frames = done["core" if match[2] == b"core" else "libs"]
        if match[1] == b"+":
            frames.add(int(match[3]))
        else:
            frames.discard(int(match[3]))
    return done
