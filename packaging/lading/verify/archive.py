"""Check a whole archive against its index: every frame, the tar's normal form, and every file's digest.

The tar stream is read by the standard library's reader, not by ours, and only forward. Nothing is written to disk and
memory does not depend on the archive's size.
"""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from lading.errors import FormatInvalid
from lading.manifest.index import Index, IndexEntry
from lading.progress import Task
from lading.verify.frames import StoredFrames, raw_frames

READ = 2**20
END = bytes(2 * tarfile.BLOCKSIZE)
LINK_MODE = 0o777  # what every symbolic link has on Linux
PAX_ALLOWED = frozenset({"path", "linkpath", "size"})  # names too long or not ASCII, files above 8 GiB; nothing else


@dataclass(kw_only=True)
class ArchiveFindings:
    """What reading an archive showed.

    Attributes:
        problems: One line each, in archive order.
        members: Tar members read.
        raw: Bytes of the tar stream.
        size: Bytes of all volumes.
        sha256: Digest of all volumes together.
    """

    problems: list[str] = field(default_factory=list)
    members: int = 0
    raw: int = 0
    size: int = 0
    sha256: str = ""


class _RawStream:
    """The tar stream for a reader that only goes forward; remembers how it ended."""

    def __init__(self, frames: Iterator[bytes], task: Task) -> None:
        self._frames = frames
        self._task = task
        self._buffer = memoryview(b"")
        self.total = 0
        self.tail = b""

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; empty at the end."""
        if not self._buffer:
            frame = next(self._frames, b"")
            self._buffer = memoryview(frame)
            self.total += len(frame)
            self.tail = (self.tail + frame[-len(END) :])[-len(END) :]
            self._task.advance(len(frame))
        part = bytes(self._buffer[:count])
        self._buffer = self._buffer[count:]
        return part

    def drain(self) -> None:
        """Read to the end, so that every frame is checked."""
        while self.read(READ):
            pass


def _form_problems(info: tarfile.TarInfo, entry: IndexEntry) -> Iterator[str]:
    """How a member differs from the normal form."""
    kind = tarfile.SYMTYPE if entry.type == "link" else tarfile.REGTYPE
    mode = LINK_MODE if entry.type == "link" else entry.mode
    expected: dict[str, tuple[object, object]] = {
        "type": (info.type, kind),
        "mode": (f"{info.mode:04o}", f"{mode:04o}"),
        "size": (info.size, entry.size),
        "target": (info.linkname, entry.target or ""),
        "time": (info.mtime, 0),
        "owner": ((info.uid, info.gid, info.uname, info.gname), (0, 0, "", "")),
    }
    for what, (found, wanted) in expected.items():
        if found != wanted:
            yield f"{entry.path}: the member's {what} is {found}, should be {wanted}"
    if extra := info.pax_headers.keys() - PAX_ALLOWED:
        yield f"{entry.path}: the member carries pax headers {sorted(extra)}"


def _digest(tar: tarfile.TarFile, info: tarfile.TarInfo) -> str:
    stream = tar.extractfile(info)
    digest = hashlib.sha256()
    if stream is not None:
        with stream:
            while block := stream.read(READ):
                digest.update(block)
    return digest.hexdigest()


def _read_members(tar: tarfile.TarFile, index: Index, findings: ArchiveFindings) -> int:
    """Compare members and index one by one.

    Returns:
        Where the tar must end: after the last member's padding.
    """
    starts = [0, *accumulate(frame.raw for frame in index.frames)]
    end = 0
    expected = iter(index.files)
    for info in tar:
        entry = next(expected, None)
        findings.members += 1
        if entry is None:
            findings.problems.append(f"{info.name}: the archive has this member, the index has not")
            break
        if info.name != entry.path:
            findings.problems.append(f"member {findings.members} is {info.name}, the index says {entry.path}")
            break
        findings.problems.extend(_form_problems(info, entry))
        if entry.frame < len(starts) and starts[entry.frame] + entry.offset != info.offset_data:
            findings.problems.append(f"{entry.path}: its data is not where the index says (frame {entry.frame})")
        if info.isreg() and _digest(tar, info) != entry.sha256:
            findings.problems.append(f"{entry.path}: its SHA-256 is not the one of the index")
        end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    else:
        if (missing := next(expected, None)) is not None:
            findings.problems.append(f"{missing.path}: the index has this file, the archive has not")
    return end


def read_archive(volumes: Sequence[Path], index: Index, *, threads: int, task: Task) -> ArchiveFindings:
    """Read an archive to its end and compare everything with the index.

    Args:
        volumes: In order.
        index: The archive's index.
        threads: Threads that decode.
        task: Advanced by raw bytes.

    Returns:
        The findings; without problems, archive and index say the same.

    Raises:
        FormatInvalid, DigestMismatch: A frame is broken, so that nothing after it can be judged.
        OSError: A volume cannot be read.
    """
    findings = ArchiveFindings()
    stored = StoredFrames(volumes, index)
    frames = raw_frames(stored, index, threads=threads)
    try:
        raw = _RawStream(frames, task)
        try:
            # Only read() is ever called of a stream that goes forward; the type asks for a whole file object.
            with tarfile.open(fileobj=raw, mode="r|", bufsize=READ) as tar:  # type: ignore[call-overload]
                end = _read_members(tar, index, findings)
        except tarfile.TarError as error:
            raise FormatInvalid(
                f"the decoded frames are no tar stream: {error}",
                usually="The archive was made by another program.",
                todo="Pack it again.",
            ) from error
        raw.drain()
    finally:
        frames.close()  # type: ignore[attr-defined]
    if not findings.problems and (raw.total != end + len(END) or raw.tail != END):
        findings.problems.append(f"the tar has {raw.total:,} bytes; {end + len(END):,} with two zero blocks at its end")
    findings.raw, findings.size, findings.sha256 = raw.total, stored.size, stored.digest.hexdigest()
    return findings
