"""Run some programs until standard input ends: so they end with the test session, however that ends.

    python keep_running.py LOG_FOLDER < pipe

Each line of standard input is one command as a JSON list.
"""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

PATIENCE = 10.0  # seconds


def main(logs: Path) -> None:
    running: list[subprocess.Popen[bytes]] = []
    try:
        with suppress(KeyboardInterrupt):
            for line in sys.stdin:
                with (logs / f"{len(running)}.log").open("wb") as log:
                    words = json.loads(line)
                    running.append(
                        subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)
                    )
    finally:
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
