"""A small program with the interface of a frozen server, which misbehaves as FAKE_MODE says. Standard library only."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODE = os.environ.get("FAKE_MODE", "ok")
BEGAN = time.monotonic()
VERSION = os.environ.get("FAKE_VERSION", "0.1.0")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status = {"unwell": "broken", "degraded": "degraded"}.get(MODE, "ok")
        if MODE == "slow" and time.monotonic() - BEGAN < 0.6:
            status = "starting"
        body = {
            "status": status,
            "reason": "no GPU is used" if MODE == "degraded" else None,
            "version": VERSION,
            "backend_variant": os.environ.get("FAKE_VARIANT", "cuda"),
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
    print(json.dumps({"name": "fake-server", "version": VERSION, "variant": os.environ.get("FAKE_VARIANT", "cuda"),
                      "passed": good, "checks": checks, "device": {"kind": "cpu"}, "torch": None}))  # fmt: skip
    return 0 if good and MODE != "selftest-lies" else 1


def main() -> int:
    if "--version" in sys.argv:
        print("garbage" if MODE == "version-garbage" else f"fake-server {VERSION}")
        return 3 if MODE == "version-fails" else 0
    if "--selftest" in sys.argv:
        return selftest()
    host, port = sys.argv[sys.argv.index("--host") + 1], int(sys.argv[sys.argv.index("--port") + 1])
    print("starting up", flush=True)
    if MODE == "crash":
        print("Traceback: CUDA error: out of memory", file=sys.stderr, flush=True)
        return 7
    if MODE == "hang":
        time.sleep(600)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "FAKE_CHILD" in os.environ:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["FAKE_CHILD"]).write_text(str(child.pid))
    if MODE == "dies-later":
        threading.Timer(0.3, lambda: os._exit(9)).start()
    if MODE == "late":
        time.sleep(0.5)
    server = ThreadingHTTPServer((host, port), Handler)
    print(f"listening on http://{host}:{port}", flush=True)
    server.serve_forever()
    return 0


sys.exit(main())
