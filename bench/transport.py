"""What fetching ranges over loopback costs with each HTTP library: bytes a second, processor seconds, memory.

    python -m bench.transport [--ways raw,urllib3] [--threads 8] [--range 16] [--rounds 3]

Every way of reading is a program of its own, so that its processor time and peak memory are its own. The server is
another process; it sends from the page cache with ``sendfile``, so that what is measured is the client. With the sink
``sha256`` every block is digested as it comes, as an install does; the digest itself is the same for all.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import platform
import queue
import re
import resource
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

MIB = 2**20
FILE = 256  # MiB; small enough for the page cache of any machine, read as often as it takes
BLOCK = 256 * 1024

_RANGE = re.compile(rb"range: bytes=(\d+)-(\d+)", re.IGNORECASE)
Sink = Callable[[bytes | memoryview], None]
Read = Callable[[int, int, Sink], None]
Way = Callable[[str, int], Callable[[], Read]]


# --- the server -------------------------------------------------------------------------------------------------------


def serve(path: str) -> None:
    """Send ranges of one file until standard input ends; a thread a connection."""
    file = os.open(path, os.O_RDONLY)
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/file", flush=True)

    def connection(peer: socket.socket) -> None:
        with peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            head = b""
            while True:
                block = peer.recv(65536)
                if not block:
                    return
                head += block
                if b"\r\n\r\n" not in head:
                    continue
                match = _RANGE.search(head)
                assert match is not None
                first, last = int(match[1]), int(match[2])
                total, left = os.fstat(file).st_size, last - first + 1
                said = f"bytes {first}-{last}/{total}\r\nContent-Length: {left}"
                peer.sendall(f"HTTP/1.1 206 Partial Content\r\nContent-Range: {said}\r\n\r\n".encode())
                while left:
                    sent = os.sendfile(peer.fileno(), file, first, left)
                    first, left = first + sent, left - sent
                head = b""

    def accept() -> None:
        while True:
            peer, _ = listener.accept()
            threading.Thread(target=connection, args=(peer,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    sys.stdin.read()


@contextmanager
def serving(path: Path) -> Iterator[str]:
    """Run the server in a process of its own."""
    argv = [sys.executable, "-m", "bench.transport", "--serve", str(path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


# --- the ways to read -------------------------------------------------------------------------------------------------


def by_httpx(url: str, threads: int) -> Callable[[], Read]:
    """The client of the whole program, its blocks as they come."""
    import httpx  # noqa: PLC0415 (only the library under test counts in memory)

    client = httpx.Client(limits=httpx.Limits(max_connections=threads, max_keepalive_connections=threads))

    def read(start: int, size: int, sink: Sink) -> None:
        with client.stream("GET", url, headers=_range(start, size)) as response:
            assert response.status_code == 206  # noqa: PLR2004 (a status code)
            for block in response.iter_raw():
                sink(block)

    return lambda: read


def _by_urllib3(method: str, size: int) -> Way:
    def way(url: str, threads: int) -> Callable[[], Read]:
        import urllib3  # noqa: PLC0415 (only the library under test counts in memory)

        pool = urllib3.PoolManager(maxsize=threads)

        def read(start: int, length: int, sink: Sink) -> None:
            response = pool.request("GET", url, headers=_range(start, length), preload_content=False)
            assert response.status == 206  # noqa: PLR2004 (a status code)
            take = getattr(response, method)
            while block := take(size, decode_content=False):
                sink(block)
            response.release_conn()

        return lambda: read

    return way


def by_http_client(url: str, _threads: int) -> Callable[[], Read]:
    """http.client's ``read``, a connection a thread."""
    where = urlsplit(url)

    def thread() -> Read:
        connection = http.client.HTTPConnection(str(where.hostname), where.port)

        def read(start: int, size: int, sink: Sink) -> None:
            connection.request("GET", where.path, headers=_range(start, size))
            response = connection.getresponse()
            while block := response.read(BLOCK):
                sink(block)

        return read

    return thread


def by_http_client_into(url: str, _threads: int) -> Callable[[], Read]:
    """http.client's ``readinto`` one buffer a thread."""
    where = urlsplit(url)

    def thread() -> Read:
        connection = http.client.HTTPConnection(str(where.hostname), where.port)
        buffer = memoryview(bytearray(BLOCK))

        def read(start: int, size: int, sink: Sink) -> None:
            connection.request("GET", where.path, headers=_range(start, size))
            response = connection.getresponse()
            while count := response.readinto(buffer):
                sink(buffer[:count])

        return read

    return thread


def by_socket(url: str, _threads: int) -> Callable[[], Read]:
    """The floor: a socket, one buffer, no HTTP but the request."""
    where = urlsplit(url)

    def thread() -> Read:
        peer = socket.create_connection((str(where.hostname), where.port or 80))
        buffer = memoryview(bytearray(BLOCK))

        def read(start: int, size: int, sink: Sink) -> None:
            asked = _range(start, size)["Range"]
            peer.sendall(f"GET {where.path} HTTP/1.1\r\nHost: x\r\nRange: {asked}\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += peer.recv(4096)
            rest = head.partition(b"\r\n\r\n")[2]
            sink(rest)
            left = size - len(rest)
            while left:
                count = peer.recv_into(buffer, min(left, BLOCK))
                sink(buffer[:count])
                left -= count

        return read

    return thread


def by_lading(url: str, _threads: int) -> Callable[[], Read]:
    """What Lading fetches with: every check included."""
    from lading.fetch.http import HttpSource  # noqa: PLC0415 (only the library under test counts in memory)

    base, _, name = url.rpartition("/")
    source = HttpSource(base)
    total = FILE * MIB

    def read(start: int, size: int, sink: Sink) -> None:
        for block in source.stream_range(name, start, size, total):
            sink(block)

    return lambda: read


def _range(start: int, size: int) -> dict[str, str]:
    return {"Range": f"bytes={start}-{start + size - 1}"}


WAYS: dict[str, Way] = {
    "httpx": by_httpx,
    "urllib3.read1": _by_urllib3("read1", BLOCK),
    "urllib3.read1 1 MiB": _by_urllib3("read1", MIB),
    "urllib3.read": _by_urllib3("read", BLOCK),
    "urllib3.read 1 MiB": _by_urllib3("read", MIB),
    "http.client": by_http_client,
    "http.client into": by_http_client_into,
    "socket": by_socket,
    "lading": by_lading,
}


# --- measuring --------------------------------------------------------------------------------------------------------


def work(url: str, way: str, threads: int, size: int, total: int, *, digest: bool) -> dict[str, float]:
    """Read so many bytes in ranges with one way, in this process; gives the figures."""
    make = WAYS[way](url, threads)
    jobs = queue.SimpleQueue[int]()
    for start in range(0, total, size):
        jobs.put(start % (FILE * MIB))
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with ThreadPoolExecutor(threads) as workers:
        got = [workers.submit(_read_all, make, jobs, size, digest=digest) for _ in range(threads)]
        received = sum(one.result() for one in got)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    if received != total:
        raise RuntimeError(f"{way}: {received} of {total} bytes")
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return {"seconds": seconds, "user": user, "system": system, "rss": after.ru_maxrss * 1024}


def _read_all(make: Callable[[], Read], jobs: queue.SimpleQueue[int], size: int, *, digest: bool) -> int:
    """One thread's share: ranges until there are no more; gives the bytes received."""
    read, received = make(), 0
    while True:
        try:
            start = jobs.get_nowait()
        except queue.Empty:
            return received
        sha = hashlib.sha256()

        def sink(block: bytes | memoryview, sha: hashlib._Hash = sha) -> None:
            nonlocal received
            received += len(block)
            if digest:
                sha.update(block)

        read(start, size, sink)


def main() -> int:
    """Measure every way in turn, as often as asked; prints a Markdown table of the best round of each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serve")
    parser.add_argument("--work", help="a JSON object, for the program itself")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--range", type=int, default=16, help="MiB a request")
    parser.add_argument("--total", type=int, default=2048, help="MiB a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return 0
    if options.work:
        print(json.dumps(work(**json.loads(options.work))))
        return 0
    print(f"{platform.platform()}, {os.cpu_count()} processors, Python {platform.python_version()}")
    print(f"{options.threads} threads, ranges of {options.range} MiB, {options.total} MiB, best of {options.rounds}\n")
    print("| way | sink | MB/s | CPU s per GB (user + system) | peak RSS MiB |\n|---|---|---|---|---|")
    with tempfile.NamedTemporaryFile(prefix="lading-transport-") as file:
        for _ in range(FILE):
            file.write(os.urandom(MIB))
        file.flush()
        with serving(Path(file.name)) as url:
            for digest in (False, True):
                for way in options.ways.split(","):
                    _measure(url, way, options, digest=digest)
    return 0


def _measure(url: str, way: str, options: argparse.Namespace, *, digest: bool) -> None:
    total = options.total * MIB
    asked = {
        "url": url, "way": way, "threads": options.threads,
        "size": options.range * MIB, "total": total, "digest": digest,
    }  # fmt: skip
    rounds = []
    for _ in range(options.rounds):
        argv = [sys.executable, "-m", "bench.transport", "--work", json.dumps(asked)]
        done = subprocess.run(argv, check=True, capture_output=True, text=True)
        rounds.append(json.loads(done.stdout))
    best = min(rounds, key=lambda figures: figures["user"] + figures["system"])
    gigabytes = total / 1e9
    user, system = best["user"] / gigabytes, best["system"] / gigabytes
    rate = total / 1e6 / min(figures["seconds"] for figures in rounds)
    print(
        f"| {way} | {'sha256' if digest else 'none'} | {rate:,.0f} "
        f"| {user + system:.2f} ({user:.2f} + {system:.2f}) | {best['rss'] / MIB:.0f} |",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
