"""The fixed time that installed files carry: a cheap sign that nobody has written to them since.

Installed files never change, so any program that writes to one gives itself away by the modification time. Reading all
of a CUDA version again, 5 GB, to learn the same would take longer than most updates. The sign is no proof: a failing
disk leaves it as it is. `lading verify` and `install --repair` therefore read everything.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

# 2000-01-01T00:00:00Z: a whole and even number of seconds, because FAT keeps two-second steps, and after 1980, where
# FAT and zip files begin.
SEALED_MTIME = 946_684_800


def seal_time(path: Path | int) -> None:
    """Give a file the sealed time.

    Args:
        path: The file, or an open descriptor where the system takes one.

    Raises:
        OSError: The system refuses.
    """
    os.utime(path, (SEALED_MTIME, SEALED_MTIME))


def looks_sealed(found: os.stat_result, size: int) -> bool:
    """Whether a file is as it was sealed, by what the file system says of it.

    Args:
        found: The file's ``lstat``.
        size: Bytes that it must have.
    """
    return stat.S_ISREG(found.st_mode) and found.st_size == size and int(found.st_mtime) == SEALED_MTIME
