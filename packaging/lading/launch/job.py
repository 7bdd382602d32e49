"""Windows job objects: all processes of a group end when the launcher does, however it ends.

A job with ``KILL_ON_JOB_CLOSE`` ends with its last handle, and the launcher has the only one. What a process of the
job starts belongs to the job from its first instruction. The first process is started suspended, put into the job, and
only then let go, so that nothing that it starts can escape.

On other systems there is nothing here to do: :mod:`lading.launch.keeper` does it with process groups.
"""

from __future__ import annotations

import struct
import subprocess
import sys

CREATE_SUSPENDED = 0x00000004
EXTENDED_LIMITS = 9  # JobObjectExtendedLimitInformation
KILL_ON_JOB_CLOSE = 0x00002000
KILLED = 1  # the exit code of what is ended with its job

# JOBOBJECT_EXTENDED_LIMIT_INFORMATION as a 64-bit process lays it out: two times, flags, two sizes, a count, affinity,
# two classes; six counters; four sizes.
_LIMITS = struct.Struct("<qqI4xQQI4xQII6Q4Q")
_FLAGS = 2  # their place among the values


def limits() -> bytes:
    """What makes the system end a job's processes with its last handle."""
    values = [0] * len(_LIMITS.unpack(bytes(_LIMITS.size)))
    values[_FLAGS] = KILL_ON_JOB_CLOSE
    return _LIMITS.pack(*values)


if sys.platform == "win32":  # pragma: no cover (Windows)
    import ctypes

    import psutil

    class Job:
        """A job object; its processes end when it is closed, or when this process ends.

        Raises:
            OSError: The system refuses.
        """

        def __init__(self) -> None:
            self._kernel = ctypes.WinDLL("kernel32", use_last_error=True)
            self._kernel.CreateJobObjectW.restype = ctypes.c_void_p
            self._handle: int | None = self._kernel.CreateJobObjectW(None, None)
            wanted = limits()
            self._need(self._handle)
            self._need(
                self._kernel.SetInformationJobObject(
                    ctypes.c_void_p(self._handle), EXTENDED_LIMITS, wanted, len(wanted)
                )
            )

        def take(self, process: subprocess.Popen[bytes]) -> None:
            """Put a suspended process into the job, and let it go.

            Raises:
                OSError: The system refuses; the process is killed then.
            """
            try:
                handle = int(process._handle)  # type: ignore[attr-defined]  # noqa: SLF001 (there is no other way to it)
                self._need(
                    self._kernel.AssignProcessToJobObject(ctypes.c_void_p(self._handle), ctypes.c_void_p(handle))
                )
                psutil.Process(process.pid).resume()
            except BaseException:
                process.kill()
                raise

        def close(self) -> None:
            """End every process of the job; done twice does no harm."""
            if self._handle is not None:
                self._kernel.TerminateJobObject(ctypes.c_void_p(self._handle), KILLED)
                self._kernel.CloseHandle(ctypes.c_void_p(self._handle))
                self._handle = None

        @staticmethod
        def _need(done: int | None) -> None:
            if not done:
                raise ctypes.WinError(ctypes.get_last_error())

else:

    class Job:
        """There are no job objects here."""

        def take(self, process: subprocess.Popen[bytes]) -> None:
            """Do nothing."""

        def close(self) -> None:
            """Do nothing."""
