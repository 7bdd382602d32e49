"""Read members' tar bytes in archive order, and hold every file against what the scan saw of it.

Between the scan and the packing a file can grow, shrink, get other bytes, vanish, or become something else than a
file. Each is noticed while its bytes are read, at the latest when its last piece has been read, and stops the work.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Generator
from pathlib import Path
from typing import BinaryIO

from lading.digest import BLOCK
from lading.errors import FileChanged, LadingError
from lading.pack.layout import END, Layout, Member, Piece
from lading.pack.scan import open_regular, unreadable
from lading.progress import Task

_GONE = {errno.ENOENT, errno.ENOTDIR}
_OTHER_KIND = {errno.ELOOP, errno.EMLINK, errno.EISDIR, errno.EINVAL, errno.ENXIO}  # EMLINK: FreeBSD's ELOOP


def _changed(path: str, what: str) -> FileChanged:
    return FileChanged(
        f"{path} changed while it was being packed: {what}.",
        usually="The frozen program is running, or another build writes into the same tree.",
        todo="Stop it, then pack again. Nothing was written.",
    )


def _refused(path: str, error: OSError) -> LadingError:
    if error.errno in _GONE:
        return _changed(path, "it is gone")
    if error.errno in _OTHER_KIND:
        return _changed(path, "it is no longer a file")
    return unreadable(path, error)


class MemberReader:
    """Reads members piece by piece; the pieces of a member must come in order.

    Args:
        root: The tree.
        task: Advanced by the bytes of the files.
    """

    def __init__(self, root: Path, task: Task) -> None:
        self._root = root
        self._task = task
        self._stream: BinaryIO | None = None
        self._digest = hashlib.sha256()
        self._member: Member | None = None

    def read(self, member: Member, piece: Piece, into: memoryview) -> None:
        """Read a piece.

        Args:
            member: The member.
            piece: Which bytes of it.
            into: As long as the piece, and zero: what pads a member is not written.

        Raises:
            FileChanged: The file is not what the scan saw.
            TreeInvalid: It cannot be read any more.
        """
        at = 0
        if piece.start == 0:
            at = len(member.header)
            into[:at] = member.header
            self._open(member)
        data_end = min(piece.end, len(member.header) + member.entry.size)
        self._read_data(member, into[at : max(at, data_end - piece.start)])
        if piece.end == member.size:
            self._end()

    def _open(self, member: Member) -> None:
        self._member = member
        self._digest = hashlib.sha256()
        if member.entry.type == "file":
            try:
                self._stream = open_regular(self._root / member.entry.path)
            except OSError as error:
                raise _refused(member.entry.path, error) from error

    def _read_data(self, member: Member, into: memoryview) -> None:
        at = 0
        while at < len(into):
            block = into[at : at + BLOCK]
            count = self._read_block(block)
            if not count:
                size = member.entry.size
                raise _changed(member.entry.path, f"it ended {len(into) - at} bytes or more before its {size} bytes")
            self._digest.update(block[:count])
            self._task.advance(count)
            at += count

    def _read_block(self, block: memoryview) -> int:
        assert self._stream is not None
        assert self._member is not None
        try:
            return self._stream.readinto(block)  # type: ignore[attr-defined, no-any-return]
        except OSError as error:
            raise _refused(self._member.entry.path, error) from error

    def _end(self) -> None:
        """End the current member: nothing may follow, and the digest must be the scan's."""
        if self._stream is None or self._member is None:
            return
        entry = self._member.entry
        if self._read_block(memoryview(bytearray(1))):
            raise _changed(entry.path, f"it is longer than its {entry.size} bytes")
        self.abandon()
        if self._digest.hexdigest() != entry.sha256:
            raise _changed(entry.path, f"its SHA-256 is now {self._digest.hexdigest()}, it was {entry.sha256}")

    def abandon(self) -> None:
        """Close whatever is open, without checks."""
        if self._stream is not None:
            self._stream.close()
            self._stream = None


def raw_frames(root: Path, layout: Layout, task: Task) -> Generator[bytearray, None, None]:
    """Read a component's frames, the end of the tar last.

    Args:
        root: The tree.
        layout: Members and frames.
        task: Advanced by the bytes of the files.

    Yields:
        The raw bytes of each frame. The caller lets go of one before it asks for the next, or holds both in memory.

    Raises:
        FileChanged, TreeInvalid: See :meth:`MemberReader.read`.
    """
    reader = MemberReader(root, task)
    try:
        for pieces in layout.frames:
            yield _raw_frame(reader, layout, pieces)
        yield bytearray(END)
    finally:
        reader.abandon()


def frame_size(pieces: tuple[Piece, ...]) -> int:
    """Raw bytes of a frame."""
    return sum(piece.end - piece.start for piece in pieces)


def _raw_frame(reader: MemberReader, layout: Layout, pieces: tuple[Piece, ...]) -> bytearray:
    raw = bytearray(frame_size(pieces))
    with memoryview(raw) as view:
        at = 0
        for piece in pieces:
            size = piece.end - piece.start
            with view[at : at + size] as into:
                reader.read(layout.members[piece.member], piece, into)
            at += size
    return raw
