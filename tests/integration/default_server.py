"""Starts the default server as a process, and stops it: for tests that talk to the real program."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import httpx

from lading.process import group_options, kill_group, scrubbed_environment

FROM_SOURCE = (sys.executable, "-m", "lading_server")
START_SECONDS = 60
STOP_SECONDS = 30
_LINE = "listening on "


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that accepts requests.

    Attributes:
        process: Its process.
        url: Where it listens, as it said itself.
    """

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def health(self) -> dict[str, object]:
        answer = httpx.get(f"{self.url}/health", timeout=10)
        assert answer.status_code == 200
        body: dict[str, object] = answer.json()
        return body

    def stop(self) -> int:
        """Ask it to stop, as a launcher does, and wait until it has."""
        if sys.platform == "win32":
            self.process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            self.process.terminate()
        return self.process.wait(STOP_SECONDS)


def _first_line(process: subprocess.Popen[str]) -> str:
    lines: queue.Queue[str] = queue.Queue()
    assert process.stdout is not None
    threading.Thread(target=lambda out: lines.put(out.readline()), args=(process.stdout,), daemon=True).start()
    return lines.get(timeout=START_SECONDS)


@contextmanager
def running(
    program: Sequence[str] = FROM_SOURCE,
    *words: str,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a server on a port of its own choice until the block ends.

    Args:
        program: The command that starts it.
        words: Further arguments.
        environment: Variables on top of the clean environment.
    """
    process = subprocess.Popen(
        [*program, "--port", "0", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=scrubbed_environment(environment),
        **group_options(),  # type: ignore[call-overload]
    )
    try:
        line = _first_line(process)
        assert line.startswith(_LINE), f"it said {line!r} and ended with {process.poll()}"
        yield Running(process=process, url=line.removeprefix(_LINE).strip())
    finally:
        kill_group(process)
        process.wait(STOP_SECONDS)
        assert process.stdout is not None
        process.stdout.close()
