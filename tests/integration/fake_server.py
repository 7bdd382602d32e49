"""A small program with the interface of a frozen server, which misbehaves as it is told. Standard library only.

FAKE_MODE says how; FAKE_MODES names a JSON file that says it for each variant, and is read at each start.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

VARIANT = os.environ.get("FAKE_VARIANT") or ("cpu" if "cpu" in Path(__file__).parts else "cuda")
MODES = json.loads(Path(os.environ["FAKE_MODES"]).read_text()) if "FAKE_MODES" in os.environ else {}
MODE = MODES.get(VARIANT, os.environ.get("FAKE_MODE", "ok"))
BEGAN = time.monotonic()
VERSION = os.environ.get("FAKE_VERSION", "0.1.0")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"unwell": "broken", "degraded": "degraded"}.get(MODE, "ok")
        if MODE == "sick-later" and time.monotonic() - BEGAN > 0.4:
            status = "broken"
        if MODE == "slow" and time.monotonic() - BEGAN < 0.6:
            status = "starting"
        body = {
            "status": status,
            "reason": "no GPU is used" if MODE == "degraded" else None,
            "version": VERSION,
            "backend_variant": VARIANT,
            "told": {name: value for name, value in os.environ.items() if name.startswith(("LADING_", "CUDA_"))},
            "gpu_available": False,
            "gpu_type": None,
            "cwd": str(Path.cwd()),
            "environment": sorted(os.environ),
            "instance_id": "somebody-else" if MODE == "wrong-id" else os.environ.get("LADING_INSTANCE"),
        }
        data = b"<html>" if MODE == "no-json" else json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:  # type: ignore[explicit-override]  # new in Python 3.12
        pass


def selftest() -> int:
    if MODE == "garbage":
        print("this is not JSON")
        return 0
    if MODE == "selftest-hangs":
        time.sleep(600)
    checks = [
        {"name": "imports", "status": "pass", "reason": "", "evidence": {}, "seconds": 0.1},
        {"name": "cuda.cublas", "status": "skipped", "reason": "no GPU", "evidence": {}, "seconds": 0.0},
    ]
    if MODE == "selftest-fails":
        checks.append({"name": "matmul", "status": "fail", "reason": "off by 0.3", "evidence": {}, "seconds": 0.1})
    if "--require-gpu" in sys.argv:
        checks[1] = {"name": "cuda.cublas", "status": "pass", "reason": "", "evidence": {}, "seconds": 0.2}
    good = MODE != "selftest-fails"
    print("a library greets")
    print(json.dumps({"name": "fake-server", "version": VERSION, "variant": VARIANT,
                      "passed": good, "checks": checks, "device": {"kind": "cpu"}, "torch": None}))  # fmt: skip
    return 0 if good and MODE != "selftest-lies" else 1


def note_call(what: str) -> None:
    """Append to the file that FAKE_CALLS names, so that a test sees how often a build was started."""
    if "FAKE_CALLS" in os.environ:
        with Path(os.environ["FAKE_CALLS"]).open("a") as stream:
            stream.write(f"{VARIANT} {what}\n")


def start_worker() -> None:
    """Start a child, which with FAKE_ESCAPE leaves the process group, and note its number."""
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    child = subprocess.Popen(command, start_new_session="FAKE_ESCAPE" in os.environ)
    Path(os.environ["FAKE_CHILD"]).write_text(str(child.pid))


def version() -> int:
    note_call("version")
    if MODE == "version-hangs":
        time.sleep(600)
    if MODE != "version-silent":
        print("garbage" if MODE == "version-garbage" else f"fake-server {VERSION}")
    return 3 if MODE == "version-fails" else 0


def misbehave_before() -> int | None:
    """What happens before the server listens: the exit status of one that never does."""
    last_words = {
        "crash": "Traceback: CUDA error: out of memory",
        "no-kernel": "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "dies-silently": "",
    }
    if MODE in last_words:
        print(last_words[MODE], file=sys.stderr, flush=True)
        return 7
    if MODE == "hang":
        time.sleep(600)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODE == "late":
        time.sleep(0.5)
    return None


def chatter() -> None:
    while True:
        print("x" * 200, flush=True)


def misbehave_later() -> None:
    """What happens to a server that listens."""
    if MODE == "dies-later":
        threading.Timer(0.3, lambda: os._exit(9)).start()
    if MODE == "freezes-later":
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGSTOP)).start()
    if MODE == "noisy":
        threading.Thread(target=chatter, daemon=True).start()


def main() -> int:
    if "--version" in sys.argv:
        return version()
    if "--selftest" in sys.argv:
        note_call("selftest")
        return 2 if MODE == "no-selftest" else selftest()
    host, port = sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])
    note_call("serve")
    print("starting up", flush=True)
    if (status := misbehave_before()) is not None:
        return status
    if "FAKE_CHILD" in os.environ:
        start_worker()
    misbehave_later()
    server = ThreadingHTTPServer((host, port), Handler)
    print(f"listening on http://{host}:{port}", flush=True)
    server.serve_forever()
    return 0


sys.exit(main())
