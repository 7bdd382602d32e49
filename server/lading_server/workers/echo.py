"""The smallest worker: answers every line of JSON with itself and who answered. Proves that workers start at all.

One JSON object per line on standard input, one per line on standard output, in order; it ends with its input. A line
that is no JSON object gets an ``error`` and the next line is read.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from lading_server.variant import VARIABLE


def answer(line: str, arguments: list[str]) -> dict[str, Any]:
    """The answer to one line.

    Args:
        line: What came in.
        arguments: What the worker was started with.
    """
    try:
        asked = json.loads(line)
    except ValueError as error:
        return {"error": f"not JSON: {error}"}
    if not isinstance(asked, dict):
        return {"error": f"a request is a JSON object, found {type(asked).__name__}"}
    return {
        "echo": asked,
        "pid": os.getpid(),
        "executable": sys.executable,
        "frozen": bool(getattr(sys, "frozen", False)),
        "variant": os.environ.get(VARIABLE),
        "arguments": arguments,
    }


def main(arguments: list[str]) -> int:
    """Answer until the input ends."""
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(line, arguments)) + "\n")
        sys.stdout.flush()
    return 0
