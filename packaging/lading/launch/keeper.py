"""A small program between the launcher and one server: nothing of the server outlives the launcher, however that ends.

It starts the server, takes what the server prints, and holds one end of a pipe whose other end the launcher holds. When
the launcher is gone, killed or not, the pipe closes, and the keeper ends the server with everything that it started. It
is a program of its own, and standard library only, because only another process sees a killed one die, and because it
must start within milliseconds.

    * What the server prints goes through this program and not through the launcher, so that a launcher that hangs never
      blocks a server, and the log can be cut without losing a line. Where the log cannot be written, the lines are
      dropped and the server goes on.
    * Linux: it takes in every orphan of the server's (``PR_SET_CHILD_SUBREAPER``), so that a worker that left its
      process group is found too; and the server dies with the keeper (``PR_SET_PDEATHSIG``).
    * Windows: the launcher puts it into a job object, which ends with the launcher (:mod:`lading.launch.job`).

Orders come on standard input, a line each: ``end SECONDS``. Reports go to standard output, a line each: ``pid N``,
``lost REASON`` (the log cannot be written), ``exit STATUS`` (nothing of the server is left; negative for a signal),
``error NUMBER TEXT`` (it could not be started).

Does not: decide anything.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

FLAG = "--lading-keeper"  # how a frozen launcher, which has no interpreter to start, starts itself as a keeper
GRACE = 2.0  # seconds that a server gets to end in order when its launcher is gone
CHUNK = 64 * 2**10
LAST_LINES = 1.0  # seconds to read what an ended server had still printed
KILL_SECONDS = 5.0  # a process stuck in a hung driver dies when the driver answers, and not before
KILL_POLL = 0.005
_SUBREAPER, _DEATH_SIGNAL = 36, 1  # Linux: prctl(2)


class Log:
    """A file of bounded size, with a bounded number of earlier ones: ``server.log``, then ``server.log.1``.

    Args:
        path: The file; what is there is put aside first, so that it has one run of one server.
        limit: Bytes at which it is put aside.
        keep: How many earlier ones stay.
        lost: Told once why it cannot be written.
    """

    def __init__(self, path: Path, *, limit: int, keep: int, lost: Callable[[str], None]) -> None:
        self._path, self._limit, self._keep, self._lost = path, limit, keep, lost
        self._stream: IO[bytes] | None = None
        self._size = 0
        self._told = False
        self._guarded(self._begin)

    def write(self, data: bytes) -> None:
        """Append; what cannot be written is dropped."""
        self._guarded(lambda: self._append(data))

    def close(self) -> None:
        """Close the file."""
        if self._stream is not None:
            with contextlib.suppress(OSError):
                self._stream.close()
            self._stream = None

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError as error:
            self.close()
            if not self._told:
                self._told = True
                self._lost(error.strerror or str(error))

    def _begin(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if self._path.exists() and self._path.stat().st_size:
            rotate(self._path, self._keep)
        self._stream = self._path.open("ab", buffering=0)
        self._size = 0

    def _append(self, data: bytes) -> None:
        if self._stream is None:
            self._begin()  # there may be room again
        if self._size + len(data) > self._limit and self._size:
            self.close()
            self._begin()
        assert self._stream is not None
        self._stream.write(data)
        self._size += len(data)


def rotate(path: Path, keep: int) -> None:
    """Put a log aside as ``.1``, and each earlier one after it, the last one away.

    Raises:
        OSError: The system refuses.
    """
    numbered = [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1))]
    for newer, older in reversed(list(itertools.pairwise(numbered))):
        if newer.exists():
            newer.replace(older)
    if keep == 0:
        path.unlink(missing_ok=True)


def _report(line: str) -> None:
    # The launcher may be gone: nobody listens then, and the server is being ended for that very reason.
    with contextlib.suppress(OSError):
        os.write(1, f"{line}\n".encode("utf-8", "replace"))


def _lines(descriptor: int) -> Iterator[str]:
    """Lines until the other end is closed; without a buffered stream, which a thread may not hold at the very end."""
    rest = b""
    while data := os.read(descriptor, CHUNK):
        *whole, rest = (rest + data).split(b"\n")
        yield from (line.decode("ascii", "replace").strip() for line in whole)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415 (not needed elsewhere)

        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _children() -> Iterator[int]:
    """This process's own children, those that it took in included (Linux)."""
    own = str(os.getpid())
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # processes come and go
            # The name in brackets may itself have brackets and spaces.
            if (folder / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1] == own:
                yield int(folder.name)


class Keeper:
    """One server, from its start to the end of its last process.

    Args:
        command: The server's command.
        log: Gets what it prints.
        errors: A file for standard error by itself; with the rest in the log when none.
        grace: Seconds to end in order when the launcher is gone.
    """

    def __init__(self, command: Sequence[str], log: Log, *, errors: Path | None = None, grace: float = GRACE) -> None:
        self._log = log
        self._grace = grace
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._gone = threading.Event()
        _prctl(_SUBREAPER, 1)
        with contextlib.ExitStack() as stack:
            apart = stack.enter_context(errors.open("wb")) if errors else None
            self._server: subprocess.Popen[bytes] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=apart or subprocess.STDOUT,
                **self._apart(),  # type: ignore[call-overload]
            )
        _report(f"pid {self._server.pid}")

    @staticmethod
    def _apart() -> dict[str, object]:
        if sys.platform == "win32":  # pragma: no cover (Windows)
            return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        # No thread has been started yet, so that running Python between fork and exec is safe.
        return {"start_new_session": True, "preexec_fn": lambda: _prctl(_DEATH_SIGNAL, signal.SIGKILL)}

    def run(self) -> int:
        """Stay until nothing of the server is left.

        Returns:
            Its exit status; negative for a signal.
        """
        pump = threading.Thread(target=self._pump, daemon=True)
        pump.start()
        threading.Thread(target=self._obey, daemon=True).start()
        if sys.platform != "win32":
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)  # the launcher decides what they mean
            # Whoever ends all processes of a service at once means the server, too.
            signal.signal(signal.SIGTERM, lambda *_: self.end(self._grace))
        status = self._wait()
        self._gone.set()
        self._kill_rest()
        pump.join(LAST_LINES)
        self._log.close()
        return status

    def end(self, patience: float) -> None:
        """Ask the server to end, and kill all of it when the time is up; asked again, the earlier time counts."""
        until = time.monotonic() + patience
        with self._lock:
            if self._deadline is not None and self._deadline <= until:
                return
            first, self._deadline = self._deadline is None, until
        threading.Thread(target=self._kill_at, args=(until,), daemon=True).start()
        if first:
            self._ask()

    def _ask(self) -> None:
        with contextlib.suppress(OSError):
            if sys.platform == "win32":  # pragma: no cover (Windows)
                self._server.send_signal(signal.CTRL_BREAK_EVENT)
            else:
                os.kill(self._server.pid, signal.SIGTERM)

    def _kill_at(self, until: float) -> None:
        if not self._gone.wait(max(0.0, until - time.monotonic())):
            self._kill()

    def _kill(self) -> None:
        if sys.platform == "win32":  # pragma: no cover (Windows)
            taskkill = ["taskkill", "/F", "/T", "/PID", str(self._server.pid)]
            subprocess.run(taskkill, check=False, capture_output=True)
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._server.pid, signal.SIGKILL)

    def _wait(self) -> int:
        if sys.platform == "win32":  # pragma: no cover (Windows)
            return self._server.wait()
        while True:
            # Of any child: orphans that were taken in end meanwhile, and would stay as zombies.
            pid, status = os.waitpid(-1, 0)
            if pid == self._server.pid:
                self._server.returncode = os.waitstatus_to_exitcode(status)
                return self._server.returncode

    def _kill_rest(self) -> None:
        self._kill()
        if sys.platform != "linux":
            return
        until = time.monotonic() + KILL_SECONDS
        while time.monotonic() < until:
            left = list(_children())
            if not left:
                return
            for pid in left:  # each one's own children come here next
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            time.sleep(KILL_POLL)

    def _pump(self) -> None:
        assert self._server.stdout is not None
        while data := os.read(self._server.stdout.fileno(), CHUNK):
            self._log.write(data)

    def _obey(self) -> None:
        for line in _lines(0):
            word, _, value = line.partition(" ")
            if word == "end":
                self.end(float(value))
        self.end(self._grace)  # the launcher is gone


def main(order: str) -> int:
    """Keep one server.

    Args:
        order: What and how, as JSON: ``command``, ``log``, ``limit``, ``keep``, ``errors``, ``grace``.

    Returns:
        The keeper's own exit status: 0 when the server was started, however it ended.
    """
    told = json.loads(order)
    log = Log(Path(told["log"]), limit=told["limit"], keep=told["keep"], lost=lambda why: _report(f"lost {why}"))
    errors = Path(told["errors"]) if told["errors"] else None
    try:
        keeper = Keeper(told["command"], log, errors=errors, grace=told["grace"])
    except OSError as error:
        _report(f"error {error.errno or 0} {error.strerror or error}")
        return 1
    _report(f"exit {keeper.run()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
